"""Kernels of relaxed ADMM: the V-step and the U-updates of the 3-splitting."""

from __future__ import annotations

import numpy as np
from numba import njit

from dadmm.numerics.activations import SIGMOID, SOFTPLUS
from dadmm.numerics.kernels import COMPILED
from dadmm.numerics.smooth_kernels import prox_row, shape
from dadmm.numerics.types import Array


@njit(**COMPILED)
def v_gradient(
    v: Array,
    previous: Array,
    skip: bool,
    h: Array,
    v_next: Array,
    h_next: Array,
    skip_next: bool,
    g: Array,
    nu: float,
) -> tuple[float, float]:
    """Add the splitting terms of layer i to the gradient of its block V_i, in place.

    ``r = v - skip * previous - h`` and ``g += nu * r``; where the next layer is residual also
    ``g -= nu * (v_next - v - h_next)``.  `h` is act(U_i) and `h_next` is act(U_{i+1}).  On
    entry `g` holds the product with W_{i+1}'.  An unused block may be any array of that shape.

    Returns
    -------
    tuple of float
        ``|r|^2`` and ``|g|^2``.
    """
    rows, width = v.shape
    total_r = 0.0
    total_g = 0.0
    s = v.dtype.type(1 if skip else 0)
    t = v.dtype.type(nu if skip_next else 0)
    weight = v.dtype.type(nu)
    for i in range(rows):
        sum_r = v.dtype.type(0)
        sum_g = v.dtype.type(0)
        for j in range(width):
            r = v[i, j] - s * previous[i, j] - h[i, j]
            d = g[i, j] + weight * r - t * (v_next[i, j] - v[i, j] - h_next[i, j])
            g[i, j] = d
            sum_r += r * r
            sum_g += d * d
        total_r += sum_r
        total_g += sum_g
    return total_r, total_g


@njit(**COMPILED)
def step(v: Array, direction: Array, length: float) -> tuple[float, float]:
    """Move `v` in place by ``-length * direction``; return ``|move|^2`` and ``|v|^2`` after it."""
    rows, width = v.shape
    total_d = 0.0
    total_v = 0.0
    scale = v.dtype.type(length)
    for i in range(rows):
        sum_d = v.dtype.type(0)
        sum_v = v.dtype.type(0)
        for j in range(width):
            d = scale * direction[i, j]
            z = v[i, j] - d
            v[i, j] = z
            sum_d += d * d
            sum_v += z * z
        total_d += sum_d
        total_v += sum_v
    return total_d, total_v


@njit(**COMPILED)
def u_piecewise(
    pre: Array,
    bias: Array,
    u: Array,
    v: Array,
    previous: Array,
    skip: bool,
    slope: float,
    mu: float,
    nu: float,
    tau: float,
) -> tuple[float, float, float, float]:
    """Update U of the 3-splitting exactly, in place, for act(u) = u if u > 0, else slope * u.

    Each entry minimises ``nu (act(u) - a)^2 + mu (u - A)^2 + tau (u - u_old)^2`` with
    ``A = pre + bias`` and ``a = v - skip * previous``; twin and derivation: `Activation.prox`.
    On return `u` holds the minimiser, and `pre` holds ``mu * (A - u)`` for the layer below.

    Returns
    -------
    tuple of float
        ``|u_old - A|^2``; the squared distance of 0 from the subdifferential at `u_old`, without
        the proximal term; ``|u - u_old|^2``; ``|u|^2``.
    """
    return _u_update(pre, bias, u, v, previous, skip, slope, None, None, mu, nu, tau)


@njit(**COMPILED)
def u_smooth(
    kind: int,
    pre: Array,
    bias: Array,
    u: Array,
    v: Array,
    previous: Array,
    skip: bool,
    mu: float,
    nu: float,
    tau: float,
) -> tuple[float, float, float, float]:
    """Update U of the 3-splitting exactly, in place, for a smooth activation, in float64.

    Blocks and results are those of `u_piecewise`; `kind` is `Activation.kind`.  Twin:
    `Activation.prox`, which shows that the minimum is the global one.
    """
    return _u_update(pre, bias, u, v, previous, skip, None, kind, None, mu, nu, tau)


@njit(**COMPILED)
def u_linearized(
    slope: float | None,
    kind: int | None,
    mix: float,
    bend: float,
    pre: Array,
    bias: Array,
    u: Array,
    v: Array,
    previous: Array,
    skip: bool,
    mu: float,
    nu: float,
    tau: float,
) -> tuple[float, float, float, float]:
    """Update U of the linearized 3-splitting, in place; results as of `u_piecewise`.

    The step is ``-gradient / (mu + max(tau, bound))``.  The bound ``nu (mix + bend |a|)`` is that
    of the first term's curvature.  A piecewise linear activation has a `slope`, a smooth one has a
    `kind`; the other is None.  At a kink the gradient takes the slope on the left.
    """
    return _u_update(pre, bias, u, v, previous, skip, slope, kind, (mix, bend), mu, nu, tau)


@njit(**COMPILED)
def _u_update(
    pre: Array,
    bias: Array,
    u: Array,
    v: Array,
    previous: Array,
    skip: bool,
    slope: float | None,
    kind: int | None,
    curvature: tuple[float, float] | None,
    mu: float,
    nu: float,
    tau: float,
) -> tuple[float, float, float, float]:
    # Compiled once for each choice of the arguments that are None, without the branches that they
    # exclude.
    rows, width = u.shape
    real = u.dtype.type
    s = real(1 if skip else 0)
    mu_, nu_, tau_ = real(mu), real(nu), real(tau)
    c = real(mu + tau)
    keep = real(tau / (mu + tau))
    zero = real(0)
    if slope is not None:
        low = real(slope)
        positive = real(1.0 / (nu + mu + tau))
        negative = real(1.0 / (nu * slope * slope + mu + tau))
    if kind is not None:
        # sigmoid(u) = (1 + tanh(u / 2)) / 2: tanh with another scale and another target.
        softplus, wide = kind == SOFTPLUS, 2.0 if kind == SIGMOID else 1.0
        ratio = nu / (mu + tau) / wide**4
        tol = 2.0**-30 if u.itemsize == 4 else 2.0**-53
        work = np.empty((6, width))
    if curvature is not None:
        mix, bend = real(nu * curvature[0]), real(nu * curvature[1])
    total_r, total_g, total_d, total_u = 0.0, 0.0, 0.0, 0.0
    for i in range(rows):
        if kind is not None and curvature is None:
            for j in range(width):
                a_pre = pre[i, j] + bias[j]
                a = v[i, j] - s * previous[i, j]
                work[0, j] = wide * a - (wide - 1.0)
                work[1, j] = (a_pre + keep * (u[i, j] - a_pre)) / wide
                work[2, j] = u[i, j] / wide
            prox_row(softplus, ratio, tol, work[0], work[1], work[2], work[3], work[4], work[5])
        sum_r, sum_g, sum_d, sum_u = zero, zero, zero, zero
        for j in range(width):
            a_pre = pre[i, j] + bias[j]
            old = u[i, j]
            a = v[i, j] - s * previous[i, j]
            r = old - a_pre
            if slope is not None:
                # One-sided derivatives at u_old; they differ only at the kink.
                right = mu_ * r + nu_ * (max(old, zero) - a)
                left = mu_ * r + nu_ * low * (low * min(old, zero) - a)
                grad = right if old > zero else left
                if curvature is None:
                    at_kink = max(zero, max(min(left, right), -max(left, right)))
                    grad = at_kink if old == zero else grad
                    b = a_pre + keep * r
                    down = min((nu_ * low * a + c * b) * negative, zero)
                    up = max((nu_ * a + c * b) * positive, zero)
                    e_down, e_up = low * down - a, up - a
                    f_down = nu_ * e_down * e_down + c * (down - b) * (down - b)
                    f_up = nu_ * e_up * e_up + c * (up - b) * (up - b)
                    new = down if f_down <= f_up else up
            if kind is not None:
                target = wide * a - (wide - 1.0)
                value, first, _, _ = shape(softplus, target, old / wide)
                grad = real(mu * r - nu / wide**3 * (target - value) * first)
                if curvature is None:
                    new = real(wide * work[2, j])
            if curvature is not None:
                bound = mix + bend * abs(a)
                # The larger covers both halves: what a border adds to tau need not be added to the
                # bound as well.
                new = old - grad / (mu_ + max(tau_, bound))
            u[i, j] = new
            pre[i, j] = mu_ * (a_pre - new)
            d = new - old
            sum_r += r * r
            sum_g += grad * grad
            sum_d += d * d
            sum_u += new * new
        total_r += sum_r
        total_g += sum_g
        total_d += sum_d
        total_u += sum_u
    return total_r, total_g, total_d, total_u
