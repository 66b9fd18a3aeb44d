"""Look at all cells of CSV, and learn what its columns are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.data.table import options_help
from dadmm.data.text import cells
from dadmm.data.text.cells import Distinct, Words
from dadmm.data.text.content import Content
from dadmm.data.text.records import LONG, digits
from dadmm.errors import InputError

# What pandas takes for numbers and truth values, by the kind of its dtype.
KINDS = {"i": "int64", "u": "uint64", "f": "float64", "b": "bool"}
# What a column can be, each a case of the next ones but for bool.
ORDER = ("missing", "int64", "uint64", "float64", "str")


@dataclass(frozen=True)
class Seen:
    """What the cells of a column are; those of blocks add up.

    Parameters
    ----------
    kind : str
        "missing" if there are none, "bool", "int64", "uint64", "float64" or "str".
    gaps : bool
        Whether some are missing.
    long : bool
        Whether there are whole numbers that float64 may not hold.
    numbers : int
        Cells that are numbers, in blocks that have nothing else.
    """

    kind: str
    gaps: bool = False
    long: bool = False
    numbers: int = 0

    def __add__(self, other: Seen) -> Seen:
        kinds = {self.kind, other.kind} - {"missing"}
        if len(kinds) < 2:
            kind = next(iter(kinds), "missing")
        elif "bool" in kinds:
            kind = "str"
        else:
            kind = max(kinds, key=ORDER.index)
        gaps, long = self.gaps or other.gaps, self.long or other.long
        return Seen(kind, gaps, long, self.numbers + other.numbers)

    @property
    def dtype(self) -> str:
        """The dtype that holds all of them."""
        if self.kind == "missing":
            return "float64"
        if not self.gaps or self.kind in ("float64", "str"):
            return self.kind
        if self.kind == "bool":
            return "boolean"
        return {"int64": "Int64", "uint64": "UInt64"}[self.kind] if self.long else "float64"


@dataclass(frozen=True)
class Survey:
    """What a look at all cells of a block tells; those of blocks add up.

    Parameters
    ----------
    rows : int
    seen : dict of column to Seen
    words : dict of column to Words
        Of columns of text.
    """

    rows: int
    seen: dict[Any, Seen]
    words: dict[Any, Words]

    def __add__(self, later: Survey) -> Survey:
        seen = {i: self.seen[i] + later.seen[i] for i in self.seen}
        words = {
            i: self.words.get(i, Words()) + later.words.get(i, Words()).after(self.rows)
            for i in self.words.keys() | later.words.keys()
        }
        return Survey(self.rows + later.rows, seen, words)

    def complaint(self, column: Any, decimal: str) -> str | None:
        """Return why a column of text should have been numbers, and the cure; None if not."""
        if column not in self.words or self.seen[column].kind != "str":
            return None
        return (self.words[column] + Words.of_numbers(self.seen[column].numbers)).complaint(
            column, decimal
        )


def survey(content: Content, columns: Sequence[Any]) -> Survey:
    """Look at all cells of some columns, by their names: positions differ between files.

    Raises
    ------
    InputError
        For the first row of another length, and for a blank line in a table of one column: some
        writers mean a missing value by it.
    """
    dialect = content.dialect
    records, wrong, count, blank, padded, long = digits(
        content.text, dialect.delimiter, dialect.spaced, len(dialect.names)
    )
    if wrong >= 0:
        raise InputError(
            f"{content.where} row {wrong} has {count} columns, not {len(dialect.names)}: make all "
            f"rows alike, or {options_help('use the right delimiter')}"
        )
    if blank >= 0 and len(dialect.names) == 1:
        raise InputError(
            f"{content.where} row {blank} is a blank line, which may mean a missing value or "
            'nothing: write "" there, or remove the line'
        )
    if not records or not columns:
        return Survey(records, {column: Seen("missing") for column in columns}, {})
    place = {column: i for i, column in enumerate(dialect.names)}
    places = [place[column] for column in columns]
    frame, _ = content.columns(places, ())
    kinds = [dtype.kind for dtype in frame.dtypes]
    gaps = np.zeros(len(columns), int)
    floats = [k for k, kind in enumerate(kinds) if kind == "f"]
    if floats:
        some = frame if len(floats) == len(columns) else frame.iloc[:, floats]
        gaps[floats] = np.isnan(some.to_numpy()).sum(axis=0)
    seen = {
        i: _of_numbers(kind, records, gone, bool(long[i]))
        for i, kind, gone in zip(places, kinds, gaps.tolist(), strict=True)
        if kind in KINDS
    }
    # In these, what pandas takes for numbers or missing values may be text.
    again = [
        i
        for i, kind in zip(places, kinds, strict=True)
        if padded[i] or (long[i] and kind == "f") or kind not in KINDS
    ]
    found: dict[int, Words] = {}
    if again:
        _, texts = content.columns((), again)
        for k, i in enumerate(again):
            distinct = Distinct.of(texts.iloc[:, k])
            seen[i] = _of_text(distinct, content, padded[i], seen.get(i))
            if seen[i].kind == "str":
                found[i] = Words.of(distinct)
    named = dialect.names
    return Survey(
        records,
        {named[i]: what for i, what in seen.items()},
        {named[i]: what for i, what in found.items()},
    )


def _of_numbers(kind: str, rows: int, gone: int, long: bool) -> Seen:
    """Return what a column is that pandas took for numbers or truth values."""
    if gone == rows:
        return Seen("missing", True)
    return Seen(KINDS[kind], gone > 0, long, 0 if kind == "b" else rows - gone)


def _of_text(found: Distinct, content: Content, padded: bool, numeric: Seen | None) -> Seen:
    """Return what a column is that pandas took for text, or whose digits are more than a number."""
    words, table = set(content.words), content.table
    known = [cell for cell in found.cells if cell not in words]
    gaps = found.gaps or len(known) < len(found.cells)
    pairs = zip(found.cells, found.counts, strict=True)
    count = sum(number for cell, number in pairs if cell not in words)
    text = Seen("str", found.gaps)
    if not known:
        return Seen("missing", True)  # all cells are words for missing values
    if padded:
        return text
    if cells.TRUTH.keys() >= set(known):
        return Seen("bool", gaps)
    long = any(len(cell) >= LONG for cell in known)
    whole = [n for n in map(cells.as_whole, known) if n is not None] if long else []
    if len(whole) == len(known):
        least, most = min(whole), max(whole)
        if least >= -(2**63) and most < 2**63:
            return Seen("int64", gaps, True, count)
        return Seen("uint64", gaps, True, count) if least >= 0 and most < 2**64 else text
    if numeric is not None:
        return numeric
    marks = table.mark, table.thousands, False
    if any(cells.as_number(cell, *marks) is None for cell in known):
        return text
    return Seen("float64", gaps, numbers=count)
