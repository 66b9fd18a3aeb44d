"""What a task computes: solvers count it, the planner prices it.

Products are counted by shape and elementwise passes by loop, because each has a rate of its own.
Counts are of operations as executed: a symmetric product counts half.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dadmm.numerics.losses import get_loss
from dadmm.solvers.parts import Part
from dadmm.solvers.problem import Problem

Shape = tuple[int, int, int]

# Elementwise loops whose rates are measured: NumPy's plain passes ("pass") and those of
# `dadmm.numerics`, with the activation's kind where that decides.
LOOPS = (
    "pass",
    "smooth",
    "v_gradient",
    "step",
    "u_piecewise",
    "u_smooth",
    "prox",
    "loss",
    "softmax",
    "gate",
    "adam",
    "gather",
    "code_sweep",
    "dictionary_sweep",
)


@dataclass
class Work:
    """Counts of one task's operations.

    Attributes
    ----------
    products : dict of (rows, inner, outer) to float
        How often a product of these sizes is formed, in the solver's dtype; which of the sizes is
        summed over does not matter.
    loops : dict of str to float
        Elements that each of `LOOPS` goes over.
    wide : dict of int to float
        Floating-point operations of float64 on square matrices, by their width.
    moved : float
        Bytes that come from or go to memory beyond the caches, in passes that do little else.
    calls : float
        Calls from Python, which cost the same however small the arrays.
    result : float
        Bytes of what the task returns.
    constants : float
        Bytes of sums that never change, which it reads from the store.
    """

    products: dict[Shape, float] = field(default_factory=lambda: defaultdict(float))
    loops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    wide: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    moved: float = 0.0
    calls: float = 0.0
    result: float = 0.0
    constants: float = 0.0

    def product(self, rows: int, inner: int, outer: int, times: float = 1.0) -> None:
        """Count a product, or a part of one."""
        self.products[rows, inner, outer] += times
        self.calls += times

    def loop(self, name: str, elements: float, calls: float = 1.0) -> None:
        """Count an elementwise pass."""
        assert name in LOOPS
        self.loops[name] += elements
        self.calls += calls

    def dense(self, width: int, operations: float) -> None:
        """Count operations of float64 on matrices of a width."""
        self.wide[width] += operations
        self.calls += 1

    def add(self, other: Work, times: float = 1.0) -> None:
        """Count other work so many times, without its result and constants."""
        for shape, count in other.products.items():
            self.products[shape] += count * times
        for name, count in other.loops.items():
            self.loops[name] += count * times
        for width, count in other.wide.items():
            self.wide[width] += count * times
        self.moved += other.moved * times
        self.calls += other.calls * times

    @property
    def operations(self) -> float:
        """Floating-point operations of all products."""
        return sum(2.0 * a * b * c * times for (a, b, c), times in self.products.items())


@dataclass(frozen=True)
class Footprint:
    """What a worker holds in memory during a run, in bytes, apart from Python itself.

    Parameters
    ----------
    row : int
        Of each visit, for each row of its chunk.
    visit : int
        Of each visit, whatever the rows.
    weights : int
        Of the weights, which all visits share.
    sums : int
        Of what the visits of one chunk return; totals, of float64, may be twice as large.
    total : int
        Of such a total.
    solve : int
        Of one layer's weight update, or of what makes its weights ready, beside the total.
    share : float
        The largest share of the sums that is added up at once.
    """

    row: int
    visit: int
    weights: int
    sums: int
    total: int
    solve: int
    share: float = 1.0


class Counts(Protocol):
    """The costs of a method, before it runs: memory for every run, the rest for plans.

    A method may have none: its memory is then measured on small chunks, and it cannot be planned.

    Attributes
    ----------
    whole_inputs : bool
        Whether visits scale all inputs of a chunk at once, by `Chunk.x`.
    """

    whole_inputs: bool

    def granularity(self, solver: Any, problem: Problem) -> Granularity:
        """Return how the data is best cut into chunks."""

    def footprint(self, solver: Any, problem: Problem, inputs: int, chunks: int) -> Footprint:
        """Return what a run holds in memory.

        Parameters
        ----------
        inputs : int
            Bytes of one of the stored inputs.
        chunks : int
            How many there are.
        """

    def visit(self, solver: Any, problem: Problem, part: Part, rows: int) -> Work:
        """Count what a visit of a chunk of so many rows computes."""

    def weights(self, solver: Any, problem: Problem, layer: int) -> tuple[Work, Work]:
        """Count what preparing a layer's weights computes, and what updating them does."""


@dataclass(frozen=True)
class Granularity:
    """How many chunks a method wants; the data's size and the memory go before.

    Parameters
    ----------
    fewest, multiple : int
        The fewest chunks, and what their number is a multiple of.  Neither may depend on the
        workers, or results would.
    most_bytes : int
        Of a chunk's widest layer.
    """

    fewest: int = 8
    multiple: int = 1
    most_bytes: int = 64 * 2**20


_known: dict[type, Counts] = {}


def register(method: type, counts: Counts) -> None:
    """Register the costs of a method and of its subclasses."""
    _known[method] = counts


def counts_of(solver: Any) -> Counts | None:
    """Return the costs that are registered for a method, or None."""
    return next((_known[kind] for kind in type(solver).__mro__ if kind in _known), None)


def target_bytes(problem: Problem) -> int:
    """Return the bytes of one row's targets and weight, as stored and as a visit wants them."""
    size = np.dtype(problem.dtype).itemsize
    outputs = problem.architecture.widths[-1]
    stored = 4 if problem.classes else 8 * outputs
    if get_loss(problem.loss).multi_label:
        stored = outputs
    return stored + size * outputs + (8 + size) * problem.weighted
