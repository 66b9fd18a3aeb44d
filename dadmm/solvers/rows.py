"""Rows, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator


def batches(rows: int, length: int) -> Iterator[slice]:
    """Cut rows into slices."""
    for first in range(0, rows, length):
        yield slice(first, min(first + length, rows))
