"""Hand the rows of blocks over to the chunks of a run that they are dealt to.

First every block is computed and cut up, then every chunk is put together: an external shuffle, two
passes over the disk, with memory for a few chunks.  Runs in memory need one pass.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from dadmm.data.deal import Deal
from dadmm.errors import DamageError
from dadmm.numerics.types import Array
from dadmm.store import Run, ZarrBlocks
from dadmm.store.segments import read_segment, write_segments


class Exchange(Protocol):
    """Takes blocks, and gives chunks once all blocks are there."""

    deal: Deal

    def blocks_there(self) -> list[int]:
        """Return the blocks that an earlier session has put."""

    def first_row(self, block: int) -> Array | None:
        """Return the first row of such a block, (columns,); drop a block that is damaged."""

    def put(self, block: int, rows: Array) -> None:
        """Take a block, (rows, columns)."""

    def take(self, chunk: int) -> Array:
        """Return a chunk, (rows, columns), its rows in the caller's order."""

    def close(self) -> None:
        """Forget the blocks."""


def exchange(run: Run, name: str, columns: int, dtype: Any, deal: Deal) -> Exchange:
    """Return what hands ``data/<name>`` over."""
    if isinstance(run.blocks, ZarrBlocks):
        return InFiles(run.blocks, name, columns, dtype, deal)
    return InMemory(columns, dtype, deal)


class InMemory(Exchange):
    """Blocks go straight to their places in the chunks, which are all in memory."""

    def __init__(self, columns: int, dtype: Any, deal: Deal) -> None:
        self.deal = deal
        self.chunks = [np.empty((deal.size(c), columns), dtype) for c in range(deal.count)]
        self.places = [{span.block: span for span in deal.spans(c)} for c in range(deal.count)]

    def blocks_there(self) -> list[int]:
        return []

    def first_row(self, block: int) -> Array | None:
        return None

    def put(self, block: int, rows: Array) -> None:
        owners = self.deal.owners(block)
        for chunk in np.unique(owners).tolist():
            span = self.places[chunk][block]
            self.chunks[chunk][span.at : span.at + span.rows] = rows[owners == chunk]

    def take(self, chunk: int) -> Array:
        return self.chunks[chunk]

    def close(self) -> None:
        self.chunks = []


class InFiles(Exchange):
    """Each block is a file of segments, one for each chunk that gets rows of it."""

    def __init__(self, blocks: ZarrBlocks, name: str, columns: int, dtype: Any, deal: Deal) -> None:
        self.blocks, self.folder = blocks, f"shuffle/{name}"
        self.columns, self.dtype, self.deal = columns, np.dtype(dtype), deal

    def _file(self, block: int) -> str:
        return f"{self.folder}/{block}"

    def blocks_there(self) -> list[int]:
        names = self.blocks.files.entries(self.folder)
        found = sorted(int(name) for name in names if name.isdecimal())
        return [block for block in found if block < self.deal.count]

    def first_row(self, block: int) -> Array | None:
        owners = self.deal.owners(block)
        order = np.argsort(owners, kind="stable")
        sizes = np.unique(owners, return_counts=True)[1].tolist()
        rows = np.empty((len(owners), self.columns), self.dtype)
        at = 0
        try:
            for segment, size in enumerate(sizes):
                part = rows[at : at + size]
                read_segment(self.blocks, self._file(block), at, segment, part)
                at += size
        except DamageError:  # the power may have failed before it was on the disk
            self.blocks.delete(self._file(block))
            return None
        return rows[int(order.argmin())].copy()  # a view would keep the whole block

    def put(self, block: int, rows: Array) -> None:
        owners = self.deal.owners(block)
        order = np.argsort(owners, kind="stable")
        cuts = np.flatnonzero(np.diff(owners[order])) + 1
        write_segments(self.blocks, self._file(block), np.split(rows[order], cuts))

    def take(self, chunk: int) -> Array:
        out = np.empty((self.deal.size(chunk), self.columns), self.dtype)
        for span in self.deal.spans(chunk):
            part = out[span.at : span.at + span.rows]
            read_segment(self.blocks, self._file(span.block), span.first, span.segments, part)
        return out

    def close(self) -> None:
        self.blocks.delete(self.folder)
