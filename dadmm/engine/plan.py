"""What every task of a run knows, and how far the run is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from dadmm.solvers.parts import Layout, Pace, Schedule
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver
from dadmm.solvers.stopping import Verdict
from dadmm.store import KEPT_PARAMS, Run

WHOLE = Pace()


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
        Visits draw at random from (seed, iteration, chunk).
    session : str
        Part of every task's key.  A cluster may still run tasks of an interrupted session: a
        later session must not be given these, because it has deleted the blocks they wrote.
    budget : dict of str to float
        Columns of history: the memory that a worker was given, and is expected to need.
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
        problem, make, layout = self.problem, self.run.begin, self.layout
        make(generation, problem.rows, self.chunks[0], layout.state, problem.dtype)
        make(generation, len(self.chunks), 1, layout.memory, problem.dtype, dim="chunk")

    def parameters(self, generation: int) -> list[str]:
        """Return the names of all arrays of a generation of parameters."""
        each = self.layout.layers.values()
        return [f"params/{generation}/{name}" for names in each for name in names]

    def needed(self, generation: int) -> list[str]:
        """Return the names of the arrays that an iteration reads from a generation."""
        read = (*self.layout.state, *self.layout.memory)
        state = [f"state/{generation}/{name}" for name in read if name in self.read]
        return state + self.parameters(generation)

    @cached_property
    def layout(self) -> Layout:
        """The arrays of the method."""
        return self.solver.layout(self.problem)

    @cached_property
    def passes(self) -> Schedule:
        """The passes of the run."""
        return self.solver.passes(self.problem, len(self.chunks))

    @cached_property
    def read(self) -> frozenset[str]:
        """The state that passes read from the generation that they start from."""
        each = (*self.passes.iteration, *self.passes.after)
        return frozenset(name for one in each for part in one.parts for name in part.reads)

    def judge(self, rows: Sequence[Mapping[str, float]], tol: float = 0.0) -> Verdict:
        """Judge the history: whether to stop, and which iteration to keep."""
        return self.solver.stopping.judge(rows, tol)

    def __getstate__(self) -> dict[str, Any]:
        # Every task pickles the plan; tasks need neither the chunk sizes nor cached values.
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return kept | {"chunks": ()}


@dataclass
class Position:
    """How far a run is.

    Parameters
    ----------
    iteration, generation : int
        The committed iteration, and the generation that holds it.
    previous : int or None
        The generation that holds the iteration before, if it is still there.
    rows : list of dict
        The history.
    fresh : int
        The generation that comes next.
    """

    iteration: int
    generation: int
    previous: int | None
    rows: list[dict[str, float]]
    fresh: int

    @classmethod
    def of(cls, record: Mapping[str, Any], rows: list[dict[str, float]]) -> Position:
        """Return the position that follows from a commit record and its history."""
        iteration, generation = int(record["iteration"]), int(record["generation"])
        return cls(iteration, generation, record["previous"], rows, int(record["next"]))

    def best(self, iteration: int | None) -> tuple[int, int]:
        """Return the iteration to finish with, and its generation; the last if there is no best."""
        row = self.rows[iteration - 1] if iteration else {}
        if iteration in (None, self.iteration) or "generation" not in row:
            return self.iteration, self.generation
        return iteration, int(row["generation"])

    def held(self, best: int | None) -> list[int]:
        """Return the generations whose parameters are kept."""
        last = [int(row["generation"]) for row in self.rows[-KEPT_PARAMS:] if "generation" in row]
        if best and "generation" in self.rows[best - 1]:
            last.append(int(self.rows[best - 1]["generation"]))
        return [self.generation, *last]
