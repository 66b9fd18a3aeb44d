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
from itertools import count
from typing import Any

import numpy as np
from dask.delayed import Delayed
from dask.task_spec import List, Task, TaskRef
from threadpoolctl import threadpool_limits

from dadmm.losses import get_loss
from dadmm.measure import phase
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
from dadmm.workspace import lasting

FAN_IN = 8
# First words of the tasks whose keys end in the number of a chunk.
VISITING = ("visit", "couple", "evaluate", "validate", "start", "store", "look", "check")
WHOLE = Pace()
_work = lasting()


@dataclass(frozen=True)
class Step:
    """Which iteration, and where it reads and writes.

    Parameters
    ----------
    iteration : int
        k, of the iteration k -> k + 1.
    source, target : int
        The generations that hold k, and that will hold k + 1.
    """

    iteration: int
    source: int
    target: int


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
    budget : dict of str to float
        Columns of history that say what memory a worker was given and is expected to need.
    """

    run: Run
    solver: Solver
    problem: Problem
    chunks: tuple[int, ...]
    seed: int
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    budget: Mapping[str, float] = field(default_factory=dict)

    def begin(self, generation: int) -> None:
        """Make room for a generation of state."""
        self.run.check_lock()
        problem, make = self.problem, self.run.begin
        widths = self.solver.variables(problem)
        make(generation, problem.rows, self.chunks[0], widths, problem.dtype)
        sizes = self.solver.memory(problem)
        make(generation, len(self.chunks), 1, sizes, problem.dtype, dim="chunk")

    def parameters(self, generation: int) -> list[str]:
        """Return the names of all arrays of a generation of parameters."""
        layers, names = self.solver.layers(self.problem), self.solver.parameters
        return [
            f"params/{generation}/{name}" for layer in layers for name in names(self.problem, layer)
        ]

    def arrays(self, generation: int) -> list[str]:
        """Return the names of all arrays of a generation, of state and parameters."""
        kept = {**self.solver.variables(self.problem), **self.solver.memory(self.problem)}
        return [f"state/{generation}/{name}" for name in kept] + self.parameters(generation)

    def __getstate__(self) -> dict[str, Any]:
        # Each of the many tasks carries a plan, and none needs the many chunks.
        return {**self.__dict__, "chunks": ()}


# ----------------------------------------------------------------------------------------- tasks


def load_weights(plan: Plan, generation: int, layer: int, training: bool = True) -> Arrays:
    """Read a layer's parameters and prepare what visits need of it, or evaluations alone."""
    names = plan.solver.parameters if training else plan.solver.exported
    with phase(plan.session, "load"):
        params = plan.run.load_params(generation, names(plan.problem, layer))
        return plan.solver.prepare(plan.problem, layer, params)


def visit(
    plan: Plan,
    part: Part,
    step: Step,
    chunk: int,
    pace: Pace,
    then: int | None,
    weights: Sequence[Arrays],
    after: Sequence[Any] = (),
) -> Sums:
    """Load a chunk, visit it, save it.

    Parameters
    ----------
    then : int or None
        A chunk that will be visited soon: reading it overlaps with the computation of this one.
    weights : sequence of dict
        Of the layers that the part needs.
    after : sequence
        Outputs of tasks that must be done before (they wrote what this one reads).
    """
    merged = _merged(weights)
    if plan.solver.idle(plan.problem, part, merged):
        return {}
    read = plan.run.blocks.read
    with phase(plan.session, "read"):
        state = {name: read(f"state/{step.source}/{name}", chunk) for name in part.reads}
        state |= {name: read(f"state/{step.target}/{name}", chunk) for name in part.fresh}
        seen = _chunk(plan, part, chunk, state, step.iteration, pace)
        if then is not None:
            _expect(plan, part, step, then)
    with phase(plan.session, part.name.partition("-")[0]):
        sums = plan.solver.visit(plan.problem, part, merged, seen)
    with phase(plan.session, "write"):
        for name in part.writes:
            plan.run.blocks.write(f"state/{step.target}/{name}", chunk, state[name])
    return sums


def aligned(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays at addresses that their numbers may have; others are copied.

    What came over a connection lies wherever it was in its message, and NumPy multiplies matrices
    at odd addresses without BLAS: slowly, and to other last bits.
    """
    return {
        name: np.require(each, requirements="A") if isinstance(each, np.ndarray) else each
        for name, each in arrays.items()
    }


def _merged(weights: Sequence[Arrays]) -> Arrays:
    """Return the weights of several layers as one dict."""
    return {name: array for layer in weights for name, array in aligned(layer).items()}


def _expect(plan: Plan, part: Part, step: Step, chunk: int) -> None:
    """Let a chunk be read that will be visited soon."""
    for name, wanted in (
        ("x", part.x),
        ("y", part.y),
        ("weight", plan.problem.weighted and part.y),
    ):
        if wanted:
            plan.run.expect_data(name, chunk)
    for name in part.reads:
        plan.run.blocks.expect(f"state/{step.source}/{name}", chunk)


def start(plan: Plan, generation: int | None, chunk: int, weights: Sequence[Arrays]) -> Sums:
    """Make the first state of a chunk, and save it unless only the sums are wanted."""
    merged = _merged(weights)
    seen = _chunk(plan, Part("start-chunk", x=True, y=plan.problem.supervised), chunk, {}, 0, WHOLE)
    state, sums = plan.solver.start(plan.problem, merged, seen)
    if generation is not None:
        for name, block in state.items():
            plan.run.blocks.write(f"state/{generation}/{name}", chunk, block)
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
    with phase(plan.session, "solve"):
        names = plan.solver.constants(plan.problem, layer)
        known = {name: plan.run.blocks.get(f"constants/{name}") for name in names}
        given = (aligned(arrays) for arrays in (anchor, weights, {**sums, **known}))
        new, details = plan.solver.solve(plan.problem, layer, *given)
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
    problem, read = plan.problem, plan.run.read_data
    scaling = _scaling(plan)
    x = y = weight = None
    if part.x:
        x = read("x", chunk)
        if not plan.solver.raw:
            out = _work.take("x", x.shape, problem.dtype)
            x = scaling["x"].apply(x, problem.dtype, out)
    if part.y:
        y = read("y", chunk)
        if problem.classes:
            loss = get_loss(problem.loss)
            codes = y if loss.multi_label else y[:, 0]
            y = loss.encode(codes, problem.classes, problem.dtype)
        else:
            out = _work.take("y", y.shape, problem.dtype)
            y = scaling["y"].apply(y, problem.dtype, out)
        if problem.weighted:
            weight = read("weight", chunk)[:, 0].astype(problem.dtype)
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


def first(plan: Plan, params: int = 0, state: int | None = 0) -> Delayed:
    """Return the graph that makes a generation of state from one of parameters.

    It stores the sums that never change too; `state` None stores nothing else.
    """
    tasks = _Tasks(plan)
    weights = tasks.load(params, plan.solver.layers(plan.problem), "start")
    sums = [
        tasks.add(start, "start-chunk", params, c, spread=True)(state, c, list(weights.values()))
        for c in range(len(plan.chunks))
    ]
    total = tasks.tree_sum(sums, params, "start")
    return tasks.result(tasks.add(keep_constants, "keep-constants", params)(total))


def look(plan: Plan, part: Part, params: int) -> Delayed:
    """Return the graph that looks at all chunks before training starts; it computes to sums."""
    tasks = _Tasks(plan)
    weights = tasks.load(params, part.layers, part.name)
    step = Step(0, params, params)
    return tasks.result(tasks.visits(Pass((part,), ()), step, f"before-{part.name}", weights)[0])


def iteration(plan: Plan, step: Step, pace: Pace = WHOLE) -> Delayed:
    """Return the graph of an iteration; it computes to the row of history.

    It reads one generation of state and parameters and writes the other.
    """
    tasks = _Tasks(plan)
    return tasks.result(lay_out(tasks, step, pace))


def lay_out(tasks: Layout, step: Step, pace: Pace = WHOLE) -> Any:
    """Add the tasks of an iteration to a layout; return the last, whose result is the report."""
    plan = tasks.plan
    k = step.target
    anchor = tasks.load(step.source, plan.solver.layers(plan.problem), f"iterate-{k}")
    weights = dict(anchor)
    passes = plan.solver.passes(plan.problem, len(plan.chunks))
    for j, (each, now) in enumerate(zip(passes, pace.shared(passes), strict=True)):
        totals = tasks.visits(each, step, f"iterate-{j}", weights, now)
        last = j == len(passes) - 1
        for layer in anchor if last else each.solves:
            call = tasks.add(solve, "solve-weights", k, j, layer)
            save = f"params/{step.target}" if last else None
            weights[layer] = call(
                layer, save, anchor[layer], weights[layer], totals.get(layer, totals.get(0, {}))
            )
    return tasks.add(report, "report", k)(list(weights.values()))


def finish(plan: Plan, k: int, generation: int, network: int) -> Delayed:
    """Return the graph that refits the head to the parameters of a generation, and scores them.

    `k` is the iteration that the generation holds; `network` the number, of this session's own,
    that the network is stored under.
    """
    tasks = _Tasks(plan)
    step = Step(k, generation, generation)
    each = plan.solver.finish(plan.problem)
    layers = each.parts[0].layers
    weights = tasks.load(generation, layers, "finish", training=False)
    for j in range(plan.solver.finish_passes(plan.problem)):
        total = tasks.visits(each, step, f"finish-{j}", weights)[0]
        for layer in each.solves:
            call = tasks.add(solve, "solve-weights", generation, "finish", j, layer)
            weights[layer] = call(layer, None, weights[layer], weights[layer], total)
    total = tasks.visits(each, step, "score", weights)[0]
    group = f"network/{network}"
    saved = [
        tasks.add(carry, "save-network", generation, layer)(layer, group, weights[layer])
        for layer in layers
    ]
    return tasks.result(tasks.add(final_report, "report", generation, "finish")(total, saved))


def task_of(key: str) -> str | None:
    """Say in words what a task of these graphs works on; None for another key."""
    prefix, _, rest = key.rpartition("-")
    name = prefix.split("-")
    if not rest.isdecimal() or name[0] not in VISITING:
        return None
    return f"chunk {rest} ({key})"


class Layout:
    """Tasks that wait for each other; what one is made of is for subclasses to say.

    The same calls lay out a graph that Dask computes and one that is only looked at, so neither
    can differ from the other.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Any]:
        """Return what takes a task's arguments, or lists of them, to a reference to its result.

        The scheduler sends a task to a worker that has something it needs; one to `spread` goes
        to the least busy worker instead.  Visits need little that is not read from the store,
        and two that need the same weights would queue up on one worker beside an idle one.
        """
        raise NotImplementedError

    def load(
        self, k: int, layers: Sequence[int], stage: str, training: bool = True
    ) -> dict[int, Any]:
        """Load the weights of layers."""
        return {
            layer: self.add(load_weights, "load-weights", k, stage, layer)(k, layer, training)
            for layer in layers
        }

    def visits(
        self, each: Pass, step: Step, stage: str, weights: Mapping[int, Any], pace: Pace = WHOLE
    ) -> dict[int, Any]:
        """Visit every chunk of a pass in every part, and add up, group by group."""
        found: dict[int, list[Any]] = {}
        k, count = step.target, len(self.plan.chunks)
        for chunk in range(count) if each.chunks is None else each.chunks:
            # In rounds whoever visits a chunk visits that of the next round next, but for luck.
            then = count if each.chunks is None else chunk + len(each.chunks)
            writers: list[Any] = []
            for p, part in enumerate(each.parts):
                call = self.add(visit, part.name, k, stage, p, chunk, spread=True)
                needed = [weights[layer] for layer in part.layers]
                after = list(writers) if part.fresh else []
                sums = call(part, step, chunk, pace, then if then < count else None, needed, after)
                found.setdefault(part.group, []).append(sums)
                if part.writes:
                    writers.append(sums)
        return {group: self.tree_sum(sums, k, stage, group) for group, sums in found.items()}

    def tree_sum(self, found: Sequence[Any], *ident: Any) -> Any:
        """Add up in a tree that the number of summands alone decides."""
        for level in count():
            found = [
                self.add(add, "sum-grams", *ident, level, i)(list(group))
                for i, group in enumerate(groups(found, level))
            ]
            if len(found) == 1:
                break
        return found[0]


class _Tasks(Layout):
    """The tasks of one graph, gathered in one dict.

    A chain of `dask.delayed` calls would merge the graphs of their arguments at every call, which
    took longer than the tasks from a few hundred chunks on.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.tasks: dict[str, Task] = {}

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., TaskRef]:
        """See `Layout.add`."""
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


def groups(found: Sequence[Any], level: int) -> list[Sequence[Any]]:
    """Return what is added up together on a level of the tree: visits by eights, then by pairs.

    A total that waits for the others of its group waits in a worker's memory.  By pairs it is one
    on each level; by eights it was up to seven, which showed: the peak grew with the rows.
    """
    size = 2 if level else FAN_IN
    return [found[i : i + size] for i in range(0, len(found), size)]


def add(plan: Plan, parts: Sequence[Sums]) -> Sums:
    """Add up sums in their order."""
    with phase(plan.session, "add"):
        return combine(parts)


def _run(function: Any, plan: Plan, *args: Any) -> Any:
    """Do a task: one BLAS thread, and no warnings, for the report tells of numbers not finite."""
    _one_blas_thread()
    with np.errstate(all="ignore"):
        return function(plan, *args)
