"""What an iteration will take: the graph, its price, a scheduler and workers event by event."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import dask
import numpy as np
import pytest
from dask.core import get_dependencies
from dask.optimization import cull

from dadmm import NMF, Architecture, BlockADMM, Dense, NMFBlock, RelaxedADMM
from dadmm.app.planner.costs import Cost, Setting, Store, cost, seconds
from dadmm.app.planner.forecast import (
    Conditions,
    Forecast,
    Subject,
    enough,
    forecast,
    store_of,
    sweep,
)
from dadmm.app.planner.machine import typical
from dadmm.app.planner.simulate import ASKED, Cluster, simulate
from dadmm.app.planner.structure import Kind, Tasks, record, tasks_of
from dadmm.engine import graph
from dadmm.engine.memory import worker_bytes
from dadmm.engine.plan import Plan, Step
from dadmm.solvers.counts import counts_of
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.problem import Chunk, Problem
from dadmm.store import Run

SOLVERS = {
    "3-splitting": RelaxedADMM(),
    "regions": RelaxedADMM(regions=3),
    "2-splitting": RelaxedADMM(splitting=2, inner_steps=3),
    "linearized, 2 regions": RelaxedADMM(splitting=2, variant="linearized", regions=2),
    "recompute": RelaxedADMM(state="recompute"),
    "no refit": RelaxedADMM(head_refit=False),
    "block": BlockADMM(agents=2),
    "block, batch": BlockADMM(mode="batch", blocks=2, agents=3),
    "block, consensus": BlockADMM(consensus="admm", early_stopping=True),
    "block, sweeps": BlockADMM(blocks=2, z_steps=2, inner_steps=2),
    "block, grid": BlockADMM(schedule="grid", consensus="admm", blocks=3),
    "block, batch grid": BlockADMM(schedule="grid", mode="batch", blocks=2),
    "block, held out": BlockADMM(schedule="grid", blocks=3, early_stopping=True),
    "block, factors": BlockADMM(blocks=[Dense(12), NMFBlock(12)]),
    "block, factors, batch": BlockADMM(blocks=[Dense(12), NMFBlock(12)], mode="batch"),
    "factors": NMF().make_solver(),
    "factors, online": NMF(mode="online").make_solver(),
}
MACHINE = typical()


def problem(rows=2000, width=12, features=8, solver=None):
    if isinstance(solver, Factorization):
        arch = Architecture((width, width // 3), (False,), "identity")
        return Problem(arch, "squared", 0.0, rows, supervised=False)
    arch = Architecture.build(features, (width, width), 10)
    return Problem(arch, "cross_entropy", 1e-3, rows, 10)


def plan(solver, chunks=20, last=None):
    sizes = (100,) * (chunks - 1) + (last or 100,)
    return Plan(Run.in_memory({}), solver, problem(sum(sizes), solver=solver), sizes, 0)


def subject(solver=None, chunks=20, rows=100, width=12, **more):
    solver = solver or RelaxedADMM()
    return Subject(solver, problem(rows * chunks, width, solver=solver), (rows,) * chunks, **more)


# -------------------------------------------------------------------------------- the same graph


@pytest.mark.parametrize("chunks", [1, 3, 20, 65])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_recorded_tasks_are_those_that_dask_computes(solver, chunks):
    one = plan(SOLVERS[solver], chunks, last=40)
    made = graph.iteration(one, Step(0, 0, 1))
    tasks = dict(made.__dask_graph__())
    found = record(one)

    def key(task):
        prefix, *rest = found.names[task]
        return "-".join([prefix, one.session, *map(str, rest)])

    needs = {key(t): {key(need) for need in found.needs[t]} for t in range(len(found.names))}
    assert needs == {k: set(get_dependencies(tasks, k)) for k in tasks}
    spread = {key(t) for t, kind in enumerate(found.kind) if found.kinds[kind].spread}
    assert spread == {k for k, task in tasks.items() if task.data_producer}
    # What nobody needs is left out, and nothing else.
    kept = tasks_of(one)
    culled, _ = cull(tasks, [made.key])
    assert len(kept) == len(culled)
    assert sum(map(len, kept.needs)) == sum(len(set(get_dependencies(culled, k))) for k in culled)
    assert all(need < task for task, needs in enumerate(kept.needs) for need in needs)
    assert all(
        kept.turn[need] < kept.turn[task] for task, needs in enumerate(kept.needs) for need in needs
    )


def test_tasks_of_a_kind_are_told_apart_only_where_their_costs_differ():
    found = tasks_of(plan(RelaxedADMM(), 20, last=40))
    kinds = Counter(kind.name for kind in found.kinds)
    # Four layers; whole chunks and the last; sums of eight, of four, of totals, of one and two.
    assert kinds["load"] == kinds["solve"] == 4
    assert kinds["visit"] == 2
    assert kinds["report"] == 1
    visits = [kind for kind in found.kinds if kind.name == "visit"]
    assert sorted(kind.rows for kind in visits) == [40, 100]


def test_sums_are_added_up_before_more_is_visited():
    found = tasks_of(plan(RelaxedADMM(), 24))
    turns = {"visit": [], "add": []}
    for turn, kind in zip(found.turn, found.kind, strict=True):
        name = found.kinds[kind].name
        if name in turns:
            turns[name].append(turn)
    first_add, visits = min(turns["add"]), sorted(turns["visit"])
    assert sum(turn < first_add for turn in visits) == 8


# ------------------------------------------------------------------------------ counted operations


def counted(solver, problem, rows):
    """Return what a visit of a chunk of so many rows, in the first pass, computes."""
    (part,) = solver.passes(problem, 2).iteration[0].parts
    return counts_of(solver).visit(solver, problem, part, rows)


def test_operations_of_relaxed_admm_are_those_counted_by_hand():
    arch = Architecture.build(20, (30, 30, 40), 10)
    one = Problem(arch, "cross_entropy", 1e-3, 1000, 10)
    solver = RelaxedADMM()
    work = counted(solver, one, 512)
    widths, expected = arch.widths, 0
    for i, (a, b) in enumerate(pairwise(widths), start=1):
        expected += 2 * a * b * 3  # pre-activations, cross sums, and the forward pass
        if i > 1:  # what the layer above asks for, the inverse of the curvature, a Gram matrix
            expected += 2 * a * b + 2 * a * a + a * a
    expected += widths[-2] ** 2 + 2 * widths[-2] * widths[-1]  # sums of the head that is refitted
    assert work.operations == pytest.approx(512 * expected)


@pytest.mark.parametrize("epochs", [1, 3])
def test_operations_of_block_admm_are_those_of_backpropagation(epochs):
    one = problem(10**6)
    solver = BlockADMM(local_epochs=epochs)
    widths = one.architecture.widths
    # Forward, and backward for weights and inputs; not for the inputs of the first layer.
    per_row = sum(6 * a * b for a, b in pairwise(widths)) - 2 * widths[0] * widths[1]
    work = counted(solver, one, 1280)
    assert work.operations == pytest.approx(epochs * 1280 * per_row)


@pytest.mark.parametrize(("mode", "sweeps"), [("batch", 1), ("online", 31)])
def test_operations_of_a_factorisation_are_those_counted_by_hand(mode, sweeps):
    solver = NMF(mode=mode).make_solver()
    one = Problem(Architecture((50, 7), (False,), "identity"), "squared", 0.0, 4096)
    work = counted(solver, one, 1024)
    # Z S', M'Z, and online what the codes miss; S S' of each 512 rows, and M'M.
    large = 2 * 1024 * 50 * 7 * (3 if mode == "online" else 2)
    assert work.operations == pytest.approx(large + 2 * 2 * 7 * 50 * 7 + 2 * 1024 * 7 * 7)
    assert work.loops["code_sweep"] == pytest.approx(1024 * 7 * 7 * sweeps)


def widened(solver, width):
    """Return a solver for a network of another width."""
    if not isinstance(solver, BlockADMM) or isinstance(solver.blocks, int):
        return solver
    return replace(solver, blocks=[Dense(width), NMFBlock(width)])


def total(solver, width):
    """Return the seconds of one task of each kind."""
    one = problem(900, width, solver=solver)
    setting = Setting(solver, one, 4, MACHINE.alone, Store(1e9, 1e9, 5e8, 1e-4))
    kinds = tasks_of(Plan(Run.in_memory({}), solver, one, (100,) * 9, 0)).kinds
    return sum(cost(kind, setting).seconds for kind in kinds)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_task_of_every_solver_has_a_price(solver):
    one = plan(SOLVERS[solver], 9, last=40)
    store = Store(1e9, 1e9, 5e8, 1e-4)
    setting = Setting(one.solver, one.problem, 4, MACHINE.alone, store)
    for kind in tasks_of(one).kinds:
        found = cost(kind, setting)
        assert 0 < found.seconds < 10
        assert found.result > 0
    small, large = (total(widened(one.solver, width), width) for width in (64, 512))
    assert small < large


@pytest.mark.parametrize(
    "solver",
    [
        "3-splitting",
        "linearized, 2 regions",
        "block",
        "block, factors",
        "factors",
        "factors, online",
    ],
)
def test_what_visits_return_is_as_large_as_is_said(solver):
    solver = SOLVERS[solver]
    one = problem(200, solver=solver)
    params = solver.initial(one, 0)
    weights = {}
    for layer, names in solver.layout(one).layers.items():
        ready = solver.prepare(one, layer, {name: params[name] for name in names})
        said = counts_of(solver).weights(solver, one, layer)[0].result
        assert sum(a.nbytes for a in ready.values()) == pytest.approx(said, rel=0.05, abs=64)
        weights |= ready
    x = np.random.default_rng(0).random(size=(200, one.architecture.widths[0]))
    x = x.astype(np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(200) % 10]
    state, _ = solver.start(one, weights, Chunk(x, y, {}))
    part = solver.passes(one, 1).iteration[0].parts[0]
    sums = solver.visit(one, part, weights, Chunk(x, y, state))
    size = sum(np.asarray(value).nbytes for value in sums.values() if np.ndim(value))
    said = counts_of(solver).visit(solver, one, part, 200).result
    assert said == pytest.approx(size, rel=0.1, abs=600)


def test_cold_reading_is_hidden_behind_the_visit_before_where_it_can_be():
    one = problem()
    store = Store(read=1e9, write=1e9, cold=1e6, file=0.0)
    for solver, hides in ((RelaxedADMM(), False), (BlockADMM(agents=1), True)):
        setting = Setting(solver, one, 4, MACHINE.alone, store)
        warm = Setting(solver, one, 4, MACHINE.alone, Store(1e9, 1e9, None, 0.0))
        kinds = [kind for kind in tasks_of(plan(solver, 4)).kinds if kind.name == "visit"]
        expecting = [kind for kind in kinds if kind.expects]
        assert bool(expecting) == hides
        for kind in kinds:
            slow, fast = cost(kind, setting).phases, cost(kind, warm).phases
            waiting = slow["read"] - fast["read"]
            assert waiting > 0
            assert slow["visit"] == fast["visit"]
            if kind.expects:
                plain = Kind("visit", part=kind.part, rows=kind.rows)
                assert waiting < cost(plain, setting).phases["read"] - fast["read"]


def test_tasks_that_draw_rows_by_class_read_the_classes():
    one, store = problem(), Store(1e9, 1e9, 5e8, 1e-4)
    found = []
    for early_stopping in (False, True):
        solver = BlockADMM(schedule="grid", blocks=3, early_stopping=early_stopping)
        setting = Setting(solver, one, 4, MACHINE.alone, store)
        part = next(p for p in solver.passes(one, 2).iteration[0].parts if p.work.block == 2)
        found.append(cost(Kind("visit", part=part, rows=2000), setting).phases)
    without, reads = found
    assert reads["read"] > without["read"] + 2000 * 4 / 1e9
    assert reads["visit"] > 0.9 * without["visit"]


def test_float64_takes_longer():
    one = problem()
    work = counted(RelaxedADMM(), one, 100)
    assert seconds(work, MACHINE.alone, "float64") > 1.5 * seconds(work, MACHINE.alone, "float32")


# -------------------------------------------------------------------------------- hand-made graphs


def hand(needs, took, result=0.0, spread=None):
    """Return tasks, each of a kind of its own, and their costs."""
    count = len(needs)
    spread = [not each for each in needs] if spread is None else spread
    kinds = tuple(Kind("report", layer=i, spread=spread[i]) for i in range(count))
    sizes = result if isinstance(result, list) else [result] * count
    costs = [Cost({"visit": s}, size) for s, size in zip(took, sizes, strict=True)]
    tasks = Tasks(kinds, list(range(count)), [tuple(n) for n in needs], list(range(count)))
    return tasks, costs


#   0 -> 2 -> 4,  1 -> 3 -> 4,  5 -> 6 (last)
DIAMOND = [(), (), (0,), (1,), (2, 3), (), (4, 5)]
TOOK = [1.0, 2.0, 4.0, 1.0, 2.0, 3.0, 0.5]


def test_one_worker_takes_the_sum_of_all_tasks():
    trace = simulate(*hand(DIAMOND, TOOK), Cluster(1))
    assert trace.seconds == pytest.approx(sum(TOOK))
    assert trace.sent == 0
    assert trace.phases == {"visit": pytest.approx(sum(TOOK)), "transfer": 0.0, "overhead": 0.0}


def critical_path(tasks, costs):
    """Return the seconds of the longest chain of tasks: no number of workers is faster."""
    done = [0.0] * len(tasks)
    for task, needs in enumerate(tasks.needs):
        begin = max((done[need] for need in needs), default=0.0)
        done[task] = begin + costs[tasks.kind[task]].seconds
    return max(done)


def test_many_workers_take_the_longest_chain():
    tasks, costs = hand(DIAMOND, TOOK)
    assert critical_path(tasks, costs) == 1 + 4 + 2 + 0.5
    assert simulate(tasks, costs, Cluster(100)).seconds == pytest.approx(7.5)


def test_two_workers_by_hand():
    # B is given 1 and 5 at once, and begins 5 before it can know that 3 could be done.
    # A: 0 (0-1), 2 (1-5); B: 1 (0-2), 5 (2-5), 3 (5-6); then 4 (6-8) and 6 (8-8.5).
    assert simulate(*hand(DIAMOND, TOOK), Cluster(2)).seconds == pytest.approx(8.5)


def test_what_another_worker_has_comes_over_the_network():
    # Two tasks of 1 s side by side; the third, on either's worker, waits for 10 bytes at 10 B/s.
    trace = simulate(*hand([(), (), (0, 1)], [1.0, 1.0, 1.0], 10.0), Cluster(2, net=10.0))
    assert trace.seconds == pytest.approx(1 + 1 + 1)
    assert trace.sent == 10
    assert trace.phases["transfer"] == pytest.approx(1.0)
    # On one worker nothing is sent.
    alone = simulate(*hand([(), (), (0, 1)], [1.0, 1.0, 1.0], 10.0), Cluster(1, net=10.0))
    assert (alone.seconds, alone.sent) == (pytest.approx(3.0), 0)


def test_a_task_goes_to_the_worker_that_lacks_the_least():
    trace = simulate(*hand([(), (), (0, 1)], [1.0, 1.0, 1.0], [5.0, 100.0, 0.0]), Cluster(2, 10.0))
    assert trace.sent == 5
    assert trace.seconds == pytest.approx(2.5)


def test_a_worker_serves_one_after_the_other():
    # One result of 10 bytes, wanted by 4 workers at once, of which one has it.
    needs = [(), *[(0,)] * 4, (1, 2, 3, 4)]
    tasks, costs = hand(needs, [1.0, *[1.0] * 4, 0.0], [10.0, *[0.0] * 5], [True] * 5 + [False])
    trace = simulate(tasks, costs, Cluster(4, net=10.0))
    assert trace.sent == 30
    assert trace.seconds == pytest.approx(1 + 3 + 1)


def test_those_that_are_refused_get_it_from_others():
    """Beyond what one worker serves at once, copies spread like a tree."""
    many = 4 * ASKED
    needs = [(), *[(0,)] * many, tuple(range(1, many + 1))]
    took, sizes = [0.0] * (many + 2), [10.0, *[0.0] * (many + 1)]
    tasks, costs = hand(needs, took, sizes, [True] * (many + 1) + [False])
    trace = simulate(tasks, costs, Cluster(many, net=10.0))
    assert trace.sent == 10 * (many - 1)
    # The first serves as many as ask it; the others are served by those, one after the other.
    assert ASKED <= trace.seconds < 1.2 * ASKED


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_the_scheduler_is_a_limit(workers):
    count = 200
    tasks, costs = hand([()] * count, [0.0] * count)
    trace = simulate(tasks, costs, Cluster(workers, task=1e-3))
    assert trace.seconds == pytest.approx(count * 1e-3)
    # One that takes no time is none, and long tasks hide it but for the last.
    assert simulate(tasks, costs, Cluster(workers)).seconds == 0
    long = simulate(*hand([()] * 100, [1.0] * 100), Cluster(1, task=1e-3))
    assert long.seconds == pytest.approx(100.001)


def test_messages_are_waited_for_once_per_step_of_a_chain():
    needs = [(), (0,), (1,), (2,)]
    trace = simulate(*hand(needs, [1.0] * 4), Cluster(2, message=0.1, overhead=0.01))
    assert trace.seconds == pytest.approx(4 * (1 + 0.01 + 0.2))
    assert trace.phases["overhead"] == pytest.approx(0.04)


def test_a_worker_has_its_next_task_before_it_ends_one():
    trace = simulate(*hand([()] * 10, [1.0] * 10), Cluster(1, message=0.1))
    assert trace.seconds == pytest.approx(10 + 0.2)


def limits(tasks, costs, cluster):
    """Return times that none can beat: of the work, the longest chain, the scheduler."""
    total = sum(costs[kind].seconds + cluster.overhead for kind in tasks.kind)
    return total / cluster.workers, critical_path(tasks, costs), cluster.task * len(tasks)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_no_schedule_beats_what_limits_it(solver, workers):
    one = plan(SOLVERS[solver], 20)
    setting = Setting(one.solver, one.problem, 4, MACHINE.alone, Store(1e9, 1e9, None, 1e-4))
    tasks = tasks_of(one)
    costs = [cost(kind, setting) for kind in tasks.kinds]
    cluster = Cluster(workers, net=1e8, task=1e-3, overhead=1e-3, message=1e-3)
    trace = simulate(tasks, costs, cluster)
    assert trace.tasks == len(tasks)
    assert trace.seconds >= max(limits(tasks, costs, cluster)) * (1 - 1e-9)
    spent = sum(trace.phases.values())
    assert spent <= workers * trace.seconds * (1 + 1e-9)
    if workers == 1:
        assert trace.seconds < 1.5 * sum(limits(tasks, costs, cluster))


def test_less_of_anything_never_helps():
    one = subject(RelaxedADMM(), 64, 1000, 64)

    def took(workers, **more):
        given = Conditions(**{"stragglers": 0.0, "task": 0.0, "latency": 0.0, "net": 1e12} | more)
        return forecast(one, MACHINE, workers, given).seconds

    by_workers = [took(2**i) for i in range(1, 7)]
    assert by_workers == sorted(by_workers, reverse=True)
    assert took(8) < took(8, task=1e-2) < took(8, task=1e-1)
    assert took(8) < took(8, net=1e6) < took(8, net=1e5)
    assert took(8) < took(8, latency=0.05) < took(8, latency=0.5)
    assert took(8) < took(8, disk=1e8) < took(8, disk=1e7)


def test_stragglers_are_seeded_and_cost_time():
    one = subject(RelaxedADMM(), 64, 1000, 64)
    even = forecast(one, MACHINE, 8, Conditions(stragglers=0.0)).seconds
    some = forecast(one, MACHINE, 8, Conditions(stragglers=1.0)).seconds
    assert some > 1.1 * even
    assert some == forecast(one, MACHINE, 8, Conditions(stragglers=1.0)).seconds
    assert some != forecast(one, MACHINE, 8, Conditions(stragglers=1.0, seed=1)).seconds


# --------------------------------------------------------------------------------------- forecasts


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("workers", [1, 4])
def test_phases_add_up_to_the_time_of_an_iteration(solver, workers):
    found = forecast(subject(SOLVERS[solver], 12), MACHINE, workers)
    assert sum(found.phases.values()) == pytest.approx(found.seconds, rel=1e-6)
    assert all(taken >= 0 for taken in found.phases.values())
    assert (found.sent > 0) == (workers > 1)


@pytest.mark.parametrize("solver", [RelaxedADMM(), BlockADMM(agents=4), RelaxedADMM(regions=3)])
def test_a_long_iteration_goes_on_as_it_began(solver, monkeypatch):
    one = subject(solver, 2000, 1000, 64)
    exact = forecast(one, MACHINE, 8)
    monkeypatch.setattr("dadmm.app.planner.forecast.MOST_TASKS", 100)
    guessed = forecast(one, MACHINE, 8)
    assert guessed.seconds == pytest.approx(exact.seconds, rel=0.03)
    assert guessed.tasks == pytest.approx(exact.tasks, rel=0.01)
    assert guessed.sent == pytest.approx(exact.sent, rel=0.05)


def test_agents_are_as_many_as_can_work_side_by_side():
    one = subject(BlockADMM(agents=4), 64, 100_000, 256)
    four, eight = (forecast(one, MACHINE, workers).seconds for workers in (4, 8))
    assert eight > 0.95 * four


def test_memory_and_disk_are_those_of_the_run():
    one = subject(RelaxedADMM(), 20, 1000, 64)
    needed = worker_bytes(one.solver, one.problem, 1000, 1, 4)
    assert needed <= one.worker_bytes <= 1.2 * needed
    # U and V of two hidden layers of 64, V and L of 10 outputs, of float32.
    assert one.state_bytes == 4 * (4 * 64 + 2 * 10) * 20_000
    assert one.data_bytes == (8 * 4 + 4) * 20_000
    refitted = 65 * 10
    assert one.parameter_bytes == 4 * (9 * 64 + 65 * 64 + 65 * 10 + refitted)
    assert one.disk_bytes == 3 * (one.state_bytes + one.parameter_bytes) + one.data_bytes
    there = subject(RelaxedADMM(), 20, 1000, 64, in_place=True)
    assert there.disk_bytes == one.disk_bytes - 8 * 4 * 20_000


def test_what_one_machine_holds_is_cached_and_what_many_share_is_not():
    small, large = subject(RelaxedADMM(), 20), subject(RelaxedADMM(), 20, 10**6, 256)
    given = Conditions()
    assert store_of(small, MACHINE, 2, given).cold is None
    assert store_of(small, MACHINE, 3, given).cold is not None
    assert store_of(large, MACHINE, 2, given).cold is not None
    assert store_of(large, MACHINE, 2, Conditions(cold=False)).cold is None
    assert store_of(large, MACHINE, 2, Conditions(disk=3e8)).cold == 3e8
    shared = subject(RelaxedADMM(), 20, 10**6, 256, on_disk=False)
    assert store_of(shared, MACHINE, 2, given).cold is None
    assert forecast(shared, MACHINE, 2).phases["settle"] == 0


def test_the_driver_deletes_a_generation_by_itself():
    one = subject(RelaxedADMM(), 20, 1000, 64)
    free = replace(
        MACHINE, **{
            name: replace(getattr(MACHINE, name), shared_delete=1e30, disk_delete=1e30, unlink=0.0)
            for name in ("alone", "together")
        }
    )  # fmt: skip
    for on_disk, speed in ((True, MACHINE.alone.disk_delete), (False, MACHINE.alone.shared_delete)):
        each = replace(one, on_disk=on_disk)
        taken, less = (forecast(each, made, 1).phases["driver"] for made in (MACHINE, free))
        # U and V of two hidden layers, V and L of the head; W and b of three layers and a refit.
        chunks = (4 + 2) * 20 + 4 * 2
        expected = (each.state_bytes + each.parameter_bytes) / speed
        assert taken - less == pytest.approx(expected + chunks * MACHINE.alone.unlink)


def test_enough_workers_are_those_whose_doubling_gains_less_than_a_fifth():
    def scaling(*times):
        return [Forecast(2**i, taken, {}, 0.0, 0) for i, taken in enumerate(times)]

    few, many = enough(scaling(100.0, 50.0, 40.0, 34.0, 10.0))
    assert (few.workers, many.workers) == (4, 8)  # 40 / 34 is less than 1.2
    assert enough(scaling(100.0, 50.0))[1] is None


def test_the_sweep_finds_an_end():
    found = sweep(subject(RelaxedADMM(), 100, 1000, 64), MACHINE)
    assert [each.workers for each in found] == [2**i for i in range(13)]
    few, many = enough(found)
    assert many is not None
    assert few.workers <= 128  # there are but 100 chunks
    assert all(math.isfinite(each.seconds) and each.seconds > 0 for each in found)


def test_nothing_is_computed():
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("a graph was computed")):
        forecast(subject(), MACHINE, 2)
