"""What the tasks of a run take is measured, and does not change what the run computes."""

import os
import signal

import dask
import numpy as np
import psutil
import pytest

from dadmm import ADMMClassifier
from dadmm.engine import timing
from dadmm.engine.compute import everywhere
from dadmm.store import Run
from support.clusters import processes

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
PHASES = ("load", "read", "visit", "write", "add", "solve", "settle")
COLUMNS = {f"seconds_{name}" for name in PHASES}


def history(run, **options):
    ADMMClassifier((5,), max_iter=3, chunks=20, random_state=0, run=run, **options).fit(X, Y)
    return Run.open(run).history()


def test_phases_of_one_session_are_added_up_and_taken_once():
    for _ in range(2):
        with timing.phase("a", "visit"):
            pass
    with pytest.raises(ZeroDivisionError), timing.phase("b", "solve"):
        raise ZeroDivisionError
    assert timing.take("a")["seconds"].keys() == {"visit"}
    assert timing.take("a")["seconds"] == {}
    assert timing.take("b")["seconds"]["solve"] > 0


def test_sessions_that_nobody_asks_for_are_forgotten():
    for number in range(timing.SESSIONS + 1):
        with timing.phase(f"old-{number}", "visit"):
            pass
    assert timing.take("old-0")["seconds"] == {}
    assert timing.take("old-1")["seconds"]["visit"] > 0


def test_columns_add_up_seconds_and_keep_the_fullest_process():
    found = [
        {"seconds": {"visit": 1.0}, "peak": 10},
        {"seconds": {"visit": 2.0, "add": 0.5}, "peak": 7},
    ]
    expected = {"seconds_visit": 3.0, "seconds_add": 0.5, "memory_peak": 10.0}
    assert timing.columns(found) == expected
    assert timing.columns([]) == {}


def test_the_peak_is_no_less_than_what_a_process_has_now():
    now = psutil.Process().memory_info().rss
    assert now <= timing.peak_memory() < 1000 * now


@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_every_iteration_tells_its_phases_and_memory(tmp_path, solver):
    with dask.config.set(scheduler="threads", num_workers=2):
        found = history(tmp_path / "run", solver=solver, memory_limit="8GiB")
    for name in COLUMNS | {"memory_peak", "memory_planned"}:
        assert (found[name] > 0).all(), name
    assert (found["memory_limit"] == 2**33).all()


def test_the_estimators_history_holds_only_what_a_repetition_would(tmp_path):
    made = ADMMClassifier((5,), max_iter=2, random_state=0).fit(X, Y)
    assert not [name for name in made.history_ if timing.is_measured(str(name))]
    assert "seconds" in made.history_


@pytest.mark.processes
def test_workers_measure_what_they_do(tmp_path):
    with processes(2, memory_limit="1GiB"):
        found = history(tmp_path / "run")
        taken = everywhere(timing.take, "nobody's")
    assert found.keys() >= COLUMNS
    assert (found["memory_limit"] == 2**30).all()
    assert [each["seconds"] for each in taken] == [{}, {}]
    assert 0 < found["memory_peak"].values.max() < 2**30


@pytest.mark.processes
def test_a_worker_that_does_not_answer_is_left_out(monkeypatch):
    monkeypatch.setattr("dadmm.engine.compute.ANSWER_WITHIN", 4.0)
    with processes(2, memory_limit="1GiB") as client:
        stopped, other = client.run(os.getpid).values()
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert everywhere(os.getpid) == [other]
        finally:
            os.kill(stopped, signal.SIGCONT)
