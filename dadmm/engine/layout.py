"""The tasks of one iteration, and which waits for which: written once, with Dask or without.

    load-weights x layers -> visit-chunk x parts x chunks -> sum-grams (a tree) -> solve-weights x
    layers -> report

The number of chunks alone decides the tree, so sums are added in the same order everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, zip_longest
from typing import Any

from dadmm.engine.plan import WHOLE, Plan, Step
from dadmm.engine.tasks import add, chunk_id, load_weights, report, solve, visit
from dadmm.solvers.parts import Pace, Pass

FAN_IN = 8


class TaskLayout:
    """Tasks that wait for each other; subclasses say what becomes of a task.

    `dadmm.engine.graph.Graph` puts it into a graph that Dask computes, `dadmm.engine.eager.Eager`
    runs it at once, `dadmm.engine.eager.Plain` does so without a store, and the planner records
    which tasks it waits for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Any]:
        """Return a function from a task's arguments, or lists of them, to its result's reference.

        The scheduler sends a task to a worker that has one of its arguments, or with `spread` to
        the least busy worker.  Visits are spread: they read nearly all from the store, and two
        with the same weights would queue up on one worker beside an idle one.
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
        self,
        each: Pass,
        step: Step,
        stage: str,
        weights: Mapping[int, Any],
        pace: Pace = WHOLE,
        following: Pass | None = None,
    ) -> dict[int, Any]:
        """Visit every chunk of a pass in every part, and add up, group by group."""
        found: dict[int, list[Any]] = {}
        k, count = step.target, len(self.plan.chunks)
        chunks = range(count) if each.chunks is None else each.chunks
        # Within rounds, a worker usually gets the same position in the next round.
        soon = (following.chunks or ()) if following else ()
        for chunk, then in zip_longest(chunks, soon[: len(chunks)]):
            writers: list[Any] = []
            for p, part in enumerate(each.parts):
                call = self.add(visit, part.name, k, stage, p, chunk_id(chunk), spread=True)
                needed = [weights[layer] for layer in part.layers]
                after = list(writers) if part.fresh else []
                sums = call(part, step, chunk, pace, then, needed, after)
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

    def iteration(self, step: Step, pace: Pace = WHOLE) -> Any:
        """Lay out an iteration; return its last task, whose result is the row of history."""
        plan, k = self.plan, step.target
        start = self.load(step.source, tuple(plan.layout.layers), f"iterate-{k}")
        weights = dict(start)
        passes = plan.passes.iteration
        for j, (each, now) in enumerate(zip(passes, pace.shared(passes), strict=True)):
            last = j == len(passes) - 1
            following = None if last else passes[j + 1]
            totals = self.visits(each, step, f"iterate-{j}", weights, now, following)
            save = f"params/{k}" if last else None
            for layer in start if last else each.updates:
                call = self.add(solve, "solve-weights", k, j, layer)
                total = totals.get(layer, totals.get(0, {}))
                given = start[layer], weights[layer], total
                weights[layer] = call(layer, save, *given, layer in each.updates)
        return self.add(report, "report", k)(list(weights.values()))


def groups(found: Sequence[Any], level: int) -> list[Sequence[Any]]:
    """Group what is added up on a level of the tree: visits by eights, then totals by pairs.

    A total waits in a worker's memory for the others of its group.  By pairs one waits on each
    level; by eights it was up to seven, and the peak of memory grew with the rows.
    """
    size = 2 if level else FAN_IN
    return [found[i : i + size] for i in range(0, len(found), size)]
