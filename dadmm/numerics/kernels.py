"""The few loops that NumPy cannot fuse, compiled by numba and cached on disk.

Each works in place on blocks of rows, releases the GIL, and sums squares row by row in the
blocks' dtype and over rows in float64.  Each has a NumPy twin, in the tests of kernels or in the
module named in its docstring, which says what it must compute.

No kernel uses numba's own threads: Dask runs one task per core.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from dadmm.numerics.activations import SIGMOID, SOFTPLUS
from dadmm.numerics.types import Array

# Sums may be reordered and multiply-adds contracted (both are fixed at compilation, so results
# repeat); NaN and infinity keep their meaning, because divergence is found by them.
COMPILED: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
# A loop becomes SIMD code only if all that it calls is inlined and free of branches.
_inline: dict[str, Any] = {**COMPILED, "forceinline": True}


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
    """Exact U-update of the 3-splitting for a smooth activation, in place; see `u_piecewise`.

    `kind` is that of the `Activation`, whose `prox` is the twin and argues that the minimum is
    the global one.  Works in float64 inside.
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
    """U-update of the linearized 3-splitting, in place; results as of `u_piecewise`.

    The step is ``-gradient / (mu + max(tau, bound))`` with the bound ``nu (mix + bend |a|)`` of
    the first term's curvature.  The activation is piecewise linear with that `slope`, or smooth
    of that `kind`; the other one is None.  At a kink the gradient takes the slope on its left.
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
    # Compiled once for each choice of what is None: those branches leave no trace.
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
            _prox_row(softplus, ratio, tol, work[0], work[1], work[2], work[3], work[4], work[5])
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
                value, first, _, _ = _shape(softplus, target, old / wide)
                grad = real(mu * r - nu / wide**3 * (target - value) * first)
                if curvature is None:
                    new = real(wide * work[2, j])
            if curvature is not None:
                bound = mix + bend * abs(a)
                # Half of the larger covers half of each: what a border adds to tau need not be
                # added to the bound as well.
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


# The smooth proximal map: what g, r, b, the bump and its top are, and why there are at most two
# minima, is told in `Activation.prox`.  As there, sides are seen from b: `side` is the sign of the
# direction from b to the target.  Added here [derived]: the bump grows up to its top, so g' is
# concave between b and the top.  Newton's method from b climbs to the minimum there without
# overshooting it; a step that passes the top, or a point that is not convex, proves that there is
# none.  From the top to where the bump ends g' is convex, and the same holds from that end.


@njit(**COMPILED)
def _prox_row(
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

    Where there is but one minimum, almost always, Newton's method in SIMD passes over the row
    finds it; entries that have arrived are left alone, so that none depends on another.  The
    rest is solved one by one.  `low`, `high` and `busy` are work space.
    """
    width = a.size
    # The top is at most `most + bend max(a, 0)` high, seen from b.
    most, bend = (0.0, 0.25) if softplus else (1.0 / 3.0, 0.7699)
    shrink = min(r, math.sqrt(r))
    for j in range(width):
        value, first, bump, climb = _shape(softplus, a[j], b[j])
        gap = a[j] - value
        side = math.copysign(1.0, gap)
        far = b[j] + shrink * gap
        low[j], high[j] = min(b[j], far), max(b[j], far)
        two = (r * (most + bend * max(side * a[j], 0.0)) > 1.0) & (r * bump < 1.0)
        two &= (bump > 0.0) & (side * climb > 0.0)
        # The first step from b, if it passes the top: no minimum on this side.
        probe = b[j] + r * gap * first / (1.0 - r * bump)
        value, first, bump, climb = _shape(softplus, a[j], probe)
        two &= (r * bump < 1.0) & (bump > 0.0) & (side * climb > 0.0)
        two &= side * (a[j] - value) > 0.0
        busy[j] = 0.0 if two else 1.0
        u[j] = np.nan if two else min(max(u[j], low[j]), high[j])
    for _ in range(6):
        left = 0.0
        for j in range(width):
            value, first, bump, _ = _shape(softplus, a[j], u[j])
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
    """Minimise g where there may be a minimum on either side of the bump's top."""
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
    value, first, _, _ = _shape(softplus, a, end)
    if side * (end - b - r * (a - value) * first) > 0.0:
        beyond = _slide(softplus, a, b, r, side, end, False)
    else:
        beyond = _bracketed(softplus, a, b, r, end, far)
    near = _slide(softplus, a, b, r, side, b, True)
    if near == near and beyond == beyond:
        # The difference of the objectives, without squares that cancel or overflow.
        f_near, f_beyond = _shape(softplus, a, near)[0], _shape(softplus, a, beyond)[0]
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
    """Newton's method towards the top of the bump, from b (climbing) or from beyond; NaN: none."""
    for _ in range(100):
        value, first, bump, climb = _shape(softplus, a, u)
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
    """Newton's method, safeguarded by bisection, where g' changes sign but once."""
    low, high = min(near, far), max(near, far)
    u = far
    last = high - low
    for _ in range(100):
        value, first, bump, _ = _shape(softplus, a, u)
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


@njit(**_inline)
def _settled(a: float, r: float, u: float, curvature: float, step: float, tol: float) -> bool:
    # Newton's error after a step is at most half of |third derivative of g / g''| times step^2;
    # for g'' see the callers, the third derivative is at most about 2 r (1 + |a|).
    return r * (1.0 + abs(a)) * step * step <= tol * curvature * (1.0 + abs(u))


@njit(**_inline)
def _shape(softplus: bool, a: float, u: float) -> tuple[float, float, float, float]:
    """Return act(u), act'(u), the bump ``((a - act) act')'``, and what has its slope's sign.

    The last one tells on which side of the top a point is only where the bump is positive, and
    between b and the target.
    """
    if softplus:
        e = _exp(-abs(u))
        inverse = 1.0 / (1.0 + e)
        y = e if u < 0.0 else 1.0
        p = y * inverse
        value = max(u, 0.0) + _log1p(e)
        gap = a - value
        return value, p, e * inverse * inverse * gap - p * p, (1 - y) * (gap - y) - (2 + y) * y
    e = _exp(-2.0 * abs(u))
    inverse = 1.0 / (1.0 + e)
    t = math.copysign((1.0 - e) * inverse, u)
    d = 4.0 * e * inverse * inverse
    return t, d, d * ((3 * t - 2 * a) * t - 1), ((3 * a - 6 * t) * t + 4) * t - a


# Taylor coefficients from the highest on; more terms would keep the loops over them from
# being unrolled, and the loops around from becoming SIMD code.
_EXP = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
_LOG = tuple(2.0 / n for n in range(21, 0, -2))
_LOG2_HIGH, _LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # a float64 near it has the last bit of its mantissa worth 1


@njit(**{**_inline, "fastmath": {"contract"}})  # sums in this order, or rounding would be lost
def _exp(x: float) -> float:
    """Exponential function for SIMD code, to rounding; for x < 709, and flat below -708."""
    x = -708.0 if x < -708.0 else x
    shifted = np.float64(x * 1.4426950408889634 + _ROUND)
    n = shifted - _ROUND
    rest = x - n * _LOG2_HIGH - n * _LOG2_LOW
    square = rest * rest
    even = odd = 0.0
    for k in range(0, 14, 2):  # two short sums are sooner done than one long one
        odd = odd * square + _EXP[k]
        even = even * square + _EXP[k + 1]
    return (odd * rest + even) * np.int64((shifted.view(np.int64) + 1023) << 52).view(np.float64)


@njit(**_inline)
def _log1p(e: float) -> float:
    """Return log(1 + e) for e in [0, 1] for SIMD code, to rounding; of 1 + e or its half."""
    half = 1.0 if e > 0.4142 else 0.0
    s = (e - half) / (e + (2.0 + half))
    p = 0.0
    for c in _LOG:
        p = p * s * s + c
    return p * s + half * 0.6931471805599453


@njit(**COMPILED)
def softmax_prox(v: Array, y: Array, beta: float, out: Array) -> None:
    """Rowwise prox of the cross-entropy, ``argmin_z loss(z, y) + beta/2 |z - v|^2``, into `out`.

    Twin: the prox of `losses.CrossEntropy`, whose scalar equation in ``s`` this solves together
    with those for ``t_j = log(p_j / beta)``, in float64.  Rows of `y` sum to 1; `out` may be `v`.

    Notes
    -----
    [derived here]  With ``c_j = x_j - log beta`` the equations are ``e_j = exp(t_j) + t_j -
    (c_j - s) = 0``, increasing and convex in ``t_j``.  The start has every ``t_j`` above its
    root and ``s`` below its own, and steps keep that: Newton's in ``t_j`` cannot overshoot, and
    the step in ``s`` uses a lower bound of ``p_j`` at the root of ``t_j``.  The bound is exact to
    first order in ``e_j``, so the method converges as fast as Newton's.
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
            total += _exp(c[j])
        s = math.log(total) - far
        for j in range(k):
            t[j] = min(c[j] - s, 0.0) - log_beta
            c[j] -= log_beta
        for _ in range(100):
            error = -1.0
            slope = 0.0
            for j in range(k):
                w[j] = _exp(t[j])
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
            out[i, j] = v[i, j] + far * (y[i, j] - beta * _exp(t[j]))


# ------------------------------------------------------------------------- layers and optimisers


@njit(**COMPILED)
def gather_scaled(x: Array, rows: Array, centre: Array, factor: Array, out: Array) -> None:
    """Take some rows of a matrix and scale its columns: ``out = (x[rows] - centre) * factor``.

    Computed in the dtype of `centre` and `factor`.  Twin: `dadmm.networks.scaling.Scaling.apply`.
    """
    columns = x.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        for j in range(columns):
            out[i, j] = (centre.dtype.type(x[row, j]) - centre[j]) * factor[j]


@njit(**COMPILED)
def bias_piecewise(a: Array, bias: Array, slope: float, v: Array, skip: bool, out: Array) -> None:
    """Forward half of a piecewise linear layer: ``a += bias``; ``out = act(a) + skip * v``.

    Twin: `dadmm.numerics.activations`.  `v` is not read unless `skip` is set, and may be any array.
    """
    rows, width = a.shape
    left = a.dtype.type(slope)
    zero = a.dtype.type(0)
    for i in range(rows):
        if skip:
            for j in range(width):
                t = a[i, j] + bias[j]
                a[i, j] = t
                out[i, j] = (t if t > zero else left * t) + v[i, j]
        else:
            for j in range(width):
                t = a[i, j] + bias[j]
                a[i, j] = t
                out[i, j] = t if t > zero else left * t


@njit(**COMPILED)
def gate_piecewise(a: Array, slope: float, g: Array, out: Array, bias_gradient: Array) -> None:
    """Backward half: ``out = g * act'(a)``, and the sum of its rows."""
    rows, width = a.shape
    left = a.dtype.type(slope)
    zero = a.dtype.type(0)
    for j in range(width):
        bias_gradient[j] = zero
    for i in range(rows):
        for j in range(width):
            t = g[i, j] if a[i, j] > zero else left * g[i, j]
            out[i, j] = t
            bias_gradient[j] += t


@njit(**COMPILED)
def adam(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: float,
    beta1: float,
    beta2: float,
    correction: float,
    eps: float,
    l2: float,
    shrink: float,
) -> None:
    """One step of Adam (Kingma and Ba 2015) with decoupled weight decay, in place.

    What has faded to nothing, as the weights of dead units do, becomes 0: matrix products with
    subnormal numbers are many times slower.

    Parameters
    ----------
    theta, g, m, v : (size,) arrays
        Parameters, their gradient, and the two moments.
    rate : float
        The learning rate over ``1 - beta1^t``.
    correction : float
        ``1 / sqrt(1 - beta2^t)``.
    l2 : float
        Weight of ``|theta|^2 / 2``, added to the gradient.
    shrink : float
        What `theta` is multiplied by first: 1 minus learning rate times weight decay.
    """
    one = theta.dtype.type(1)
    r, b1, b2 = theta.dtype.type(rate), theta.dtype.type(beta1), theta.dtype.type(beta2)
    c, e, s = theta.dtype.type(correction), theta.dtype.type(eps), theta.dtype.type(shrink)
    decay = theta.dtype.type(l2)
    zero, tiny, least = theta.dtype.type(0), theta.dtype.type(1e-30), theta.dtype.type(1e-37)
    for i in range(theta.size):
        d = g[i] + decay * theta[i]
        first = b1 * m[i] + (one - b1) * d
        second = b2 * v[i] + (one - b2) * d * d
        moved = s * theta[i] - r * first / (math.sqrt(second) * c + e)
        m[i] = zero if abs(first) < tiny else first
        v[i] = zero if second < least else second
        theta[i] = zero if abs(moved) < tiny else moved


@njit(**COMPILED)
def sgd(
    theta: Array, g: Array, m: Array, rate: float, momentum: float, l2: float, shrink: float
) -> None:
    """One step of stochastic gradient descent with momentum, in place: ``m = momentum m + g``."""
    r, b = theta.dtype.type(rate), theta.dtype.type(momentum)
    decay, s = theta.dtype.type(l2), theta.dtype.type(shrink)
    for i in range(theta.size):
        m[i] = b * m[i] + (g[i] + decay * theta[i])
        theta[i] = s * theta[i] - r * m[i]


@njit(**COMPILED)
def augment(g: Array, multiplier: Array, theta: Array, anchor: Array, sigma: float) -> None:
    """Add the gradient of ``<pi, theta - w> + sigma/2 |theta - w|^2`` to `g`, in place."""
    s = g.dtype.type(sigma)
    for i in range(g.size):
        g[i] += multiplier[i] + s * (theta[i] - anchor[i])


@njit(**COMPILED)
def softmax_gradient(out: Array, y: Array, weight: Array, g: Array) -> tuple[float, int]:
    """Rows' gradients of the weighted cross-entropy into `g`; return its sum, and rows right.

    Twin: `dadmm.numerics.losses` cross_entropy.
    """
    rows, k = out.shape
    value = 0.0
    right = 0
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
        right += best == label
    return value, right
