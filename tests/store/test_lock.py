"""One driver per run: who is refused, what is taken over, and what a driver does that lost it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dadmm import ADMMClassifier, load, resume
from dadmm.errors import LockedError, RunError
from dadmm.store import Run, lock, metadata
from support.messages import names, naming
from support.runs import bits, stop_at


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    return x, (x[:, 0] > 0).astype(int)


def model(run, **options):
    return ADMMClassifier((4,), max_iter=3, tol=0, random_state=0, run=run, **options)


@pytest.fixture
def run(tmp_path):
    """A run that was stopped after its first iteration."""

    with pytest.raises(KeyboardInterrupt):
        model(tmp_path / "run").fit(*data(), callback=stop_at(1))
    return tmp_path / "run"


def claim(run, age=0.0, **changes):
    """Leave a lock as another driver would."""
    owner = {**lock._myself(), **changes}
    path = Path(run) / "lock.json"
    path.write_bytes(metadata.record(owner))
    os.utime(path, (time.time() - age,) * 2)


def test_a_driver_holds_a_lock_while_it_works_and_leaves_none(tmp_path):
    held = []

    def look(iteration, row):
        held.append(json.loads((tmp_path / "run/lock.json").read_text()))

    model(tmp_path / "run").fit(*data(), callback=look)
    assert [each["pid"] for each in held] == [os.getpid()] * 3
    assert held[0]["host"] == socket.gethostname()
    assert not (tmp_path / "run/lock.json").exists()


def test_a_second_driver_is_refused_with_owner_and_age_and_reading_is_not(tmp_path):
    seen = []

    def second(iteration, row):
        path = tmp_path / "run"
        for use in (resume, lambda p: model(p, overwrite=True).fit(*data())):
            with pytest.raises(LockedError) as caught:
                use(path)
            seen.append(str(caught.value))
        assert load(path).n_iter_ == iteration

    fitted = model(tmp_path / "run").fit(*data(), callback=second)
    assert fitted.n_iter_ == 3
    assert len(seen) == 6
    for message in seen:
        assert names(message, str(os.getpid()), socket.gethostname())
        assert re.search(r"\b\d+ s ago", message)
    assert "--force" in seen[0]


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": 2**22 - 3},  # no such process
        {"started": 12.0},  # its number was given to another one
        {"host": "elsewhere", "age": lock.STALE + 1},
        {"pid": "x"},
    ],
)
def test_the_lock_of_a_dead_driver_is_taken_over(run, owner):
    claim(run, **owner)
    assert resume(run).n_iter_ == 3
    assert not (run / "lock.json").exists()


def test_a_damaged_lock_is_respected_until_it_is_old(run):
    (run / "lock.json").write_text("{")
    with pytest.raises(LockedError, match=naming(str(run), "unknown")):
        resume(run)
    os.utime(run / "lock.json", (1, 1))
    assert resume(run).n_iter_ == 3


@pytest.mark.parametrize("owner", [{}, {"host": "elsewhere"}])
def test_a_living_driver_is_only_displaced_by_force(run, owner):
    claim(run, **owner)
    with pytest.raises(LockedError, match=naming(str(os.getpid()))):
        resume(run)
    assert resume(run, force=True).n_iter_ == 3


def test_a_driver_whose_run_was_taken_commits_nothing_more(run, tmp_path):
    def take(iteration, row):
        claim(run, token="another")

    before = Run.open(run).committed()
    with pytest.raises(RunError, match=naming(str(run), "another driver")):
        resume(run, callback=take)
    assert Run.open(run).committed()["iteration"] == before["iteration"] + 1
    assert (run / "lock.json").exists()  # it is the other's
    assert bits(resume(run, force=True)) == bits(model(None).fit(*data()))


def test_a_driver_displaced_while_it_stores_its_data_deletes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def taken(*args, **options):
        claim(path, token="another")
        raise MemoryError("no room")

    monkeypatch.setattr("dadmm.data.ingest.store", taken)
    with pytest.raises(MemoryError):
        model(path).fit(*data())
    assert (path / "lock.json").exists()
    assert (path / "zarr.json").exists()


def test_a_clock_that_was_set_does_not_make_a_driver_dead(run):
    claim(run, started=lock._myself()["started"] + 2.0)
    with pytest.raises(LockedError, match=naming(str(os.getpid()))):
        resume(run)


def test_a_lock_that_is_gone_stops_the_driver(run):
    def remove(iteration, row):
        (run / "lock.json").unlink()

    with pytest.raises(RunError, match=naming(str(run), "lock.json")):
        resume(run, callback=remove)
    assert resume(run).n_iter_ == 3


def test_the_heart_beats(run, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with Run.open(run).locked():
        os.utime(run / "lock.json", (1, 1))
        deadline = time.monotonic() + 10
        while (run / "lock.json").stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_by_url_is_locked_too():
    import fsspec

    filesystem = fsspec.filesystem("memory")
    try:
        made = Run.create("memory://dadmm/locked", {})
        with (
            made.locked(),
            pytest.raises(LockedError, match=naming("memory://dadmm/locked", str(os.getpid()))),
        ):
            lock.Lock(made.blocks)
        with Run.open(made.url).locked():
            pass
    finally:
        filesystem.rm("/dadmm", recursive=True)


@pytest.mark.processes
def test_two_drivers_that_start_at_once_are_one(tmp_path):
    """Both find nothing at the place; one of them gets it."""
    code = (
        "import sys, numpy as np\n"
        "from dadmm import ADMMClassifier\n"
        "x = np.random.default_rng(0).standard_normal((60, 4))\n"
        "sys.stdin.readline()\n"
        "ADMMClassifier((4,), max_iter=30, tol=0, run=sys.argv[1]).fit(x, x[:, 0] > 0)\n"
    )
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in drivers:
        each.stdin.write("\n")
        each.stdin.flush()
    ends = [(each.communicate(timeout=60)[1], each.returncode) for each in drivers]
    assert sorted(code for _, code in ends) == [0, 1]
    loser = next(err for err, code in ends if code)
    assert "TakenError" in loser or "LockedError" in loser
    assert load(tmp_path / "run").n_iter_ == 30
