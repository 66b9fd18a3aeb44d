"""One iteration as a `dask.delayed` graph of coarse tasks.

    load-weights x layers -> visit-chunk x parts x chunks -> sum-grams (a tree) -> solve-weights x
    layers -> report

Tasks carry the run's address, not arrays; weights reach visits as task outputs; sums are added in
a tree that the number of chunks alone decides, so every scheduler adds in the same order.  Visits
write state of the next generation and return only their sums.

A task's key starts with its readable name and ends with (session, iteration, ...), so the dashboard
groups tasks by what they do, and no two runs on one cluster share a key.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from dask.delayed import Delayed
from dask.task_spec import List, Task, TaskRef
from threadpoolctl import threadpool_limits

from dadmm.losses import get_loss
from dadmm.network import Scaling
from dadmm.solvers.base import (
    Arrays,
    Chunk,
    Pace,
    Part,
    Pass,
    Problem,
    Solver,
    Sums,
    combine,
)
from dadmm.store import Run
from dadmm.workspace import Workspace

FAN_IN = 8
WHOLE = Pace()
_work = Workspace()


@dataclass(frozen=True)
class Plan:
    """What every task of a run needs to know; small, and the same for all of them.

    Parameters
    ----------
    run : Run
    solver : Solver
    problem : Problem
    chunks : tuple of int
        Rows of each data chunk.
    seed : int
        Whatever a visit draws at random comes from (seed, iteration, chunk).
    session : str
        Part of every task's key: on a cluster that still works on what an interrupted session
        asked for, a later one must not be given those tasks, whose blocks it has swept away.
    """

    run: Run
    solver: Solver
    problem: Problem
    chunks: tuple[int, ...]
    seed: int
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __getstate__(self) -> dict[str, Any]:
        # Each of the many tasks carries a plan, and none needs the many chunks.
        return {**self.__dict__, "chunks": ()}


# ----------------------------------------------------------------------------------------- tasks


def load_weights(plan: Plan, iteration: int, layer: int, training: bool = True) -> Arrays:
    """Read a layer's parameters and prepare what visits need of it, or evaluations alone."""
    names = plan.solver.parameters if training else plan.solver.exported
    params = plan.run.load_params(iteration, names(plan.problem, layer))
    return plan.solver.prepare(plan.problem, layer, params)


def visit(
    plan: Plan,
    part: Part,
    iteration: int,
    chunk: int,
    pace: Pace,
    weights: Sequence[Arrays],
    after: Sequence[Any] = (),
) -> Sums:
    """Load a chunk, visit it, save it.

    Parameters
    ----------
    weights : sequence of dict
        Of the layers that the part needs.
    after : sequence
        Outputs of tasks that must be done before (they wrote what this one reads).
    """
    merged = {name: array for layer in weights for name, array in layer.items()}
    if plan.solver.idle(plan.problem, part, merged):
        return {}
    read = plan.run.blocks.read
    state = {name: read(f"state/{iteration}/{name}", chunk) for name in part.reads}
    state |= {name: read(f"state/{iteration + 1}/{name}", chunk) for name in part.fresh}
    seen = _chunk(plan, part, chunk, state, iteration, pace)
    sums = plan.solver.visit(plan.problem, part, merged, seen)
    for name in part.writes:
        plan.run.blocks.write(f"state/{iteration + 1}/{name}", chunk, state[name])
    return sums


def start(plan: Plan, chunk: int, weights: Sequence[Arrays]) -> Sums:
    """Make and save the first state of a chunk."""
    merged = {name: array for layer in weights for name, array in layer.items()}
    seen = _chunk(plan, Part("start-chunk", x=True, y=True), chunk, {}, 0, WHOLE)
    state, sums = plan.solver.start(plan.problem, merged, seen)
    for name, block in state.items():
        plan.run.blocks.write(f"state/0/{name}", chunk, block)
    return sums


def solve(
    plan: Plan,
    layer: int,
    save: str | None,
    anchor: Arrays,
    weights: dict[str, Any],
    sums: Sums,
) -> dict[str, Any]:
    """Update a layer's weights from the total, and return them for the next pass.

    After the last pass they are stored in the group `save`, and only the layer's numbers for the
    report, which ride along under "details", are returned.
    """
    names = plan.solver.constants(plan.problem, layer)
    known = {name: plan.run.blocks.get(f"constants/{name}") for name in names}
    new, details = plan.solver.solve(plan.problem, layer, anchor, weights, {**sums, **known})
    found: dict[str, Any] = {"details": details}
    if save is None:
        return {**weights, **new, **found}
    stored = plan.solver.parameters(plan.problem, layer)
    plan.run.save_params(save, {name: new[name] for name in stored})
    return found


def carry(plan: Plan, layer: int, save: str, weights: Arrays) -> None:
    """Store a layer's parameters as the network has them."""
    plan.run.save_params(save, plan.solver.export(plan.problem, layer, weights))


def report(plan: Plan, solved: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Turn the layers' details into one row of history."""
    details: Sums = {}
    for layer in solved:
        details |= layer["details"]
    return plan.solver.report(plan.problem, details)


def final_report(plan: Plan, total: Sums, saved: Sequence[None]) -> dict[str, float]:
    """Score the finished network, once all of it is stored."""
    return plan.solver.score(plan.problem, total)


def keep_constants(plan: Plan, sums: Sums) -> int:
    """Store the sums that never change; return how many there are."""
    for name, value in sums.items():
        plan.run.blocks.put(f"constants/{name}", np.asarray(value))
    return len(sums)


def _chunk(plan: Plan, part: Part, chunk: int, state: Arrays, iteration: int, pace: Pace) -> Chunk:
    """Read a chunk's inputs, targets and weights, scaled and encoded as the solver wants them."""
    problem, read = plan.problem, plan.run.blocks.read
    scaling = _scaling(plan)
    x = y = weight = None
    if part.x:
        x = read("data/x", chunk)
        if not plan.solver.raw:
            out = _work.take("x", x.shape, problem.dtype)
            x = scaling["x"].apply(x, problem.dtype, out)
    if part.y:
        y = read("data/y", chunk)
        if problem.classes:
            y = get_loss(problem.loss).encode(y[:, 0], problem.classes, problem.dtype)
        else:
            out = _work.take("y", y.shape, problem.dtype)
            y = scaling["y"].apply(y, problem.dtype, out)
        if problem.weighted:
            weight = read("data/weight", chunk)[:, 0].astype(problem.dtype)
    left = scaling["x"] if plan.solver.raw else None
    return Chunk(x, y, state, (plan.seed, iteration, chunk), pace, weight, left)


_kept_scaling: tuple[str, dict[str, Scaling]] = "", {}


def _scaling(plan: Plan) -> dict[str, Scaling]:
    """Return how inputs and targets are scaled, which a process reads once for a session."""
    global _kept_scaling
    session, scaling = _kept_scaling
    if session != plan.session:
        scaling = plan.run.load_scaling()
        _kept_scaling = plan.session, scaling
    return scaling


_limited = False


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold this process's BLAS to one thread per task, and give it back afterwards."""
    global _limited
    before = _limited
    with threadpool_limits(1):
        _limited = True
        try:
            yield
        finally:
            _limited = before


def _one_blas_thread() -> None:
    """Limit a worker process once, for good: the limit is global, and tasks would race for it."""
    global _limited
    if not _limited:
        threadpool_limits(1)
        _limited = True


# ---------------------------------------------------------------------------------------- graphs


def first(plan: Plan) -> Delayed:
    """Return the graph that makes generation 0 from parameters 0."""
    tasks = _Tasks(plan)
    weights = tasks.load(0, plan.solver.layers(plan.problem), "start")
    sums = [
        tasks.add(start, "start-chunk", 0, c, spread=True)(c, list(weights.values()))
        for c in range(len(plan.chunks))
    ]
    total = tasks.tree_sum(sums, 0, "start")
    return tasks.result(tasks.add(keep_constants, "keep-constants", 0)(total))


def iteration(plan: Plan, k: int, pace: Pace = WHOLE) -> Delayed:
    """Return the graph of iteration k -> k+1; it computes to the row of history.

    It reads generation k and parameters k, and writes generation k+1 and parameters k+1.
    """
    tasks = _Tasks(plan)
    anchor = tasks.load(k, plan.solver.layers(plan.problem), "iterate")
    weights = dict(anchor)
    passes = plan.solver.passes(plan.problem, len(plan.chunks))
    for j, (each, now) in enumerate(zip(passes, pace.shared(passes), strict=True)):
        totals = tasks.visits(each, k, f"iterate-{j}", weights, now)
        last = j == len(passes) - 1
        for layer in anchor if last else each.solves:
            call = tasks.add(solve, "solve-weights", k, j, layer)
            save = f"params/{k + 1}" if last else None
            weights[layer] = call(
                layer, save, anchor[layer], weights[layer], totals.get(layer, totals.get(0, {}))
            )
    return tasks.result(tasks.add(report, "report", k)(list(weights.values())))


def finish(plan: Plan, k: int) -> Delayed:
    """Return the graph that refits the head to parameters k, stores the network and scores it."""
    tasks = _Tasks(plan)
    each = plan.solver.finish(plan.problem)
    layers = each.parts[0].layers
    weights = tasks.load(k, layers, "finish", training=False)
    for j in range(plan.solver.finish_passes(plan.problem)):
        total = tasks.visits(each, k, f"finish-{j}", weights)[0]
        for layer in each.solves:
            call = tasks.add(solve, "solve-weights", k, "finish", j, layer)
            weights[layer] = call(layer, None, weights[layer], weights[layer], total)
    total = tasks.visits(each, k, "score", weights)[0]
    saved = [
        tasks.add(carry, "save-network", k, layer)(layer, "network", weights[layer])
        for layer in layers
    ]
    return tasks.result(tasks.add(final_report, "report", k, "finish")(total, saved))


class _Tasks:
    """The tasks of one graph, gathered in one dict.

    A chain of `dask.delayed` calls would merge the graphs of their arguments at every call, which
    took longer than the tasks from a few hundred chunks on.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tasks: dict[str, Task] = {}

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., TaskRef]:
        """Return what takes a task's arguments, or lists of them, to a reference to its result.

        The scheduler sends a task to a worker that has something it needs; one to `spread` goes
        to the least busy worker instead.  Visits need little that is not read from the store,
        and two that need the same weights would queue up on one worker beside an idle one.
        """
        key = "-".join([prefix, self.plan.session, *(str(i) for i in ident)])

        def call(*args: Any) -> TaskRef:
            given = (List(*arg) if isinstance(arg, list) else arg for arg in args)
            run = partial(_run, function, self.plan)
            self.tasks[key] = Task(key, run, *given, _data_producer=spread)
            return TaskRef(key)

        return call

    def result(self, task: TaskRef) -> Delayed:
        """Return the graph, to be computed for one task."""
        return Delayed(task.key, self.tasks)

    def load(
        self, k: int, layers: Sequence[int], stage: str, training: bool = True
    ) -> dict[int, TaskRef]:
        """Load the weights of layers."""
        return {
            layer: self.add(load_weights, "load-weights", k, stage, layer)(k, layer, training)
            for layer in layers
        }

    def visits(
        self, each: Pass, k: int, stage: str, weights: Mapping[int, TaskRef], pace: Pace = WHOLE
    ) -> dict[int, TaskRef]:
        """Visit every chunk of a pass in every part, and add up, group by group."""
        found: dict[int, list[TaskRef]] = {}
        for chunk in range(len(self.plan.chunks)) if each.chunks is None else each.chunks:
            writers: list[TaskRef] = []
            for p, part in enumerate(each.parts):
                call = self.add(visit, part.name, k, stage, p, chunk, spread=True)
                needed = [weights[layer] for layer in part.layers]
                sums = call(part, k, chunk, pace, needed, list(writers) if part.fresh else [])
                found.setdefault(part.group, []).append(sums)
                if part.writes:
                    writers.append(sums)
        return {group: self.tree_sum(sums, k, stage, group) for group, sums in found.items()}

    def tree_sum(self, found: Sequence[TaskRef], *ident: Any) -> TaskRef:
        """Add up in a tree that the number of summands alone decides."""
        level = 0
        while True:
            found = [
                self.add(add, "sum-grams", *ident, level, i)(list(found[i : i + FAN_IN]))
                for i in range(0, len(found), FAN_IN)
            ]
            if len(found) == 1:
                return found[0]
            level += 1


def add(plan: Plan, parts: Sequence[Sums]) -> Sums:
    """Add up sums in their order."""
    return combine(parts)


def _run(function: Any, plan: Plan, *args: Any) -> Any:
    """Do a task: one BLAS thread, and no warnings, for the report tells of numbers not finite."""
    _one_blas_thread()
    with np.errstate(all="ignore"):
        return function(plan, *args)
