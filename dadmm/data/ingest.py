"""Write inputs, targets and weights into the chunks of a run, and measure them on the way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import zarr
from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import as_promised, check_finite, computing, is_dask, plain_block
from dadmm.data.deal import Deal
from dadmm.data.exchange import Exchange, exchange
from dadmm.data.moments import Moments, shares, sum_moments
from dadmm.engine import compute as execute
from dadmm.engine.tasks import chunk_id
from dadmm.errors import DataError, StoreError
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import release
from dadmm.store import Run
from dadmm.store.sources import Ranges, Source, fingerprint

AGAIN = "nothing is stored yet: start the fit again"


def in_place(x: Any) -> Source | None:
    """Return the address of inputs that a run could read in place; None if it must copy them.

    These are zarr arrays of numbers that other processes can open.
    """
    if not isinstance(x, zarr.Array) or x.ndim != 2 or x.dtype.kind not in "buif":
        return None
    return Source.of(x) if x.dtype.itemsize <= 8 else None


def store(
    run: Run,
    name: str,
    array: Any,
    chunks: Sequence[int],
    deal: Deal | None = None,
    classes: int = 0,
    weighted: bool = False,
) -> list[Moments]:
    """Check an array, write it into ``data/<name>``, and return the moments of each chunk.

    Parameters
    ----------
    array : (rows, columns) array
        NumPy or dask, from `as_matrix` or `as_targets`, or labels already encoded.
    chunks : sequence of int
        Rows of each chunk.
    deal : Deal or None
        Which rows each chunk has; None for contiguous ranges.
    classes : int
        For labels as codes, (rows, 1), how many there are: their moments are those of the classes'
        indicators.
    weighted : bool
        Whether the moments heed the weights, which are stored already.

    Raises
    ------
    DataError
        For NaN or infinity, with the array and the first row; for values too large to scale.
    """
    rows, columns = array.shape
    run.create_data(name, columns, rows, chunks[0], array.dtype)
    into = _Into(run, name, columns, array.dtype, classes, weighted)
    if not is_dask(array):
        release()
        check_finite(array, name)
        found = _copied(into, array, chunks, deal)
    elif deal is None:
        tasks = _block_tasks(into, array, chunks, into.copy)
        with computing(name):
            found = list(compute(*tasks))
    else:
        between = exchange(run, name, columns, array.dtype, deal)
        lasts = name == "x" and run.attributes.get("pending") is not None
        found = _shuffled(into, array, chunks, between, execute.KEPT if lasts else AGAIN)
    run.blocks.settle("data")
    return _finite(found, name)


def store_order(run: Run, chunks: Sequence[int], deal: Deal) -> None:
    """Write the caller's number of each row into ``data/row``."""
    run.create_data("row", 1, deal.rows, chunks[0], np.dtype(np.int64))
    order = deal.order()
    for chunk, (first, last) in enumerate(_edges(chunks)):
        run.blocks.write("data/row", chunk, order[first:last, None])
    run.blocks.settle("data")


def keep_in_place(
    run: Run,
    source: Source,
    chunks: Sequence[int],
    deal: Deal | None = None,
    weighted: bool = False,
) -> list[Moments]:
    """Store the address of the inputs and a checksum of each chunk; return their moments.

    `deal` and `weighted` are as for `store`.
    """
    ranges: list[Array] = [
        np.array([[first, last]]) if deal is None else deal.ranges(chunk)
        for chunk, (first, last) in enumerate(_edges(chunks))
    ]
    key = _key(run, "look-at-x")
    tasks = [
        delayed(_measure, pure=False)(
            run if weighted else None,
            chunk,
            source,
            each.tolist(),
            dask_key_name=f"{key}-{chunk_id(chunk)}",
        )
        for chunk, each in enumerate(ranges)
    ]
    found = execute.compute(delayed(list)(tasks))
    checksums = np.array([checksum for _, checksum in found], np.int64)
    run.blocks.put("data/x_crc32c", checksums, ("chunk",))
    if deal is not None:
        run.blocks.put("data/x_pieces", np.concatenate(ranges), ("piece", "edge"))
    run.blocks.settle("data")
    table = {"url": source.url, "path": source.path, "rows": chunks[0], "total": sum(chunks)}
    run.update(sources={"x": table | ({} if deal is None else {"unit": deal.unit})})
    return _finite([moments for moments, _ in found], "x")


def _key(run: Run, name: str) -> str:
    """Return the start of tasks' keys, which no other session on the cluster shares."""
    return f"{name}-{run.attributes['id']}-{uuid.uuid4().hex[:8]}"


def _edges(chunks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each chunk, and its end."""
    ends = np.cumsum(chunks).tolist()
    return zip([0, *ends[:-1]], ends, strict=True)


@dataclass(frozen=True)
class _Into:
    """Checks blocks of an array, and writes chunks of it into a run.

    Parameters
    ----------
    run : Run
    name : str
        "x", "y" or "weight".
    columns : int
    dtype : dtype
    classes : int
    weighted : bool
        As for `store`.
    """

    run: Run
    name: str
    columns: int
    dtype: Any
    classes: int
    weighted: bool

    def checked(self, block: Any, first: int, rows: int) -> Array:
        """Return a block as it was promised: `rows` of the caller's rows, from `first` on."""
        release()
        where = f"from row {first} on"
        block = plain_block(block, self.name, (rows, self.columns), where)
        block = as_promised(block, self.dtype, self.name, where)
        check_finite(block, self.name, first)
        return block

    def write(self, chunk: int, block: Array) -> Moments:
        """Write a chunk, and return its moments."""
        self.run.blocks.write(f"data/{self.name}", chunk, block)
        weight = _weight(self.run, chunk) if self.weighted else None
        return shares(block, self.classes, weight) if self.classes else Moments.of(block, weight)

    def copy(self, chunk: int, first: int, rows: int, block: Any) -> Moments:
        """Write a block that is a chunk."""
        return self.write(chunk, self.checked(block, first, rows))

    def cut(self, between: Exchange, number: int, first: int, rows: int, block: Any) -> None:
        """Hand over a block's rows to the chunks that get them."""
        between.put(number, self.checked(block, first, rows))

    def gather(self, between: Exchange, chunk: int) -> Moments:
        """Write a chunk, once all blocks have handed over their rows."""
        release()
        return self.write(chunk, between.take(chunk))


def _copied(into: _Into, array: Array, chunks: Sequence[int], deal: Deal | None) -> list[Moments]:
    """Write a NumPy array."""
    if deal is None:
        return [into.write(c, array[slice(*edges)]) for c, edges in enumerate(_edges(chunks))]
    if not _is_mapped(array):
        order = deal.order()
        return [into.write(c, array[order[slice(*e)]]) for c, e in enumerate(_edges(chunks))]
    # Rows from everywhere would have each chunk read the whole file.
    between = exchange(into.run, into.name, into.columns, into.dtype, deal)
    for number, edges in enumerate(_edges(chunks)):
        between.put(number, array[slice(*edges)])
    found = [into.gather(between, chunk) for chunk in range(len(chunks))]
    between.close()
    return found


def _is_mapped(array: Any) -> bool:
    """Whether an array is a file's, mapped into memory."""
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = getattr(array, "base", None)
    return False


def _block_tasks(into: _Into, array: Any, chunks: Sequence[int], function: Any) -> list[Any]:
    """Return a task for each block of a dask array, as long as the run's chunks."""
    blocks = array.rechunk((tuple(chunks), (into.columns,))).to_delayed()[:, 0]
    key = _key(into.run, f"store-{into.name}")
    return [
        delayed(function, pure=False)(
            number, first, last - first, block, dask_key_name=f"{key}-{chunk_id(number)}"
        )
        for number, ((first, last), block) in enumerate(zip(_edges(chunks), blocks, strict=True))
    ]


def _shuffled(
    into: _Into, array: Any, chunks: Sequence[int], between: Exchange, cure: str
) -> list[Moments]:
    """Write a dask array as dealt: cut up every block, then put every chunk together.

    A shuffle that was interrupted goes on with the blocks that are not there yet.
    """
    tasks = _block_tasks(into, array, chunks, partial(into.cut, between))
    there = _still_true(into, array, between)
    with computing(into.name):
        compute(*(task for number, task in enumerate(tasks) if number not in there))
    key = _key(into.run, f"shuffle-{into.name}")
    gathered = [
        delayed(into.gather, pure=False)(between, chunk, dask_key_name=f"{key}-{chunk_id(chunk)}")
        for chunk in range(len(chunks))
    ]
    found: list[Moments] = execute.compute(delayed(list)(gathered), cure)
    between.close()
    return found


def _still_true(into: _Into, array: Any, between: Exchange) -> set[int]:
    """Return the blocks of an interrupted shuffle that are whole.

    Raises
    ------
    StoreError
        If the array has changed since: the first row of each block is compared.
    """
    key = _key(into.run, f"look-at-{into.name}")
    asked = between.blocks_there()
    tasks = [
        delayed(between.first_row, pure=False)(block, dask_key_name=f"{key}-{chunk_id(block)}")
        for block in asked
    ]
    found = execute.compute(delayed(list)(tasks)) if tasks else []
    rows = {block: row for block, row in zip(asked, found, strict=True) if row is not None}
    firsts = [block * between.deal.chunk for block in rows]
    if firsts:
        with computing(into.name):
            (now,) = compute(array[firsts])
        for first, before, after in zip(firsts, rows.values(), now, strict=True):
            if not np.array_equal(before, after):
                raise StoreError(
                    f"{into.name} has changed since the run began, in row {first}: restore it, or "
                    "start the fit again, over the run (overwrite=True, --overwrite)"
                )
    return set(rows)


def _weight(run: Run, chunk: int) -> Array:
    """Return the weights of a chunk's rows, (rows,)."""
    return run.blocks.read("data/weight", chunk)[:, 0]


def _measure(run: Run | None, chunk: int, source: Source, ranges: Ranges) -> tuple[Moments, int]:
    """Return the moments of a chunk, by the weights of a run if one is given; and a checksum."""
    release()
    block = source.read(ranges)
    at = 0
    for first, last in ranges:
        check_finite(block[at : at + last - first], "x", first)
        at += last - first
    return Moments.of(block, None if run is None else _weight(run, chunk)), fingerprint(block)


def _finite(found: list[Moments], name: str) -> list[Moments]:
    if not np.isfinite(sum_moments(found).squares).all():
        raise DataError(f"{name} has values whose squares overflow: scale them down")
    return found
