"""Compiled kernels find a place, or none, and only a safe one; everything runs all the same."""

import os
import stat
import sys
import tempfile

import pytest
from numba import config

from dadmm.errors import CacheWarning
from dadmm.numerics import kernel_cache
from support import read_only
from support.configs import configure
from support.messages import naming


@pytest.fixture
def places(tmp_path):
    """Give a home that cannot be written, and a folder for temporary files."""
    if not read_only.can_mount():
        pytest.skip("a folder can only be made read-only by a mount, and this user may not mount")
    made = {name: tmp_path / name for name in ("home", "temporary")}
    for folder in made.values():
        folder.mkdir()
    return made


def locked(script, places, *more):
    """Run a script without a writable home and package."""
    away = {"XDG_CACHE_HOME": None, kernel_cache.VARIABLE: None, "PYTHONDONTWRITEBYTECODE": "1"}
    return read_only.shell(
        script, places["home"], *more, HOME=places["home"], TMPDIR=places["temporary"], **away
    )


def kept(places):
    """Return the compiled kernels among the temporary files."""
    return list(places["temporary"].glob("dadmm-kernels-*/*/*.nbi"))


@pytest.mark.processes
def test_commands_and_workers_run_without_a_writable_home_and_package(places, tmp_path):
    path = configure(tmp_path)
    dadmm = f"'{sys.executable}' -m dadmm.app.cli"
    fit = f"{dadmm} fit '{path}' --run '{tmp_path}/run' --workers 1"
    done = locked(fit, places)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CacheWarning") == 1  # workers are silent
    folder = places["temporary"] / f"dadmm-kernels-{os.getuid()}"
    assert str(folder) in done.stderr
    assert kernel_cache.VARIABLE in done.stderr
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert kept(places)
    others = (
        "config --example",
        f"plan '{path}'",
        f"check '{tmp_path}/run'",
        f"resume '{tmp_path}/run'",
        f"show '{tmp_path}/run'",
        f"export '{tmp_path}/run' '{tmp_path}/network.safetensors'",
        f"predict '{tmp_path}/run' '{tmp_path}/table.csv' '{tmp_path}/out.csv'",
    )
    script = "\n".join(f"{dadmm} {each}" for each in others)
    done = locked(script, places)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CacheWarning") == len(others)


TRAIN = """
import numpy as np
from dadmm import ADMMRegressor
x = np.random.default_rng(0).normal(size=(40, 3))
print(ADMMRegressor((4,), max_iter=2, random_state=0).fit(x, x[:, 0]).n_iter_)
"""


def test_it_trains_where_nothing_at_all_can_be_kept(places):
    temporary = places["temporary"]
    script = f"cd '{temporary}'; '{sys.executable}' -W ignore::UserWarning:joblib -c '{TRAIN}'"
    done = locked(script, places, temporary)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert done.stderr.count("CacheWarning") == 1
    assert kernel_cache.VARIABLE in done.stderr
    assert not kept(places)


def test_a_full_place_counts_as_none(places, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    script = f"mount -t tmpfs -o size=16k tmpfs '{full}'\n'{sys.executable}' -c '{TRAIN}'"
    done = locked(f"export {kernel_cache.VARIABLE}='{full}'\n{script}", places)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert kept(places)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"dadmm-kernels-{os.getuid()}"


def test_the_folder_is_this_users_alone(temporary):
    assert kernel_cache.own_folder() == kernel_cache.own_folder() == str(temporary)
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def test_a_link_is_refused(temporary, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    temporary.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=naming(str(temporary))):
        kernel_cache.own_folder()


@pytest.mark.parametrize("mode", [0o701, 0o740, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(temporary, mode):
    temporary.mkdir()
    temporary.chmod(mode)
    with pytest.raises(OSError, match=naming(str(temporary))):
        kernel_cache.own_folder()


def test_a_folder_of_another_user_is_refused(temporary, monkeypatch):
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(OSError, match=naming(f"dadmm-kernels-{other}")):
        kernel_cache.own_folder()


def test_a_folder_that_others_could_replace_is_refused(temporary, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(OSError, match=naming(str(temporary))):
        kernel_cache.own_folder()
    tmp_path.chmod(0o1777)
    assert kernel_cache.own_folder() == str(temporary)


def test_without_a_safe_folder_nothing_is_kept(temporary, monkeypatch):
    temporary.mkdir(mode=0o755)
    monkeypatch.setattr(kernel_cache, "_has_place", lambda: False)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    with pytest.warns(CacheWarning, match=naming(kernel_cache.VARIABLE, "read-only")):
        assert kernel_cache.find_place() is False
    assert config.CACHE_DIR == ""
