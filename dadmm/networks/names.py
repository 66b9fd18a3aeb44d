"""Names of columns: text, numbers, dates, and tuples of these for columns of several levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

Name = Any  # str, int, float, bool, date, datetime, or a tuple of these: mypy has no such tuple


def plain_name(label: Any) -> Name:
    """Return a label of pandas or NumPy as a plain name; other labels as their text."""
    if type(label) in (str, int, bool):
        return label
    if isinstance(label, tuple):
        return tuple(map(plain_name, label))
    if isinstance(label, np.generic) and label.dtype.kind in "biufU":
        return plain_name(label.item())
    if isinstance(label, int):
        return int(label)
    if isinstance(label, float):
        return float(label) if math.isfinite(label) else str(label)
    if not isinstance(label, date) or label != label:
        return str(label)
    finer = getattr(label, "nanosecond", 0)  # of a Timestamp of pandas
    return str(label) if finer else getattr(label, "to_pydatetime", lambda: label)()


def text_of(name: Name) -> str:
    """Return the text by which a name is compared where not all names are text.

    Files hold names as text: 2020, 2020.0 and "2020" name one column, as do a day and midnight.
    """
    if isinstance(name, tuple):
        return str(tuple(map(text_of, name)))
    text = str(name)
    ending = ".0" if text[:-2].lstrip("-").isdecimal() else " 00:00:00"
    return text.removesuffix(ending)


def alike(*groups: Sequence[Name]) -> Iterator[list[str]]:
    """Yield, for each group of names, the texts by which those of all groups are compared."""
    texts = all(map(is_text, groups))
    return (list(group) if texts else list(map(text_of, group)) for group in groups)


def is_text(names: Sequence[Name] | None) -> bool:
    """Whether all columns have names of text."""
    return names is not None and all(isinstance(name, str) for name in names)


def are_positions(names: Sequence[Name]) -> bool:
    """Whether the names are 0, 1, 2, ... in order: pandas gives them to an array's columns."""
    return all(type(name) is int and name == i for i, name in enumerate(names))


def by_name(wanted: Sequence[Name] | None, names: Sequence[Name] | None) -> bool:
    """Whether columns of training and others are compared by name; otherwise by position."""
    if wanted is None or names is None:
        return False
    if are_positions(wanted) or are_positions(names):
        return all(text_of(name).isdecimal() for name in (*wanted, *names))
    return True


def to_json(name: Name) -> Any:
    """Return a name as JSON values."""
    if isinstance(name, tuple):
        return {"tuple": [to_json(part) for part in name]}
    if isinstance(name, date):
        return {"datetime" if isinstance(name, datetime) else "date": name.isoformat()}
    return name


def from_json(value: Any) -> Name:
    """Return a name from JSON values, which may be forged.

    Raises
    ------
    ValueError
        For values that `to_json` does not return.
    """
    if isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((kind, held),) = value.items()
        if kind == "tuple" and isinstance(held, list):
            return tuple(map(from_json, held))
        if kind in ("date", "datetime") and isinstance(held, str):
            return (date if kind == "date" else datetime).fromisoformat(held)
    raise ValueError(f"{value!r} is not a name")
