"""Activations: value, derivative and proximal map of each.

The proximal map of an activation is the one step of ADMM that is not linear algebra.  For every
entry of a block it is the global minimiser over ``u`` of

    nu * (act(u) - a)**2 + c * (u - b)**2

which is not convex in ``u``.  Piecewise linear activations have a closed form.  For smooth ones
this module finds the global minimiser, not just a stationary point: `Activation.prox` shows why.
All functions are elementwise: an entry of the result depends on the same entry of the inputs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dadmm.errors import named
from dadmm.numerics.types import Array

PIECEWISE, TANH, SIGMOID, SOFTPLUS = range(4)


@dataclass(frozen=True)
class Activation:
    """An elementwise activation function and the constants of its curvature.

    Attributes
    ----------
    name : str
        Its name for `get_activation`.
    kind : int
        ``PIECEWISE`` (``u`` if ``u > 0`` else ``slope * u``), ``TANH``, ``SIGMOID`` or
        ``SOFTPLUS``: a number that compiled code branches on.
    slope : float
        The slope left of zero of a piecewise linear activation, between 0 and 1; else 0.
    lipschitz : float
        ``sup |act'|``.
    bend : float
        ``sup |act''|`` without the kink: 0 for piecewise linear ones.
    mix : float
        ``sup (act'**2 + act * act'')``, rounded up, so that the curvature of
        ``(act(u) - a)**2 / 2`` is at most ``mix + |a| * bend`` (away from a kink).
    smooth : bool
        False if there is a kink, which `bend` does not cover.

    Notes
    -----
    The constants were derived here: with ``t = tanh u`` the mix of tanh is
    ``(1 - t**2) (1 - 3 t**2) <= 1``; with ``p = sigmoid u`` that of sigmoid is
    ``p**2 (1 - p) (2 - 3 p)``, largest at ``p = (15 - sqrt(33)) / 24``; that of softplus,
    ``p**2 + softplus(u) p (1 - p)``, is largest near ``u = 3.10``.
    """

    name: str
    kind: int
    slope: float
    lipschitz: float
    bend: float
    mix: float
    smooth: bool

    def value(self, u: Array, out: Array | None = None) -> Array:
        """Return ``act(u)`` in the dtype of `u`, float32 or float64; `out` may be `u` itself.

        NaN stays NaN.
        """
        if self.kind == PIECEWISE:
            # 0 * inf is NaN: the zero slope must not be multiplied.
            return np.maximum(u, self.slope * u if self.slope else 0.0, out=out)
        if self.kind == TANH:
            return np.tanh(u, out=out)
        e = np.exp(-np.abs(u))
        if self.kind == SIGMOID:
            return np.divide(np.where(u < 0, e, 1.0), 1.0 + e, out=out)
        result: Array = np.add(np.maximum(u, 0.0), np.log1p(e), out=out)
        return result

    def derivative(self, u: Array, out: Array | None = None) -> Array:
        """Return ``act'(u)``; at the kink of a piecewise linear activation, its left slope.

        Arguments and dtype are those of `value`.
        """
        # 1 - tanh(u)^2 loses every digit in the tails, so all three smooth derivatives are formed
        # from exp(-|u|), which keeps its relative accuracy and cannot overflow.
        result: Array
        if self.kind == PIECEWISE:
            result = np.where(u > 0, u.dtype.type(1.0), u.dtype.type(self.slope))
        elif self.kind == TANH:
            e = np.exp(-2.0 * np.abs(u))
            result = 4.0 * e / np.square(1.0 + e)
        else:
            e = np.exp(-np.abs(u))
            if self.kind == SIGMOID:
                result = e / np.square(1.0 + e)
            else:
                result = np.where(u < 0, e, 1.0) / (1.0 + e)
        if out is None:
            return result
        np.copyto(out, result)
        return out

    def prox(
        self,
        a: Array,
        b: Array,
        nu: ArrayLike,
        c: ArrayLike,
        out: Array | None = None,
    ) -> Array:
        """Return the global minimiser over u of ``nu * (act(u) - a)**2 + c * (u - b)**2``.

        Parameters
        ----------
        a : ndarray of float32 or float64
            The target of ``act(u)``; it need not be in the range of the activation.
        b : ndarray of float32 or float64
            The target of ``u``.
        nu : array_like of float
            Weight of the first term, ``nu >= 0``.
        c : array_like of float
            Weight of the second term, ``c > 0``.  All four broadcast against each other.
        out : ndarray, optional
            Where to put the result; may be `a` or `b` itself.

        Returns
        -------
        ndarray
            Of the broadcast shape, in the common dtype of `a` and `b`.

        Notes
        -----
        *Piecewise linear.*  On either side of zero the objective is a parabola.  Its minimiser,
        clipped to the side, is a candidate.  If neither candidate is clipped, their objectives
        are ``nu c / (nu s**2 + c) * (s b - a)**2`` with the slope ``s`` of the side; their square
        roots are compared, which cannot overflow.  A tie goes to the left.

        *Smooth* [derived here].  tanh is odd and sigmoid is a shifted, scaled tanh, so only
        softplus and tanh with ``act(b) <= a`` remain.  Write ``r = nu / c`` and ``g`` for the
        objective divided by ``2 c``.

        - Both terms fall from ``b`` to the point where ``act`` is ``a`` (it may be at infinity),
          and at least one grows beyond either end, so the minimiser is in between.  It is no
          further from ``b`` than ``min(r, sqrt(r)) |act(b) - a|``, since there ``g' = 0``,
          ``|act'| <= 1`` and ``g(u) <= g(b)``.
        - For softplus and ``act(b) > a``, ``g`` is convex in between.
        - Otherwise ``g'' = 1 - r ((a - act) act')'``.  Where the subtracted bump is positive, it
          is a product of log-concave functions of ``u``.  For tanh, with
          ``t = tanh u``, it is ``(1 - t**2) (3 t**2 - 2 a t - 1)``, positive only left of a root
          below zero, where ``-t`` and both linear factors of the second factor are concave.
          For softplus, with ``p = act'``, it is
          ``p (1 - p) (a - act(u) - exp(u))``.  So ``g`` is concave on one interval at most,
          which contains the top of the bump; the top's place depends on ``a`` alone.

        Hence there are at most two local minimisers, one on each side of the top, and each is
        the only one on its side.  Newton's method, safeguarded by bisection, finds both.  The one
        with the lower objective is returned; in a tie, the one nearer to ``b``.

        In exact arithmetic the guarantee is complete.  In floating point, either of two minima
        may be returned if their objectives agree to rounding, and ``u`` is off by up to
        ``1e-12 (1 + |u|)``, or by the shift of the root that rounding errors in ``g'`` cause, if
        that is more.  Smooth maps compute in float64, whatever the dtype.  A bracket gets at most
        100 steps, enough for bisection alone to finish from a width of 1e15; five are typical.
        """
        dtype = np.result_type(a, b)
        if self.kind == PIECEWISE:
            operands = [np.asarray(x, dtype=dtype) for x in (a, b, nu, c)]
            result = _prox_piecewise(self.slope, *operands)
            if out is None:
                return result
            np.copyto(out, result)
            return out
        if out is None:
            out = np.empty(np.broadcast_shapes(*map(np.shape, (a, b, nu, c))), dtype=dtype)
        # Small buffers keep the many temporaries in cache, whatever the size of the block.
        with np.nditer(
            [a, b, nu, c, out],
            flags=["external_loop", "buffered", "zerosize_ok", "copy_if_overlap"],
            op_flags=[["readonly"], ["readonly"], ["readonly"], ["readonly"], ["writeonly"]],
            op_dtypes=[np.float64] * 5,
            casting="same_kind",
            buffersize=4096,
        ) as blocks:
            for a_, b_, nu_, c_, out_ in blocks:
                out_[...] = _SMOOTH_PROX[self.kind](a_, b_, nu_ / c_)
        return out


def _prox_piecewise(slope: float, a: Array, b: Array, nu: Array, c: Array) -> Array:
    # Unlike b plus a correction, weighted means keep their digits when |b| >> |a|, and are exactly
    # b where a has no weight.
    c_right, c_left = nu + c, nu * (slope * slope) + c
    right = np.maximum(nu / c_right * a + c / c_right * b, 0)
    left = np.minimum(nu * slope / c_left * a + c / c_left * b, 0)
    better = np.abs(a - b) * np.sqrt(c_left) < np.abs(a - slope * b) * np.sqrt(c_right)
    # Any candidate inside its side beats one that was clipped to zero.
    return np.where((left < 0) & ~((right > 0) & better), left, right)


_TINY = np.finfo(np.float64).tiny  # instead of zero under a logarithm

# A smooth activation's value, first and second derivative, in float64.
Parts = Callable[[Array], tuple[Array, Array, Array]]


def _tanh_parts(u: Array) -> tuple[Array, Array, Array]:
    e = np.exp(-2.0 * np.abs(u))
    t = np.copysign((1.0 - e) / (1.0 + e), u)
    d = 4.0 * e / np.square(1.0 + e)
    return t, d, -2.0 * t * d


def _softplus_parts(u: Array) -> tuple[Array, Array, Array]:
    e = np.exp(-np.abs(u))
    p = np.where(u < 0, e, 1.0) / (1.0 + e)
    return np.maximum(u, 0.0) + np.log1p(e), p, e / np.square(1.0 + e)


def _prox_tanh(a: Array, b: Array, r: Array) -> Array:
    sign = np.where(np.tanh(b) <= a, 1.0, -1.0)
    a, b = sign * a, sign * b
    # The bump's top is the least root of 6 t^3 - 3 a t^2 - 4 t + a.  In w = 1 + t, which keeps the
    # digits that t loses near -1, the cubic is increasing and concave left of that root: Newton
    # from w = 0 climbs to it, to rounding in 5 steps.
    h = 1.0 + np.maximum(a, -1.0)
    w = np.zeros_like(a)
    for _ in range(5):
        cubic = ((6.0 * w - (15.0 + 3.0 * h)) * w + (8.0 + 6.0 * h)) * w - 2.0 * h
        w -= cubic / ((18.0 * w - (30.0 + 6.0 * h)) * w + (8.0 + 6.0 * h))
    top = 0.5 * np.log(np.maximum(w, _TINY) / (2.0 - w))
    inside = np.abs(a) < 1.0
    target = np.where(inside, np.arctanh(np.where(inside, a, 0.0)), np.copysign(np.inf, a))
    return sign * _lower_minimum(_tanh_parts, a, b, r, target, top)


def _prox_sigmoid(a: Array, b: Array, r: Array) -> Array:
    # sigmoid(u) = (1 + tanh(u / 2)) / 2
    return 2.0 * _prox_tanh(2.0 * a - 1.0, 0.5 * b, r / 16.0)


def _prox_softplus(a: Array, b: Array, r: Array) -> Array:
    # In y = exp(u) the bump's top solves (1 - y) (a - log(1 + y) - y) - 2 y - y^2 = 0 on (0, 1),
    # decreasing and convex: Newton from y = 0 climbs to the root, to rounding in 4 steps.
    h = np.maximum(a, 0.0)
    y = np.zeros_like(a)
    for _ in range(4):
        gap = h - np.log1p(y) - y
        slope = -gap - (1.0 - y) * (2.0 + y) / (1.0 + y) - 2.0 - 2.0 * y
        y -= ((1.0 - y) * gap - (2.0 + y) * y) / slope
    top = np.log(np.maximum(y, _TINY))
    target = np.where(a > 0, h + np.log(-np.expm1(-np.maximum(h, _TINY))), -np.inf)
    return _lower_minimum(_softplus_parts, a, b, r, target, top)


_SMOOTH_PROX = {TANH: _prox_tanh, SIGMOID: _prox_sigmoid, SOFTPLUS: _prox_softplus}


def _lower_minimum(parts: Parts, a: Array, b: Array, r: Array, target: Array, top: Array) -> Array:
    """Return the global minimiser of g; act is a at `target`, and the bump's top is at `top`."""
    reach = np.minimum(r, np.sqrt(r)) * (a - parts(b)[0])
    far = np.clip(target, b + np.minimum(reach, 0.0), b + np.maximum(reach, 0.0))
    low, high = np.minimum(b, far), np.maximum(b, far)
    top = np.clip(top, low, high)
    value, first, second = parts(top)
    split = 1.0 + r * (np.square(first) - (a - value) * second) < 0
    u = _root(parts, a, b, r, low, np.where(split, top, high), b, concave_is_high=True)
    if split.any():
        a, b, r, top, high, left = (x[split] for x in (a, b, r, top, high, u))
        right = _root(parts, a, b, r, top, high, high, concave_is_high=False)
        f_left, f_right = parts(left)[0], parts(right)[0]
        # The difference of the objectives, without squares that cancel or overflow.
        rise = r * (f_right - f_left) * (f_right + f_left - 2.0 * a)
        rise += (right - left) * (right + left - 2.0 * b)
        u[split] = np.where(rise < 0, right, left)
    return u


def _root(
    parts: Parts,
    a: Array,
    b: Array,
    r: Array,
    low: Array,
    high: Array,
    u: Array,
    concave_is_high: bool,
) -> Array:
    """Find where g' changes sign from - to + in a bracket whose concave part is at one end.

    If g' does not change sign outside the concave part, the result is the border of that part.
    It is no minimiser, but harmless: the objective falls from there towards the other bracket.
    """
    result = u.copy()
    index = np.arange(u.size)
    step = high - low
    for _ in range(100):
        value, first, second = parts(u)
        slope = u - b - r * (a - value) * first
        curvature = 1.0 + r * (np.square(first) - (a - value) * second)
        convex = curvature > 0
        too_high = np.where(convex, slope > 0, concave_is_high)
        high = np.where(too_high, u, high)
        low = np.where(too_high, low, u)
        newton = u - slope / np.where(convex, curvature, 1.0)
        # Newton must stay inside and halve its step each time, or bisection takes over.
        good = convex & (low <= newton) & (newton <= high) & (np.abs(newton - u) <= 0.5 * step)
        new = np.where(good, newton, 0.5 * low + 0.5 * high)
        step = np.abs(new - u)
        result[index] = u = new
        # Newton squares the error, so the next step would be below rounding.
        busy = step > 1e-12 * (1.0 + np.abs(u))
        if not busy.any():
            break
        a, b, r, low, high, u, step, index = (x[busy] for x in (a, b, r, low, high, u, step, index))
    return result


#: Every activation by name.
ACTIVATIONS: dict[str, Activation] = {
    act.name: act
    for act in (
        Activation("relu", PIECEWISE, 0.0, 1.0, 0.0, 1.0, False),
        Activation("leaky_relu", PIECEWISE, 0.01, 1.0, 0.0, 1.0, False),
        Activation("identity", PIECEWISE, 1.0, 1.0, 0.0, 1.0, True),
        Activation("tanh", TANH, 0.0, 1.0, 0.7699, 1.0, True),
        Activation("sigmoid", SIGMOID, 0.0, 0.25, 0.09623, 0.0771, True),
        Activation("softplus", SOFTPLUS, 0.0, 1.0, 0.25, 1.046, True),
    )
}


def get_activation(activation: str | Activation) -> Activation:
    """Return the activation of that name in `ACTIVATIONS`, or an `Activation` as it is.

    Raises
    ------
    dadmm.errors.OptionError
        For an unknown name.
    """
    if isinstance(activation, Activation):
        return activation
    return named("activation", activation, ACTIVATIONS)
