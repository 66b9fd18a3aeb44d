"""Deal the rows of the data to the chunks of a run, so that each chunk has some from everywhere.

Rows lie in the order in which the world wrote them: by time, place or class.  Agents that train on
contiguous ranges each see another world, and the average of what they learn is poor.

    the caller's rows   |  block 0  |  block 1  |  block 2  |     as long as the run's chunks
    pieces              |2 0 1 1 0 2|0 1 2 2 1 0|1 2 0 0 2 1|     and the chunk that each goes to

The pieces of a chunk are a stratified sample: one from each of as many equal strata of the data, at
a random place in its stratum.  Rows that are copied are mixed within their block first, so a piece
is a random sample of its block; rows that stay where they are move by whole pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dadmm.numerics.types import Array

# Up to so many chunks every block goes to all of them.  Beyond, segments would be too many and too
# small to be written and read fast, so that a chunk takes rows from this many blocks.
FULL = 256
# The fewest pieces of a chunk: with 30 networks learn as well as from random rows.
ENOUGH = 30
LEAST = 64
# About the most pieces of the whole data, if a chunk can have so few.
MOST_PIECES = 2**20
# Tells these draws from others of the same seed.
DEAL = 11


@dataclass(frozen=True)
class Deal:
    """Which chunk each row goes to.

    Parameters
    ----------
    rows : int
        Of the data.
    chunk : int
        Rows of each chunk; the last may have fewer.
    seed : int
    unit : int
        Rows that stay together, in the caller's order, because they are stored so; 0 mixes rows.
    """

    rows: int
    chunk: int
    seed: int
    unit: int = 0

    @property
    def count(self) -> int:
        """The number of chunks, and of blocks."""
        return -(-self.rows // self.chunk)

    def size(self, chunk: int) -> int:
        """Return the rows of a chunk, or of a block."""
        return min(self.chunk, self.rows - chunk * self.chunk)

    @property
    def pieces(self) -> tuple[Array, Array]:
        """The first row of each piece, and the end of the last, (pieces + 1,); and their chunks."""
        return _pieces(self)

    def owners(self, block: int) -> Array:
        """Return the chunk of each row of a block, (rows,) int."""
        begin = block * self.chunk
        first, owner = self._within(begin, begin + self.size(block))
        found = np.repeat(owner, np.diff(first))
        if not self.unit:
            np.random.default_rng([self.seed, DEAL, 1, block]).shuffle(found)
        return found

    def order(self) -> Array:
        """Return the caller's row of each row of the run, chunk after chunk, (rows,) int64."""
        owners = np.empty(self.rows, np.uint16 if self.count <= 2**16 else np.int32)
        for block in range(self.count):
            begin = block * self.chunk
            owners[begin : begin + self.size(block)] = self.owners(block)
        return np.argsort(owners, kind="stable")

    def ranges(self, chunk: int) -> Array:
        """Return the first row and the end of each of a chunk's pieces, (pieces, 2) int64.

        Neighbours are joined.  It is meant for pieces that stay whole.
        """
        first, owner = self.pieces
        own = np.flatnonzero(owner == chunk)
        begins, ends = first[own], first[own + 1]
        apart = begins[1:] != ends[:-1]
        kept = np.append(True, apart), np.append(apart, True)
        return np.stack([begins[kept[0]], ends[kept[1]]], axis=1)

    def spans(self, chunk: int) -> Iterator[Span]:
        """Yield which rows of each block a chunk gets, once the block is sorted by chunk."""
        first, owner = self.pieces
        own = np.flatnonzero(owner == chunk)
        lowest, highest = first[own] // self.chunk, (first[own + 1] - 1) // self.chunk
        at = 0
        for block in np.union1d(lowest, highest).tolist():
            begin = block * self.chunk
            edges, whose = self._within(begin, begin + self.size(block))
            sizes = np.diff(edges)
            count = int(sizes[whose == chunk].sum())
            before = whose < chunk
            segments = len(np.unique(whose[before]))
            yield Span(block, int(sizes[before].sum()), count, at, segments)
            at += count

    def _within(self, begin: int, end: int) -> tuple[Array, Array]:
        """Return the edges and chunks of the pieces in a range of rows, cut to it."""
        first, owner = self.pieces
        low = int(np.searchsorted(first, begin, side="right")) - 1
        high = int(np.searchsorted(first, end, side="left"))
        return np.clip(first[low : high + 1], begin, end), owner[low:high]


@dataclass(frozen=True)
class Span:
    """The rows of a block that a chunk gets.

    Parameters
    ----------
    block : int
    first : int
        The first of them, in the block sorted by chunk.
    rows : int
    at : int
        The place of the first in the chunk.
    segments : int
        Chunks before this one that get rows of the block.
    """

    block: int
    first: int
    rows: int
    at: int
    segments: int


@lru_cache(maxsize=4)
def _pieces(deal: Deal) -> tuple[Array, Array]:
    rng = np.random.default_rng([deal.seed, DEAL, 0])
    return _units(deal, rng) if deal.unit else _strata(deal, rng)


def _strata(deal: Deal, rng: np.random.Generator) -> tuple[Array, Array]:
    """Cut every chunk into pieces, and lay one of each chunk into each stratum of the data."""
    chunks = deal.count
    rows = np.full(chunks, deal.chunk, np.int64)
    rows[-1] = deal.size(chunks - 1)
    most = max(LEAST, min(MOST_PIECES // chunks, FULL if chunks > FULL else deal.chunk))
    counts = np.minimum(rows, most)
    owner = np.repeat(np.arange(chunks, dtype=np.int32), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    own, of = rows[owner], counts[owner]
    sizes = own * (number + 1) // of - own * number // of
    order = np.argsort((number + rng.random(len(owner))) / of, kind="stable")
    return np.append(0, np.cumsum(sizes[order])), owner[order]


def _units(deal: Deal, rng: np.random.Generator) -> tuple[Array, Array]:
    """Deal units of the data to the chunks; cut those that cross the end of a chunk."""
    n, chunk, unit = deal.rows, deal.chunk, deal.unit
    # Where each whole unit begins in the run; a last, shorter one goes to the run's end.
    place = np.arange(n // unit, dtype=np.int64) * unit
    own = np.minimum(chunk, n - place // chunk * chunk)
    order = np.argsort((place % chunk + rng.random(len(place)) * unit) / own, kind="stable")
    begins = np.append(place[order], np.arange(n // unit * unit, n, unit))
    ends = np.minimum(begins + unit, n)
    cut = (begins // chunk + 1) * chunk
    first = np.arange(len(begins)) * unit
    crossing = np.flatnonzero(cut < ends)
    starts = np.insert(first, crossing + 1, first[crossing] + (cut - begins)[crossing])
    owner = np.insert(begins // chunk, crossing + 1, (begins // chunk)[crossing] + 1)
    return np.append(starts, n), owner.astype(np.int32)
