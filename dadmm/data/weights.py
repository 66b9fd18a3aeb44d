"""Check sample weights; and leave rows of weight 0 out of what the targets say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np

from dadmm.cluster.slot import compute
from dadmm.data.arrays import as_array, computing, is_dask, unwrap, with_sizes
from dadmm.data.targets import as_column
from dadmm.errors import DataError, ShapeError
from dadmm.numerics.types import Array


def as_weights(
    sample_weight: Any, target: Any, by_class: Mapping[Any, float] | str | None = None
) -> Any:
    """Return sample weights as a float64 column; the mean of those above 0 is 1.

    Parameters
    ----------
    sample_weight : (rows,) array-like or None
    target : (rows, 1) int array
        Encoded labels, if `by_class` is given.
    by_class : mapping of code to weight, "balanced", or None
        A factor for the weights of each class.

    Raises
    ------
    ShapeError, DataError
        If the number of rows differs, or weights are negative, not finite, or all 0.
    """
    rows = target.shape[0]
    if sample_weight is None:
        weight: Any = np.ones(rows)
    else:
        weight = _scaled(checked(sample_weight, rows), target)
    if by_class is not None:
        # Only these are collected in one place: two numbers per sample.
        with computing("y"):
            codes, weight = compute(target[:, 0], weight)
        if by_class == "balanced":
            masses = np.bincount(codes, weights=weight)
            table = masses.sum() / (len(masses) * np.where(masses > 0, masses, 1))
        else:
            assert isinstance(by_class, Mapping)
            table = np.array([by_class[i] for i in range(len(by_class))])
        weight = _scaled(weight * table[codes], target)
    return weight[:, None]


def checked(sample_weight: Any, rows: int) -> Any:
    """Return weights as one float64 number per row, NumPy or dask; refuse what is none."""
    weight = as_column(sample_weight, rows, "sample_weight")
    if weight.ndim != 1:
        raise ShapeError(f"sample_weight has shape {weight.shape}: give one weight per row")
    if weight.dtype.kind not in "biuf":
        raise DataError(f"sample_weight has dtype {weight.dtype}, which is not numeric")
    return weight.astype(np.float64)


def _scaled(weight: Any, target: Any) -> Any:
    """Return weights divided by the mean of those above 0."""
    with computing("sample_weight"), np.errstate(over="ignore", invalid="ignore"):
        found = weight.min(), weight.sum(), (weight > 0).sum()
        if is_dask(weight):
            found = compute(*found)
    least, total, count = found
    if not least >= 0 or not np.isfinite(total):
        raise DataError("sample_weight has negative, missing or infinite weights: use 0 or more")
    if total == 0:
        raise DataError("sample_weight is zero for all samples: there is nothing to train on")
    return weight / (total / count)


def in_memory(sample_weight: Any, rows: int) -> Array | None:
    """Return weights as a NumPy array, (rows,); None if there are none."""
    if sample_weight is None:
        return None
    with computing("sample_weight"):
        found: Array = compute(checked(sample_weight, rows))[0]
    return found


def pieces(weight: Any, sizes: Sequence[int]) -> list[Any]:
    """Return the weights of blocks of so many rows; None for each if there are none."""
    if weight is None:
        return [None] * len(sizes)
    ends = np.cumsum(sizes).tolist()
    weight = checked(weight, ends[-1])
    return [weight[last - size : last] for size, last in zip(sizes, ends, strict=True)]


def heeded(y: Any, sample_weight: Any, rows: int) -> Any:
    """Return targets in which rows of weight 0 repeat the first row that has a weight.

    So what stood there matters nowhere: as a class, in the moments, or in a sum.

    Parameters
    ----------
    y : (rows,) or (rows, targets) array-like, or None
        What is no target of so many rows is returned as it is, for the estimator to refuse.
    sample_weight : (rows,) array-like or None
    rows : int
    """
    if y is None or sample_weight is None:
        return y
    weight = checked(sample_weight, rows)
    y = unwrap(y)
    if not isinstance(y, (list, tuple)):
        y = with_sizes(y, "y") if is_dask(y) else as_array(y, "y")
    if len(y) != rows:
        return y
    with computing("sample_weight"):
        least, most, first = compute(weight.min(), weight.max(), (weight > 0).argmax())
    if least != 0 or not most > 0:
        return y
    if is_dask(y):
        return _heeded_blocks(y, weight, first)
    with computing("sample_weight"):
        (weight,) = compute(weight)
    if isinstance(y, (list, tuple)):
        return [each if w else y[first] for each, w in zip(y, weight, strict=True)]
    return _repeat(y, weight, y[first])


def _heeded_blocks(y: Any, weight: Any, first: int) -> Any:
    y = y if y.ndim == 1 else y.rechunk({1: -1})
    with computing("y"):
        (value,) = compute(y[first])
    column = da.asarray(weight).rechunk((y.chunks[0],))
    column = column if y.ndim == 1 else column[:, None]
    return da.map_blocks(_repeat, y, column, value=value, dtype=y.dtype, chunks=y.chunks)


def _repeat(y: Array, weight: Array, value: Any) -> Array:
    y = np.array(y)
    y[weight.reshape(len(y)) == 0] = value
    return y
