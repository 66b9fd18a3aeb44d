"""How inputs and targets are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.numerics import layer_kernels
from dadmm.numerics.types import Array

# Numbers in the units of the data are rounded to this part of a column's scale, or finer.
RESOLUTION = 1e-4
# Rows of one step, so that temporaries wider than the result stay small.
SCALED = 256


@dataclass(frozen=True)
class Scaling:
    """An affine map of columns, ``(x - centre) / scale``, and back.

    Parameters
    ----------
    centre, scale : (columns,) float64 arrays
        `scale` has no zeros.
    """

    centre: Array
    scale: Array

    @classmethod
    def identity(cls, columns: int) -> Scaling:
        """Return the scaling that changes nothing."""
        return cls(np.zeros(columns), np.ones(columns))

    def apply(self, x: Array, dtype: Any, out: Array | None = None) -> Array:
        """Return `x` centred and scaled, (rows, columns), in `out` or as a new array of `dtype`.

        Numbers that `dtype` cannot hold are centred in a dtype that can: their differences may be
        far smaller than the numbers.
        """
        wide = np.result_type(x.dtype, dtype)
        if out is None:
            out = np.empty(x.shape, dtype)
        centre, factor = self.centre.astype(wide), (1.0 / self.scale).astype(wide)
        for first in range(0, len(x), SCALED):
            rows = slice(first, first + SCALED)
            found = out[rows] if out.dtype == wide else None
            found = np.subtract(x[rows], centre, dtype=wide, out=found)
            found *= factor
            if out.dtype != wide:
                out[rows] = found
        return out

    def take(self, x: Array, rows: Array, out: Array) -> Array:
        """Put rows of `x`, scaled as by `apply`, into `out`, (rows, columns), and return it."""
        plain = x.dtype.isnative and x.dtype.kind in "iuf" and x.dtype.itemsize <= 8
        if not plain or x.dtype == np.float16:  # unknown to compiled code
            out[...] = self.apply(x[rows], out.dtype)
            return out
        wide = np.result_type(x.dtype, out.dtype)
        layer_kernels.gather_scaled(
            x, rows, self.centre.astype(wide), (1.0 / self.scale).astype(wide), out
        )
        return out

    def undo(self, z: Array) -> Array:
        """Map scaled values back to the units of the data, in the dtype `wide_enough`."""
        dtype = self.wide_enough(z.dtype)
        return z.astype(dtype, copy=False) * self.scale.astype(dtype) + self.centre.astype(dtype)

    def wide_enough(self, dtype: Any) -> np.dtype[Any]:
        """Return `dtype`, or float64 where `dtype` is too coarse near a column's centre.

        float32 has steps of 128 near 1.7e9, the seconds since 1970.
        """
        with np.errstate(over="ignore"):
            steps = np.spacing(np.abs(self.centre).astype(dtype))
        fine = (steps <= RESOLUTION * self.scale) | (self.centre == 0)
        return np.dtype(dtype if fine.all() else np.float64)
