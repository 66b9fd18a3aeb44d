"""A check knows what a run must have: nothing is missed, and nothing whole is called damaged."""

import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr

from dadmm import NMF, ADMMClassifier, BlockADMM, Dense, NMFBlock, RelaxedADMM, resume
from dadmm.engine.session import Session
from dadmm.errors import RecoveryWarning
from dadmm.store import Run
from support.damage import flip
from support.messages import names
from support.runs import bits, stop_at

SOLVERS = {
    "relaxed": RelaxedADMM(),
    "relaxed, 2-splitting": RelaxedADMM(splitting=2),
    "relaxed, regions": RelaxedADMM(regions=3),
    "relaxed, recompute": RelaxedADMM(state="recompute"),
    "online": BlockADMM(),
    "online, two blocks": BlockADMM(blocks=2),
    "online, stopping": BlockADMM(early_stopping=True),
    "online, factors": BlockADMM(blocks=[Dense(6), NMFBlock(3)]),
    "online, grid": BlockADMM(blocks=2, schedule="grid"),
    "batch": BlockADMM(blocks=2, mode="batch"),
    "batch, factors": BlockADMM(blocks=[Dense(6), NMFBlock(3)], mode="batch"),
    "batch, consensus": BlockADMM(blocks=2, mode="batch", consensus="admm"),
    "batch, grid": BlockADMM(blocks=2, mode="batch", schedule="grid"),
    "grid, consensus": BlockADMM(blocks=3, schedule="grid", consensus="admm"),
    "grid, stopping": BlockADMM(blocks=3, schedule="grid", early_stopping=True),
    "nmf, batch": "batch",
    "nmf, online": "online",
}
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="sync"):
        yield


def data(rows=50):
    x = np.random.default_rng(0).standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def train(solver, run, max_iter, callback=None, x=None):
    same = {"max_iter": max_iter, "tol": 0, "chunks": 20, "random_state": 0, "run": run}
    inputs, y = data()
    inputs = inputs if x is None else x
    if solver.startswith("nmf"):
        return NMF(3, mode=SOLVERS[solver], **same).fit(np.abs(inputs), callback=callback)
    model = ADMMClassifier((6, 6), solver=SOLVERS[solver], **same)
    return model.fit(inputs, y, callback=callback)


def stop(solver, run, iteration, **options):
    with pytest.raises(KeyboardInterrupt):
        train(solver, run, 5, callback=stop_at(iteration), **options)


def check(run):
    return Session.open(run).examine()


@pytest.mark.parametrize("iterations", [1, 2, 3])
@every_solver
def test_an_untouched_run_is_whole(solver, iterations, tmp_path):
    train(solver, tmp_path / "finished", iterations)
    stop(solver, tmp_path / "stopped", iterations)
    for which in ("finished", "stopped"):
        found = check(tmp_path / which)
        assert (found.damaged, found.left) == ([], [])
        assert found.arrays
    resume(tmp_path / "stopped", max_iter=iterations + 1)
    found = check(tmp_path / "stopped")
    assert (found.damaged, found.left) == ([], [])


def everything(run):
    """Return the files and folders of a run, with two columns of the history.

    Without the metadata of its root it is no run.
    """
    seen = ("iteration", "objective")
    columns = {path for path in (run / "history").iterdir() if path.is_dir()}
    skipped = {path for path in columns if path.name not in seen}
    return sorted(
        path
        for path in run.rglob("*")
        if path != run / "zarr.json" and not skipped & {path, path.parent}
    )


def missed(run, aside, change, every=1):
    """Return what can be taken away from a run without a check noticing it."""
    unnoticed = []
    for path in everything(run)[::every]:
        path.rename(aside)
        change(path)
        found = check(run).damaged
        if not any(str(run) in line for line in found):
            unnoticed.append(str(path.relative_to(run)))
        if path.is_symlink():
            path.unlink()
        aside.rename(path)
    assert not check(run).damaged
    return unnoticed


IN_SHORT = ("batch, grid", "nmf, online")


@pytest.mark.parametrize(
    "solver", [s if s in IN_SHORT else pytest.param(s, marks=pytest.mark.long) for s in SOLVERS]
)
def test_a_file_or_folder_that_is_gone_is_noticed(solver, tmp_path):
    run = tmp_path / "run"
    (stop if solver == "batch, grid" else train)(solver, run, 2)
    assert missed(run, tmp_path / "aside", lambda path: None) == []


def test_a_link_is_noticed(tmp_path):
    run, aside = tmp_path / "run", tmp_path / "aside"
    train("online, grid", run, 1)
    assert missed(run, aside, lambda path: path.symlink_to(aside), every=3) == []


@pytest.fixture
def stored(tmp_path):
    """Inputs that a run reads in place."""
    array = zarr.create_array(tmp_path / "x.zarr", shape=(50, 5), chunks=(20, 5), dtype="f4")
    array[:] = data()[0]
    return array


def test_inputs_in_place_and_weights_are_noticed(stored, tmp_path):
    run = tmp_path / "run"
    model = ADMMClassifier((6,), max_iter=1, chunks=20, shuffle=False, run=run)
    model.fit(stored, data()[1], sample_weight=np.ones(50))
    assert (run / "data/x_crc32c").exists()
    assert (run / "data/weight").exists()
    assert missed(run, tmp_path / "aside", lambda path: None) == []


def test_after_three_iterations_older_parameters_are_part_of_a_run(tmp_path):
    train("online", tmp_path / "run", 3)
    shutil.rmtree(tmp_path / "run/params/1")
    assert any(
        names(line, "params/1/theta_1", "missing") for line in check(tmp_path / "run").damaged
    )


def test_what_a_killed_iteration_left_is_no_damage(tmp_path):
    run = tmp_path / "run"
    train("batch", run, 2)
    for group in ("state", "params", "network"):
        there = max(
            (path for path in (run / group).iterdir() if path.is_dir()), key=lambda p: p.name
        )
        shutil.copytree(there, run / group / "77")
    next((run / "state/77").rglob("c.0.0")).unlink()
    found = check(run)
    assert not found.damaged
    assert found.left
    assert all("/77/" in name for name in found.left)


def test_a_damaged_record_before_the_last_is_noticed(tmp_path):
    train("online", tmp_path / "run", 1)
    flip(tmp_path / "run/commit.previous.json")
    assert any(names(line, "commit.previous.json") for line in check(tmp_path / "run").damaged)


def first_chunk(run, group):
    return next(path for path in sorted((Path(run) / group).rglob("c.*")) if path.is_file())


@pytest.mark.parametrize("solver", ["online, grid", "batch, grid", "batch"])
def test_runs_that_went_back_are_whole(solver, tmp_path):
    run = tmp_path / "run"
    stop(solver, run, 1)
    if solver != "online, grid":  # whose iterations read no state
        flip(first_chunk(run, "state/1"))
    flip(first_chunk(run, "params/1"))
    with pytest.warns(RecoveryWarning, match=r"iteration 1 is done again"):
        resumed = resume(run)
    assert bits(resumed) == bits(train(solver, None, 5))
    assert not check(run).damaged


@pytest.mark.parametrize("again", [1, 2])
def test_runs_whose_state_was_made_anew_are_whole(again, tmp_path):
    run = tmp_path / "run"
    stop("batch, grid", run, 3)
    for group in ("state/3/z_1", "state/2/z_1"):
        flip(first_chunk(run, group))
    with pytest.warns(RecoveryWarning, match="made anew"):
        resume(run, max_iter=3 + again)
    assert not check(run).damaged


def test_a_run_that_was_stopped_while_it_stored_its_inputs_is_whole(stored, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def stopped(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dadmm.data.ingest.keep_in_place", stopped)
        with pytest.raises(KeyboardInterrupt):
            train("relaxed", run, 1, x=stored)
    assert Run.open(run).attributes["pending"]
    assert not check(run).damaged
    shutil.rmtree(run / "data/y")
    assert any(names(line, "data/y", "missing") for line in check(run).damaged)
