"""Check the labels of a classifier, find their classes, and encode them.

Labels are numbers, text or booleans, of one such family.  Whatever holds them, the same labels make
the same classes: NumPy's text of any length and Python's objects are compared as Python's values,
and whole numbers never become floats.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

import numpy as np
from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import computing, is_dask
from dadmm.data.targets import as_column
from dadmm.errors import DataError, OptionError, ShapeError, unknown
from dadmm.numerics.types import Array

# From here on floats do not tell whole numbers apart.
EXACT = 2.0**53
# The types of None and of the missing values of pandas, which may not be installed.
MISSING = ("NoneType", "NAType", "NaTType")


def as_label_column(y: Any, rows: int) -> Any:
    """Return `y` as an array of so many rows, as `as_column` does; keep the values of a list.

    NumPy makes text of numbers beside text, numbers of booleans, and floats of large numbers.
    """
    column = as_column(y, rows)
    if not isinstance(y, (list, tuple)) or column.ndim != 1 or column.dtype.kind not in "biufU":
        return column
    kinds = set(map(type, y))
    if any(issubclass(kind, (list, tuple, np.ndarray)) for kind in kinds):  # rows of one label
        y = [np.ravel(each)[0] for each in y]
        kinds = set(map(type, y))
    large = column.dtype.kind == "f" and (abs(column) >= EXACT).any()
    return _objects(y) if large or len(set(map(_family, kinds))) > 1 else column


def find_classes(y: Any) -> Array:
    """Return the sorted distinct labels of `y`, a NumPy or a dask array.

    Text of any length becomes NumPy's text of the length of the longest class; objects that are
    numbers or booleans become NumPy's.

    Raises
    ------
    DataError
        If labels are missing, continuous or of no such kind, or there are fewer than two classes.
    ShapeError
        If `y` has more than one column.
    """
    if y.ndim != 1:
        raise ShapeError(f"y has shape {y.shape}: a classifier takes one label per row")
    _check_dtype(y.dtype)
    if is_dask(y):
        firsts = np.cumsum([0, *y.chunks[0]]).tolist()
        blocks = zip(y.to_delayed(), firsts, strict=False)
        with computing("y"):
            parts = compute(*(delayed(_distinct)(block, first) for block, first in blocks))
    else:
        parts = (_distinct(y, 0),)
    classes = _merged([part for part in parts if len(part)])
    _check_whole(classes)
    if y.dtype.kind == "T":
        classes = classes.astype(str)
    elif classes.dtype.kind == "O" and not isinstance(classes[0], str):
        classes = _native(classes)
    if len(classes) < 2:
        raise DataError(
            f"y has one class, {classes.tolist()[0]!r}: a classifier needs at least two"
        )
    return classes


def encode_labels(y: Any, classes: Array, first: int = 0) -> Array:
    """Return the position of each label in `classes`, (rows,) int32.

    Raises
    ------
    DataError
        For a label that is not in `classes`, with its row (counted from `first`).
    """
    y = _checked(np.asarray(y), first)
    if _compares(y.dtype, classes.dtype):
        codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        wrong = classes[codes] != y
    else:
        known = {label: code for code, label in enumerate(classes.tolist())}
        codes = np.array([known.get(label, -1) for label in y.tolist()], np.int32)
        wrong = codes < 0
    if np.any(wrong):
        row = int(np.argmax(wrong))
        label, every = y[row : row + 1].tolist()[0], classes.tolist()
        listed = ", ".join(map(repr, every[:10])) + (", ..." if len(every) > 10 else "")
        raise DataError(
            f"y has the label {label!r} in row {first + row}, which is not among the "
            f"{len(every)} classes of training: {listed}"
        )
    return np.asarray(codes, np.int32)


def _compares(a: Any, b: Any) -> bool:
    """Whether NumPy compares labels of two dtypes exactly; int64 and uint64 meet as floats."""
    whole = {a.kind, b.kind} <= {"i", "u"} and np.result_type(a, b).kind in "iu"
    return whole or a.kind == b.kind != "O"


def as_codes(y: Any, classes: Array) -> Any:
    """Return the labels of a column as positions in `classes`, (rows, 1), lazily if `y` is lazy."""
    if is_dask(y):
        return y.map_blocks(_encode_block, classes, dtype=np.int32)[:, None]
    return encode_labels(y, classes)[:, None]


def _encode_block(y: Array, classes: Array, block_info: Any = None) -> Array:
    first = block_info[0]["array-location"][0][0] if block_info else 0
    return encode_labels(y, classes, first)


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


def _check_dtype(dtype: Any) -> None:
    if dtype.kind not in "biufUOT":
        raise _refused(f"dtype {dtype}", _cure(dtype.type))


def _refused(what: str, cure: str) -> DataError:
    return DataError(f"y has {what}: labels are numbers, text or booleans; {cure}")


def _checked(y: Array, first: int) -> Array:
    """Return a block of labels; raise `DataError` for what is none, with its row."""
    _check_dtype(y.dtype)
    if y.dtype.kind == "T":
        y = y.astype(object)
    elif y.dtype.kind == "f" and y.dtype.itemsize > 8:  # Python and JSON have no such floats
        y = y.astype(np.float64)
    if y.dtype.kind == "O":
        _check_objects(y.tolist(), first)
    elif y.dtype.kind == "f" and not np.isfinite(y).all():
        raise _missing(first + int((~np.isfinite(y)).argmax()))
    return y


def _missing(row: int) -> DataError:
    return DataError(f"y has a missing or infinite label in row {row}: drop or fill it")


def _check_objects(values: Sequence[Any], first: int) -> None:
    """Raise `DataError` for objects that are missing, no labels, or of several families."""
    kinds: dict[type, int] = {}
    for row, label in enumerate(values):
        kinds.setdefault(type(label), row)
    for kind, row in kinds.items():
        if kind.__name__ in MISSING:
            raise _missing(first + row)
        if issubclass(kind, (float, np.floating)):
            for at, label in enumerate(values):
                if type(label) is kind and not np.isfinite(label):
                    raise _missing(first + at)
        if _family(kind) is None:
            raise _refused(f"a {kind.__name__} in row {first + row}", _cure(kind))
    _check_one(kinds)


def _cure(kind: type) -> str:
    if issubclass(kind, Enum):
        return "use the values of its members"
    return "decode them to text" if issubclass(kind, bytes) else "make them text"


def _family(kind: type) -> str | None:
    """Return the family of labels that a Python type belongs to; None for what is no label."""
    if issubclass(kind, Enum):
        return None
    if issubclass(kind, (bool, np.bool_)):
        return "booleans"
    if issubclass(kind, str):
        return "text"
    return "numbers" if issubclass(kind, (int, float, np.integer, np.floating)) else None


def _check_one(kinds: Iterable[type]) -> None:
    """Raise `DataError` for types of labels that are of several families."""
    names = {_family(kind): kind.__name__ for kind in kinds}
    if len(names) > 1:
        raise DataError(
            f"y mixes labels of different types ({', '.join(sorted(names.values()))}): make them "
            "one, such as text"
        )


def _distinct(y: Any, first: int) -> Array:
    """Return the distinct labels of a block, sorted."""
    y = _checked(np.asarray(y), first)
    if y.dtype.kind != "O":
        return np.unique(y)
    plain = (each.item() if isinstance(each, np.generic) else each for each in y.tolist())
    return _objects(sorted(set(plain)))


def _objects(labels: Sequence[Any]) -> Array:
    found = np.empty(len(labels), object)
    found[:] = labels
    return found


def _merged(parts: Sequence[Array]) -> Array:
    """Return the distinct labels of all blocks, sorted."""
    if not parts:
        raise DataError("y is empty: it has no labels")
    _check_one(type(part[0]) for part in parts)
    if len({part.dtype.kind for part in parts}) == 1 and parts[0].dtype.kind != "O":
        return np.unique(np.concatenate(parts))
    return _objects(sorted({label for part in parts for label in part.tolist()}))


def _native(classes: Array) -> Array:
    """Return numbers or booleans that are objects in the dtype of NumPy that holds them."""
    exact = classes.tolist()
    for dtype in (None, np.uint64):  # by itself NumPy makes floats of large numbers
        with suppress(OverflowError):
            found = np.array(exact, dtype)
            if found.dtype.kind != "O" and found.tolist() == exact:
                return found
    raise DataError(
        f"y has labels from {exact[0]} to {exact[-1]}: neither int64 nor uint64 holds them all; "
        "make them text"
    )


def _check_whole(classes: Array) -> None:
    """Raise `DataError` for numbers that are not whole, or that floats do not hold exactly."""
    floats = [label for label in classes.tolist() if isinstance(label, float)]
    for label in floats:
        if label != round(label):
            raise DataError(
                f"y holds continuous values such as {label}: Unknown label type for a classifier; "
                "use ADMMRegressor"
            )
    if floats and max(map(abs, floats)) >= EXACT:
        raise DataError(
            f"y holds {max(floats, key=abs)}: from 2**53 on floats do not tell whole numbers "
            "apart; use whole numbers (int64 or uint64) or text"
        )
