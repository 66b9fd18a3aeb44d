"""What all compiled kernels share: numba's options, and exp and log1p for SIMD code.

Kernels are the few loops that NumPy cannot fuse, compiled by numba and cached on disk.  Each works
in place on blocks of rows, releases the GIL, and sums squares row by row in the blocks' dtype and
over rows in float64.  Each has a NumPy twin that says what it must compute: in the module that its
docstring names, or in its tests.

No kernel uses numba's own threads: Dask runs one task per core.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from dadmm.numerics.kernel_cache import find_place

# Sums may be reordered and multiply-adds contracted: both are fixed at compilation, so results
# repeat.  NaN and infinity keep their meaning, because they reveal divergence.
COMPILED: dict[str, Any] = {
    "cache": find_place(),
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
# A loop becomes SIMD code only if everything it calls is inlined and free of branches.
INLINE: dict[str, Any] = {**COMPILED, "forceinline": True}

# Taylor coefficients, the highest first.  With more terms numba would not unroll the loops over
# them, and the loops around would not become SIMD code.
_EXP = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
_LOG = tuple(2.0 / n for n in range(21, 0, -2))
_LOG2_HIGH, _LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # the last bit of a float64 near it is worth 1


@njit(**{**INLINE, "fastmath": {"contract"}})  # reordered sums would lose _LOG2_LOW
def exp(x: float) -> float:
    """Return exp(x) for SIMD code, exact to rounding, for x < 709; below -708 it is constant."""
    x = -708.0 if x < -708.0 else x
    shifted = np.float64(x * 1.4426950408889634 + _ROUND)
    n = shifted - _ROUND
    rest = x - n * _LOG2_HIGH - n * _LOG2_LOW
    square = rest * rest
    even = odd = 0.0
    for k in range(0, 14, 2):  # two short sums take less time than one long one
        odd = odd * square + _EXP[k]
        even = even * square + _EXP[k + 1]
    return (odd * rest + even) * np.int64((shifted.view(np.int64) + 1023) << 52).view(np.float64)


@njit(**INLINE)
def log1p(e: float) -> float:
    """Return log(1 + e) for SIMD code, exact to rounding, for e in [0, 1].

    The series is that of 1 + e, or of its half if e is large.
    """
    half = 1.0 if e > 0.4142 else 0.0
    s = (e - half) / (e + (2.0 + half))
    p = 0.0
    for c in _LOG:
        p = p * s * s + c
    return p * s + half * 0.6931471805599453
