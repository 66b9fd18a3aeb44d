"""Check targets, labels and sample weights, and encode them as columns of numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute

from dadmm.data.arrays import as_array, as_matrix, computing, is_dask, unwrap, with_sizes
from dadmm.errors import DataError, OptionError, ShapeError, unknown
from dadmm.numerics.types import Array


def as_targets(y: Any, rows: int) -> Any:
    """Return regression targets as a numeric matrix with as many rows as `x`."""
    y = as_column(y, rows)
    if y.ndim == 1:
        y = y.reshape(-1, 1) if not is_dask(y) else y[:, None]
    return as_matrix(y, "y")


def as_column(y: Any, rows: int, name: str = "y") -> Any:
    """Return `y` as an array of so many rows; one column becomes one dimension.

    Raises
    ------
    ShapeError
        If `y` has not as many rows as x.
    """
    if y is None:
        raise DataError(
            "y is missing: this estimator requires y to be passed, but the target y is None"
        )
    y = unwrap(y)
    y = with_sizes(y, name) if is_dask(y) else as_array(y, name)
    if y.ndim not in (1, 2):
        raise ShapeError(f"{name} has {y.ndim} dimensions: use (rows,) or (rows, targets)")
    if y.shape[0] != rows:
        raise ShapeError(f"{name} has {y.shape[0]} rows, x has {rows}")
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def is_flat(y: Any) -> bool:
    """Whether `y` has one dimension: predictions have its shape."""
    return (y.ndim if hasattr(y, "ndim") else np.asarray(y).ndim) == 1


def find_classes(y: Any) -> Array:
    """Return the sorted distinct labels of `y`.

    Raises
    ------
    DataError
        If labels are missing or continuous, or there are fewer than two classes.
    ShapeError
        If `y` has more than one column.
    """
    if y.ndim != 1:
        raise ShapeError(f"y has shape {y.shape}: a classifier takes one label per row")
    if y.dtype.kind not in "biufUO":
        raise DataError(f"y has dtype {y.dtype}: labels are numbers, strings or booleans")
    if y.dtype.kind == "f":
        _check_labels(y)
    elif y.dtype.kind == "O" and not is_dask(y):
        _check_objects(y)
    try:
        with computing("y") if is_dask(y) else nullcontext():
            classes = np.asarray(da.unique(y).compute() if is_dask(y) else np.unique(y))
    except TypeError as error:
        raise DataError(f"y mixes labels of different types ({error}): make them one") from error
    if classes.dtype.kind == "O":
        _check_objects(classes)
    if classes.dtype.kind == "f" and (classes != np.round(classes)).any():
        raise DataError(
            f"y holds continuous values such as {classes[classes != np.round(classes)][0]}: "
            "Unknown label type for a classifier; use ADMMRegressor"
        )
    if len(classes) < 2:
        raise DataError(
            f"y has one class, {classes.tolist()[0]!r}: a classifier needs at least two"
        )
    return classes


def _check_labels(y: Any) -> None:
    bad = ~np.isfinite(y)
    with computing("y"):
        first = int(bad.argmax() if not is_dask(y) else da.argmax(bad).compute())
        found = bool(bad[first].compute() if is_dask(y) else bad[first])
    if found:
        raise DataError(f"y has a missing or infinite label in row {first}: drop or fill it")


def _check_objects(y: Array) -> None:
    for row, label in enumerate(y):
        if label is None or (isinstance(label, float) and not np.isfinite(label)):
            raise DataError(f"y has a missing label in row {row}: drop or fill it")
        if not isinstance(label, (str, int, float, np.generic)):
            kind = type(label).__name__
            raise DataError(f"y has a {kind} in row {row}: labels are numbers, strings or booleans")


def encode_labels(y: Array, classes: Array, first: int = 0) -> Array:
    """Return the position of each label in `classes`, (rows,) int32.

    Raises
    ------
    DataError
        For a label that is not in `classes`, with its row (counted from `first`).
    """
    y = np.asarray(y)
    try:
        codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        wrong = classes[codes] != y
    except TypeError:
        wrong = np.ones(len(y), bool)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        label, known = y[row : row + 1].tolist()[0], classes.tolist()
        listed = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        raise DataError(
            f"y has the label {label!r} in row {first + row}, which is not among the "
            f"{len(known)} classes of training: {listed}"
        )
    return np.asarray(codes, np.int32)


def as_indicators(y: Any, columns: int) -> Any:
    """Return several labels per row, each 1 or 0, as uint8, (rows, columns).

    Raises
    ------
    ShapeError
        If `y` has another number of columns.
    DataError
        For the first cell that is not 0 or 1, with its row and column; a dask array raises it when
        it is computed.
    """
    if not columns or y.ndim != 2 or y.shape[1] != columns:
        raise ShapeError(
            f"y has shape {y.shape}: a classifier takes one label per row, or several as columns "
            + (f"of 0 and 1, here {columns}" if columns else "of 0 and 1")
        )
    if y.dtype.kind not in "biufO":
        raise DataError(f"y has dtype {y.dtype}: several labels per row are columns of 0 and 1")
    if is_dask(y):
        return y.rechunk({1: -1}).map_blocks(encode_indicators, dtype=np.uint8)
    return encode_indicators(y)


def encode_indicators(y: Array, block_info: Any = None) -> Array:
    """Return labels of 0 and 1 as uint8; `block_info` is Dask's description of a block."""
    wrong = (y != 0) & (y != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        held = y[row : row + 1, column].tolist()[0]
        row += block_info[0]["array-location"][0][0] if block_info else 0
        raise DataError(
            f"y has {held!r} in row {row}, column {column}: a classifier takes one label per row, "
            "or several as columns of 0 and 1"
        )
    return y.astype(np.uint8)


def class_weights(given: Mapping[Any, float] | str, classes: Array) -> Mapping[Any, float] | str:
    """Check a `class_weight` and return it by code; classes that it leaves out weigh 1.

    Raises
    ------
    OptionError
        For a word other than "balanced", an unknown class, or a weight below 0.
    """
    if given == "balanced":
        return given
    if not isinstance(given, Mapping):
        raise OptionError(f"class_weight={given!r}: use 'balanced' or a dict of class: weight")
    known = classes.tolist()
    for label, value in given.items():
        if label not in known:
            raise unknown("class in class_weight", label, [str(c) for c in known])
        numeric = isinstance(value, (int, float, np.number)) and np.isrealobj(value)
        too_large = isinstance(value, int) and value > sys.float_info.max
        if not numeric or too_large or not 0 <= value < np.inf:
            raise OptionError(f"class_weight[{label!r}]={value!r}: use a number of 0 or more")
    return {i: float(given.get(label, 1.0)) for i, label in enumerate(known)}


def as_weights(
    sample_weight: Any, target: Any, by_class: Mapping[Any, float] | str | None = None
) -> Any:
    """Return sample weights as a float64 column with mean 1.

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
        weight = as_column(sample_weight, rows, "sample_weight")
        if weight.ndim != 1:
            raise ShapeError(f"sample_weight has shape {weight.shape}: give one weight per row")
        if weight.dtype.kind not in "biuf":
            raise DataError(f"sample_weight has dtype {weight.dtype}, which is not numeric")
        weight = weight.astype(np.float64)
    lazy = is_dask(target) or is_dask(weight)
    if by_class is not None:
        # Only these are collected in one place: one small integer per sample.
        with computing("y"):
            codes = target[:, 0].compute() if is_dask(target) else target[:, 0]
        if by_class == "balanced":
            counts = np.bincount(codes)
            table = len(codes) / (len(counts) * np.maximum(counts, 1))
        else:
            assert isinstance(by_class, Mapping)
            table = np.array([by_class[i] for i in range(len(by_class))])
        factor = table[codes]
        weight = weight * (da.from_array(factor, weight.chunks) if is_dask(weight) else factor)
    with computing("sample_weight"), np.errstate(over="ignore", invalid="ignore"):
        least, mean = weight.min(), weight.mean()
        if lazy:
            least, mean = compute(least, mean)
    if not least >= 0 or not np.isfinite(mean):
        raise DataError("sample_weight has negative, missing or infinite weights: use 0 or more")
    if mean == 0:
        raise DataError("sample_weight is zero for all samples: there is nothing to train on")
    return (weight / mean)[:, None]
