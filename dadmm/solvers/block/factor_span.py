"""A block of Block-ADMM that is a non-negative factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dadmm.errors import DataError
from dadmm.networks.blocks import NMFBlock
from dadmm.numerics import nonnegative
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.nmf.dictionary import Dictionary, negative
from dadmm.solvers.problem import Problem
from dadmm.solvers.sums import Sums


class FactorSpan:
    """A block of Block-ADMM that is a factorisation, as `Span` is for other blocks.

    Parameters and attributes are those of `Span`, with the sums behind the dictionary in place of
    the moments.
    """

    def __init__(
        self, solver: BlockOptions, problem: Problem, weights: Arrays, number: int
    ) -> None:
        chain, at = solver.chain(problem), solver.spans(problem)[number - 1][0]
        block = chain.blocks[at - 1]
        assert isinstance(block, NMFBlock)
        self.block, self.number, self.width = block, number, chain.widths[at]
        self.rho, self.first = block.rho, at == 1
        self.anchor = weights[f"theta_{number}"]
        shape = block.shapes(chain.widths[at - 1])["s"]
        self._learner = Dictionary(
            self.anchor.reshape(shape),
            weights[f"gram_{number}"],
            weights[f"cross_{number}"],
            float(weights[f"count_{number}"]),
            block.window,
            unit=True,
            overlap=block.overlap,
        )
        self.error = self.energy = 0.0

    @property
    def theta(self) -> Array:
        """The dictionary, flat."""
        return self._learner.s.reshape(-1)

    @property
    def count(self) -> float:
        """Mini-batches behind the dictionary."""
        return self._learner.count

    def learnt(self) -> dict[str, Array]:
        """Return what the consensus is formed of, by kind."""
        return {"theta": self.theta, "gram": self._learner.gram, "cross": self._learner.cross}

    def numbers(self) -> Sums:
        """Return the squared error of the reconstruction, and the squares of its input, as sums."""
        t = self.number
        return {f"factor_error_{t}": self.error, f"factor_energy_{t}": self.energy}

    def forward(self, z: Array) -> Array:
        """Return the codes of `z`, as prediction does."""
        if z.min(initial=0) < 0:
            raise DataError(negative(z, self.first))
        self._z, s = z, self._learner.s
        self._gram, self._cross = s @ s.T, z @ s.T
        self._m = nonnegative.coded(
            self._gram, self._cross, self.block.sweeps, l1=self.block.l1, l2=self.block.l2
        )
        return self._m

    def _drawn(self, g: Array) -> Array:
        """Return M+, from the gradient of each row in its codes."""
        cross = self._m * self._m.dtype.type(self.rho)
        cross -= g
        cross += self._cross
        block = self.block
        return nonnegative.coded(
            self._gram, cross, block.sweeps, self._m, l1=block.l1, l2=block.l2 + self.rho
        )

    def _missed(self) -> Array:
        """Return ``Z - M S``, what the codes do not reconstruct."""
        found = self._m @ self._learner.s
        return np.subtract(self._z, found, out=found)

    def _asked(self, m: Array, missed: Array) -> Array:
        """Return ``(M - M+) S + gamma (Z - M S)``."""
        found = (self._m - m) @ self._learner.s
        found += missed * missed.dtype.type(self.block.weight)
        return found

    def pull(self, g: Array) -> Array:
        """Return the gradient in the input, row by row, from that in the output."""
        return self._asked(self._drawn(g), self._missed())

    def bend(self, upstream: Any, pull: Any, curvature: float) -> Any:
        """Return a bound of the curvature of the block's term in its input.

        What the next block asks has the curvature ``c S_a' (S_a S_a')^-1 (S_a S_a' + rho I)^-1
        S_a``, with c the `curvature` above, and eigenvalues ``c / (lambda + rho)`` below c / rho.
        """
        return pull * 0.0 + (curvature / self.rho + self.block.weight)

    def learn(self, g: Array, rate: float, beta1: float, pull: bool) -> Array | None:
        """Improve the dictionary, given the gradient of a mean over rows; return the pull."""
        rows = g.dtype.type(len(g))
        m = self._drawn(g * rows)
        missed = self._missed()
        self.error += square(missed)
        self.energy += square(self._z)
        found = self._asked(m, missed) / rows if pull else None
        self._learner.absorb(self._z, m)
        return found
