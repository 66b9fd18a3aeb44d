"""Check matrices and their blocks: NumPy, dask, zarr and sparse.

A NumPy array is written chunk by chunk in this process.  Blocks of a dask array are written by
tasks, where they are computed, and inputs in zarr may stay where they are: lazy data is never
collected in one place.  Data keeps its own dtype, and is scaled when a task reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask.array as da
import numpy as np
import zarr

from dadmm.cluster.slot import in_task
from dadmm.data.graphs import guarded
from dadmm.data.sparse import SparseRows, StoredRows, dense, is_sparse_group
from dadmm.errors import CellError, DadmmError, DataError, InputError, RunError, ShapeError
from dadmm.numerics.types import Array
from dadmm.store.sources import Readable, refuse_pickle

# Convert about so many numbers to float64, or to dense, at once.
NUMBERS_AT_ONCE = 2**21
ROWS_AT_ONCE = 65536


def is_dask(array: Any) -> bool:
    """Whether `array` is a dask array."""
    return isinstance(array, da.Array)


def unwrap(array: Any) -> Any:
    """Return a zarr array or a sparse matrix as a dask array, and others as they are.

    Zarr arrays whose attributes say that their numbers stand for others are decoded.  A zarr group
    may hold a sparse matrix.
    """
    if is_sparse_group(array):
        return _by_rows(StoredRows(array, _place(array)))
    if isinstance(array, zarr.Group):
        raise group_refused(array, _place(array))
    if isinstance(array, zarr.Array):
        refuse_pickle(array, str(array.store_path))
        lazy = da.from_array(Readable(array), chunks=array.chunks)
        attributes = packing(array)
        return _decoded(lazy, attributes, _place(array)) if attributes else lazy
    if hasattr(array, "tocsr"):
        return _by_rows(SparseRows(array.tocsr()))
    return guarded(array) if is_dask(array) else array


def _by_rows(matrix: SparseRows | StoredRows) -> Any:
    """Return a sparse matrix as a dask array of dense blocks, each a few rows."""
    rows = max(1, NUMBERS_AT_ONCE // max(matrix.shape[1], 1))
    return da.from_array(matrix, chunks=(rows, -1), fancy=False)


def _place(node: zarr.Array[Any] | zarr.Group) -> str:
    return str(node.store_path).removeprefix("file://")


def packing(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the attributes by which the numbers of an array stand for others; often none.

    They are the conventions of CF (chapter 8), which xarray writes and netCDF has.
    """
    found = dict(array.attrs)
    if array.dtype.kind not in "iuf":
        return {}
    said: dict[str, Any] = {
        key: found[key] for key in ("scale_factor", "add_offset", "_Unsigned") if key in found
    }
    fills = {key: found[key] for key in ("_FillValue", "missing_value") if key in found}
    # xarray writes the missing value of an array of version 2 as its fill value.
    if array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in found:
        fills.setdefault("_FillValue", array.metadata.fill_value)
    said |= {key: value for key, value in fills.items() if value is not None}
    plain = {"scale_factor": 1, "add_offset": 0}
    return {
        key: value
        for key, value in said.items()
        if not (key in plain and value == plain[key]) and not _is_nan(value, array.dtype)
    }


def _is_nan(value: Any, dtype: Any) -> bool:
    """Whether a fill value is NaN, which is missing already."""
    try:
        return bool(np.isnan(np.asarray(_fill_value(value, dtype), dtype)).all())
    except Exception:  # attributes can hold anything
        return False


def _fill_value(value: Any, dtype: Any) -> Any:
    """Return a fill value as a number; xarray writes it in base64 in zarr of version 3."""
    if isinstance(value, str) and dtype.kind == "f":
        with suppress(ValueError):
            return float(value)  # JSON has no NaN: zarr writes its name
        from xarray.backends.zarr import FillValueCoder

        return FillValueCoder.decode(value, dtype)
    return value


def _decoded(lazy: Any, attributes: dict[str, Any], name: str) -> Any:
    """Return the numbers that packed ones stand for, lazily."""
    import xarray as xr

    fills = ("_FillValue", "missing_value")
    try:
        for key in {"scale_factor", "add_offset"} & set(attributes):
            np.asarray(attributes[key], np.float64)  # xarray finds out when a chunk is computed
        attributes = {
            key: lazy.dtype.type(_fill_value(value, lazy.dtype)) if key in fills else value
            for key, value in attributes.items()
        }
        packed = xr.Variable([f"dim_{i}" for i in range(lazy.ndim)], lazy, attributes)
        return xr.conventions.decode_cf_variable(name, packed, decode_times=False).data
    except Exception as error:  # attributes can hold anything
        raise InputError(
            f"{name} has the attributes {attributes}, by which its numbers stand for others, but "
            f"they cannot be applied: correct or remove them ({error})"
        ) from error


def group_refused(group: zarr.Group, name: str) -> InputError:
    """Return the error for a zarr group where an array is needed; it names the arrays."""
    arrays, groups = sorted(group.array_keys()), sorted(group.group_keys())
    if arrays:
        listed = ", ".join(arrays[:10]) + (", ..." if len(arrays) > 10 else "")
        return InputError(
            f"{name} is a zarr group, not an array: take one of its arrays, {listed}, as in "
            f"group[{arrays[0]!r}], or its path"
        )
    if groups:
        return InputError(
            f"{name} is a zarr group that has no arrays: open one of its groups, "
            f"{', '.join(groups[:10])}"
        )
    return InputError(f"{name} is a zarr group that has no arrays: name one that has")


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Turn any error of the user's own dask graph into one line.

    Raises
    ------
    DataError
        If the graph raises an error.
    RunError
        If the cause is outside the graph, such as a disk or a worker.
    """
    try:
        yield
    except DadmmError:
        raise
    except Exception as error:
        from distributed import KilledWorker

        kind = RunError if isinstance(error, (OSError, KilledWorker)) else DataError
        what = f"{type(error).__name__}: {error}"
        if "Missing dependency ('fromdelayed" in what:  # Dask loses these tasks: see _mended
            what += "; it is made of from_delayed(..., verify_meta=False): persist() that frame"
        elif "Missing dependency" in what and in_task():
            what += f"; in a task pass client.compute({name}) in place of what was persisted"
        raise kind(f"{name} could not be computed: {what}") from error


def as_matrix(x: Any, name: str = "x", lazy: bool = False, finite: bool = True) -> Any:
    """Return `x` as a numeric matrix, a NumPy or a dask array, (rows, columns).

    Zarr arrays and sparse matrices become dask arrays; a sparse block becomes dense when it is
    computed.

    Parameters
    ----------
    lazy : bool
        Leave unknown chunk sizes of a dask array unknown.  Otherwise all of its blocks are computed
        once to find the sizes, and dropped.
    finite : bool
        Refuse NaN and infinity in NumPy arrays.

    Raises
    ------
    ShapeError
        If `x` does not have two dimensions.
    DataError
        If `x` is empty, a column is not numeric, or (NumPy) a value is not finite.
    """
    x = unwrap(x)
    if not is_dask(x):
        x = as_array(x, name)
    elif not lazy:
        x = with_sizes(x, name)
    if x.ndim != 2:
        cure = (
            f". Reshape your data either using {name}.reshape(-1, 1) if it has a single feature "
            f"or {name}.reshape(1, -1) if it is a single sample"
        )
        what = f"{name} has {x.ndim} dimension(s), not (rows, columns)"
        raise ShapeError(what + (cure if x.ndim == 1 else ""))
    if 0 in x.shape:
        kind = "feature(s)" if x.shape[0] else "sample(s)"
        raise DataError(
            f"{name} is empty: 0 {kind} (shape={x.shape}) while a minimum of 1 is required."
        )
    if x.dtype.kind not in "buif":
        _check_cells(x, name)
    if x.dtype.kind == "O" or x.dtype.itemsize > 8:
        x = x.astype(np.float64)
    if is_dask(x):
        plain = type(x._meta) is np.ndarray
        return x if plain else x.map_blocks(dense, dtype=x.dtype, meta=np.empty((0, 0), x.dtype))
    if finite:
        check_finite(x, name)
    return x


def as_array(values: Any, name: str) -> Array:
    """Return what converts to NumPy as an array of rows; say what does not, and why.

    Raises
    ------
    DataError, ShapeError
        If it is missing or masked, has rows of different lengths, or no rows.
    """
    if values is None:
        raise DataError(f"{name} is missing")
    if np.ma.is_masked(values):
        raise DataError(f"{name} has masked values: drop or fill them")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{name} has rows of different lengths: make them equal") from error
    except (TypeError, RuntimeError) as error:  # libraries say so what helps
        raise DataError(f"{name} does not convert to NumPy: {error}") from error
    if array.ndim == 0:
        raise ShapeError(f"{name} is a {type(values).__name__}, not an array of rows")
    return array


def with_sizes(array: Any, name: str) -> Any:
    """Return a dask array whose chunk sizes are known; the caller's own stays as it is."""
    if not any(np.isnan(size) for size in array.shape):
        return array
    with computing(name):
        return array.copy().compute_chunk_sizes()


def _check_cells(x: Any, name: str) -> None:
    """Raise `DataError` for the first cell that is not numeric; objects may all be numbers."""
    if x.dtype.kind == "c":
        raise DataError(
            f"{name} has dtype {x.dtype}. Complex data not supported: pass real and imaginary "
            "parts, or absolute values"
        )
    if is_dask(x) or x.dtype.kind == "m":
        raise DataError(f"{name} has dtype {x.dtype}, which is not numeric: convert or encode it")
    for row, column in np.ndindex(*x.shape):
        value = x[row, column]
        numeric = isinstance(value, (int, float, np.number, np.bool_))
        if not numeric or getattr(value, "dtype", x.dtype).kind in "cm":
            kind, why, cure = DataError, "", "encode or drop that column"
            try:
                float(value)
                cure = "convert it with astype(float)"
            except TypeError as error:  # scikit-learn expects a TypeError here
                kind, why = CellError, f" ({error})"
            except ValueError:
                pass
            raise kind(
                f"{name} is not numeric: row {row}, column {column} holds {str(value)!r}{why}; "
                f"{cure}"
            )
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise DataError(f"{name} has a number too large in row {row}, column {column}")


def plain_block(block: Any, name: str, shape: tuple[int, ...], where: str) -> Array:
    """Return a dask block as a NumPy array.

    Raises
    ------
    DataError, ShapeError
        If the block is masked, not numeric, or not of the shape that its dask array promised.
    """
    block = as_array(dense(block), name)
    if block.shape != shape:
        raise ShapeError(
            f"{name} has a block of shape {block.shape} {where}, where its dask array promises "
            f"{shape}: make the two agree"
        )
    if block.dtype.kind not in "buif":
        raise DataError(
            f"{name} has a block of dtype {block.dtype} {where}, which is not numeric: convert it"
        )
    return block


def as_promised(block: Array, dtype: Any, name: str, where: str = "") -> Array:
    """Return a block in the dtype that its lazy array promised.

    Raises
    ------
    DataError
        If whole numbers or booleans were promised, and the block's numbers are not.
    """
    if block.dtype == dtype:
        return block
    with np.errstate(invalid="ignore", over="ignore"):
        cast = block.astype(dtype)
    if cast.dtype.kind != "f" and (cast != block).any():
        held = " ".join(f"{name} has {block.dtype} {where}".split())
        raise DataError(
            f"{held}, with numbers that {cast.dtype}, which was promised, cannot hold: give "
            "the right dtype (or meta), or convert it with astype"
        )
    return cast


def check_finite(block: Array, name: str, first: int = 0) -> None:
    """Raise `DataError` for the first NaN or infinity; `first` is the number of the first row."""
    if block.dtype.kind != "f":
        return
    for begin in range(0, len(block), ROWS_AT_ONCE):
        bad = ~np.isfinite(block[begin : begin + ROWS_AT_ONCE])
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            what = "NaN" if np.isnan(block[begin + row, column]) else "infinity"
            raise DataError(
                f"{name} contains {what} in row {first + begin + row}, column {column}: "
                "drop or impute it"
            )
