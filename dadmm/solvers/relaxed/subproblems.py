"""Updates of single blocks of the relaxed ADMM: U of the 3-splitting, V of the 2-splitting.

The formulas are in `method.py`.  All updates work on a tile of rows; no row's result depends on the
others of its tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dadmm.numerics import relaxed_kernels
from dadmm.numerics.activations import PIECEWISE, Activation
from dadmm.numerics.algebra import row_squares, square
from dadmm.numerics.types import Array


def update_u(
    exact: bool,
    activation: Activation,
    pre: Array,
    bias: Array,
    u: Array,
    v: Array,
    below: Array,
    skip: bool,
    mu: float,
    nu: float,
    tau: float,
) -> tuple[float, float, float, float]:
    """Update U of the 3-splitting in place, exactly or linearized.

    See `u_piecewise`, `u_smooth` and `u_linearized` in `dadmm.numerics.relaxed_kernels`.
    """
    blocks = pre, bias, u, v, below if skip else v, skip
    piecewise = activation.kind == PIECEWISE
    slope, kind = (activation.slope, None) if piecewise else (None, activation.kind)
    if not exact:
        return relaxed_kernels.u_linearized(
            slope, kind, activation.mix, activation.bend, *blocks, mu, nu, tau
        )
    if piecewise:
        return relaxed_kernels.u_piecewise(*blocks, activation.slope, mu, nu, tau)
    return relaxed_kernels.u_smooth(activation.kind, *blocks, mu, nu, tau)


@dataclass
class TwoSplitBlock:
    """Subproblem of V_i, i < N-1, in the 2-splitting, for a tile of rows.

    ``phi(v) = mu/2 |v - target|^2 + mu/2 |s v + act(v W + b) - above|^2``, rowwise separable.
    At a region's border `margin` weighs the change of what the right neighbour sees, and
    `inertia` the change of v itself, so that the sum of both sides' moves still descends.
    """

    activation: Activation
    skip: bool
    w: Array
    b: Array
    target: Array
    above: Array
    mu: float
    tau: float
    margin: float
    inertia: float

    def residual(self, v: Array, a: Array) -> Array:
        """Return ``s v + act(a) - above``."""
        r = self.activation.value(a)
        r -= self.above
        if self.skip:
            r += v
        return r

    def phi(self, v: Array, r: Array) -> Array:
        """Return the objective of each row."""
        e = v - self.target
        return 0.5 * self.mu * (row_squares(e) + row_squares(r))

    def gradient(self, v: Array, a: Array, r: Array) -> Array:
        """Return the gradient of phi in v."""
        g = (r * self.activation.derivative(a)) @ self.w.T
        if self.skip:
            g += r
        g += v - self.target
        g *= v.dtype.type(self.mu)
        return g

    def linearized(self, v: Array, a: Array, tau: float) -> tuple[Array, float]:
        """Take one gradient step per row; raise tau fourfold where the model fails to bound phi.

        A row whose model still fails after 12 raises stays where it is (at a kink the gradient
        need not be a descent direction).
        """
        r = self.residual(v, a)
        phi = self.phi(v, r)
        g = self.gradient(v, a, r)
        squares = row_squares(g)
        weight = np.full(len(v), self.mu + tau + self.inertia + self.margin)
        new = v.copy()
        open_ = np.arange(len(v))
        slack = 8 * np.finfo(v.dtype).eps
        for _ in range(12):
            trial = v[open_] - g[open_] / weight[open_, None].astype(v.dtype)
            a_trial = trial @ self.w + self.b
            part = TwoSplitBlock(
                **{**self.__dict__, "target": self.target[open_], "above": self.above[open_]}
            )
            r_trial = part.residual(trial, a_trial)
            needed = 0.5 * squares[open_] / weight[open_]
            change = part.phi(trial, r_trial) - phi[open_]
            change += 0.5 * self.margin * row_squares(r_trial - r[open_])
            change += 0.5 * self.inertia * squares[open_] / weight[open_] ** 2
            good = change <= -needed + slack * phi[open_]
            new[open_[good]] = trial[good]
            open_ = open_[~good]
            if not len(open_):
                break
            weight[open_] *= 4
        return new, float(squares.sum(dtype=np.float64))

    def proximal(
        self, start: Array, a: Array, inverse: Array, steps: int, tol: float
    ) -> tuple[Array, float]:
        """Minimise ``phi + tau/2 |v - start|^2`` by damped steps with the curvature's inverse.

        A row's step is halved when it fails to descend.  The row rests once a step is below `tol`
        times its length.
        """
        v, r = start.copy(), self.residual(start, a)
        r_start = r
        value = self.phi(v, r)
        length = np.ones(len(v))
        active = np.ones(len(v), bool)
        slope = 0.0
        for k in range(steps):
            changed = v.dtype.type(self.margin / self.mu) * (r - r_start)
            g = self.gradient(v, a, r + changed)
            if k == 0:
                slope = square(g)
            g += v.dtype.type(self.tau + self.inertia) * (v - start)
            d = g @ inverse
            d *= (length * active)[:, None].astype(v.dtype)
            trial = v - d
            a_trial = trial @ self.w + self.b
            r_trial = self.residual(trial, a_trial)
            new = self.phi(trial, r_trial)
            new += 0.5 * (self.tau + self.inertia) * row_squares(trial - start)
            new += 0.5 * self.margin * row_squares(r_trial - r_start)
            good = (new <= value) & active
            v[good], a, r = (
                trial[good],
                np.where(good[:, None], a_trial, a),
                np.where(good[:, None], r_trial, r),
            )
            value = np.where(good, new, value)
            length = np.where(good, length, length / 2)
            resting = good & (row_squares(d) <= tol * tol * row_squares(v))
            active &= ~resting
            if not active.any():
                break
        return v, slope
