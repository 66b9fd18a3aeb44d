"""Columns that folders name, as in ``year=2024/part.0.parquet``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dadmm.data.files import NO_VALUE, File

# The columns of one file, and the value that each has in all its rows; None if it has none.
Keys = tuple[tuple[str, Any], ...]


def key_columns(files: Sequence[File]) -> tuple[list[Keys], dict[str, Any]]:
    """Return the values of each file's folders, and the types of the columns that they make.

    Values that are all whole numbers become numbers, as Arrow reads them, unless one begins with
    0: those are codes.
    """
    import pandas as pd

    texts = [dict(file.keys) for file in files]
    types, values = {}, {}
    for key in texts[0]:
        found = [each[key] for each in texts if each.get(key, NO_VALUE) != NO_VALUE]
        whole = all(text.lstrip("-").isdecimal() and str(int(text)) == text for text in found)
        values[key] = {text: int(text) if whole else text for text in found}
        types[key] = pd.CategoricalDtype(sorted(set(values[key].values())))
    rows = [
        tuple((key, values[key].get(each.get(key, NO_VALUE))) for key in types) for each in texts
    ]
    return rows, types


def with_keys(frame: Any, keys: Iterable[tuple[str, Any]], types: Mapping[str, Any]) -> Any:
    """Return a frame with the columns that folders name, unless it has them itself.

    Parameters
    ----------
    frame : pandas.DataFrame
    keys : iterable of (str, value)
    types : mapping of str to dtype
        The types of the columns wanted; others are left out.
    """
    import pandas as pd

    for key, value in keys:
        if key in types and key not in frame:
            column = pd.Categorical([value] * len(frame), dtype=types[key])
            frame[key] = pd.Series(column, index=frame.index)
    return frame
