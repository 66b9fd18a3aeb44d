"""The loop: when it stops, what it leaves behind, and that going on gives the same bits."""

import errno
import math
import os
from contextlib import suppress
from pathlib import Path

import dask
import numpy as np
import pytest

from dadmm import ADMMClassifier, BlockADMM, RelaxedADMM, load, resume
from dadmm.engine import loop
from dadmm.errors import DivergenceError, RunError, StoreError
from dadmm.numerics.algebra import convergence_rate
from dadmm.store import FLUSH_EVERY, MemoryBlocks, Run, ZarrBlocks
from support.messages import names, naming
from support.runs import all_bits, stop_at

ITERATIONS = 6
SOLVERS = {
    "relaxed": RelaxedADMM(),
    # All kinds of state.  A schedule of the learning rate would be stretched to a new limit.
    "block": BlockADMM(
        mode="batch", blocks=2, batch_size=16, consensus="admm", learning_rate_schedule="constant"
    ),
}
SMALL = {"max_iter": ITERATIONS, "tol": 0, "chunks": 40, "random_state": 0}
only_relaxed = pytest.mark.parametrize("solver", ["relaxed"], indirect=True)


@pytest.fixture(scope="module", autouse=True, params=SOLVERS)
def solver(request):
    """Let `small` make estimators with each solver in turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SMALL, "solver", SOLVERS[request.param])
        yield SOLVERS[request.param]


@pytest.fixture(autouse=True)
def synchronous(monkeypatch):
    """One task after the other, and no waiting for the disk: no test here pulls the plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    with dask.config.set(scheduler="sync"):
        yield


def data():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((90, 4)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def small(**options):
    return ADMMClassifier((5, 5), **{**SMALL, **options})


@pytest.fixture(scope="module")
def straight(solver):
    """The bits of an undisturbed run in memory."""
    with dask.config.set(scheduler="sync"):
        return all_bits(small().fit(*data()))


# --------------------------------------------------------------------------------- an end


def test_a_run_ends_after_max_iter_and_calls_back_after_each_commit(tmp_path):
    seen = []

    def callback(k, row):
        assert Run.open(tmp_path / "run").committed()["iteration"] == k
        seen.append((k, row["objective"]))

    made = small(run=tmp_path / "run").fit(*data(), callback=callback)
    assert [k for k, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in seen] == made.loss_curve_
    assert made.history_.attrs["status"] == "finished"
    record = Run.open(tmp_path / "run").committed()
    assert (record["iteration"], record["status"]) == (6, "finished")
    assert record["final"] == {k: made.history_.attrs[k] for k in ("forward_loss", "train_score")}
    assert (made.history_["seconds"] > 0).all()


@only_relaxed
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_run_that_stands_still_has_converged(place, tmp_path):
    run = tmp_path / "run" if place == "folder" else None
    made = small(max_iter=200, tol=0.02, run=run).fit(*data())
    assert made.history_.attrs["status"] == "converged"
    assert 1 < made.n_iter_ < 200
    still = (made.history_["step"] <= 0.02 * made.history_["size"]).values
    np.testing.assert_array_equal(still, [False] * (made.n_iter_ - 1) + [True])


@only_relaxed
def test_a_tolerance_of_zero_never_stops_early(monkeypatch):
    report = RelaxedADMM.report
    monkeypatch.setattr(RelaxedADMM, "report", lambda *args: {**report(*args), "step": 0.0})
    assert small().fit(*data()).n_iter_ == ITERATIONS
    assert small(tol=1e-9).fit(*data()).n_iter_ == 1


def test_a_finished_run_is_not_touched_by_resume(tmp_path, straight, monkeypatch):
    small(run=tmp_path / "run").fit(*data())
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    monkeypatch.setattr(loop, "compute", lambda task: pytest.fail("computed"))
    for again in (resume(tmp_path / "run"), resume(tmp_path / "run", max_iter=3)):
        assert all_bits(again) == straight
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_converged_run_is_not_touched_by_resume(tmp_path, monkeypatch):
    made = small(max_iter=200, tol=0.02, run=tmp_path / "run").fit(*data())
    monkeypatch.setattr(loop, "compute", lambda task: pytest.fail("computed"))
    assert all_bits(resume(tmp_path / "run", max_iter=300)) == all_bits(made)


@pytest.mark.parametrize("first", [1, 4])
def test_a_longer_limit_goes_on_to_what_a_straight_longer_run_gives(tmp_path, straight, first):
    run = tmp_path / "run"
    short = small(max_iter=first, run=run).fit(*data())
    assert short.n_iter_ == first
    longer = resume(run, max_iter=ITERATIONS)
    assert all_bits(longer) == straight
    assert all_bits(load(run)) == straight


def test_a_run_longer_than_a_flush_resumes_with_all_of_its_history(tmp_path, straight, monkeypatch):
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 2)
    monkeypatch.setattr("dadmm.store.history.HISTORY_ROWS", 4)
    for limit in (1, 4, 5, ITERATIONS):
        run = tmp_path / "run"
        made = resume(run, max_iter=limit) if run.exists() else small(max_iter=limit, run=run).fit(
            *data()
        )  # fmt: skip
        assert made.history_.sizes["iteration"] == limit
    assert all_bits(made) == straight


# -------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("iteration", [1, 3, ITERATIONS])
def test_a_stopped_run_keeps_its_last_iteration_and_resumes_to_the_same_bits(
    tmp_path, straight, iteration
):
    model = small(run=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data(), callback=stop_at(iteration))
    record = Run.open(tmp_path / "run").committed()
    assert (record["iteration"], record["status"]) == (iteration, "interrupted")
    assert model.n_iter_ == load(tmp_path / "run").n_iter_ == iteration
    assert model.predict(data()[0]).shape == (90,)
    assert all_bits(resume(tmp_path / "run")) == straight


def test_a_run_in_memory_can_be_stopped_and_used():
    model = small()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data(), callback=stop_at(2))
    assert (model.n_iter_, model.history_.attrs["status"]) == (2, "interrupted")
    assert model.predict(data()[0]).shape == (90,)


@pytest.mark.parametrize("moment", ["sweep", "commit", "begin"])
def test_an_interrupt_between_the_steps_of_an_iteration_loses_nothing(
    tmp_path, straight, moment, monkeypatch
):
    """Ctrl-C may come after the commit and before the loop knows of it."""
    step, calls = getattr(Run, moment), []

    def interrupted(*args, **options):
        calls.append(moment)
        step(*args, **options)
        # Each generation begins twice: what is kept per sample, and per chunk.
        if len(calls) == (7 if moment == "begin" else 4):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            small(run=tmp_path / "run").fit(*data())
    stopped = load(tmp_path / "run")
    assert stopped.history_.sizes["iteration"] == stopped.n_iter_ == 3 - (moment == "begin")
    assert all_bits(resume(tmp_path / "run")) == straight


def test_another_error_in_a_callback_comes_as_it_is_and_the_run_can_go_on(tmp_path, straight):
    with pytest.raises(LookupError, match="mine"):
        small(run=tmp_path / "run").fit(*data(), callback=stop_at(2, LookupError("mine")))
    assert Run.open(tmp_path / "run").committed()["status"] == "running"
    assert all_bits(resume(tmp_path / "run")) == straight


def test_a_run_killed_after_it_converged_does_not_iterate_on(tmp_path, monkeypatch):
    """The last commit knows that it was the last, however much of the finish was lost."""
    options = {"max_iter": 200, "tol": 0.02}
    alone = small(**options).fit(*data())

    def die(plan, k, generation, network):
        raise SystemExit

    for flush_every in (FLUSH_EVERY, 1):
        run = tmp_path / str(flush_every)
        with monkeypatch.context() as dying:
            dying.setattr("dadmm.store.run.FLUSH_EVERY", flush_every)
            dying.setattr(loop.graph, "finish", die)
            with pytest.raises(SystemExit):
                small(**options, run=run).fit(*data())
        assert Run.open(run).committed()["status"] == "running"
        assert all_bits(resume(run)) == all_bits(alone)


# -------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_run_that_diverges_says_so_and_keeps_the_last_good_iteration(
    place, tmp_path, straight, monkeypatch, solver
):
    update = type(solver).update
    calls = []

    def infinite(self, problem, layer, *args):
        new, details = update(self, problem, layer, *args)
        calls.append(layer)
        # In the third iteration: each updates 3 layers and a readout, or 2 blocks in 2 rounds.
        if len(calls) == 2 * 4 + 1:
            details = dict.fromkeys(details, math.inf)
            new = {name: np.full_like(array, np.nan) for name, array in new.items()}
        return new, details

    run = tmp_path / "run" if place == "folder" else None
    model = small(run=run)
    with monkeypatch.context() as patched:
        patched.setattr(type(solver), "update", infinite)
        with pytest.raises(DivergenceError) as caught:
            model.fit(*data())
    message = str(caught.value)
    assert names(message, "iteration 3", "diverged", "iteration 2")
    assert solver.hint in message
    assert "\n" not in message
    assert model.n_iter_ == 2
    assert model.history_.attrs["status"] == "diverged"
    assert np.isfinite(model.network_.forward(data()[0])).all()
    if run is None:
        return
    stored = Run.open(run)
    assert stored.committed()["iteration"] == 2
    assert stored.blocks.names("state") == ["1", "2"]
    assert "3" not in stored.blocks.names("params")
    assert load(run).n_iter_ == 2
    assert all_bits(resume(run)) == straight  # nothing of the third iteration was left


@only_relaxed
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [1e20, 1e30])
@pytest.mark.parametrize(
    "form",
    [
        RelaxedADMM(),
        RelaxedADMM(splitting=2, inner_steps=2),
        RelaxedADMM(regions=3),
        BlockADMM(),
        BlockADMM(mode="batch", blocks=2),
    ],
)
def test_absurd_data_ends_in_a_divergence_error_not_in_nan(tmp_path, scale, form):
    x, y = data()
    model = small(standardize="none", solver=form, run=tmp_path / "run")
    with pytest.raises(DivergenceError, match=naming("iteration 1", "standardise")):
        model.fit(x * np.float32(scale), y)
    assert all(np.isfinite(a).all() for a in model.network_.params.values())
    with pytest.raises(DivergenceError, match=naming("iteration 1")):
        resume(tmp_path / "run")


# --------------------------------------------------------------------- what the machine does


def full_disk(monkeypatch, method, prefix):
    """Let the disk be full the first time that `method` of the blocks is called for `prefix`."""
    real = getattr(ZarrBlocks, method)
    left = [1]

    def full(self, name, *args, **options):
        if name.startswith(prefix) and left:
            left.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
        return real(self, name, *args, **options)

    monkeypatch.setattr(ZarrBlocks, method, full)


@only_relaxed
@pytest.mark.parametrize(
    ("method", "name", "committed"),
    [
        ("write", "state/3/v_1", 2),
        ("write", "state/1/l", 0),
        ("put", "params/3/w_2", 2),
        ("create", "state/4/u_1", 3),
        ("put", f"network/{ITERATIONS + 1}/w_1", ITERATIONS),
        ("put", "history/step", ITERATIONS),
        ("write", "state/0/v_1", None),
        ("put", "constants", None),
    ],
)
def test_a_full_disk_is_one_line_costs_one_iteration_and_is_resumed(
    tmp_path, straight, monkeypatch, method, name, committed
):
    with monkeypatch.context() as patched:
        full_disk(patched, method, name)
        with pytest.raises(RunError) as caught:
            small(run=tmp_path / "run").fit(*data())
    message = str(caught.value)
    assert names(message, "store", "No space left on device")
    assert "\n" not in message
    assert isinstance(caught.value.__cause__, OSError)
    record = Run.open(tmp_path / "run").committed()
    assert (record and record["iteration"]) == committed
    assert all_bits(resume(tmp_path / "run")) == straight


def test_a_disk_that_is_full_for_the_commit_itself_keeps_the_old_one(
    tmp_path, straight, monkeypatch
):
    replace = os.replace
    commits = []

    def full(source, target, **options):
        if Path(target).name == "commit.json":
            commits.append(target)
            if len(commits) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(RunError, match=naming("No space left on device")):
            small(run=tmp_path / "run").fit(*data())
    assert Run.open(tmp_path / "run").committed()["iteration"] == 2
    assert all_bits(resume(tmp_path / "run")) == straight


def test_an_error_inside_a_task_is_one_line_too(tmp_path, straight, monkeypatch, solver):
    def broken(*args):
        raise RuntimeError("a long\n  story")

    with monkeypatch.context() as patched:
        patched.setattr(type(solver), "visit", broken)
        with pytest.raises(RunError) as caught:
            small(run=tmp_path / "run").fit(*data())
    assert str(caught.value).endswith("RuntimeError: a long story")
    assert "\n" not in str(caught.value)
    assert all_bits(resume(tmp_path / "run")) == straight


def test_an_error_of_dadmm_comes_through_as_it_is(monkeypatch):
    def damaged(self, name, chunk):
        raise StoreError(f"chunk {chunk} of {name} is damaged")

    monkeypatch.setattr(MemoryBlocks, "read", damaged)
    with pytest.raises(StoreError, match=r"^chunk \d of data/x is damaged$"):
        small().fit(*data())


# ------------------------------------------------------------------------ death at any moment


class Killed(BaseException):
    """Stands in for SIGKILL: nothing after it reaches the store."""


def die_at(monkeypatch, moment, after):
    """Die at the `moment`-th change that others can see: all are renames, of files or folders."""
    count = [0]

    def dying(real):
        def rename(source, target, **options):
            count[0] += 1
            if count[0] < moment:
                return real(source, target, **options)
            if after and count[0] == moment:
                real(source, target, **options)
            raise Killed

        return rename

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "rename", dying(os.rename))
    return count


def fit_or_resume(run):
    """What a person does who finds a run in whatever state."""
    options = {"max_iter": 3, "run": run}
    if not run.exists():
        return small(**options).fit(*data())
    try:
        return resume(run)
    except StoreError as error:
        if "start" not in str(error):
            raise
    return small(**options, overwrite=True).fit(*data())


def test_death_at_any_moment_costs_nothing_but_time(tmp_path, monkeypatch):
    """Every visible change to a store is a rename: die before and after a sample of all of them."""
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 2)
    expected = all_bits(small(max_iter=3).fit(*data()))
    with monkeypatch.context() as counting:
        count = die_at(counting, 10**9, after=False)
        fit_or_resume(tmp_path / "whole")
    moments = np.random.default_rng(0).permutation(np.arange(1, count[0] + 1))[:10]
    for moment in sorted(int(m) for m in moments):
        run = tmp_path / str(moment)
        with monkeypatch.context() as dying:
            die_at(dying, moment, after=bool(moment % 2))
            with pytest.raises(Killed):
                fit_or_resume(run)
        with monkeypatch.context() as dying:  # and once more while it is resumed
            die_at(dying, moment // 3 + 1, after=bool(moment % 2))
            with suppress(Killed):
                fit_or_resume(run)
        assert all_bits(fit_or_resume(run)) == expected
        assert not [p for p in run.glob("*") if p.name.startswith(".")]


@only_relaxed
def test_history_tells_the_rate():
    made = small(max_iter=20).fit(*data())
    attrs = made.history_.attrs
    assert (attrs["rate"], attrs["rate_r2"]) == convergence_rate(made.history_["step"].values)
    assert 0 < attrs["rate"] < 1.1
