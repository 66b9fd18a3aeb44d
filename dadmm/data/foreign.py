"""Tables of other libraries, as frames of pandas.

They hand over their columns through the Arrow PyCapsule interface or the older interchange
protocol of data frames: one way for polars, pyarrow, DuckDB, ibis and what comes after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from dadmm.data.arrays import computing
from dadmm.data.arrow import numbers
from dadmm.data.frames import Frame
from dadmm.errors import DataError, InputError


class Foreign(Frame):
    """A table of another library, in pandas.

    Its rows have no index that others could be matched by.  Predictions are those of a frame.
    """

    def check_order(self, order: Any, name: str) -> None:
        """Take rows by position."""


def as_pandas(values: Any, name: str) -> Any:
    """Return a table, or a column of one, as a pandas frame or Series; other inputs as they are.

    Parameters
    ----------
    values : Any
    name : str
        Of the input in errors.

    Raises
    ------
    InputError, DataError
        For what is nearly a table: lazy, or of columns that differ in length.
    """
    if isinstance(values, dict) and not hasattr(values, "shape"):  # SciPy has matrices in dicts
        return _frame({key: as_pandas(column, name) for key, column in values.items()}, name)
    if isinstance(values, Mapping) and not hasattr(values, "shape"):
        if isinstance(values, xr.Dataset):
            return values
        raise _several(values, name)  # such as an HDF5 file or a tree of data sets
    if isinstance(values, Delayed):
        raise InputError(f"{name} is a delayed object: pass dask.array.from_delayed({name}, ...)")
    if isinstance(values, list) and values and isinstance(values[0], dict):
        raise InputError(f"{name} is a list of dicts: pass pd.DataFrame({name})")
    if fields := getattr(getattr(values, "dtype", None), "names", None):
        return _records(values, fields, name)
    kind = type(values)  # a column of pandas is an attribute as well, whatever its name
    arrays = (np.ndarray, xr.DataArray, xr.Dataset)  # those of xarray may offer a table as well
    if isinstance(values, arrays) or hasattr(kind, "map_partitions"):
        return values
    if hasattr(kind, "iloc"):  # other makes of pandas, such as cuDF and Modin
        return values.to_pandas() if hasattr(kind, "to_pandas") else values
    if hasattr(kind, "collect") and hasattr(kind, "collect_schema"):
        raise InputError(f"{name} is a lazy frame: pass {name}.collect()")
    if hasattr(kind, "to_table") and hasattr(kind, "to_batches"):
        raise InputError(f"{name} is not read yet: pass {name}.to_table()")
    if any(hasattr(kind, f"__{way}__") for way in ("arrow_c_stream", "arrow_c_array", "dataframe")):
        with computing(name):
            return _from_arrow(_arrow(values, name), getattr(values, "name", None))
    return values


def _several(values: Mapping[Any, Any], name: str) -> InputError:
    """Return the error for what holds several arrays, but is no table."""
    kind, held = type(values).__name__, list(map(str, values))
    if not held:
        return InputError(f"{name} is a {kind} that holds nothing: pass an array")
    listed = ", ".join(held[:10]) + (", ..." if len(held) > 10 else "")
    return InputError(
        f"{name} is a {kind}, not an array: pass one of {listed}, as in {name}[{held[0]!r}]"
    )


def _frame(columns: dict[Any, Any], name: str) -> Any:
    import pandas as pd

    try:
        return pd.DataFrame(columns)
    except ValueError as error:
        raise DataError(f"{name} is not a table: {error}") from error


def _records(values: Any, fields: tuple[str, ...], name: str) -> Any:
    """Return an array of records as a frame, in the byte order of this machine."""
    if not isinstance(values, np.ndarray):
        lazy = hasattr(values, "dask")
        table = f"dask.dataframe.from_dask_array({name})" if lazy else f"pd.DataFrame({name}[:])"
        raise InputError(f"{name} has rows of the fields {', '.join(fields)}: pass {table}")
    columns = {field: values[field] for field in fields}
    return _frame({k: v.astype(v.dtype.newbyteorder("=")) for k, v in columns.items()}, name)


def _arrow(values: Any, name: str) -> Any:
    """Return what speaks Arrow or the interchange protocol as a table or column of pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow.interchange import from_dataframe
    except ImportError as error:
        kind = f"{type(values).__module__.partition('.')[0]}.{type(values).__name__}"
        raise InputError(
            f"{name} is a {kind}, which is read by pyarrow: pip install 'dadmm[tables]'"
        ) from error
    if isinstance(values, pa.Table):
        return values
    if not any(hasattr(values, way) for way in ("__arrow_c_stream__", "__arrow_c_array__")):
        return from_dataframe(values)
    try:
        return pa.table(values)
    except pa.ArrowInvalid as error:  # a column is no table
        if hasattr(values, "columns"):
            raise InputError(
                f"{name} has a column of a type that pyarrow does not know ({error}): cast it, "
                "such as 128-bit numbers to 64 bits"
            ) from error
        return pa.chunked_array(values)


def _from_arrow(values: Any, name: str | None = None) -> Any:
    """Return a table, or a column of a name, in pandas, each column in the nearest dtype."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(values, pa.Table):
        return _from_arrow(pa.table({"": values}))[""].rename(name or None)
    values = numbers(values, nulls=True)
    kinds = values.schema.types
    flags = [i for i, kind in enumerate(kinds) if pa.types.is_boolean(kind)]
    gaps = any(values.column(i).null_count for i in flags)
    nullable = {pa.bool_(): pd.BooleanDtype()}.get if gaps else None
    return values.to_pandas(date_as_object=False, types_mapper=nullable)
