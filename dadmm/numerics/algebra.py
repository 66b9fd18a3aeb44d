"""Small dense algebra that the solvers share: Gram sums, definite systems, squared norms."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigvalsh, lapack

from dadmm.numerics.types import Array

TILE = 128


def gram(v: Array) -> Array:
    """Return ``[V, 1]'[V, 1]`` without building [V, 1]."""
    rows, width = v.shape
    out = np.empty((width + 1, width + 1), v.dtype)
    np.matmul(v.T, v, out=out[:width, :width])
    out[:width, width] = out[width, :width] = np.ones(rows, v.dtype) @ v
    out[width, width] = rows
    return out


def cross(v: Array, target: Array) -> Array:
    """Return ``[V, 1]' target``."""
    out = np.empty((v.shape[1] + 1, target.shape[1]), v.dtype)
    np.matmul(v.T, target, out=out[:-1])
    out[-1] = np.ones(len(target), target.dtype) @ target
    return out


def solve_spd(matrix: Array, right: Array) -> Array:
    """Solve a positive definite system, or return NaN, which reveals divergence, if it is none.

    Both arguments may be overwritten.
    """
    try:
        # LAPACK works in place on columns, which are the rows of a symmetric matrix.
        factor = cho_factor(matrix.T, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(factor, right, overwrite_b=True, check_finite=False))
    except LinAlgError:
        return np.full_like(right, np.nan)


def inverse_spd(matrix: Array) -> Array:
    """Invert a symmetric positive definite matrix in place; fill it with NaN if it is none."""
    # LAPACK works in place on columns, which are the rows of a symmetric matrix.
    factor, failed = lapack.dpotrf(matrix.T, lower=1, overwrite_a=1)
    if failed:
        matrix[...] = np.nan
        return matrix
    lower = lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
    for i in range(0, len(lower), TILE):
        here = slice(i, i + TILE)
        corner = np.tril(lower[here, here])
        lower[here, here] = corner + np.tril(corner, -1).T
        lower[here, i + TILE :] = lower[i + TILE :, here].T
    return np.asarray(lower.T)


def largest_eigenvalue(matrix: Array) -> float:
    """Return the largest eigenvalue of a symmetric matrix; NaN if it is not finite."""
    if not np.isfinite(matrix).all():
        return float("nan")
    return float(eigvalsh(matrix, subset_by_index=[len(matrix) - 1] * 2)[0])


def square(a: Array) -> float:
    """Return the sum of squares: of each row in the array's dtype, over rows in float64."""
    return float(row_squares(a).sum(dtype=np.float64))


def row_squares(a: Array) -> Array:
    """Return the sum of squares of each row."""
    return np.asarray(np.einsum("ij,ij->i", a, a))


def convergence_rate(steps: Array) -> tuple[float, float]:
    """Fit ``|z^{k+1} - z^k| ~ c q^k`` to the second half of the steps.

    Parameters
    ----------
    steps : (iterations,) array
        Step lengths.

    Returns
    -------
    tuple of float
        The rate q per iteration (below 1 the steps shrink R-linearly) and the R^2 of the fit of
        ``log step``; NaN for fewer than 8 steps, or 4 positive ones in the second half.
    """
    steps = np.asarray(steps, np.float64)
    later = np.arange(len(steps)) >= len(steps) // 2
    used = np.flatnonzero(later & (steps > 0) & np.isfinite(steps))
    if len(used) < 4 or len(steps) < 8:
        return math.nan, math.nan
    logs = np.log(steps[used])
    slope, intercept = np.polyfit(used, logs, 1)
    scatter = float(((logs - slope * used - intercept) ** 2).sum())
    spread = float(((logs - logs.mean()) ** 2).sum())
    level = spread <= 1e-20 * float((logs**2).sum())
    return float(np.exp(slope)), 1.0 if level else 1.0 - scatter / spread
