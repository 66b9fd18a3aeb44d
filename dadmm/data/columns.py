"""Encode the columns of a table: categories become one-hot, missing values are filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dadmm.data.arrays import NUMBERS_AT_ONCE, as_promised
from dadmm.errors import DataError, InputError
from dadmm.networks.form import LISTED, Column, Label
from dadmm.networks.names import Name, alike, plain_name
from dadmm.numerics.types import Array

# More categories are too rare each to learn from: most likely the column is a name.
MOST_CATEGORIES = 1000


def kind(dtype: Any) -> str:
    """Return "number", "category" or "other" for the dtype of a column."""
    from pandas.api import types

    if isinstance(dtype, types.CategoricalDtype):
        return "category"
    if types.is_complex_dtype(dtype):
        return "other"
    if types.is_bool_dtype(dtype) or types.is_numeric_dtype(dtype):
        return "number"
    return "category" if types.is_string_dtype(dtype) or dtype.kind == "O" else "other"


def kinds(dtypes: Iterable[Any]) -> list[str]:
    """Return the `kind` of each column's dtype; a dtype that many share is looked at once."""
    known: dict[Any, str] = {}
    found = []
    for dtype in dtypes:
        if not isinstance(dtype, np.dtype):
            found.append(kind(dtype))
            continue
        if dtype not in known:
            known[dtype] = kind(dtype)
        found.append(known[dtype])
    return found


def number_type(dtype: Any) -> np.dtype[Any]:
    """Return the NumPy dtype for a column of numbers; float64 for pandas' nullable dtypes."""
    return dtype if isinstance(dtype, np.dtype) else np.dtype(np.float64)


def _numbers(values: Any, name: object, where: str) -> Array:
    """Return a column of numbers, NaN where they are missing."""
    if kind(values.dtype) != "number":
        raise DataError(
            f"{where} column {name!r} has dtype {values.dtype}, which is not numeric, where "
            "training had numbers: convert it"
        )
    return _plain(values, values.dtype)


def _plain(values: Any, dtype: Any) -> Array:
    """Return a Series or frame of numbers of one dtype, NaN where they are missing."""
    if isinstance(dtype, np.dtype):
        return np.asarray(values.to_numpy(dtype=dtype))
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _alike(frame: Any, columns: Iterable[int]) -> Iterator[tuple[list[int], Array]]:
    """Yield positions of columns and their numbers, (rows, positions), in one dtype.

    To take columns one by one from a frame costs more than their numbers do, if rows are few.

    Parameters
    ----------
    columns : iterable of int
        Positions of columns of numbers; one that is not is left out.
    """
    dtypes = list(frame.dtypes)
    found = kinds(dtypes)
    numbers = [i for i in columns if found[i] == "number"]
    plain = {dtypes[i] for i in numbers if isinstance(dtypes[i], np.dtype)}
    common = np.result_type(*plain) if plain else None
    groups: dict[Any, list[int]] = {}
    for i in numbers:
        groups.setdefault(common if dtypes[i] in plain else dtypes[i], []).append(i)
    at_once = max(1, NUMBERS_AT_ONCE // max(len(frame), 1))
    for dtype, places in groups.items():
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            part = frame if len(some) == len(dtypes) else frame.iloc[:, _span(some)]
            yield some, _plain(part, dtype)


def _span(places: list[int]) -> Any:
    """Return positions in ascending order as a slice if they have no gaps: it copies nothing."""
    whole = places[-1] - places[0] + 1 == len(places)
    return slice(places[0], places[-1] + 1) if whole else places


def _categories(values: Any, name: object, where: str) -> tuple[Array, Array]:
    """Return the cells of a column as Python objects, and which of them are missing."""
    missing = values.isna().to_numpy(dtype=bool)
    cells = np.array([*values.tolist(), None], dtype=object)[:-1]
    types = sorted({type(cell).__name__ for cell in cells[~missing]})
    # Numbers in a column of objects are an accident.
    allowed = {"str", "bool"} if values.dtype == object else {"str", "bool", "int", "float"}
    if len(types) > 1 or not set(types) <= allowed:
        raise DataError(
            f"{where} column {name!r} holds {' and '.join(types)}, but its categories must be of "
            "one type: convert it with astype(str), or astype(float) for numbers"
        )
    return cells, missing


def _as_written(cells: Array, categories: Sequence[Label]) -> Array:
    """Return whole numbers as text if that is what training had, and knew all of them.

    Files do not tell 7, 7.0 and "7" apart.
    """

    def text(cell: Any) -> Any:
        whole = isinstance(cell, (int, float)) and not isinstance(cell, bool) and cell % 1 == 0
        return str(int(cell)) if whole else cell

    if not len(cells) or isinstance(cells[0], str) or not isinstance(categories[0], str):
        return cells
    written = list(map(text, cells))
    return np.array(written, dtype=object) if set(written) <= set(categories) else cells


def _ranges(block: Array, there: Array) -> tuple[Array, Array]:
    """Return the least and the largest value of each column; 0 where it has none."""
    if block.dtype.kind != "f":
        return block.min(axis=0), block.max(axis=0)
    known = there.any(axis=0)
    least = block.min(axis=0, initial=np.inf, where=there)
    most = block.max(axis=0, initial=-np.inf, where=there)
    return np.where(known, least, 0), np.where(known, most, 0)


def _counted(cells: Array, missing: Array, weight: Array | None) -> Counter[Label]:
    """Count the cells that are not missing, by their weights if there are any."""
    found = cells[~missing].tolist()
    if weight is None:
        return Counter(found)
    total: Counter[Label] = Counter()
    for cell, each in zip(found, weight[~missing].tolist(), strict=True):
        total[cell] += each
    return total


def _positive(masses: Array) -> Array:
    """Return what sums may be divided by: 1 in place of 0."""
    return np.where(masses > 0, masses, 1)


@dataclass
class Summary:
    """What one pass over a table or matrix finds; summaries of blocks add up.

    `counts`, `masses` and `means` skip missing values; `found` counts the values of each column of
    categories, by the column's position.  Masses, means and the counts of categories are weighted
    where rows have weights; rows of weight 0 are as if they were not there.
    """

    rows: int
    counts: Array
    masses: Array
    means: Array
    found: dict[int, Counter[Label]] = field(default_factory=dict)

    @classmethod
    def of_matrix(cls, block: Array, weight: Array | None = None) -> Summary:
        """Summarise a block of numbers, (rows, columns), with weights (rows,); NaN is missing."""
        if weight is not None:
            block, weight = block[weight > 0], weight[weight > 0]
        there = ~np.isnan(block) if block.dtype.kind == "f" else np.ones(block.shape, bool)
        counts = masses = there.sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.sum(block, axis=0, dtype=np.float64, where=there)
            if weight is not None:  # column by column: no second block
                pairs = list(zip(block.T, there.T, strict=True))
                sums = np.array([np.sum(weight * column, where=here) for column, here in pairs])
                masses = np.array([np.sum(weight, where=here) for _, here in pairs])
            means = sums / _positive(masses)
        if counts.any():
            # Rounding may carry the mean of equal numbers out of their range: then filling gaps
            # with it would make a constant column vary.
            means = np.clip(means, *_ranges(block, there))
        return cls(len(block), counts, masses, means)

    @classmethod
    def of_table(cls, frame: Any, where: str, weight: Array | None = None) -> Summary:
        """Summarise a pandas frame, with weights (rows,)."""
        if weight is not None:
            frame, weight = frame[weight > 0], weight[weight > 0]
        width = len(frame.columns)
        total = cls(len(frame), np.zeros(width, int), np.zeros(width), np.zeros(width))
        for places, numbers in _alike(frame, range(width)):
            some = cls.of_matrix(np.asfortranarray(numbers), weight)
            total.counts[places], total.masses[places] = some.counts, some.masses
            total.means[places] = some.means
        for i, found in enumerate(kinds(frame.dtypes)):
            if found != "number":
                name = frame.columns[i]
                cells, missing = _categories(frame.iloc[:, i], name, where)
                total.found[i] = _counted(cells, missing, weight)
                total.counts[i] = len(cells) - missing.sum()
                total._check(name, i, where)
        return total

    def _check(self, name: object, i: int, where: str) -> None:
        if len(self.found[i]) > MOST_CATEGORIES:
            raise DataError(
                f"{where} column {name!r} has more than {MOST_CATEGORIES} categories: drop it, or "
                "encode it yourself"
            )

    def add(self, other: Summary, names: Sequence[object], where: str) -> Summary:
        """Return the summary of both blocks."""
        counts = self.counts + other.counts
        with np.errstate(over="ignore", invalid="ignore"):
            masses = self.masses + other.masses
            shift = (other.means - self.means) * (other.masses / _positive(masses))
            total = Summary(self.rows + other.rows, counts, masses, self.means + shift)
        for i in self.found.keys() | other.found.keys():
            total.found[i] = self.found.get(i, Counter()) + other.found.get(i, Counter())
            total._check(names[i], i, where)
        return total


@dataclass(frozen=True)
class Order:
    """The rows of a table by their index labels, and their order; those of blocks add up.

    `labels` is the sum of the labels' hashes, `places` the sum of hash times position, both modulo
    2^64.
    """

    rows: int
    labels: int
    places: int

    @classmethod
    def of(cls, table: Any) -> Order:
        """Return the order of a pandas frame or Series."""
        from pandas.util import hash_pandas_object

        hashes = np.asarray(hash_pandas_object(table.index).to_numpy(), np.uint64)
        places = np.arange(len(hashes), dtype=np.uint64)
        return cls(len(hashes), int(hashes.sum()), int((hashes * places).sum()))

    def __add__(self, other: Order) -> Order:
        """Return the order of both blocks, one after the other."""
        places = self.places + other.places + self.rows * other.labels
        return Order(self.rows + other.rows, (self.labels + other.labels) % 2**64, places % 2**64)

    def check(self, other: Order, name: str) -> None:
        """Raise `DataError` if `other` has the same labels in another order."""
        same = (self.rows, self.labels) == (other.rows, other.labels)
        if same and self.places != other.places:
            raise DataError(
                f"x and {name} have the same index in another order: sort both by it, or pass "
                f"{name} as an array, without index, if they are in order"
            )


def encode(
    frame: Any, columns: Sequence[Column], dtype: Any, handle_unknown: str, where: str
) -> Array:
    """Return a pandas frame as a matrix of numbers, (rows, sum of the columns' widths).

    Parameters
    ----------
    frame : pandas.DataFrame
        With its columns in the order of training.
    columns : sequence of Column
    dtype : dtype
    handle_unknown : {"error", "ignore"}
        Raise an error for a category that training never saw, or encode it as zeros.
    where : str
        The frame's name in errors.

    Raises
    ------
    DataError
        For a missing value that is not filled, an unknown category, or text instead of numbers:
        names the column and the row.
    """
    edges = np.cumsum([0, *(column.width for column in columns)])
    out = np.zeros((len(frame), edges[-1]), dtype)
    there = set(_put_numbers(out, frame, columns, edges))
    for i, column in enumerate(columns):
        if i in there:
            continue
        name, values = frame.columns[i], frame.iloc[:, i]
        if column.categories is None:
            found = _numbers(values, name, where)
            if found.dtype.kind == "f":
                missing = np.isnan(found)
                _refuse_missing(missing, column, frame, name, where)
                found = (
                    np.where(missing, float(column.fill or 0), found) if missing.any() else found
                )
            out[:, edges[i]] = as_promised(found, dtype, f"{where} column {name!r}")
            continue
        cells, missing = _categories(values, name, where)
        _refuse_missing(missing, column, frame, name, where)
        cells[missing] = column.fill
        cells = _as_written(cells, column.categories)
        if len(cells) and isinstance(cells[0], str) != isinstance(column.categories[0], str):
            was, now = type(column.categories[0]).__name__, type(cells[0]).__name__
            raise DataError(
                f"{where} column {name!r} holds {now}, where training had {was}: convert it with "
                f"astype({was})"
            )
        place = {category: edges[i] + j for j, category in enumerate(column.categories)}
        codes = np.array([place.get(cell, -1) for cell in cells], int)
        new = codes < 0
        if new.any() and handle_unknown == "error":
            row = int(new.argmax())
            raise DataError(
                f"{where} has the category {cells[row]!r} in column {name!r}, row "
                f"{frame.index[row]}, which training never saw: correct it, or use "
                "handle_unknown='ignore'"
            )
        rows = np.flatnonzero(~new)
        out[rows, codes[rows]] = 1
    return out


def _put_numbers(out: Array, frame: Any, columns: Sequence[Column], edges: Array) -> Iterator[int]:
    """Put columns of numbers in their places in `out`; yield the positions of those put.

    It leaves out columns with something to refuse: `encode` takes them one by one, in order.
    """
    numbers = [i for i, column in enumerate(columns) if column.categories is None]
    for places, found in _alike(frame, numbers):
        good = np.ones(len(places), bool)
        if found.dtype.kind == "f":
            missing = np.isnan(found)
            if missing.any():
                fills = [columns[i].fill for i in places]
                good &= ~missing.any(axis=0) | np.array([f is not None for f in fills])
                found = np.where(
                    missing, np.array([float(f or 0) for f in fills], found.dtype), found
                )
        if out.dtype.kind != "f" and found.dtype != out.dtype:
            good &= np.can_cast(found.dtype, out.dtype)
        if not good.all():
            places, found = list(np.array(places)[good]), found[:, good]
        if len(places):
            with np.errstate(over="ignore"):
                out[:, _span(edges[places].tolist())] = found
        yield from places


def _refuse_missing(missing: Array, column: Column, frame: Any, name: object, where: str) -> None:
    if column.fill is None and missing.any():
        raise DataError(
            f"{where} contains NaN: column {name!r} has no value in row "
            f"{frame.index[int(missing.argmax())]}: fill it, drop the row, or train with "
            "missing='impute'"
        )


def fill(block: Array, values: Array) -> Array:
    """Return a block of numbers with each missing one replaced by its column's value."""
    if block.dtype.kind != "f":
        return block
    missing = np.isnan(block)
    return np.where(missing, values.astype(block.dtype), block) if missing.any() else block


def learn(
    summary: Summary, names: Sequence[object], missing: str, where: str
) -> tuple[Column, ...]:
    """Return how to encode each column, from a summary of all rows.

    Raises
    ------
    DataError
        For missing values that `missing` refuses, and for a column without any value.
    """
    if missing == "refuse":
        bad = [
            f"{name!r} ({summary.rows - count})"
            for name, count in zip(names, summary.counts, strict=True)
            if count < summary.rows
        ]
        if bad:
            more = ", ..." if len(bad) > LISTED else ""
            raise DataError(
                f"{where} contains NaN, in column {', '.join(bad[:LISTED])}{more}: fill these, "
                "drop them, or use missing='impute'"
            )
    columns = []
    for i, name in enumerate(names):
        if not summary.counts[i]:
            raise DataError(f"{where} has no value at all in column {name!r}: drop it")
        fill: Label | None = None
        if i not in summary.found:
            fill = float(summary.means[i]) if missing == "impute" else None
            columns.append(Column(None, fill))
            continue
        counts = summary.found[i]
        categories = tuple(sorted(counts))
        if missing == "impute":
            fill = max(categories, key=lambda c: counts[c])  # the first of the most frequent
        columns.append(Column(categories, fill))
    return tuple(columns)


def first_repeat(names: Iterable[Any]) -> Any:
    """Return the first name that has appeared before; None if none has."""
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def check_names(columns: Any, where: str) -> tuple[Name, ...] | None:
    """Return the names of columns; None if there are no columns.

    Raises
    ------
    InputError
        If a name appears twice, or only some of the names are text.
    """
    names = list(columns)
    texts = [isinstance(name, str) for name in names]
    if any(texts) and not all(texts):
        kinds = sorted({type(name).__name__ for name in names})
        raise InputError(
            "Feature names are only supported if all input features have string names, but "
            f"{where} has {kinds}: rename its columns with astype(str)"
        )
    if not any(texts):
        names = list(map(plain_name, names))
    (compared,) = alike(names)
    if len(set(compared)) < len(names):
        raise InputError(f"{where} has the column {first_repeat(compared)!r} twice: rename one")
    return tuple(names) or None
