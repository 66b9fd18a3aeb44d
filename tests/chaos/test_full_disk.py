"""A disk that is full, read-only, over quota or gone, at any write: one line, nothing lost."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest

from dadmm import load, resume
from dadmm.errors import RunError, StoreError
from dadmm.store import Run
from dadmm.store.files import LocalFiles
from support.runs import all_bits
from support.stopped_runs import data, model

ERRORS = {
    "full": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "read-only": OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "gone": OSError(errno.EIO, os.strerror(errno.EIO)),
}


@contextmanager
def broken(monkeypatch, at, error, half=False):
    """Let every write from the `at`-th on fail; `half`: after half of it is written."""
    real, count = LocalFiles.save, [0]

    def save(self, name, *parts, **options):
        if name == "lock.json":
            return real(self, name, *parts, **options)
        count[0] += 1
        if count[0] <= at:
            return real(self, name, *parts, **options)
        if half:
            path = self.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = b"".join(memoryview(part).cast("B") for part in parts)
            path.with_name(f".{path.name}.1-1.partial").write_bytes(whole[: len(whole) // 2])
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(LocalFiles, "save", save)
        yield count


def writes(made, place, monkeypatch):
    """Count the writes from a resume to its end."""
    with broken(monkeypatch, 10**9, ERRORS["full"]) as count:
        resume(made.copy("stopped", place))
    return count[0]


def moments(total, long):
    """Every write in the long set, some in the short one."""
    return range(total) if long else sorted({0, 1, 5, total // 3, total // 2, total - 1})


@pytest.fixture(autouse=True)
def one_after_the_other():
    """Tasks write in a fixed order."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)])
def test_no_write_that_fails_costs_more_than_an_iteration(made, long, tmp_path, monkeypatch):
    total = writes(made, tmp_path / "counted", monkeypatch)
    assert total > 30
    for at in moments(total, long):
        error = list(ERRORS.values())[at % len(ERRORS)]
        run = made.copy("stopped", tmp_path / "run")
        with broken(monkeypatch, at, error, half=bool(at % 2)), pytest.raises(RunError) as caught:
            resume(run)
        assert str(caught.value).startswith("the run store could not be read or written: ")
        assert "\n" not in str(caught.value)
        committed = Run.open(run).committed()
        assert committed["iteration"] in (2, 3, 4)
        assert load(run).n_iter_ == committed["iteration"]
        assert all_bits(resume(run)) == made.bits, f"write {at} of {total}"


def test_a_disk_that_is_full_from_the_start_leaves_nothing_in_the_way(made, tmp_path, monkeypatch):
    for at in (0, 1, 3, 6, 9):
        run = tmp_path / str(at)
        error = ERRORS["full"]
        with broken(monkeypatch, at, error), pytest.raises((RunError, StoreError)) as caught:
            model(made.solver, run).fit(*data())
        assert "No space left" in str(caught.value)
        assert "\n" not in str(caught.value)
        if (run / "zarr.json").exists() and Run.open(run).has_data:
            assert all_bits(resume(run)) == made.bits
        else:
            assert all_bits(model(made.solver, run).fit(*data())) == made.bits


# ------------------------------------------------------------------------------ a real, small disk


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of a size that can be changed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", *options, str(place)], capture_output=True, text=True, check=False
        )

    if shutil.which("mount") is None or mount("-t", "tmpfs", "-o", "size=2m", "tmpfs").returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield place, mount
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def fill(file):
    while True:
        file.write(b"x" * 4096)


def dadmm(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from dadmm.app.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.processes
def test_a_real_disk_that_fills_up_or_turns_read_only(made, disk, tmp_path):
    place, mount = disk
    run = Path(made.copy("stopped", place / "run"))
    before = Run.open(run).committed()
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        fill(file)
    done = dadmm("resume", run)
    assert (done.returncode, done.stdout.count("Traceback")) == (1, 0), done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert Run.open(run).committed() == before

    filler.unlink()
    mount("-o", "remount,ro")
    done = dadmm("resume", run)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr.splitlines()[-1]
    assert load(run).n_iter_ == before["iteration"]  # reading needs no writing

    mount("-o", "remount,rw,size=20m")
    assert dadmm("resume", run, "--quiet").returncode == 0
    assert all_bits(load(run)) == made.bits


@pytest.mark.processes
def test_a_mount_that_is_lost_is_one_line_and_nothing_is_written_beneath_it(made, disk, tmp_path):
    place, _ = disk
    run = Path(made.copy("stopped", place / "run"))

    def lose(iteration, row):
        if iteration == 3:
            subprocess.run(["umount", "-l", str(place)], check=True)

    with pytest.raises((RunError, StoreError)) as caught:
        resume(run, callback=lose)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
    assert not [path for path in place.rglob("*") if path.is_file()]
