"""The history of a run: a row an iteration, in arrays; the newest rows in the commit record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dadmm.errors import DamageError
from dadmm.store.arrays import Blocks

# Rows of a chunk of the arrays, however long the history is.
HISTORY_ROWS = 1024


def read(blocks: Blocks, record: Mapping[str, Any], mend: bool = False) -> xr.Dataset:
    """Return the history that a commit record counts, over the dimension `iteration`.

    Parameters
    ----------
    mend : bool
        Leave out damaged arrays, instead of raising `DamageError`.
    """
    flushed, rows, columns = record["flushed"], record["rows"], {}
    for name in record["columns"]:
        try:
            found = blocks.get(f"history/{name}", flushed)
            if found.ndim != 1 or len(found) < flushed:
                url = str(getattr(blocks, "url", None))
                raise DamageError(url, f"history/{name}", None, "is too short")
            columns[name] = found[:flushed]
        except DamageError:
            if not mend:
                raise
    data = {}
    for name in dict.fromkeys([*columns, *(name for row in rows for name in row)]):
        old = columns[name] if name in columns else np.full(flushed, np.nan)
        new = [float(row.get(name, math.nan)) for row in rows]
        data[name] = ("iteration", np.concatenate([old, new]))
    return xr.Dataset(data, coords={"iteration": np.arange(1, flushed + len(rows) + 1)})


def flush(blocks: Blocks, record: Mapping[str, Any]) -> list[str]:
    """Copy the record's rows into the arrays, and return the names of the arrays.

    The old record stays valid if the process dies here: it counts only the first rows of the
    arrays, and these do not change.  Until the new record is published the new rows are in both
    places.
    """
    history = read(blocks, record)
    if not record["rows"]:
        return list(record["columns"])
    if not record["flushed"]:
        blocks.delete("history")  # arrays from before a retreat
    for name, column in history.variables.items():
        blocks.put(f"history/{name}", column.values, ("iteration",), HISTORY_ROWS)
    blocks.settle("history")
    return [str(name) for name in history.data_vars]
