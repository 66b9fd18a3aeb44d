"""What cells of text say: numbers, numbers in another dress, missing values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dadmm.data.table import options_help

# The cells that pandas takes for missing, and those of Arrow, in a column of numbers.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null",
)  # fmt: skip
TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:[. '\u2019\u00a0\u202f]\d{3})+),\d+")
_GROUPS = re.compile(r"[+-]?\d{1,3}(?:([,. '\u2019\u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?")
_PERCENT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*%")
_UNIT = re.compile(r"(?:([$€£¥])\s*)?[+-]?\d+(?:[.,]\d+)*\s*([A-Za-z°µ$€£¥/²³]{1,8})?")
_PADDED = re.compile(r"[+-]?0\d+")
_WHOLE = re.compile(r"[+-]?\d+")
# So many different cells that are no numbers may mark missing values.
FEW = 5


def is_number(cell: str) -> bool:
    """Whether a cell is a number as programs write it."""
    return _NUMBER.fullmatch(cell) is not None


def as_type(name: object, dtype: str) -> str:
    """Return how to say the type of a column."""
    return f"dtype={{{str(name)!r}: {dtype!r}}}"


@dataclass(frozen=True)
class Distinct:
    """The different cells of a column of text that are not missing.

    Parameters
    ----------
    cells : list of str
    counts, rows : list of int
        How often each comes, and its first row.
    gaps : bool
        Whether some are missing.
    """

    cells: list[str]
    counts: list[int]
    rows: list[int]
    gaps: bool

    @classmethod
    def of(cls, values: Any) -> Distinct:
        """Return those of a Series."""
        import pandas as pd

        codes, cells = pd.factorize(values)  # -1 is missing
        there = np.flatnonzero(codes >= 0)
        counts = np.bincount(codes[there], minlength=len(cells))
        rows = np.empty(len(cells), int)
        rows[codes[there[::-1]]] = there[::-1]
        return cls(cells.tolist(), counts.tolist(), rows.tolist(), len(there) < len(codes))


@dataclass
class Words:
    """What the cells of a column of text look like; those of blocks add up.

    Parameters
    ----------
    cells : int
        Cells that are not missing.
    looks : Counter
        How many of them are a number, or one in each other dress.
    units : set of str
        What stands beside numbers.
    others : dict of str to int
        Some cells that are no numbers, and the row of each.
    dressed : dict of str to (str, int)
        The first cell in each dress, and its row.
    """

    cells: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    units: set[str] = field(default_factory=set)
    others: dict[str, int] = field(default_factory=dict)
    dressed: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Distinct) -> Words:
        """Look at the cells of a column."""
        words = cls(sum(found.counts))
        for cell, count, row in zip(found.cells, found.counts, found.rows, strict=True):
            words._add(cell, count, row)
        return words

    @classmethod
    def of_numbers(cls, count: int) -> Words:
        """Return what so many numbers look like."""
        return cls(count, Counter(number=count))

    def _add(self, cell: str, count: int, row: int) -> None:
        if _PADDED.fullmatch(cell):
            self.looks["padded"] += count
        elif is_number(cell):
            self.looks["number"] += count
            return
        elif _PERCENT.fullmatch(cell):
            self._dress("percent", cell, count, row)
        elif _COMMA.fullmatch(cell):
            self._dress("comma", cell, count, row)
            # 1,234 may be either.
            if _GROUPS.fullmatch(cell):
                self.looks["either"] += count
        elif _GROUPS.fullmatch(cell):
            self._dress("groups", cell, count, row)
        elif (unit := _UNIT.fullmatch(cell)) and (unit[1] or unit[2]):
            self._dress("unit", cell, count, row)
            self.units = set(sorted({*self.units, unit[1] or unit[2]})[:2])
        if len(self.others) < FEW + 1:
            self.others.setdefault(cell, row)

    def _dress(self, dress: str, cell: str, count: int, row: int) -> None:
        self.looks[dress] += count
        self.dressed.setdefault(dress, (cell, row))

    def after(self, rows: int) -> Words:
        """Return the same with its rows counted from so many before."""
        others = {cell: row + rows for cell, row in self.others.items()}
        dressed = {dress: (cell, row + rows) for dress, (cell, row) in self.dressed.items()}
        return Words(self.cells, self.looks, self.units, others, dressed)

    def __add__(self, later: Words) -> Words:
        others = {**later.others, **self.others}
        return Words(
            self.cells + later.cells,
            self.looks + later.looks,
            set(sorted(self.units | later.units)[:2]),
            dict(sorted(others.items(), key=lambda item: item[1])[: FEW + 1]),
            {**later.dressed, **self.dressed},
        )

    def complaint(self, name: object, decimal: str) -> str | None:
        """Return why a column of text should have been numbers, and the cure; None if not."""
        looks, cells = self.looks, self.cells
        numbers = looks["number"]
        if not cells or looks["padded"] or (numbers == cells and decimal == "."):
            return None  # ids and codes keep their zeros and digits
        if numbers == cells:
            what = "has numbers with a decimal point: use decimal='.'"
            return options_help(f"column {name!r} {what}")
        marked = looks["comma"] + looks["groups"]
        for dress, alike in (
            ("percent", looks["percent"]),
            ("comma", marked),
            ("groups", marked),
            ("unit", looks["unit"]),
        ):
            alone = dress != "unit" or len(self.units) == 1
            if looks[dress] and numbers + alike == cells and alone:
                cell, row = self.dressed[dress]
                return f"column {name!r} holds {cell!r} in row {row}: {self._cure(dress, name)}"
        if 2 * numbers < cells:
            return None
        cell, row = min(self.others.items(), key=lambda item: item[1])
        cure = f"if the column is text, use {as_type(name, 'str')}"
        if len(self.others) <= FEW:
            listed = ", ".join(repr(c) for c, _ in sorted(self.others.items(), key=lambda o: o[1]))
            cure = f"if that means a missing value, use na_values=[{listed}]; {cure}"
        cure = options_help(cure)
        return f"column {name!r} holds {cell!r} in row {row} among numbers: {cure}; else correct it"

    def _cure(self, dress: str, name: object) -> str:
        if dress == "percent":
            return options_help(f"for percentages use {as_type(name, 'percent')}")
        if dress == "unit":
            (units,) = self.units
            text = options_help(as_type(name, "str"))
            return f"remove {units} from the cells, or take the column as text with {text}"
        either = self.looks["either"] == self.looks["comma"]
        if dress == "comma":
            cure = "for a decimal comma use decimal=','"
            if either:
                cure += ", for a comma between thousands thousands=','"
            return options_help(cure)
        mark = _GROUPS.fullmatch(self.dressed["groups"][0])
        assert mark is not None
        cure = f"for a mark between thousands use thousands={mark[1]!r}"
        return options_help(f"{cure}, decimal=','" if mark[1] == "." else cure)


def numbers(
    values: Any, words: Iterable[str], decimal: str, thousands: str | None, percent: bool
) -> tuple[Any, Any]:
    """Return text as float64, NaN where it is missing, and a mask of what is no number.

    Parameters
    ----------
    values : Series of text, missing where a cell is empty
    words : iterable of str
        Words for missing values.
    percent : bool
        Whether numbers may be followed by %, and are hundredths then.
    """
    import pandas as pd

    codes, distinct = pd.factorize(values)
    known = set(words)
    out, good = np.full(len(distinct) + 1, np.nan), np.ones(len(distinct) + 1, bool)
    for i, cell in enumerate(distinct):
        if cell in known:
            continue
        found = as_number(cell, decimal, thousands, percent)
        good[i] = found is not None
        out[i] = np.nan if found is None else found
    return out[codes], ~good[codes]


def as_number(cell: str, decimal: str, thousands: str | None, percent: bool) -> float | None:
    """Return the number that a cell says; None if it says none."""
    if cell in TRUTH:
        return float(TRUTH[cell])
    hundredths = percent and cell.endswith("%")
    if hundredths:
        cell = cell[:-1].rstrip()
    if thousands and thousands in cell:
        mark = re.escape(thousands)
        if not re.fullmatch(rf"[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{re.escape(decimal)}\d*)?", cell):
            return None
        cell = cell.replace(thousands, "")
    if decimal != ".":
        if "." in cell:
            return None
        cell = cell.replace(decimal, ".")
    if not is_number(cell):
        return None
    return float(cell) / 100 if hundredths else float(cell)


def as_whole(cell: str, thousands: str | None = None) -> int | None:
    """Return the whole number that a cell says; None if it says none."""
    found = cell.replace(thousands, "") if thousands else cell
    return int(found) if _WHOLE.fullmatch(found) else None
