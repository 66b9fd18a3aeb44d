"""Rows of a chunk, a mini-batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dadmm.numerics.types import Array
from dadmm.numerics.workspace import lasting
from dadmm.solvers.solver import Chunk

_work = lasting()


def inputs(chunk: Chunk, rows: Array, dtype: Any) -> Array:
    """Return some rows of a chunk's inputs, scaled, in memory that is used again."""
    assert chunk.x is not None
    if chunk.scaling is None:
        return gather("x", chunk.x, rows)
    out = _work.take("batch x", (len(rows), chunk.x.shape[1]), dtype)
    return chunk.scaling.take(chunk.x, rows, out)


def gather(name: str, block: Array, rows: Array) -> Array:
    """Return some rows of a block, in memory that is used again."""
    out = _work.take(f"batch {name}", (len(rows), *block.shape[1:]), block.dtype)
    # "clip" because numpy buffers the output otherwise; the rows are in range.
    return np.take(block, rows, axis=0, out=out, mode="clip")


def batches(rows: int, length: int) -> Iterator[slice]:
    """Cut rows into slices."""
    for first in range(0, rows, length):
        yield slice(first, min(first + length, rows))
