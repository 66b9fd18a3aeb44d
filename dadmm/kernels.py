"""The few loops that NumPy cannot fuse, compiled by numba and cached on disk.

Each works in place on blocks of rows, releases the GIL, and sums squares row by row in the
blocks' dtype and over rows in float64.  Each has a NumPy twin, in tests/test_kernels.py or in the
module named in its docstring, which says what it must compute.

No kernel uses numba's own threads: Dask runs one task per core.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# Sums may be reordered and multiply-adds contracted (both are fixed at compilation, so results
# repeat); NaN and infinity keep their meaning, because divergence is found by them.
_options: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


@njit(**_options)
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
    ``g -= nu * (v_next - v - h_next)``.  `h` is act(U_i), `h_next` act(U_{i+1}); `g` holds the
    product with W_{i+1}' on entry.  Unused blocks may be any array of the same shape.

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


@njit(**_options)
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


@njit(**_options)
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
    """Exact U-update of the 3-splitting for act(u) = u where u > 0, else slope * u; in place.

    Minimises ``nu (act(u) - a)^2 + mu (u - A)^2 + tau (u - u_old)^2`` per entry, with
    ``A = pre + bias`` and ``a = v - skip * previous`` (algorithms: `Activation.prox`, its twin).
    On return `u` holds the minimiser and `pre` holds ``mu * (A - u)``, the residual that the
    layer below needs.

    Returns
    -------
    tuple of float
        ``|u_old - A|^2``; the squared distance of 0 from the subdifferential at `u_old` (without
        the proximal term); ``|u - u_old|^2``; ``|u|^2``.
    """
    rows, width = u.shape
    real = u.dtype.type
    s = real(1 if skip else 0)
    low, mu_, nu_ = real(slope), real(mu), real(nu)
    c = real(mu + tau)
    keep = real(tau / (mu + tau))
    positive = real(1.0 / (nu + mu + tau))
    negative = real(1.0 / (nu * slope * slope + mu + tau))
    zero, one = real(0), real(1)
    total_r, total_g, total_d, total_u = 0.0, 0.0, 0.0, 0.0
    for i in range(rows):
        sum_r, sum_g, sum_d, sum_u = zero, zero, zero, zero
        for j in range(width):
            a_pre = pre[i, j] + bias[j]
            old = u[i, j]
            a = v[i, j] - s * previous[i, j]
            r = old - a_pre
            # One-sided derivatives at u_old; they differ only at the kink.
            right = mu_ * r + nu_ * (max(old, zero) - a)
            left = mu_ * r + nu_ * low * (low * min(old, zero) - a)
            at_kink = max(zero, max(min(left, right), -max(left, right)))
            grad = right if old > zero else (left if old < zero else at_kink)
            b = a_pre + keep * r
            down = min((nu_ * low * a + c * b) * negative, zero)
            up = max((nu_ * a + c * b) * positive, zero)
            e_down, e_up = low * down - a, up - a
            f_down = nu_ * e_down * e_down + c * (down - b) * (down - b)
            f_up = nu_ * e_up * e_up + c * (up - b) * (up - b)
            new = down if f_down <= f_up else up
            u[i, j] = new
            pre[i, j] = mu_ * (a_pre - new)
            d = (new - old) * one
            sum_r += r * r
            sum_g += grad * grad
            sum_d += d * d
            sum_u += new * new
        total_r += sum_r
        total_g += sum_g
        total_d += sum_d
        total_u += sum_u
    return total_r, total_g, total_d, total_u


@njit(**_options)
def softmax_prox(v: Array, y: Array, beta: float, out: Array) -> None:
    """Rowwise prox of the cross-entropy, ``argmin_z loss(z, y) + beta/2 |z - v|^2``, into `out`.

    Newton's method with the Hessian ``diag(p) + beta I - p p'`` inverted by Sherman-Morrison, in
    float64, damped where a step would be longer than 4.  Twin: `dadmm.losses` cross_entropy.prox.
    `out` may be `v`.
    """
    rows, k = v.shape
    z = np.empty(k)
    p = np.empty(k)
    g = np.empty(k)
    for i in range(rows):
        total = 0.0
        for j in range(k):
            z[j] = v[i, j]
            total += y[i, j]
        for _ in range(60):
            top = z[0]
            for j in range(1, k):
                top = max(top, z[j])
            norm = 0.0
            for j in range(k):
                p[j] = math.exp(z[j] - top)
                norm += p[j]
            inner_pg = 0.0
            inner_pp = 0.0
            for j in range(k):
                p[j] /= norm
                g[j] = total * p[j] - y[i, j] + beta * (z[j] - v[i, j])
                d = 1.0 / (total * p[j] + beta)
                inner_pg += p[j] * d * g[j]
                inner_pp += p[j] * d * p[j]
            factor = total * inner_pg / (1.0 - total * inner_pp)
            longest = 0.0
            for j in range(k):
                d = 1.0 / (total * p[j] + beta)
                g[j] = d * (g[j] + p[j] * factor)
                longest = max(longest, abs(g[j]))
            damping = min(1.0, 4.0 / longest) if longest > 0.0 else 1.0
            for j in range(k):
                z[j] -= damping * g[j]
            if longest < 1e-11:
                break
        for j in range(k):
            out[i, j] = z[j]
