"""Decide which rows a run's chunks have, and whether its inputs stay where they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any

from dask.utils import format_bytes

from dadmm.data.deal import ENOUGH, FULL, Deal
from dadmm.data.ingest import in_place
from dadmm.errors import OptionError, OrderWarning
from dadmm.store.room import room
from dadmm.store.sources import Source

# Copies that a shuffled copy takes for a while: the blocks that were cut up, and the chunks.
COPIES = 2


@dataclass(frozen=True)
class Order:
    """Which rows a run's chunks have, and where its inputs are.

    Parameters
    ----------
    chunks : tuple of int
        Rows of each chunk.
    source : Source or None
        The zarr array that holds the inputs, if other processes can open it.
    copies : bool
        Whether the run copies the inputs.
    deal : Deal or None
        Which rows each chunk has; None for contiguous ranges.
    """

    chunks: tuple[int, ...]
    source: Source | None
    copies: bool
    deal: Deal | None


@dataclass(frozen=True)
class Place:
    """Where a run will be.

    Parameters
    ----------
    url : path, URL or None
    in_memory : bool
        Whether a run without a URL is in this process's memory.
    known : bool
        Whether it is on this machine, so that the room there counts.
    """

    url: str | PathLike[str] | None
    in_memory: bool
    known: bool = True


def arrange(
    shuffle: bool | str,
    stored: Any,
    copy_data: bool,
    size: int,
    rows_per_chunk: Callable[[bool, int], tuple[int, ...]],
    seed: int,
    place: Place,
) -> Order:
    """Return the order of the rows of a run.

    Parameters
    ----------
    shuffle : bool, "auto" or "copy"
        As the option of the estimators; "auto" for methods that heed the order alone.
    stored : zarr.Array or None
        The array that holds the inputs.
    copy_data : bool
    size : int
        Bytes of the inputs.
    rows_per_chunk : callable
        ``rows_per_chunk(in_place, unit)`` returns the rows of each chunk: multiples of `unit`,
        unless it is 0, where they may be chosen.
    seed : int
    place : Place

    Raises
    ------
    OptionError
        If the rows must be copied, and there is no room.
    """
    source = in_place(stored)
    stays = source is not None and not copy_data and shuffle != "copy"
    unit = int(stored.chunks[0]) if stays else 0
    shard = int((getattr(stored, "shards", None) or stored.chunks)[0]) if stays else 0
    chunks = rows_per_chunk(stays, shard if shuffle else 0)
    if shard > unit and not _mixed(chunks, shard):
        chunks = rows_per_chunk(stays, unit if shuffle else 0)
    elif shuffle:
        unit = shard
    if stays and unit <= chunks[0] and (not shuffle or _mixed(chunks, unit)):
        # Stored chunks that are very small are dealt some at a time.
        together = max(1, chunks[0] // (unit * FULL))
        return Order(chunks, source, False, _deal(shuffle, chunks, seed, unit * together))
    copied = rows_per_chunk(False, 0) if stays else chunks
    deal = _deal(shuffle, copied, seed)
    if stays and not shuffle:
        _warn(
            f"x is stored in chunks of {unit:,} rows, more than the {copied[0]:,} of the run's: so "
            f"{format_bytes(size)} are copied into the run, in their order"
        )
    if source is None or deal is None:
        return Order(copied, source, True, deal)
    why = (
        f"x is stored in pieces of {unit:,} rows, and chunks of {copied[0]:,} rows have fewer than "
        f"{ENOUGH} of them"
    )
    short = _short_of_room(place, COPIES * size)
    if short and not (stays and shuffle == "auto" and unit <= chunks[0]):
        least = "none" if stays and unit <= chunks[0] else "half as much"
        raise OptionError(
            f"{why if stays else 'x is to be shuffled'}; {short}: give run= a larger disk, or use "
            f"shuffle=False, which takes {least}"
        )
    if short:
        _warn(
            f"{why}; {short}; so the rows stay where they are, mixed by whole pieces alone, and "
            "chunks may differ: see history_.attrs['chunk_difference']"
        )
        return Order(chunks, source, False, _deal(shuffle, chunks, seed, unit))
    if stays:
        _warn(
            f"{why}: so {format_bytes(size)} are copied into the run, shuffled (shuffle=False "
            "leaves the rows in their order)"
        )
    return Order(copied, source, True, deal)


def _short_of_room(place: Place, needed: float) -> str:
    """Say that a place has not so many bytes of room; "" if it has, or cannot be asked."""
    if not place.known:
        return ""
    free, where = room(place.url, place.in_memory)
    if free >= needed:
        return ""
    taken = format_bytes(int(needed))
    left = format_bytes(int(free))
    return f"a shuffled copy takes {taken} for a while, but only {left} are free in {where}"


def _warn(text: str) -> None:
    warnings.warn(text, OrderWarning, stacklevel=4)


def _mixed(chunks: tuple[int, ...], unit: int) -> bool:
    """Whether units of so many rows are small enough to mix the chunks."""
    return len(chunks) == 1 or ENOUGH * unit <= chunks[0]


def _deal(shuffle: bool | str, chunks: tuple[int, ...], seed: int, unit: int = 0) -> Deal | None:
    if not shuffle or len(chunks) == 1:
        return None
    return Deal(sum(chunks), chunks[0], seed, unit)
