"""Check targets, and return them as columns of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from dadmm.data.arrays import as_array, as_matrix, is_dask, unwrap, with_sizes
from dadmm.errors import DataError, ShapeError
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
