"""Profiles are found by name, file or Dask's configuration; what is wrong with one is told."""

import dask
import pytest
import yaml

from dadmm.cluster import connection, profiles
from dadmm.cluster.profiles import find
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.errors import InputError, OptionError

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
    with dask.config.set({"dadmm.cluster.profiles": {"slurm": {"scheduler": "threads"}}}):
        assert find("slurm").scheduler == "threads"
    assert find("slurm").scheduler is None
    path = write(tmp_path, address="tcp://127.0.0.1:1", timeout=3)
    assert (find(path).address, find(path).seconds) == ("tcp://127.0.0.1:1", 3)


def test_a_profile_extends_another(tmp_path):
    own = {"extends": "slurm", "workers": 64, "cluster": {"queue": "short", "memory": "8GiB"}}
    with dask.config.set({"dadmm.cluster.profiles": {"slurm": own, "large": {"extends": "slurm"}}}):
        for name in ("slurm", "large"):
            found = find(name)
            assert found.workers == 64
            assert found.cluster["queue"] == "short"
            assert found.cluster["memory"] == "8GiB"
            assert found.cluster["type"] == "dask_jobqueue.SLURMCluster"
            assert found.tls is True
    with (
        dask.config.set({"dadmm.cluster.profiles": {"a": {"extends": "b"}, "b": {"extends": "a"}}}),
        pytest.raises(OptionError, match="extends itself"),
    ):
        find("a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "none of them: it needs one of scheduler, address, cluster"),
        ({"scheduler": "threads", "address": "tcp://a:1"}, "has scheduler and address: it needs"),
        ({"scheduler": "processes"}, "scheduler='processes': use threads"),
        ({"adress": "tcp://a:1"}, "no key 'adress': did you mean 'address'"),
        ({"address": 8786}, "address=8786: use an address such as"),
        ({"cluster": {"n_workers": 2}}, "cluster has no type: name the class"),
        ({"cluster": "distributed.LocalCluster"}, "use type, the dotted name of a class"),
        ({"address": "a", "workers": True}, "workers=True: use a whole number"),
        ({"address": "a", "workers": 0}, "workers=0: use 1 or more"),
        ({"address": "a", "timeout": "soon"}, "timeout='soon': use seconds"),
        ({"address": "a", "timeout": -1}, "timeout=-1: use seconds"),
        ({"address": "a", "places": {"cpus": "n"}}, "places has 'cpus': known: workers"),
        ({"extends": "slrum"}, "no profile is called 'slrum': did you mean 'slurm'"),
    ],
)
def test_what_is_wrong_with_a_profile_is_told_in_one_line(tmp_path, content, words):
    with pytest.raises(OptionError) as caught:
        find(write(tmp_path, **content))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_yaml_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no.yaml does not exist: give the path of a profile"):
        find(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("{")
    with pytest.raises(InputError, match=r"bad.yaml is not valid YAML"):
        find(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- 1")
    with pytest.raises(InputError, match=r"bad.yaml' has no keys"):
        find(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"cluster": {"type": "distributed.NoCluster"}}, "NoCluster cannot be imported"),
        ({"cluster": {"type": "distributed.__doc__"}}, "is no class of a cluster"),
        ({"cluster": {"type": "NoCluster"}}, "give type as module.Class"),
        ({"cluster": {"type": "no_such_package.Cluster"}}, "needs the package 'no_such_package'"),
        ({"cluster": {"type": "builtins.dict"}}, "builtins.dict makes no cluster"),
        ({"cluster": {"type": "builtins.dict"}, "tls": True}, "no place for tls=True"),
        (
            {"cluster": {"type": "builtins.object", "n": 2}},
            "does not take these options: object\\(\\) takes no arguments",
        ),
        (
            {"extends": "local", "needs": ["no_such_package"], "extra": "slurm"},
            r"needs the package 'no_such_package': pip install 'dadmm\[slurm\]'",
        ),
        (
            {"extends": "local", "cluster": {"memory_limit": "64MiB"}},
            "memory_limit='64MiB' is too small: Python and its libraries alone need",
        ),
    ],
)
def test_a_class_that_cannot_be_used_is_told_in_one_line(tmp_path, content, words):
    with (
        pytest.raises(OptionError, match=words) as caught,
        connection.connect(write(tmp_path, **content)),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_options_have_their_place_or_are_refused(tmp_path):
    path = write(tmp_path, cluster={"type": "builtins.dict"})
    with (
        pytest.raises(OptionError, match="no place for memory_limit: say in its places"),
        connection.connect({"profile": str(path), "memory_limit": "2GiB"}),
    ):
        pass
    with (
        pytest.raises(OptionError, match="no option of a cluster is called 'worker'"),
        connection.connect("local", worker=2),
    ):
        pass


def test_where_may_be_an_address_a_file_or_a_name():
    for text in ("tcp://127.0.0.1:1", "/a/scheduler.json"):
        assert connection.as_table(text) == {"scheduler": text}
    for text in ("slurm", "a/b.yaml"):
        assert connection.as_table(text) == {"profile": text}
