"""Proximal maps of tanh and softplus, compiled: a row at a time, in float64."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from dadmm.numerics.kernels import COMPILED, INLINE, exp, log1p
from dadmm.numerics.types import Array

# `Activation.prox` defines g, r, b, the bump and its top, and shows that there are at most two
# minima.  `side` is the sign of the direction from b to the target.  Added here [derived]: the bump
# grows up to its top, so g' is concave between b and the top.  Newton's method from b climbs to the
# minimum there without overshooting it.  A step past the top, or a point where g is not convex,
# proves that there is none.  From the top to the end of the bump g' is convex, and the same holds
# from that end.


@njit(**COMPILED)
def prox_row(
    softplus: bool,
    r: float,
    tol: float,
    a: Array,
    b: Array,
    u: Array,
    low: Array,
    high: Array,
    busy: Array,
) -> None:
    """Minimise ``r (act(u) - a)^2 + (u - b)^2`` for tanh or softplus, in place from a start `u`.

    Almost every entry has one minimum: Newton's method finds it, in SIMD passes over the row.  An
    entry that has converged stays as it is, so that none depends on another.  The rest is solved
    one by one.  `low`, `high` and `busy` are work space.
    """
    width = a.size
    # The top is at most `most + bend max(a, 0)` high, seen from b.
    most, bend = (0.0, 0.25) if softplus else (1.0 / 3.0, 0.7699)
    shrink = min(r, math.sqrt(r))
    for j in range(width):
        value, first, bump, climb = shape(softplus, a[j], b[j])
        gap = a[j] - value
        side = math.copysign(1.0, gap)
        far = b[j] + shrink * gap
        low[j], high[j] = min(b[j], far), max(b[j], far)
        two = (r * (most + bend * max(side * a[j], 0.0)) > 1.0) & (r * bump < 1.0)
        two &= (bump > 0.0) & (side * climb > 0.0)
        # If the first step from b passes the top, there is no minimum on this side.
        probe = b[j] + r * gap * first / (1.0 - r * bump)
        value, first, bump, climb = shape(softplus, a[j], probe)
        two &= (r * bump < 1.0) & (bump > 0.0) & (side * climb > 0.0)
        two &= side * (a[j] - value) > 0.0
        busy[j] = 0.0 if two else 1.0
        u[j] = np.nan if two else min(max(u[j], low[j]), high[j])
    for _ in range(6):
        left = 0.0
        for j in range(width):
            value, first, bump, _ = shape(softplus, a[j], u[j])
            curvature = 1.0 - r * bump
            step = (u[j] - b[j] - r * (a[j] - value) * first) / curvature
            new = min(max(u[j] - step, low[j]), high[j])
            arrived = (curvature > 0.0) & _settled(a[j], r, new, curvature, step, tol)
            u[j] = new if busy[j] > 0.0 else u[j]
            busy[j] = 0.0 if arrived else busy[j]
            left += busy[j]
        if left == 0.0:
            break
    for j in range(width):
        if busy[j] == 0.0 and u[j] == u[j]:
            continue
        far = high[j] if low[j] == b[j] else low[j]
        if not abs(a[j]) + abs(b[j]) < np.inf:
            u[j] = np.nan
        elif busy[j] > 0.0:
            u[j] = _bracketed(softplus, a[j], b[j], r, b[j], far)
        else:
            u[j] = _lower_of_two(softplus, a[j], b[j], r, far)


@njit(**COMPILED)
def _lower_of_two(softplus: bool, a: float, b: float, r: float, far: float) -> float:
    """Return the minimiser of g where each side of the bump's top may have a minimum."""
    side = math.copysign(1.0, far - b)
    if softplus:
        # The bump ends where log(1 + y) + y = a with y = exp(u): concave, so Newton climbs.
        y = 0.5 * a
        for _ in range(3):
            y -= (math.log1p(y) + y - a) * (1.0 + y) / (2.0 + y)
        end = math.log(y)
    else:
        end = side * math.atanh(-1.0 / (side * a + math.sqrt(a * a + 3.0)))
    end = end if side * (far - end) > 0.0 else far
    value, first, _, _ = shape(softplus, a, end)
    if side * (end - b - r * (a - value) * first) > 0.0:
        beyond = _slide(softplus, a, b, r, side, end, False)
    else:
        beyond = _bracketed(softplus, a, b, r, end, far)
    near = _slide(softplus, a, b, r, side, b, True)
    if near == near and beyond == beyond:
        # The difference of the objectives, without squares that cancel or overflow.
        f_near, f_beyond = shape(softplus, a, near)[0], shape(softplus, a, beyond)[0]
        rise = r * (f_beyond - f_near) * (f_beyond + f_near - 2.0 * a)
        rise += (beyond - near) * (beyond + near - 2.0 * b)
        return beyond if rise < 0.0 else near
    if near == near:
        return near
    if beyond == beyond:
        return beyond
    return _bracketed(softplus, a, b, r, b, far)  # both minima at the top, to rounding


@njit(**COMPILED)
def _slide(
    softplus: bool, a: float, b: float, r: float, side: float, u: float, climbing: bool
) -> float:
    """Find a minimum by Newton's method, from b (climbing) or from beyond the top; NaN if none."""
    for _ in range(100):
        value, first, bump, climb = shape(softplus, a, u)
        curvature = 1.0 - r * bump
        if curvature <= 0.0 or (bump > 0.0 and side * climb > 0.0) != climbing:
            return np.nan
        step = (u - b - r * (a - value) * first) / curvature
        u -= step
        if _settled(a, r, u, curvature, step, 2.0**-53):
            break
    return u


@njit(**COMPILED)
def _bracketed(softplus: bool, a: float, b: float, r: float, near: float, far: float) -> float:
    """Find where g' changes sign, which it does once, by Newton's method with bisection."""
    low, high = min(near, far), max(near, far)
    u = far
    last = high - low
    for _ in range(100):
        value, first, bump, _ = shape(softplus, a, u)
        slope = u - b - r * (a - value) * first
        curvature = 1.0 - r * bump
        if slope > 0.0:
            high = u
        else:
            low = u
        new = u - slope / curvature
        newton = curvature > 0.0 and low <= new <= high and abs(new - u) <= 0.5 * last
        if not newton:
            new = 0.5 * low + 0.5 * high
        last = abs(new - u)
        u = new
        newton = newton and _settled(a, r, u, curvature, last, 2.0**-53)
        if newton or last <= 1e-16 * abs(u):
            break
    return u


@njit(**INLINE)
def _settled(a: float, r: float, u: float, curvature: float, step: float, tol: float) -> bool:
    # Newton's error after a step is at most half of |third derivative of g / g''| times step^2.
    # The curvature is g''; the third derivative is at most about 2 r (1 + |a|).
    return r * (1.0 + abs(a)) * step * step <= tol * curvature * (1.0 + abs(u))


@njit(**INLINE)
def shape(softplus: bool, a: float, u: float) -> tuple[float, float, float, float]:
    """Return act(u), act'(u), the bump ``((a - act) act')'``, and a number with its slope's sign.

    The sign tells the side of the top only where the bump is positive, between b and the target.
    """
    if softplus:
        e = exp(-abs(u))
        inverse = 1.0 / (1.0 + e)
        y = e if u < 0.0 else 1.0
        p = y * inverse
        value = max(u, 0.0) + log1p(e)
        gap = a - value
        return value, p, e * inverse * inverse * gap - p * p, (1 - y) * (gap - y) - (2 + y) * y
    e = exp(-2.0 * abs(u))
    inverse = 1.0 / (1.0 + e)
    t = math.copysign((1.0 - e) * inverse, u)
    d = 4.0 * e * inverse * inverse
    return t, d, d * ((3 * t - 2 * a) * t - 1), ((3 * a - 6 * t) * t + 4) * t - a
