"""What a task computes, counted: the solvers say it, the planner prices it.

Products are told apart by their shape, elementwise passes by the loop that makes them, for each of
these runs at a rate of its own.  Counts are of operations as executed: a symmetric product
counts half.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

Shape = tuple[int, int, int]

# Elementwise loops whose rates are measured: NumPy's plain passes ("pass") and those of
# `dadmm.numerics.kernels` and `dadmm.numerics.nonnegative`, with the activation's kind where that decides.
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
        """Count another's work so many times; its result and constants are no part of it."""
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
