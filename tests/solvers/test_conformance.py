"""What every training method must do, whatever it computes: add yours to `METHODS`."""

import tracemalloc
from dataclasses import replace

import dask
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dadmm import NMF, ADMMClassifier, BlockADMM, DeepFacto, RelaxedADMM, resume
from dadmm.engine.eager import Eager
from dadmm.engine.memory import footprint
from dadmm.engine.plan import Step
from dadmm.engine.session import Session
from dadmm.networks.architecture import Architecture
from dadmm.networks.scaling import Scaling
from dadmm.numerics.losses import get_loss
from dadmm.numerics.workspace import release
from dadmm.solvers import Chunk, Pace, Phase, Problem, Weights
from dadmm.solvers.counts import counts_of
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.sums import combine
from dadmm.store import Run
from support.clusters import processes
from support.written_method import folder, method

ITERATIONS = 3
METHODS = {
    "relaxed": RelaxedADMM(),
    "relaxed, 2-splitting": RelaxedADMM(splitting=2, inner_steps=3),
    "relaxed, regions": RelaxedADMM(regions=3, variant="linearized"),
    "relaxed, recompute": RelaxedADMM(state="recompute"),
    "block": BlockADMM(batch_size=16),
    "block, batch": BlockADMM(batch_size=16, mode="batch", blocks=2),
    "block, consensus": BlockADMM(batch_size=16, consensus="admm", early_stopping=True),
    "block, grid": BlockADMM(batch_size=16, schedule="grid", blocks=3),
    "block, held out": BlockADMM(batch_size=16, schedule="grid", blocks=3, early_stopping=True),
    "nmf": Factorization(),
    "nmf, online": Factorization(mode="online", batch_size=16),
    "of the page": method()(),
}
DATA = load_digits(return_X_y=True)
every_method = pytest.mark.parametrize("name", METHODS)


def estimator(name, dtype="float32", chunks=70, **options):
    """Return an untrained estimator of a method."""
    same = {"max_iter": ITERATIONS, "tol": 0, "random_state": 3, "chunks": chunks, **options}
    solver = METHODS[name]
    if isinstance(solver, Factorization):
        return NMF(5, mode=solver.mode, dtype=dtype, **same)
    return ADMMClassifier((12, 12), solver=replace(solver, dtype=dtype), **same)


def train(name, callback=None, rows=210, **options):
    x, y = (part[:rows] for part in DATA)
    made = estimator(name, **options)
    return made.fit(x, *([] if isinstance(made, NMF) else [y]), callback=callback)


def bits(model):
    """All numbers of a trained model, but those of the clock."""
    found = {name: array.tobytes() for name, array in model.network_.params.items()}
    history = model.history_.drop_vars("seconds")
    return found | {str(name): history[name].values.tobytes() for name in history}


@pytest.fixture(scope="module")
def expected():
    known = {}

    def get(name):
        if name not in known:
            known[name] = bits(train(name))
        return known[name]

    return get


def passed(name):
    """Return the solver if it is none of dadmm's own: a run asks for it."""
    return {"solver": METHODS[name]} if name == "of the page" else {}


# -------------------------------------------------------------------------------- what it computes


@every_method
def test_a_store_and_one_thread_change_no_bit(name, expected, tmp_path):
    with dask.config.set(scheduler="synchronous"):
        assert bits(train(name, run=tmp_path / "run")) == expected(name)


@pytest.fixture(scope="module")
def two_processes():
    folder()
    with processes(2) as client:
        yield client


@pytest.mark.processes
@every_method
def test_two_processes_change_no_bit(name, expected, two_processes):
    with two_processes.as_current():
        assert bits(train(name)) == expected(name)


@every_method
def test_tasks_done_by_hand_change_no_bit(name, tmp_path):
    """An iteration task by task, in the order in which they are laid out."""

    def stop(iteration, row):
        if iteration == 2:
            raise StopIteration

    train(name, stop, run=tmp_path / "run")
    run = Run.open(tmp_path / "run")
    plan, record = Session.open(run, *passed(name).values()).plan, run.committed()
    source, target = record["generation"], record["generation"] + 100
    plan.begin(target)
    row = Eager(plan).iteration(Step(2, source, target), Pace(2 / 3, 1.0))
    names = [name for layer in plan.layout.layers.values() for name in layer]
    found = {name: a.tobytes() for name, a in run.load_params(target, names).items()}
    whole = train(name, run=tmp_path / "whole")
    last = Run.open(tmp_path / "whole").committed()["generation"]
    kept = Run.open(tmp_path / "whole").load_params(last, names)
    assert found == {name: array.tobytes() for name, array in kept.items()}
    assert row["objective"] == whole.history_["objective"].values[-1]


@every_method
@pytest.mark.parametrize("iteration", [1, 2])
def test_interrupted_and_resumed_it_ends_with_the_same_bits(name, iteration, expected, tmp_path):
    class Killed(BaseException):
        pass

    def kill(k, row):
        if k == iteration:
            raise Killed

    with pytest.raises(Killed):
        train(name, kill, run=tmp_path / "run")
    assert bits(resume(tmp_path / "run", **passed(name))) == expected(name)


@every_method
@pytest.mark.parametrize("chunks", [210, 100, 33])
def test_any_number_of_chunks_trains(name, chunks):
    model = train(name, chunks=chunks)
    assert model.n_iter_ == ITERATIONS
    assert all(np.isfinite(array).all() for array in model.network_.params.values())


@every_method
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_have_the_dtype_that_was_asked_for(name, dtype):
    model = train(name, dtype=dtype)
    assert {array.dtype for array in model.network_.params.values()} == {np.dtype(dtype)}
    other = train(name, dtype="float64" if dtype == "float32" else "float32")
    for array, twin in zip(
        model.network_.params.values(), other.network_.params.values(), strict=True
    ):
        assert np.abs(array - twin).max() <= 0.05 * max(np.abs(twin).max(), 1.0)


@every_method
def test_the_report_is_finite(name):
    history = train(name).history_
    assert {"objective", "step", "size", "seconds"} <= set(history)
    assert all(np.isfinite(history[column]).all() for column in history)
    assert np.isfinite(history.attrs["forward_loss"])


# ----------------------------------------------------------------------- what it says of itself


def problem_of(solver, rows=96, widths=(10, 12, 12, 3), **more):
    """Return a small problem for a method."""
    if isinstance(solver, Factorization):
        arch = Architecture((widths[0], 4), (False,), "identity")
        return Problem(arch, "squared", 0.0, rows, dtype=solver.dtype, supervised=False)
    arch = Architecture.build(widths[0], widths[1:-1], widths[-1], "relu", "dense")
    return Problem(arch, "cross_entropy", 1e-3, rows, widths[-1], dtype=solver.dtype, **more)


def chunk_of(problem, rows):
    rng = np.random.default_rng(0)
    x = rng.random((rows, problem.architecture.widths[0])).astype(problem.dtype)
    y = None
    if problem.supervised:
        codes = rng.integers(problem.classes, size=rows)
        y = get_loss(problem.loss).encode(codes, problem.classes, problem.dtype)
    scaling = Scaling.identity(x.shape[1])
    return Chunk(x, y, {}, (0, 0, 0), Pace(0.0, 0.5), scaling=scaling, dtype=problem.dtype)


def started(solver, problem, chunk):
    """Return the prepared weights of all layers, with the chunk's first state in it."""
    layout, params = solver.layout(problem), solver.initial(problem, 0)
    weights = {
        layer: solver.prepare(problem, layer, {name: params[name] for name in names})
        for layer, names in layout.layers.items()
    }
    merged = {name: array for own in weights.values() for name, array in own.items()}
    state, constants = solver.start(problem, merged, chunk)
    chunk.state.update(state)
    return weights, merged, constants


@every_method
def test_the_layout_tells_the_truth(name):
    solver = METHODS[name]
    problem = problem_of(solver)
    layout, chunk = solver.layout(problem), chunk_of(problem, 96)
    named = [array for names in layout.layers.values() for array in names]
    params = solver.initial(problem, 0)
    assert sorted(params) == sorted(named)
    assert len(set(named)) == len(named)
    _, _, constants = started(solver, problem, chunk)
    assert set(layout.constants) <= set(constants)
    widths = {array: block.shape for array, block in chunk.state.items()}
    kept = {array: (96, width) for array, width in layout.state.items()}
    kept |= {array: (1, size) for array, size in layout.memory.items()}
    between = set(kept) - set(widths)  # written by an earlier part before it is read
    assert {array: shape for array, shape in kept.items() if array not in between} == widths
    assert between <= written(solver, problem)
    exported = {}
    for layer, names in layout.exported.items():
        assert set(names) <= set(layout.layers[layer])
        given = solver.prepare(problem, layer, {array: params[array] for array in names})
        exported |= solver.export(problem, layer, given)
    shapes = {array: block.shape for array, block in exported.items()}
    assert shapes == dict(layout.network.shapes)


def written(solver, problem):
    passes = solver.passes(problem, 2).iteration
    return {array for each in passes for part in each.parts for array in part.writes}


@every_method
def test_visits_change_what_they_say_and_updates_give_what_is_stored(name):
    solver = METHODS[name]
    problem = problem_of(solver)
    layout, chunk = solver.layout(problem), chunk_of(problem, 96)
    weights, merged, constants = started(solver, problem, chunk)
    frozen = {array: np.array(block) for array, block in merged.items()}
    state = {a: np.zeros((96, w), problem.dtype) for a, w in layout.state.items()} | chunk.state
    for each in solver.passes(problem, 1).iteration:
        sums = {}
        for part in each.parts:
            given = {array: state[array].copy() for array in (*part.reads, *part.fresh)}
            before = {array: block.copy() for array, block in given.items()}
            x, y = chunk.inputs if part.x else None, chunk.y if part.y else None
            needed = {a: b for layer in part.layers for a, b in weights[layer].items()}
            seen = replace(chunk, state=given, inputs=x, y=y)
            visit = solver.evaluate if part.phase is Phase.EVALUATE else solver.visit
            sums |= visit(problem, part, needed, seen)
            for array in set(before) - set(part.writes):
                np.testing.assert_array_equal(given[array], before[array])
            state |= {array: given[array] for array in part.writes}
        for array, block in frozen.items():
            np.testing.assert_array_equal(merged[array], block)
        total = combine([sums]) | constants
        for layer in each.updates:
            now = Weights(weights[layer], weights[layer], {})
            new, _ = solver.update(problem, layer, now, total)
            again, _ = solver.update(problem, layer, now, total)
            for array in layout.layers[layer]:
                was = np.asarray(weights[layer][array])
                found = np.asarray(new.get(array, was))
                assert (found.shape, found.dtype) == (was.shape, was.dtype), array
                np.testing.assert_array_equal(found, again.get(array, was))


@every_method
@pytest.mark.parametrize("rows", [256, 2048])
def test_a_visit_holds_no_more_memory_than_was_said(name, rows):
    solver = METHODS[name]
    problem = problem_of(solver, rows=4 * rows, widths=(64, 64, 64, 8))
    said = footprint(solver, problem, 4, 4)
    chunk = chunk_of(problem, rows)
    _, merged, _ = started(solver, problem, chunk)
    state = {a: np.zeros((rows, w), problem.dtype) for a, w in solver.layout(problem).state.items()}
    state |= chunk.state
    small = 256 * 1024  # of Python itself
    parts = [part for each in solver.passes(problem, 4).iteration for part in each.parts]
    for part in parts:
        visit = solver.evaluate if part.phase is Phase.EVALUATE else solver.visit
        for _ in range(2):  # the first time may compile
            release()
            tracemalloc.start()
            try:
                given = {a: state[a].copy() for a in (*part.reads, *part.fresh)}
                seen = replace(chunk, state=given, inputs=chunk.inputs.copy())
                visit(problem, part, merged, seen)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        state |= {a: given[a] for a in part.writes}
        assert peak <= 1.1 * (said.visit + rows * said.row + said.sums) + small, part.name


def test_what_is_not_counted_is_measured():
    solver = method()()
    problem = problem_of(solver, widths=(64, 64, 64, 8))
    assert counts_of(solver) is None
    said = footprint(solver, problem, 4, 4)
    numbers = 64 * 64 * 2 + 64 * 8
    assert said.total >= 8 * numbers
    assert said.weights >= 4 * 2 * numbers  # the parameters and their momentum
    assert said.row >= 4 * (64 * 3 + 8)  # a row's inputs and activations
    assert footprint(solver, problem, 4, 4) is said


def test_deepfacto_is_one_of_them(tmp_path):
    x, y = (part[:210] for part in DATA)
    options = {"max_iter": 2, "tol": 0, "random_state": 0, "chunks": 70}
    made = DeepFacto(4, (12,), **options).fit(x, y)
    stored = DeepFacto(4, (12,), run=tmp_path / "run", **options).fit(x, y)
    assert bits(made) == bits(stored)
