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

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

from dask.delayed import Delayed
from dask.task_spec import List, Task, TaskRef

from dadmm.engine.plan import WHOLE, Plan, Step
from dadmm.engine.tasks import (
    _run,
    add,
    carry,
    final_report,
    keep_constants,
    load_weights,
    report,
    solve,
    start,
    visit,
)
from dadmm.solvers.solver import Pace, Part, Pass

FAN_IN = 8


# ----------------------------------------------------------------------------------------- tasks


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
