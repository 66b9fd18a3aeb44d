"""Iterations without Dask: task by task, with a store or in plain memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from dadmm.engine import tasks
from dadmm.engine.layout import TaskLayout
from dadmm.engine.plan import WHOLE, Plan, Step
from dadmm.numerics.types import Arrays
from dadmm.solvers.parts import Pace, Part
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.solver import Solver, call
from dadmm.solvers.sums import Sums, combine
from dadmm.store import Run


class Eager(TaskLayout):
    """Tasks that run as they are laid out, one after another."""

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return tasks.run(function, self.plan, *args)

        return call


class Plain(TaskLayout):
    """Tasks on arrays in memory: to read, and to try a method in a few lines.

    Parameters
    ----------
    params : dict
        All arrays of the method, which `iteration` replaces.
    constants : dict
        The combined sums of `Solver.start`.
    chunks : sequence of Chunk
        Each chunk's data and whole state, which is updated in place.
    """

    def __init__(
        self,
        solver: Solver,
        problem: Problem,
        params: Arrays,
        constants: Sums,
        chunks: Sequence[Chunk],
    ) -> None:
        rows = tuple(chunk.rows for chunk in chunks)
        super().__init__(Plan(cast(Run, None), solver, problem, rows, 0))
        self.params, self.constants, self.data = dict(params), constants, chunks
        self._before: dict[int, Arrays] = {}
        self._does: dict[Any, Callable[..., Any]] = {
            tasks.load_weights: self._load,
            tasks.visit: self._visit,
            tasks.add: combine,
            tasks.solve: self._solve,
            tasks.report: partial(tasks.report, self.plan),
        }

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Any]:
        return self._does[function]

    def iteration(self, step: Step | None = None, pace: Pace = WHOLE) -> dict[str, float]:
        """Do one iteration; return its row of history."""
        self._before = {
            c: {name: block.copy() for name, block in chunk.state.items()}
            for c, chunk in enumerate(self.data)
        }
        row: dict[str, float] = super().iteration(step or Step(0, 0, 1), pace)
        return row

    def _load(self, k: int, layer: int, training: bool) -> Arrays:
        own = {name: self.params[name] for name in self.plan.layout.layers[layer]}
        return self.plan.solver.prepare(self.plan.problem, layer, own)

    def _visit(
        self,
        part: Part,
        step: Step,
        c: int,
        pace: Pace,
        then: Any,
        weights: Sequence[Mapping[str, Any]],
        after: Any = (),
    ) -> Sums:
        merged = {name: array for layer in weights for name, array in layer.items()}
        if tasks.rests(part, merged):
            return {}
        chunk = self.data[c]
        state = {name: self._before[c][name].copy() for name in part.reads}
        state |= {name: chunk.state[name].copy() for name in part.fresh}
        x, y = chunk.inputs if part.x else None, chunk.y if part.y else None
        seen = replace(chunk, state=state, inputs=x, y=y, pace=pace)
        sums = call(self.plan.solver, self.plan.problem, part, merged, seen)
        chunk.state.update({name: state[name] for name in part.writes})
        return sums

    def _solve(
        self,
        layer: int,
        save: str | None,
        start: Arrays,
        weights: Arrays,
        sums: Sums,
        updates: bool = True,
    ) -> dict[str, Any]:
        plan = self.plan
        known = {name: self.constants[name] for name in plan.layout.constants_of(layer)}
        given = {**sums, **known}
        new = tasks.kept(weights, sums)
        if updates:
            new = tasks.update(plan.solver, plan.problem, layer, start, weights, given)
        if save is not None:
            self.params |= {name: new[name] for name in plan.layout.layers[layer]}
        return new


def iterate(
    solver: Solver,
    problem: Problem,
    params: Arrays,
    constants: Sums,
    chunks: Sequence[Chunk],
    pace: Pace = WHOLE,
) -> tuple[Arrays, dict[str, float]]:
    """Do one iteration in plain memory; return the new arrays and the row of history."""
    plain = Plain(solver, problem, params, constants, chunks)
    row = plain.iteration(pace=pace)
    return plain.params, row
