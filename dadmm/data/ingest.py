"""Write inputs, targets and weights into the chunks of a run, and measure them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from dask.base import compute
from dask.delayed import delayed

from dadmm.data.arrays import (
    NUMBERS_AT_ONCE,
    as_promised,
    check_finite,
    computing,
    is_dask,
    plain_block,
)
from dadmm.engine import compute as execute
from dadmm.engine.tasks import chunk_id
from dadmm.errors import DataError
from dadmm.networks.scaling import Scaling
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import release
from dadmm.store import Run
from dadmm.store.sources import Source, fingerprint

# Convert at least so many columns to float64 at once.
COLUMNS = 16


@dataclass
class Moments:
    """Count, mean, squared deviations and minimum of columns; those of chunks add up."""

    count: int
    mean: Array
    squares: Array
    least: Array

    @classmethod
    def of(cls, block: Array) -> Moments:
        """Return the moments of a block, (rows, columns), in float64."""
        mean, squares = np.empty((2, block.shape[1]))
        # A few columns at a time, but not one alone: NumPy adds those up in another order.
        groups = max(1, block.shape[1] // max(COLUMNS, NUMBERS_AT_ONCE // max(len(block), 1)))
        for columns in np.array_split(np.arange(block.shape[1]), groups):
            here = slice(columns[0], columns[-1] + 1)
            wide = block[:, here].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                mean[here] = wide.mean(axis=0)
                wide -= mean[here]
                squares[here] = np.square(wide, out=wide).sum(axis=0)
        return cls(len(block), mean, squares, block.min(axis=0).astype(np.float64))

    def __add__(self, other: Moments) -> Moments:
        """Add by Chan, Golub and LeVeque's pairwise update (1979)."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            shift = other.mean - self.mean
            mean = self.mean + shift * (other.count / count)
            squares = self.squares + other.squares + shift**2 * (self.count * other.count / count)
        return Moments(count, mean, squares, np.minimum(self.least, other.least))

    def scaling(self, how: str) -> Scaling:
        """Return the scaling to zero mean and unit variance, per column or over all columns.

        "scale" only divides by the root mean square of all numbers, so 0 stays 0 and signs stay;
        "shift" first moves the minimum of every column to 0.
        """
        if how == "none":
            return Scaling.identity(len(self.mean))
        if how in ("scale", "shift"):
            centre = self.least if how == "shift" else np.zeros_like(self.mean)
            size = np.sqrt((self.squares / self.count + (self.mean - centre) ** 2).mean())
            return Scaling(centre, np.full_like(centre, size if size > 0 else 1.0))
        variance = self.squares / self.count
        if how == "global":
            spread = variance.mean() + self.mean.var()
            variance = np.full_like(variance, spread)
        # Do not scale a column that is constant except for rounding.
        noise = (np.finfo(np.float64).eps * 10 * np.abs(self.mean)) ** 2
        scale = np.where(variance > noise, np.sqrt(variance), 1.0)
        return Scaling(self.mean, scale)


def in_place(x: Any, chunks: Sequence[int]) -> Source | None:
    """Return the address of inputs that the run can read in place; None if it must copy them.

    These are zarr arrays that other processes can open, whose chunks have no more rows than the
    run's: a visit would decode far more of a larger chunk than it needs.
    """
    if not isinstance(x, zarr.Array) or x.ndim != 2 or x.dtype.kind not in "buif":
        return None
    return Source.of(x) if x.chunks[0] <= chunks[0] and x.dtype.itemsize <= 8 else None


def store(
    run: Run,
    x: Any,
    y: Any,
    chunks: Sequence[int],
    weight: Any = None,
    source: Source | None = None,
) -> tuple[Moments, Moments | None]:
    """Check `x` and `y`, write them into the run chunk by chunk, and return their moments.

    Parameters
    ----------
    x, y : (rows, columns) arrays
        From `as_matrix` and `as_targets`, or labels already encoded; `y` may be None.
    chunks : sequence of int
        Rows of each chunk.
    source : Source or None
        The address of inputs that stay in place: they are read and checked, but not written.

    Raises
    ------
    DataError
        For NaN or infinity, with the array and the first row; for values too large to scale.
    """
    moments: list[Moments] = []
    edges = np.concatenate([[0], np.cumsum(chunks)])
    given = {"x": x, "y": y, "weight": weight}
    arrays = {name: array for name, array in given.items() if array is not None}
    for name, array in arrays.items():
        rows, columns = array.shape
        if name == "x" and source is not None:
            moments.append(_finite(_keep_in_place(run, source, rows, edges), name))
            continue
        run.create_data(name, columns, rows, chunks[0], array.dtype)
        put = partial(_put, run, name, columns, array.dtype)
        if is_dask(array):
            blocks = array.rechunk((tuple(chunks), (columns,))).to_delayed()[:, 0]
            tasks = [
                delayed(put, pure=False)(
                    chunk,
                    int(first),
                    chunks[chunk],
                    block,
                    dask_key_name=f"store-{name}-{run.attributes['id']}-{chunk_id(chunk)}",
                )
                for chunk, (first, block) in enumerate(zip(edges[:-1], blocks, strict=True))
            ]
            with computing(name):
                found = list(compute(*tasks))
        else:
            found = [
                put(chunk, int(first), int(last - first), array[first:last])
                for chunk, (first, last) in enumerate(pairwise(edges))
            ]
        run.blocks.settle("data")
        moments.append(_finite(sum_moments(found), name))
    return moments[0], moments[1] if y is not None else None


def _finite(moments: Moments, name: str) -> Moments:
    if not np.isfinite(moments.squares).all():
        raise DataError(f"{name} has values whose squares overflow: scale them down")
    return moments


def _keep_in_place(run: Run, source: Source, rows: int, edges: Array) -> Moments:
    """Store the address of the inputs and a checksum of each chunk; return their moments."""
    tasks = [
        delayed(_measure, pure=False)(
            source,
            int(first),
            int(last),
            dask_key_name=f"look-at-x-{run.attributes['id']}-{chunk_id(chunk)}",
        )
        for chunk, (first, last) in enumerate(pairwise(edges))
    ]
    found = execute.compute(delayed(list)(tasks))
    checksums = np.array([checksum for _, checksum in found], np.int64)
    run.blocks.put("data/x_crc32c", checksums, ("chunk",))
    table = {"url": source.url, "path": source.path, "rows": int(edges[1]), "total": rows}
    run.update(sources={"x": table})
    return sum_moments([moments for moments, _ in found])


def _measure(source: Source, first: int, last: int) -> tuple[Moments, int]:
    release()
    block = source.read(first, last)
    check_finite(block, "x", first)
    return Moments.of(block), fingerprint(block)


def sum_moments(found: Sequence[Moments]) -> Moments:
    """Add moments up in their order."""
    total = found[0]
    for moments in found[1:]:
        total = total + moments
    return total


def _put(
    run: Run, name: str, columns: int, dtype: Any, chunk: int, first: int, rows: int, block: Any
) -> Moments:
    release()
    block = plain_block(block, name, (rows, columns), f"from row {first} on")
    block = as_promised(block, dtype, name, f"from row {first} on")
    check_finite(block, name, first)
    run.blocks.write(f"data/{name}", chunk, block)
    return Moments.of(block)
