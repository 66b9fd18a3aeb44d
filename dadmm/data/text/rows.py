"""Read the rows of CSV as a pandas frame of given dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dadmm.data.table import options_help
from dadmm.data.text import cells
from dadmm.data.text.cells import Distinct, Words
from dadmm.data.text.content import Content
from dadmm.errors import InputError


def rows(content: Content, first: int, dtypes: Mapping[int, str]) -> Any:
    """Return the rows as a pandas frame of columns of given dtypes, in that order.

    Parameters
    ----------
    first : int
        The number of the first row: the index begins there.
    dtypes : mapping of int to str
        The dtype of each column wanted, by position: a name of pandas, or "percent".

    Raises
    ------
    InputError
        For a cell that its column's dtype cannot hold.
    """
    import pandas as pd

    names = [content.dialect.names[i] for i in dtypes]
    if content.empty:
        types = {"percent": "float64"}
        empty = {i: pd.Series([], dtype=types.get(want, want)) for i, want in dtypes.items()}
        return pd.DataFrame(empty).set_axis(names, axis=1)
    texts = [i for i, want in dtypes.items() if want in ("str", "percent", "Int64", "UInt64")]
    others = set(texts)
    numbers = [i for i in dtypes if i not in others]
    found, written = content.columns(numbers, texts)
    parts = [_cast(content, found, [dtypes[i] for i in numbers], first)] if numbers else []
    if all(dtypes[i] == "str" for i in texts):
        parts += [written] if texts else []
    else:
        columns = [
            _from_text(content, written.iloc[:, k], dtypes[i], i, first)
            for k, i in enumerate(texts)
        ]
        parts.append(pd.concat(columns, axis=1).set_axis(texts, axis=1))
    whole = parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)
    if [*numbers, *texts] != list(dtypes):
        whole = whole[list(dtypes)]
    whole = whole.set_axis(names, axis=1)  # what was read is kept, and stays as it is
    whole.index = pd.RangeIndex(first, first + len(whole))
    return whole


def _cast(content: Content, frame: Any, wanted: Sequence[str], first: int) -> Any:
    """Return columns of numbers as the dtypes wanted."""
    import pandas as pd

    places = list(frame.columns)
    plain: dict[str, list[int]] = {}
    others: list[int] = []
    for k, (dtype, want) in enumerate(zip(frame.dtypes, wanted, strict=True)):
        fits = dtype.kind in ("iu" if want in ("int64", "uint64") else "iufb")
        if fits and want not in ("bool", "boolean"):
            plain.setdefault(want, []).append(k)
        else:
            others.append(k)
    # One array instead of one for each column: what follows is quick, with many of them.
    parts = [
        pd.DataFrame(
            (frame if len(some) == len(places) else frame.iloc[:, some]).to_numpy(want),
            columns=[places[k] for k in some],
        )
        for want, some in plain.items()
    ]
    if others:
        _, texts = content.columns((), [places[k] for k in others])
        columns = [
            _from_text(content, texts.iloc[:, j], wanted[k], places[k], first)
            for j, k in enumerate(others)
        ]
        parts.append(pd.concat(columns, axis=1).set_axis([places[k] for k in others], axis=1))
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)[places]


def _from_text(content: Content, values: Any, dtype: str, place: int, first: int) -> Any:
    """Return a column of text as a Series of a dtype.

    Raises
    ------
    InputError
        For the first cell that is no such value.
    """
    import pandas as pd

    def refuse(wrong: Any) -> None:
        if wrong.any():
            raise _refused(content, values, wrong, dtype, place, first)

    table, words = content.table, content.words
    if dtype == "str":
        return values
    if dtype in ("bool", "boolean"):
        missing = (values.isna() | values.isin(words)).to_numpy()
        refuse(~missing & ~values.isin(list(cells.TRUTH)).to_numpy())
        truth = np.array([cells.TRUTH.get(cell, False) for cell in values], bool)
        if dtype == "boolean":
            return pd.Series(pd.arrays.BooleanArray(truth, missing))
        refuse(missing)
        return pd.Series(truth)
    percent = dtype == "percent"
    found, wrong = cells.numbers(values, words, table.mark, table.thousands, percent)
    refuse(wrong)
    if dtype in ("float64", "percent"):
        return pd.Series(found)
    missing = np.isnan(found)
    if dtype in ("int64", "uint64"):
        refuse(missing)
    whole = [
        None if gone else cells.as_whole(cell, table.thousands)
        for gone, cell in zip(missing, values, strict=True)
    ]
    refuse(np.array([number is None for number in whole]) & ~missing)
    return pd.Series(pd.array(whole, dtype=dtype))


def _refused(
    content: Content, values: Any, wrong: Any, dtype: str, place: int, first: int
) -> InputError:
    """Return the error for the first cell that is wrong."""
    at = int(np.argmax(wrong))
    cell, name = values.iloc[at], content.dialect.names[place]
    where = f"{content.where} row {first + at}, column {name!r}"
    if not isinstance(cell, str):
        cure = options_help(f"use {cells.as_type(name, 'float64')}")
        return InputError(f"{where} has no value, which {dtype} cannot be: {cure}")
    if dtype in ("bool", "boolean"):
        what = "true or false"
    else:
        what = "a whole number" if "int" in dtype.lower() else "a number"
    complaint = Words.of(Distinct.of(values[wrong])).complaint(name, content.table.mark)
    missing = options_help(f"if it means a missing value use na_values=[{cell!r}]")
    cure = complaint.partition(": ")[2] if complaint else f"{missing}; else correct it"
    return InputError(
        f"{where} holds {cell!r}, not {what} as the rest of the column does, or did in training: "
        f"{cure}"
    )
