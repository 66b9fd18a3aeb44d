"""Profiles are found by name, file or Dask's configuration; what is wrong with one is told."""

import dask
import pytest
import yaml

from dadmm.cluster import connection, profiles
from dadmm.cluster.profiles import find
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.errors import InputError, OptionError
from support.messages import naming

SHIPPED = ["coiled", "kubernetes", "local", "slurm", "ssh", "threads", "tls"]


def write(folder, **content):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_profiles_that_come_along_are_complete():
    assert profiles.shipped() == SHIPPED
    for name in SHIPPED:
        found = find(name)
        assert found.about.endswith(".")
        if found.cluster:
            assert found.put(found.options(), "memory_limit", "2GiB")
    assert find("local").timeout == "60 s"
    assert find("slurm").seconds == 1800


def test_every_profile_gives_workers_the_same_settings():
    """As variables of the environment, where there is no nanny here to set them."""
    settings = WORKER_SETTINGS
    variables = {k.rpartition(".")[2]: str(v) for k, v in settings.items() if "environ" in k}
    stored = {
        f"DASK_{k.upper().replace('.', '__')}": str(v)
        for k, v in settings.items()
        if "environ" not in k
    }
    expected = {**variables, **stored}
    assert find("kubernetes").options()["env"] == expected
    lines = find("slurm").options()["job_script_prologue"]
    exported = dict(word.split("=") for line in lines for word in line.split()[1:])
    assert exported == expected


def test_the_users_own_profiles_come_first(tmp_path):
    with dask.config.set({"dadmm.profiles": {"slurm": {"scheduler": "threads"}}}):
        assert find("slurm").scheduler == "threads"
    assert find("slurm").scheduler is None
    path = write(tmp_path, address="tcp://127.0.0.1:1", timeout=3)
    assert (find(path).address, find(path).seconds) == ("tcp://127.0.0.1:1", 3)


def test_a_profile_extends_another(tmp_path):
    own = {"extends": "slurm", "workers": 64, "cluster": {"queue": "short", "memory": "8GiB"}}
    with dask.config.set({"dadmm.profiles": {"slurm": own, "large": {"extends": "slurm"}}}):
        for name in ("slurm", "large"):
            found = find(name)
            assert found.workers == 64
            assert found.cluster["queue"] == "short"
            assert found.cluster["memory"] == "8GiB"
            assert found.cluster["type"] == "dask_jobqueue.SLURMCluster"
            assert found.tls is True
    with (
        dask.config.set({"dadmm.profiles": {"a": {"extends": "b"}, "b": {"extends": "a"}}}),
        pytest.raises(OptionError, match=naming("'a'", "extends")),
    ):
        find("a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, ["scheduler", "address", "cluster"]),
        ({"scheduler": "threads", "address": "tcp://a:1"}, ["scheduler", "address"]),
        ({"scheduler": "processes"}, ["scheduler='processes'", "threads"]),
        ({"adress": "tcp://a:1"}, ["'adress'", "'address'"]),
        ({"address": 8786}, ["address=8786"]),
        ({"cluster": {"n_workers": 2}}, ["cluster", "type"]),
        ({"cluster": "distributed.LocalCluster"}, ["cluster", "type"]),
        ({"address": "a", "workers": True}, ["workers=True"]),
        ({"address": "a", "workers": 0}, ["workers=0", "1"]),
        ({"address": "a", "timeout": "soon"}, ["timeout='soon'", "seconds"]),
        ({"address": "a", "timeout": -1}, ["timeout=-1", "seconds"]),
        ({"address": "a", "places": {"cpus": "n"}}, ["places", "'cpus'", "workers"]),
        ({"extends": "slrum"}, ["'slrum'", "'slurm'"]),
    ],
)
def test_what_is_wrong_with_a_profile_is_told_in_one_line(tmp_path, content, words):
    with pytest.raises(OptionError, match=naming("profile", *words)) as caught:
        find(write(tmp_path, **content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_yaml_is_told(tmp_path):
    with pytest.raises(InputError, match=naming("no.yaml", "path")):
        find(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("{")
    with pytest.raises(InputError, match=naming("bad.yaml", "YAML")):
        find(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- 1")
    with pytest.raises(InputError, match=naming("bad.yaml", "keys")):
        find(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"cluster": {"type": "distributed.NoCluster"}}, ["distributed.NoCluster"]),
        ({"cluster": {"type": "distributed.__doc__"}}, ["distributed.__doc__", "class"]),
        ({"cluster": {"type": "NoCluster"}}, ["type", "module.Class"]),
        ({"cluster": {"type": "no_such_package.Cluster"}}, ["'no_such_package'"]),
        ({"cluster": {"type": "builtins.dict"}}, ["builtins.dict"]),
        ({"cluster": {"type": "builtins.dict"}, "tls": True}, ["tls=True"]),
        (
            {"cluster": {"type": "builtins.object", "n": 2}},
            ["options", "object()"],
        ),
        (
            {"extends": "local", "needs": ["no_such_package"], "extra": "slurm"},
            ["'no_such_package'", "dadmm[slurm]"],
        ),
        (
            {"extends": "local", "cluster": {"memory_limit": "64MiB"}},
            ["memory_limit='64MiB'"],
        ),
    ],
)
def test_a_class_that_cannot_be_used_is_told_in_one_line(tmp_path, content, words):
    with (
        pytest.raises(OptionError, match=naming(*words)) as caught,
        connection.connect(write(tmp_path, **content)),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_options_have_their_place_or_are_refused(tmp_path):
    path = write(tmp_path, cluster={"type": "builtins.dict"})
    with (
        pytest.raises(OptionError, match=naming("memory_limit", "places")),
        connection.connect({"profile": str(path), "memory_limit": "2GiB"}),
    ):
        pass
    with (
        pytest.raises(OptionError, match=naming("'worker'")),
        connection.connect("local", worker=2),
    ):
        pass


def test_where_may_be_an_address_a_file_or_a_name():
    for text in ("tcp://127.0.0.1:1", "/a/scheduler.json"):
        assert connection.as_table(text) == {"scheduler": text}
    for text in ("slurm", "a/b.yaml"):
        assert connection.as_table(text) == {"profile": text}
