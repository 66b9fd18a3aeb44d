"""Graphs of Dask, of coarse tasks: the start, an iteration (see `dadmm.engine.layout`), the end.

Tasks carry the run's address, not arrays.  Weights reach visits as task outputs.  Visits write
state of the next generation and return only their sums.

A task's key starts with its readable name and ends with (session, iteration, ...): the dashboard
groups tasks by name, and no two runs on one cluster share a key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dask.delayed import Delayed
from dask.task_spec import List, Task, TaskRef

from dadmm.engine import tasks
from dadmm.engine.layout import TaskLayout
from dadmm.engine.plan import WHOLE, Plan, Step
from dadmm.solvers.parts import Pace, Pass


def first(plan: Plan, params: int = 0, state: int | None = 0) -> Delayed:
    """Return the graph that makes a generation of state from one of parameters.

    It also stores the sums that never change; with `state` None it stores nothing else.
    """
    graph = Graph(plan)
    weights = list(graph.load(params, tuple(plan.layout.layers), "start").values())
    sums = [
        graph.add(tasks.start, "start-chunk", params, tasks.chunk_id(c), spread=True)(
            state, c, weights
        )
        for c in range(len(plan.chunks))
    ]
    total = graph.tree_sum(sums, params, "start")
    return graph.result(graph.add(tasks.keep_constants, "keep-constants", params)(total))


def before(plan: Plan, each: Pass, number: int, params: int) -> Delayed:
    """Return the graph of a pass before training, which changes the starting parameters."""
    graph = Graph(plan)
    stage = f"before-{number}"
    needed = {layer for part in each.parts for layer in part.layers}
    weights = graph.load(params, sorted({*needed, *each.updates}), stage)
    totals = graph.visits(each, Step(0, params, params), stage, weights)
    saved = [
        graph.add(tasks.begin, "solve-weights", params, stage, layer)(
            layer, f"params/{params}", weights[layer], totals.get(layer, totals.get(0, {}))
        )
        for layer in each.updates
    ]
    return graph.result(graph.add(tasks.done, "done", params, stage)(saved))


def iteration(plan: Plan, step: Step, pace: Pace = WHOLE) -> Delayed:
    """Return the graph of an iteration; it computes to the row of history.

    It reads one generation of state and parameters and writes the other.
    """
    graph = Graph(plan)
    return graph.result(graph.iteration(step, pace))


def finish(plan: Plan, k: int, generation: int, network: int) -> Delayed:
    """Return the graph of the passes after training, which store the network and score it.

    `k` is the iteration that the generation holds.  The network is stored under the number
    `network`, which this session has claimed.
    """
    graph = Graph(plan)
    step = Step(k, generation, generation)
    *refits, score = plan.passes.after
    layers = tuple(plan.layout.exported)
    weights = graph.load(generation, layers, "finish", training=False)
    for j, each in enumerate(refits):
        totals = graph.visits(each, step, f"finish-{j}", weights)
        for layer in each.updates:
            call = graph.add(tasks.solve, "solve-weights", generation, "finish", j, layer)
            total = totals.get(layer, totals.get(0, {}))
            weights[layer] = call(layer, None, weights[layer], weights[layer], total)
    total = graph.visits(score, step, "score", weights)[0]
    saved = [
        graph.add(tasks.carry, "save-network", generation, layer)(
            layer, f"network/{network}", weights[layer]
        )
        for layer in layers
    ]
    return graph.result(graph.add(tasks.final_report, "report", generation, "finish")(total, saved))


class Graph(TaskLayout):
    """The tasks of one graph, gathered in one dict.

    Chained calls of `dask.delayed` merge the graphs of their arguments each time.  From a few
    hundred chunks on, that took longer than the tasks.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.tasks: dict[str, Task] = {}

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., TaskRef]:
        key = "-".join([prefix, self.plan.session, *(str(i) for i in ident)])

        def call(*args: Any) -> TaskRef:
            given = (List(*arg) if isinstance(arg, list) else arg for arg in args)
            run = partial(tasks.run, function, self.plan)
            self.tasks[key] = Task(key, run, *given, _data_producer=spread)
            return TaskRef(key)

        return call

    def result(self, task: TaskRef) -> Delayed:
        """Return the graph, to be computed for one task."""
        return Delayed(task.key, self.tasks)
