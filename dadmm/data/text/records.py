"""Find where the records of CSV end, and look at the digits of their cells.

A newline ends a record unless it is in quotes, and a quote opens a cell only at the cell's begin,
as for the readers of pandas and Arrow.  Whether the middle of a file is in quotes is known only
from its begin: `follow` tells what a piece of it does from each state that it may begin in.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numba import njit

from dadmm.numerics.kernels import COMPILED
from dadmm.numerics.types import Array

# The states between two bytes: before a cell, in one without quotes, in quotes, after a quote
# that may close them.
CELL, PLAIN, QUOTED, CLOSED = range(4)
QUOTE, NEWLINE, RETURN, SPACE = 34, 10, 13, 32
# Numbers of so many digits may not fit into float64.
LONG = 16


@njit(**COMPILED)
def _next(state: int, byte: int, delimiter: int, spaced: bool) -> int:
    """Return the state after a byte."""
    if state == QUOTED:
        return CLOSED if byte == QUOTE else QUOTED
    if byte == QUOTE:
        return PLAIN if state == PLAIN else QUOTED
    if byte in (delimiter, NEWLINE, RETURN):
        return CELL
    if spaced and state == CELL and byte == SPACE:
        return CELL
    return PLAIN


@njit(**COMPILED)
def follow(text: Array, delimiter: int, spaced: bool, state: int) -> tuple[int, int]:
    """Return the state after some bytes, and where the first record after a newline begins.

    Parameters
    ----------
    text : (bytes,) uint8 array
    spaced : bool
        Whether spaces between a delimiter and a quote belong to neither.
    state : int
        The state before the bytes.

    Returns
    -------
    (int, int)
        The place is -1 if no record ends.
    """
    first = -1
    for i in range(len(text)):
        byte = text[i]
        if first < 0 and state != QUOTED and byte in (NEWLINE, RETURN):
            first = i + 1
        state = _next(state, byte, delimiter, spaced)
    return state, first


@njit(**COMPILED)
def look(
    text: Array, delimiter: int, spaced: bool, padded: Array, long: Array
) -> tuple[int, int, int, int]:
    """Count the records of a text that begins with one, and mark columns by their digits.

    Parameters
    ----------
    text : (bytes,) uint8 array
    padded, long : (columns,) bool array
        Set where a cell begins with 0 and another digit, and where one is a whole number of `LONG`
        digits or more.

    Returns
    -------
    (int, int, int, int)
        The number of records; the first with another number of cells than `columns`, and that
        number; how many records come before the first blank line; -1 if there is none.
    """
    columns, size = len(padded), len(text)
    state, column, records, wrong, cells, blank = CELL, 0, 0, -1, 0, -1
    # Of the cell so far: 0 nothing, 1 a zero, 2 digits, 3 something else.
    kind, digits, empty = 0, 0, True
    i = 0
    while i <= size:
        if kind == 3 and state == PLAIN:  # most bytes: nothing in them matters
            while i < size and text[i] != delimiter and text[i] != NEWLINE and text[i] != RETURN:
                i += 1
        byte = text[i] if i < size else NEWLINE
        before = state
        # The end of the text ends a record, even in quotes.
        state = _next(state, byte, delimiter, spaced) if i < size else CELL
        i += 1
        if state != CELL or (byte == SPACE and delimiter != SPACE):
            if byte != SPACE or columns > 1:
                empty = False
            if byte in (QUOTE, SPACE):
                continue
            if 48 <= byte <= 57:
                if kind == 1 and column < columns:
                    padded[column] = True
                if kind < 3:
                    kind = 1 if kind == 0 and byte == 48 else 2
                    digits += 1
            elif kind > 0 or (byte != 43 and byte != 45):
                kind = 3
            continue
        if kind == 2 and digits >= LONG and column < columns:
            long[column] = True
        kind, digits = 0, 0
        if byte == delimiter and before != QUOTED:
            empty = False
            column += 1
            continue
        if not empty:
            if wrong < 0 and column + 1 != columns:
                wrong, cells = records, column + 1
            records += 1
        elif blank < 0 and i <= size and not (byte == NEWLINE and (i < 2 or text[i - 2] == RETURN)):
            blank = records
        column, empty = 0, True
    return records, wrong, cells, blank


def as_bytes(text: bytes) -> Array:
    """Return a text as an array of bytes, without a copy."""
    return np.frombuffer(text, np.uint8)


def ends(text: bytes, delimiter: str, spaced: bool) -> tuple[tuple[int, int], ...]:
    """Return what `follow` does from each of the four states."""
    array, mark = as_bytes(text), ord(delimiter)
    if b'"' not in text:
        # Bytes in quotes stay in quotes; from all other states a newline leads to the same.
        newline = re.search(rb"[\r\n]", text)
        first = newline.end() if newline else -1
        after, _ = follow(array[-1:], mark, spaced, PLAIN)
        return (after, first), (after, first), (QUOTED, -1), (after, first)
    return tuple(follow(array, mark, spaced, state) for state in range(4))


def cuts(found: list[tuple[tuple[int, int], ...]]) -> list[int | None]:
    """Return where the first record of each piece of a file begins, from `ends` of all pieces.

    Places count from the begin of the piece; None where no record begins.  The first is 0.
    """
    state: int = CELL
    places: list[int | None] = []
    for i, piece in enumerate(found):
        after, first = piece[state]
        places.append(0 if i == 0 else first if first >= 0 else None)
        state = after
    return places


def after_first(text: bytes, delimiter: str, spaced: bool) -> bytes:
    """Return a text without its first record; blank lines before it do not count."""
    text = text.lstrip(b"\r\n")
    state, done, size = CELL, 0, 4096
    while done < len(text):
        piece = as_bytes(text[done : done + size])
        state, first = follow(piece, ord(delimiter), spaced, state)
        if first >= 0:
            return text[done + first :]
        done, size = done + size, 4 * size
    return b""


def digits(text: bytes, delimiter: str, spaced: bool, columns: int) -> tuple[Any, ...]:
    """Return what `look` finds: records, wrong one, its cells, blank line, `padded`, `long`."""
    padded, long = np.zeros(columns, bool), np.zeros(columns, bool)
    return *look(as_bytes(text), ord(delimiter), spaced, padded, long), padded, long
