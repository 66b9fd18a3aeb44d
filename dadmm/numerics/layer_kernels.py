"""Kernels of a network's layers: scaled inputs, and both passes of a piecewise linear layer."""

from __future__ import annotations

from numba import njit

from dadmm.numerics.kernels import COMPILED
from dadmm.numerics.types import Array


@njit(**COMPILED)
def gather_scaled(x: Array, rows: Array, centre: Array, factor: Array, out: Array) -> None:
    """Take rows of a matrix and scale its columns: ``out = (x[rows] - centre) * factor``.

    The dtype is that of `centre` and `factor`.  Twin: `dadmm.networks.scaling.Scaling.apply`.
    """
    columns = x.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        for j in range(columns):
            out[i, j] = (centre.dtype.type(x[row, j]) - centre[j]) * factor[j]


@njit(**COMPILED)
def bias_piecewise(a: Array, bias: Array, slope: float, v: Array, skip: bool, out: Array) -> None:
    """Add `bias` to `a`; put ``act(a) + skip * v`` into `out`: forward, for piecewise linear act.

    Twin: `dadmm.numerics.activations`.  Without `skip`, `v` is not read and may be any array.
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
    """Put ``g * act'(a)`` into `out`, and the sum of its rows into `bias_gradient`: backward."""
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
