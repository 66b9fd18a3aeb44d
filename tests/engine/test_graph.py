"""One iteration as a graph: the same bits everywhere, small tasks, readable keys."""

import math
import pickle
from collections import Counter
from pathlib import Path

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from dask.core import get_dependencies
from dask.utils import key_split
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

from dadmm import ADMMClassifier, ADMMRegressor, Architecture, BlockADMM, RelaxedADMM, load
from dadmm.engine import graph, loop, tasks
from dadmm.engine.layout import FAN_IN, groups
from dadmm.engine.plan import Plan, Step
from dadmm.engine.session import Session
from dadmm.engine.tasks import aligned, task_of
from dadmm.errors import StoreError
from dadmm.solvers.problem import Problem
from dadmm.solvers.sums import combine
from dadmm.store import Run
from support.replay import repeat
from support.runs import all_bits

SOLVERS = {
    "3-splitting": RelaxedADMM(),
    "regions": RelaxedADMM(regions=3),
    "2-splitting": RelaxedADMM(splitting=2, inner_steps=3),
    "linearized, 2 regions": RelaxedADMM(splitting=2, variant="linearized", regions=2),
    "recompute": RelaxedADMM(state="recompute"),
    "block": BlockADMM(batch_size=16, agents=2),  # of three chunks: a round of two, one of one
    "block, batch": BlockADMM(batch_size=16, mode="batch", blocks=2),
    "block, consensus": BlockADMM(batch_size=16, consensus="admm", early_stopping=True),
    "block, grid": BlockADMM(batch_size=16, schedule="grid", consensus="admm", blocks=3),
    "block, batch grid": BlockADMM(batch_size=16, schedule="grid", mode="batch", blocks=2),
}
ITERATIONS = 3


def digits(rows=210):
    x, y = load_digits(return_X_y=True)
    return x[:rows].astype(np.float32), y[:rows]


def train(solver, run=None, **options):
    return ADMMClassifier(
        (12, 12),
        solver=solver,
        max_iter=ITERATIONS,
        tol=0,
        chunks=70,
        random_state=3,
        run=run,
        **options,
    ).fit(*digits())


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def client(request):
    with (
        LocalCluster(
            n_workers=request.param,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected():
    """Return the bits of a synchronous run in memory."""
    known = {}

    def of(name):
        if name not in known:
            with dask.config.set(scheduler="sync"):
                known[name] = all_bits(train(SOLVERS[name]))
        return known[name]

    return of


# -------------------------------------------------------------------------------- the same bits


def test_training_moves_the_parameters(expected):
    params, rows, final = expected("3-splitting")
    assert all(np.frombuffer(a, np.float32).any() for a in params.values())
    objective = np.frombuffer(rows["objective"])
    assert (np.diff(objective) < 0).all()
    assert final["train_score"] > 0.5


@pytest.mark.parametrize("solver", SOLVERS)
def test_threads_memory_and_a_folder_give_the_same_bits(solver, expected, tmp_path):
    with dask.config.set(scheduler="threads", num_workers=4):
        assert all_bits(train(SOLVERS[solver])) == expected(solver)
        assert all_bits(train(SOLVERS[solver], tmp_path / "threads")) == expected(solver)
    with dask.config.set(scheduler="sync"):
        assert all_bits(train(SOLVERS[solver], tmp_path / "sync")) == expected(solver)


@pytest.mark.processes
@pytest.mark.parametrize("solver", SOLVERS)
def test_worker_processes_give_the_same_bits(solver, expected, tmp_path, client):
    with client.as_current():
        assert all_bits(train(SOLVERS[solver], tmp_path / "run")) == expected(solver)


def test_what_came_at_an_odd_address_is_multiplied_like_everything_else():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(32, 8)).astype(np.float32)
    odd = np.frombuffer(b"." + w.tobytes(), np.uint8)[1:].view(np.float32).reshape(w.shape)
    assert not odd.flags.aligned
    found = aligned({"w_1": odd, "details": {"loss": 1.0}})
    assert found["w_1"].flags.aligned
    assert found["details"] == {"loss": 1.0}
    np.testing.assert_array_equal(x @ found["w_1"], x @ w)
    assert aligned({"w_1": w})["w_1"] is w


@pytest.mark.processes
def test_worker_processes_share_a_temporary_store_to_the_same_bits(expected, client):
    with client.as_current():
        assert all_bits(train(SOLVERS["regions"])) == expected("regions")


@pytest.mark.processes
def test_dask_arrays_of_other_blocks_give_the_same_bits(expected, client):
    x, y = digits()
    with client.as_current():
        made = ADMMClassifier(
            (12, 12), solver=RelaxedADMM(), max_iter=3, tol=0, chunks=70, random_state=3
        )
        made.fit(da.from_array(x, chunks=(110, 30)), da.from_array(y, chunks=64))
    assert all_bits(made) == expected("3-splitting")


@pytest.mark.parametrize("solver", ["relaxed", "block"])
def test_regression_of_several_targets_gives_the_same_bits(solver, tmp_path):
    x, _ = digits()

    def fit(run=None):
        made = ADMMRegressor(
            (8,), "tanh", solver=solver, max_iter=3, tol=0, chunks=70, random_state=0, run=run
        )
        return all_bits(made.fit(x[:, 5:], x[:, 2:5]))

    with dask.config.set(scheduler="sync"):
        alone = fit()
    assert fit(tmp_path / "run") == alone


@pytest.mark.parametrize(
    "solver", ["relaxed", BlockADMM(batch_size=8, agents=4)], ids=["relaxed", "block"]
)
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_many_chunks_on_any_number_of_threads_give_the_same_bits(workers, solver):
    def fit():
        made = ADMMClassifier((8,), solver=solver, max_iter=2, tol=0, chunks=20, random_state=0)
        return all_bits(made.fit(*digits()))

    with dask.config.set(scheduler="sync"):
        alone = fit()
    with dask.config.set(scheduler="threads", num_workers=workers):
        assert fit() == alone


def test_chunks_change_the_last_bits_of_relaxed_admm_only(expected):
    _, rows, _ = expected("3-splitting")
    other = ADMMClassifier(
        (12, 12), solver=RelaxedADMM(), max_iter=3, tol=0, chunks=300, random_state=3
    ).fit(*digits())
    objective = np.frombuffer(rows["objective"])
    np.testing.assert_allclose(other.history_["objective"], objective, rtol=1e-4)


# ------------------------------------------------------------------------------------ its shape


def plan(solver=RelaxedADMM(), rows=2000, chunk=100, hidden=(6, 6), run=None):  # noqa: B008
    arch = Architecture.build(5, hidden, 2)
    problem = Problem(arch, "cross_entropy", 1e-3, rows, classes=2)
    chunks = (chunk,) * (rows // chunk)
    return Plan(run or Run.in_memory({}), solver, problem, chunks, 0)


def tasks_of(made):
    return dict(made.__dask_graph__())


def summed(values):
    """Return the tree sum of values as a graph."""
    made = graph.Graph(plan())
    leaves = [made.add(leaf, "leaf", i)(value) for i, value in enumerate(values)]
    return made.result(made.tree_sum(leaves, "test"))


def step(k):
    """An iteration of a run that nothing has disturbed."""
    return Step(k, k, k + 1)


def leaf(plan, value):
    return value


def tree(leaves):
    """How many additions it takes to add up that many."""
    level = math.ceil(leaves / FAN_IN)
    total = level
    while level > 1:  # by pairs from there on
        level = math.ceil(level / 2)
        total += level
    return total


def test_an_iteration_is_as_many_tasks_as_documented():
    found = tasks_of(graph.iteration(plan(), step(3)))
    layers, chunks = 4, 20  # three layers, and the head that predicts
    assert Counter(map(key_split, found)) == {
        "load-weights": layers,
        "visit-chunk": chunks,
        "sum-grams": tree(chunks),
        "solve-weights": layers,
        "report": 1,
    }


def test_regions_are_visited_side_by_side_and_coupled_after_both_their_sides():
    found = tasks_of(graph.iteration(plan(RelaxedADMM(regions=3)), step(3)))
    count = Counter(map(key_split, found))
    assert count["visit-region"] == 3 * 20
    assert count["couple-chunk"] == 2 * 20
    assert count["evaluate-chunk"] == 20
    assert count["sum-grams"] == tree(6 * 20)
    for key in found:
        before = Counter(map(key_split, get_dependencies(found, key)))
        if key_split(key) == "couple-chunk":
            assert before["visit-region"] == 3
        elif key_split(key) == "visit-region":
            assert set(before) == {"load-weights"}


def test_inner_steps_are_more_passes_in_the_same_graph():
    found = tasks_of(graph.iteration(plan(RelaxedADMM(splitting=2, inner_steps=4)), step(3)))
    count = Counter(map(key_split, found))
    assert count["visit-chunk"] == 20
    assert count["couple-chunk"] == 3 * 20
    assert count["sum-grams"] == 4 * tree(20)


def test_block_admm_is_a_round_of_tasks_for_every_two_agents():
    found = tasks_of(
        graph.iteration(plan(BlockADMM(agents=2, blocks=3, early_stopping=True)), step(3))
    )
    count = Counter(map(key_split, found))
    assert count["visit-chunk"] == count["validate-chunk"] == 20
    assert count["sum-grams"] == 10 * tree(2) + tree(20)
    assert count["solve-weights"] == 3 * (10 + 1)


def test_the_other_graphs_have_readable_keys_too():
    first = Counter(map(key_split, tasks_of(graph.first(plan()))))
    assert set(first) == {
        "load-weights", "start-chunk", "sum-grams", "keep-constants"
    }  # fmt: skip
    finish = Counter(map(key_split, tasks_of(graph.finish(plan(), 3, 3, 9))))
    assert finish == {
        "load-weights": 3,
        "evaluate-chunk": (8 + 1) * 20,  # Newton's steps of the refit, and the score
        "sum-grams": (8 + 1) * tree(20),
        "solve-weights": 8,
        "save-network": 3,
        "report": 1,
    }


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_task_that_works_on_a_chunk_is_named_by_it_and_no_other_is(solver):
    made = plan(solver)
    shared = ("load", "sum", "solve", "keep", "save", "report")
    for each in (graph.first(made), graph.iteration(made, step(3)), graph.finish(made, 3, 3, 9)):
        for key, task in tasks(each).items():
            if key.startswith(shared):
                assert task_of(key) is None
            else:
                chunk = task.args[1 if key.startswith("start") else 2]
                assert task_of(key) == f"chunk {chunk} ({key})"


def test_no_two_tasks_share_a_key_whatever_the_iteration_the_stage_or_the_session():
    one, other = plan(), plan()
    keys = [
        key
        for each in (one, other)
        for made in (
            graph.first(each),
            *(graph.iteration(each, step(k)) for k in range(3)),
            *(graph.finish(each, k, k, 9) for k in range(3)),
        )
        for key in tasks_of(made)
    ]
    assert len(set(keys)) == len(keys)


def test_a_later_session_of_a_run_never_shares_a_key_with_an_earlier_one(tmp_path):
    """Else a cluster would hand back sums of visits whose blocks have been swept away since."""
    ADMMClassifier((4,), max_iter=1, random_state=0, run=tmp_path / "run").fit(*digits(60))
    first, second = (Session.open(tmp_path / "run").plan for _ in range(2))
    assert (
        not tasks_of(graph.iteration(first, step(1))).keys()
        & tasks_of(graph.iteration(second, step(1))).keys()
    )


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_task_is_small_however_large_data_and_weights_are(solver, tmp_path):
    run = Run.create(tmp_path / "run", {"config": {"note": "x" * 100_000}})
    large = plan(solver, rows=2000 * 10_000, chunk=10_000, hidden=(512, 512), run=run)
    for made in (graph.first(large), graph.iteration(large, step(3)), graph.finish(large, 3, 3, 9)):
        found = list(tasks_of(made).values())
        picked = [*found[:200], *found[-50:]]
        assert max(len(cloudpickle.dumps(task)) for task in picked) < 4000


def test_a_plan_travels_without_what_tasks_do_not_need(tmp_path):
    made = plan(run=Run.create(tmp_path / "run", {}))
    again = pickle.loads(pickle.dumps(made))
    assert again.chunks == ()
    assert (again.solver, again.problem, again.seed) == (made.solver, made.problem, made.seed)
    assert again.session == made.session


@pytest.mark.parametrize("leaves", [1, 7, 8, 9, 64, 65, 130])
def test_sums_are_added_in_a_tree_that_only_their_number_decides(leaves, monkeypatch):
    monkeypatch.setattr(tasks, "combine", tuple)
    made = summed(range(leaves))
    shape = list(range(leaves))
    for level in range(20):
        shape = [tuple(group) for group in groups(shape, level)]
        if len(shape) == 1:
            break
    for scheduler in ("sync", "threads", "threads"):
        assert made.compute(scheduler=scheduler) == shape[0]


def test_the_tree_needs_no_order_of_arrival():
    """Sums of numbers whose rounding depends on the order are the same in every schedule."""
    rng = np.random.default_rng(0)
    parts = [{"a": v * 10.0 ** rng.integers(-12, 12)} for v in rng.standard_normal((40, 50))]
    made = summed(parts)
    results = {made.compute(scheduler="threads", num_workers=w)["a"].tobytes() for w in (1, 3, 8)}
    assert results == {made.compute(scheduler="sync")["a"].tobytes()}
    assert results != {combine(parts)["a"].tobytes()}  # one by one it would be another


def test_an_iteration_is_one_compute(monkeypatch):
    computed = []
    compute = loop.compute

    def counting(task):
        computed.append(key_split(task.key))
        return compute(task)

    monkeypatch.setattr(loop, "compute", counting)
    train(RelaxedADMM())
    assert computed == ["keep-constants", *["report"] * 3, "report"]


@pytest.mark.processes
def test_nothing_large_goes_through_the_scheduler_and_nothing_stays(tmp_path, client):
    with client.as_current():
        train(RelaxedADMM(), tmp_path / "run")
    client.submit(int, 1, pure=False).result()  # releases are sent before this is
    left = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
    assert not [key for key in left if key_split(key) == "visit-chunk"]


# ------------------------------------------------------------------------------------ late twins


def digest(path):
    return {
        str(p.relative_to(path)): p.read_bytes()
        for part in ("state", "params", "data", "scaling", "constants", "commit.json", "network")
        for p in sorted([path / part, *(path / part).rglob("*")])
        if p.is_file()
    }


def run_again(path, k):
    repeat(path, step(k), ITERATIONS)


@pytest.mark.parametrize(
    "solver",
    [
        "3-splitting",
        "regions",
        "recompute",
        "block",
        "block, batch",
        "block, consensus",
        "block, grid",
        "block, batch grid",
    ],
)
def test_a_late_twin_of_the_last_iteration_writes_the_same_bytes(solver, expected, tmp_path):
    path = tmp_path / "run"
    seen = []

    def twin(iteration, row):
        before = digest(path)
        run_again(path, iteration - 1)
        assert digest(path) == before
        seen.append(iteration)

    made = ADMMClassifier(
        (12, 12),
        solver=SOLVERS[solver],
        max_iter=ITERATIONS,
        tol=0,
        chunks=70,
        random_state=3,
        run=path,
    ).fit(*digits(), callback=twin)
    assert seen == [1, 2, 3]
    assert all_bits(made) == expected(solver)


def test_a_late_twin_of_an_older_iteration_finds_nothing_and_changes_nothing(tmp_path):
    path = tmp_path / "run"
    train(RelaxedADMM(), path)
    before = digest(path)
    for k in (0, 1):
        with pytest.raises(StoreError, match=rf"\b(state|params)/{k}\b"):
            run_again(path, k)
    assert digest(path) == before


def test_a_twin_that_writes_into_a_deleted_generation_is_swept_and_never_read(expected, tmp_path):
    """It had read its input before that was deleted, and writes after its output was."""
    path = tmp_path / "run"
    writer = []

    def twin(iteration, row):
        if iteration == 1:
            writer.append(Run.open(path).blocks)
            writer.append(writer[0].read("state/1/v_1", 2).copy())
        elif iteration == 3:
            blocks, block = writer
            try:
                blocks.write("state/1/v_1", 2, np.zeros_like(block))
            except (StoreError, OSError):  # it does not even find where to
                (path / "state/1/v_1").mkdir(parents=True)
                (path / "state/1/v_1/c.2.0").write_bytes(b"late")

    options = {"solver": RelaxedADMM(), "max_iter": 4, "tol": 0, "chunks": 70, "random_state": 3}
    ADMMClassifier((12, 12), **options, run=path).fit(*digits(), callback=twin)
    assert Run.open(path).blocks.names("state") == ["3", "4"]
    assert Path(path / "commit.json").exists()
    made = ADMMClassifier((12, 12), **options).fit(*digits())
    assert all_bits(load(path)) == all_bits(made)
