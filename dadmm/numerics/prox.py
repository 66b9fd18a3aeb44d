"""Proximal operators of constraints and regularisers.

The proximal operator of a function ``r`` maps ``v`` to ``argmin_z r(z) + |z - v|**2 / 2``.  That of
a constraint, where ``r`` is 0 on a set and infinite off it, is the projection onto the set.

Every operator takes a point ``v``, an array_like of float of any shape, and returns an array of the
same shape and dtype, float32 or float64 (integers become float64).  It does not change ``v``,
unless ``out``, the array for the result, is ``v`` itself.  Row by row means along the last axis.

The formulas are collected in N. Parikh and S. Boyd, *Proximal Algorithms*, Foundations and Trends
in Optimization 1(3), 2014, chapter 6, unless a docstring names another source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dadmm.errors import OptionError
from dadmm.numerics.types import Array


def squared_l2(v: ArrayLike, weight: float, out: Array | None = None) -> Array:
    """Return ``argmin_z weight/2 |z|^2 + 1/2 |z - v|^2``, which is ``v / (1 + weight)``.

    Parameters
    ----------
    weight : float
        Weight of the regulariser, at least 0.

    Raises
    ------
    dadmm.errors.OptionError
        If `weight` is negative or NaN.
    """
    return np.divide(_floating(v), 1.0 + _nonnegative("weight", weight), out=out)


def l1(v: ArrayLike, weight: float, out: Array | None = None) -> Array:
    """Return ``argmin_z weight |z|_1 + 1/2 |z - v|^2`` by soft thresholding.

    It is ``sign(v) max(|v| - weight, 0)``.

    Parameters
    ----------
    weight : float
        Weight of the regulariser, at least 0; entries no larger than it become 0.

    Raises
    ------
    dadmm.errors.OptionError
        If `weight` is negative or NaN.
    """
    x = _floating(v)
    weight = _nonnegative("weight", weight)
    result: Array = np.subtract(x, np.clip(x, -weight, weight), out=out)
    return result


def non_negative(v: ArrayLike, out: Array | None = None) -> Array:
    """Return ``argmin_z |z - v|^2`` subject to ``z >= 0``, which is ``max(v, 0)``."""
    return np.maximum(_floating(v), 0.0, out=out)


def box(v: ArrayLike, low: ArrayLike, high: ArrayLike, out: Array | None = None) -> Array:
    """Return ``argmin_z |z - v|^2`` subject to ``low <= z <= high``.

    Parameters
    ----------
    low, high : array_like of float
        The bounds; they broadcast against `v` and may be infinite.

    Raises
    ------
    dadmm.errors.OptionError
        If a lower bound is above its upper bound, or a bound is NaN.
    """
    x = _floating(v)
    if not np.all(np.less_equal(low, high)):
        raise OptionError(f"a box needs low <= high, not low = {low!r} and high = {high!r}")
    return np.clip(x, np.asarray(low, x.dtype), np.asarray(high, x.dtype), out=out)


def simplex(v: ArrayLike, out: Array | None = None, total: float = 1.0) -> Array:
    """Return, row by row, ``argmin_z |z - v|^2`` subject to ``z >= 0`` and ``sum(z) == total``.

    A row of the result is ``max(v - theta, 0)`` with a ``theta`` of its own.

    Parameters
    ----------
    total : float
        The sum of every row of the result, above 0.

    Raises
    ------
    dadmm.errors.OptionError
        If `total` is not positive and finite.

    Notes
    -----
    The sorting algorithm of M. Held, P. Wolfe and H. Crowder, *Validation of subgradient
    optimization*, Mathematical Programming 6, 1974; see J. Duchi et al., *Efficient projections
    onto the l1-ball for learning in high dimensions*, ICML 2008.
    """
    x = _floating(v)
    if not 0.0 < total < np.inf:
        raise OptionError(f"a simplex needs a positive, finite total, not {total}")
    # A constant added to a row does not move its projection; without its largest entry, a row far
    # from the simplex keeps the digits that matter.
    x = x - np.max(x, axis=-1, keepdims=True)
    falling = -np.sort(-x, axis=-1)
    excess = np.cumsum(falling, axis=-1, dtype=np.float64) - float(total)
    theta = excess / np.arange(1, x.shape[-1] + 1)
    # The longest head of the sorted row that stays positive has the right theta.
    last = np.count_nonzero(falling > theta, axis=-1, keepdims=True) - 1
    theta = np.take_along_axis(theta, last, axis=-1).astype(x.dtype)
    result: Array = np.maximum(x - theta, 0.0, out=out)
    return result


def l2_ball(v: ArrayLike, radius: float, out: Array | None = None) -> Array:
    """Return, row by row, ``argmin_z |z - v|^2`` subject to ``|z| <= radius``.

    Rows longer than `radius` are scaled down to it; the others stay as they are.

    Parameters
    ----------
    radius : float
        Radius of the ball, at least 0.

    Raises
    ------
    dadmm.errors.OptionError
        If `radius` is negative or NaN.
    """
    x = _floating(v)
    radius = _nonnegative("radius", radius)
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    # Squares of the entries could overflow; squares of these are at most 1.
    unit = x / np.where(largest > 0, largest, 1.0)
    length = largest * np.sqrt(np.sum(np.square(unit), axis=-1, keepdims=True))
    outside = length > radius
    scale = np.where(outside, radius / np.where(outside, length, 1.0), 1.0)
    result: Array = np.multiply(x, scale, out=out)
    return result


def binary(v: ArrayLike, out: Array | None = None) -> Array:
    """Return the nearest point of ``{-1, 1}`` to each entry; 0 becomes 1.

    The set is not convex: the projection has no useful derivative.

    """
    x = _floating(v)
    result: Array = np.copysign(x.dtype.type(1.0), x + x.dtype.type(0.0), out=out)
    return result


def k_sparse(v: ArrayLike, k: int, out: Array | None = None) -> Array:
    """Return, row by row, the nearest row with at most `k` entries that are not 0.

    Parameters
    ----------
    k : int
        Entries kept: those of the largest absolute value; of equal ones, the first.

    Raises
    ------
    dadmm.errors.OptionError
        If `k` is below 1.
    """
    x = _floating(v)
    if k < 1:
        raise OptionError(f"k={k}: keep 1 entry or more")
    result = np.array(x) if out is None else out
    if out is not None and out is not x:
        out[...] = x
    if k < x.shape[-1]:
        dropped = np.argsort(-np.abs(x), axis=-1, kind="stable")[..., k:]
        np.put_along_axis(result, dropped, 0.0, axis=-1)
    return result


def _floating(v: ArrayLike) -> Array:
    x = np.asarray(v)
    return x.astype(np.result_type(x, np.float32), copy=False)


def _nonnegative(name: str, value: float) -> float:
    # Unlike np.float64, a Python float leaves float32 arrays float32.
    if not value >= 0:
        raise OptionError(f"{name} must be at least 0, not {value}")
    return float(value)
