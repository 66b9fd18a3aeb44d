"""Kernels of the cross-entropy: its proximal map and its gradient."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from dadmm.numerics.kernels import COMPILED, exp
from dadmm.numerics.types import Array


@njit(**COMPILED)
def softmax_prox(v: Array, y: Array, beta: float, out: Array) -> None:
    """Put ``argmin_z loss(z, y) + beta/2 |z - v|^2`` of the cross-entropy into `out`, row by row.

    Twin: `losses.CrossEntropy.prox`.  This solves its scalar equation in ``s`` together with those
    for ``t_j = log(p_j / beta)``, in float64.  Rows of `y` sum to 1; `out` may be `v`.

    Notes
    -----
    [derived here]  With ``c_j = x_j - log beta`` the equations are ``e_j = exp(t_j) + t_j -
    (c_j - s) = 0``, increasing and convex in ``t_j``.  The start has every ``t_j`` above its
    root and ``s`` below its own, and steps keep that: Newton's step in ``t_j`` cannot overshoot,
    and the step in ``s`` uses a lower bound of ``p_j`` at the root of ``t_j``.  The bound is exact
    to first order in ``e_j``, so the method converges as fast as Newton's.
    """
    rows, k = v.shape
    c = np.empty(k)
    t = np.empty(k)
    w = np.empty(k)
    e = np.empty(k)
    far = 1.0 / beta
    log_beta = math.log(beta)
    for i in range(rows):
        top = -np.inf
        for j in range(k):
            c[j] = v[i, j] + far * y[i, j]
            top = max(top, c[j])
        total = 0.0
        for j in range(k):
            c[j] -= top
            total += exp(c[j])
        s = math.log(total) - far
        for j in range(k):
            t[j] = min(c[j] - s, 0.0) - log_beta
            c[j] -= log_beta
        for _ in range(100):
            error = -1.0
            slope = 0.0
            for j in range(k):
                w[j] = exp(t[j])
                e[j] = w[j] + t[j] - (c[j] - s)
                q = w[j] / (1.0 + w[j])
                error += beta * (w[j] - e[j] * min(1.0, w[j], q + 0.5 * q * w[j] * e[j]))
                slope += beta * q
            step = max(error, 0.0) / slope
            s += step
            left = error * error
            for j in range(k):
                d = (e[j] + step) / (1.0 + w[j])
                t[j] -= d
                left += beta * w[j] * d * d
            if not left > 1e-16:
                break
        for j in range(k):
            out[i, j] = v[i, j] + far * (y[i, j] - beta * exp(t[j]))


@njit(**COMPILED)
def softmax_gradient(out: Array, y: Array, weight: Array, g: Array) -> tuple[float, float]:
    """Put gradients of the weighted cross-entropy into `g`; return its sum, and the rows right.

    Rows that are right count by their weight.

    Twin: `losses.CrossEntropy`.
    """
    rows, k = out.shape
    value = 0.0
    right = 0.0
    for i in range(rows):
        top = out[i, 0]
        best = 0
        label = 0
        for j in range(1, k):
            if out[i, j] > top:
                top = out[i, j]
                best = j
            if y[i, j] > y[i, label]:
                label = j
        total = 0.0
        for j in range(k):
            e = math.exp(float(out[i, j] - top))
            g[i, j] = e
            total += e
        log_total = math.log(total)
        scale = 1.0 / total
        for j in range(k):
            value += weight[i] * y[i, j] * (log_total - (out[i, j] - top))
            g[i, j] = weight[i] * (g[i, j] * scale - y[i, j])
        if best == label:
            right += weight[i]
    return value, right
