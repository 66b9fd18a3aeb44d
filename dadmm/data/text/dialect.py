"""Find how CSV is written, from its first rows: delimiter, header, names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dadmm.data.columns import first_repeat
from dadmm.data.files import PACKED
from dadmm.data.table import Table, options_help
from dadmm.data.text.cells import MISSING, as_number
from dadmm.errors import InputError

# Rows, and cells of them, that tell whether the first one is a header.
ROWS, CELLS = 200, 200_000


@dataclass(frozen=True)
class Dialect:
    """How CSV is written.

    Parameters
    ----------
    delimiter : str
    header : bool
        Whether the first row is a header.
    names : tuple
        Column names; whole numbers if there is no header.
    quoted : bool
        Whether all names are in quotes: then unquoted text is no text (R writes NA so).
    spaced : bool
        Whether quotes may come after spaces.
    """

    delimiter: str
    header: bool
    names: tuple[Any, ...]
    quoted: bool = False
    spaced: bool = False


def dialect_of(head: str, where: str, table: Table, known: Collection[str] = ()) -> Dialect:
    """Return the dialect of a file, from its first rows.

    Parameters
    ----------
    head : str
        Whole records, from the first on.
    where : str
        The file's name in errors.
    known : collection of str
        The names that training knew.

    Raises
    ------
    InputError
        If there are no rows, if a name appears twice, or if the first row may be a header or not.
    """
    head = head.removeprefix("\ufeff").lstrip("\r\n")
    if re.match(r"sep=.[\r\n]", head):
        raise InputError(f"{where} begins with a line for Excel, {head[:5]}: remove that line")
    plain = re.sub('"[^"]*"', "", head)
    delimiter = table.delimiter or _delimiter(plain, where)
    # The cells are compared as they are without the spaces around them.
    spaced = bool(re.search(rf'{re.escape(delimiter)} +"', head))
    rows = _rows(head, delimiter)
    if not rows:
        raise InputError(f"{where} has no rows")
    first, rest = rows[0], rows[1:]
    header = table.header
    if header is None:
        header = _has_header(first, rest, known, table)
    if header is None:
        shown = delimiter.join(first[:5]) + (f"{delimiter}..." if len(first) > 5 else "")
        raise InputError(
            f"{where}: the first row, {shown}, may be a header or a row of data: "
            f"{options_help('use header=True or header=False')}"
        )
    names: tuple[Any, ...] = tuple(first) if header else tuple(range(len(first)))
    quoted = header and _all_quoted(head, delimiter, len(first))
    if quoted and rest and len(first) + 1 == len(rest[0]):
        names = ("", *first)  # R's write.table gives the names of rows no name
    if len(set(names)) < len(names):
        raise InputError(f"{where} has the column {first_repeat(names)!r} twice: rename one")
    return Dialect(delimiter, header, names, quoted, spaced)


def _delimiter(plain: str, where: str) -> str:
    """Return the delimiter of a text without its quoted parts."""
    name = where.lower()
    if name.endswith((".tsv", *(f".tsv{end}" for end in PACKED))):
        return "\t"
    lines = [line for line in plain.splitlines() if line.strip()][:20]
    # A comma may also be a decimal mark, and text may hold any of them.
    for mark in ";,\t|":
        counts = {line.count(mark) for line in lines}
        if len(counts) == 1 and 0 not in counts:
            return mark
    return ";" if lines and ";" in lines[0] else ","


def _rows(head: str, delimiter: str) -> list[list[str]]:
    """Return the cells of the first rows that are not blank."""
    found: list[list[str]] = []
    rows = csv.reader(
        io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=delimiter != " "
    )
    cells = 0
    for row in rows:
        if not any(map(str.strip, row)) and len(row) < 2:
            continue
        found.append([cell.strip() for cell in row])
        cells += len(row)
        if len(found) > ROWS or cells > CELLS:
            break
    return found


def first_row(head: str, delimiter: str) -> list[str]:
    """Return the cells of the first row that is not blank; [] if there is none."""
    rows = _rows(head.removeprefix("\ufeff").lstrip("\r\n"), delimiter)
    return rows[0] if rows else []


def _all_quoted(head: str, delimiter: str, columns: int) -> bool:
    """Whether every cell of the first row is in quotes."""
    cell = r'\s*"(?:[^"]|"")*"\s*'
    return bool(re.match(rf"(?:{cell}{re.escape(delimiter)}){{{columns - 1}}}{cell}[\r\n]", head))


def _has_header(
    first: Sequence[str], rest: Sequence[Sequence[str]], known: Collection[str], table: Table
) -> bool | None:
    """Return whether the first row is a header; None if it may be or not.

    A word on top of numbers is a name.  A word that comes again below is none.  A row of words is
    a header, as nearly everybody writes one.  A row of numbers is data, unless the numbers look
    like names: 0, 1, 2, or whole where all below them have decimals.
    """
    if known and set(first) & set(known):
        return True
    if first[0] == "" and len(first) > 1:  # the index that pandas and R write has no name
        first, rest = first[1:], [row[1:] for row in rest]
    missing = {*MISSING, *table.missing}

    def is_number(cell: str) -> bool:
        return as_number(cell, table.mark, table.thousands, True) is not None

    def is_word(cell: str) -> bool:
        return cell not in missing and not is_number(cell)

    columns = [[row[i] for row in rest if i < len(row)] for i in range(len(first))]
    words = [is_word(cell) for cell in first]
    names = [word and _is_name(cell) for word, cell in zip(words, first, strict=True)]
    for name, cells in zip(names, columns, strict=True):
        if name and any(map(is_number, cells)) and not any(map(is_word, cells)):
            return True
    if any(word and cell in cells for word, cell, cells in zip(words, first, columns, strict=True)):
        return False
    if all(words) and any(names):
        return True
    if any(words):
        return None
    if not rest or not all(re.fullmatch(r"\d+", cell) for cell in first):
        return False
    numbers = list(map(int, first))
    counted = numbers == list(range(len(first)))
    if counted or (len(first) > 2 and _is_range(first) and not all(map(_is_range, rest))):
        return None
    decimals = all(any("." in cell or "," in cell for cell in cells) for cells in columns)
    return None if decimals and len(set(numbers)) == len(numbers) else False


def _is_name(cell: str) -> bool:
    """Whether a cell looks like a name: it has a letter, and begins like no number."""
    return re.search(r"[^\W\d]", cell) is not None and re.match(r"[-+.,\d]", cell) is None


def _is_range(row: Sequence[str]) -> bool:
    if not all(re.fullmatch(r"\d+", cell) for cell in row):
        return False
    return len({int(b) - int(a) for a, b in pairwise(row)}) == 1
