"""Read the user's own zarr arrays in place, in their own dtype and chunks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from dask.tokenize import normalize_token
from zarr.core.sync import sync
from zarr.errors import ArrayNotFoundError
from zarr.storage import FsspecStore, LocalStore

from dadmm.errors import DadmmError, InputError, StoreError
from dadmm.numerics.types import Array
from dadmm.store.files import read_ahead
from dadmm.store.place import absolute, unseen

# Rows by the first of each range, and its end.
Ranges = Sequence[Sequence[int]]
# Ranges that are read and decoded at once: all together would be a second copy of the rows.
AT_ONCE = 8


@dataclass(frozen=True)
class Source:
    """The address of a zarr array.

    Parameters
    ----------
    url : str
        The array's store: an absolute path, or a URL.
    path : str
        The array's name in the store; "" if the store is the array.
    """

    url: str
    path: str

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Source | None:
        """Return an array's address; None if other processes could not open it."""
        store: Any = array.store
        if isinstance(store, LocalStore):
            return cls(absolute(store.root), array.path)
        # Other processes do not have the options of this one's file system.
        if isinstance(store, FsspecStore) and not {*store.fs.storage_options} - {"asynchronous"}:
            protocol = store.fs.protocol
            first = protocol if isinstance(protocol, str) else protocol[0]
            if first != "memory":
                return cls(f"{first}://{store.path}", array.path)
        return None

    @classmethod
    def parse(cls, table: Any) -> Source:
        """Return the address in a run's attributes."""
        if not isinstance(table, Mapping) or not isinstance(table.get("url"), str):
            raise StoreError("the run store names no address of its inputs: it is damaged")
        return cls(table["url"], str(table.get("path", "")))

    def __str__(self) -> str:
        return f"{self.url}/{self.path}" if self.path else self.url

    def open(self) -> zarr.Array[Any]:
        """Return the array."""
        return zarr.open_array(self.url, path=self.path, mode="r")

    def read(self, ranges: Ranges) -> Array:
        """Return the rows of some ranges, one range after another.

        Parameters
        ----------
        ranges : sequence of (int, int)
            The first row of each range, and its end.

        Raises
        ------
        StoreError
            If they can no longer be read.
        """
        try:
            array = self.open()
            refuse_pickle(array, str(self))
            last = max(end for _, end in ranges)
            if array.ndim != 2 or array.dtype.kind not in "buif" or last > array.shape[0]:
                raise InputError(f"it has shape {array.shape} and dtype {array.dtype}")
            if len(ranges) == 1:
                return np.ascontiguousarray(array[slice(*ranges[0])])
            return sync(_gathered(array, ranges))
        except ArrayNotFoundError as error:
            raise StoreError(unseen(self)) from error
        except Exception as error:
            raise StoreError(
                f"{_words(ranges)} of {self} cannot be read "
                f"({type(error).__name__}: {' '.join(str(error).split())}); they must stay as they "
                "were when the run began"
            ) from error

    def read_checked(self, ranges: Ranges, checksum: int) -> Array:
        """Return rows as `read` does; raise `StoreError` if their checksum has changed."""
        block = self.read(ranges)
        if fingerprint(block) != checksum:
            raise StoreError(
                f"{_words(ranges)} of {self} are not what they were when the run began: "
                "restore them, or start again (copy_data=True keeps a copy)"
            )
        return block

    def expect(self, ranges: Ranges) -> None:
        """Let the system read the files of some ranges ahead, if they are local; do not wait."""
        if "://" in self.url or not hasattr(os, "posix_fadvise"):
            return
        folder = Path(self.url) / self.path
        with suppress(Exception):
            for name in _files(self, tuple(map(tuple, ranges))):
                read_ahead(folder / name)


async def _gathered(array: zarr.Array[Any], ranges: Ranges) -> Array:
    """Read ranges side by side, a few at a time, into one array."""
    edges = np.cumsum([0, *(end - first for first, end in ranges)])
    out = np.empty((edges[-1], *array.shape[1:]), array.dtype)
    few = asyncio.Semaphore(AT_ONCE)

    async def read(at: int, first: int, end: int) -> None:
        async with few:
            out[at : at + end - first] = await array.async_array.getitem(slice(first, end))

    await asyncio.gather(*(read(int(a), *r) for a, r in zip(edges, ranges, strict=False)))
    return out


@lru_cache(maxsize=1)
def _opened(source: Source) -> zarr.Array[Any]:
    """Return an array whose metadata alone is used; a process opens it once."""
    return source.open()


def _files(source: Source, ranges: Ranges) -> Iterator[str]:
    """Yield the names of the files of some ranges; none if these are parts of shards."""
    array = _opened(source)
    shards = getattr(array, "shards", None)
    if shards and any(end - first < shards[0] for first, end in ranges):
        return
    rows, *others = shards or array.chunks
    grid = [range(-(-size // step)) for size, step in zip(array.shape[1:], others, strict=True)]
    numbers = sorted({i for first, end in ranges for i in range(first // rows, -(-end // rows))})
    for key in product(numbers, *grid):
        yield array.metadata.encode_chunk_key(key)


def _words(ranges: Ranges) -> str:
    """Name the rows of some ranges."""
    (first, end), *others = ranges
    if not others:
        return f"rows {first} to {end - 1}"
    rows = sum(end - first for first, end in ranges)
    return f"{rows} rows in {len(ranges)} pieces, the first of them rows {first} to {end - 1},"


def refuse_pickle(array: zarr.Array[Any], name: str) -> None:
    """Raise `InputError` if decoding an array could run code."""
    if "pickle" in repr(array.metadata.to_dict()).lower():
        raise InputError(f"{name} is encoded with pickle, which can run code: store it as numbers")


class Readable:
    """A zarr array for `dask.array.from_array`, whose read errors are one line.

    zarr takes a chunk that is missing for its fill value.  So the array must be there, at a place
    that means the same in every process.

    Parameters
    ----------
    array : zarr.Array
    view : array-like or None
        What is read in place of the array itself, such as a wrapper of xarray's around it.
    """

    def __init__(self, array: zarr.Array[Any], view: Any = None) -> None:
        self.array = _rooted(array)
        self.view = self.array if view is None else view
        self.shape, self.dtype, self.ndim = self.view.shape, self.view.dtype, self.view.ndim

    def __dask_tokenize__(self) -> Any:
        return normalize_token(self.view)

    def __getitem__(self, key: Any) -> Array:
        where = Source.of(self.array) or self.array.store_path
        try:
            if not is_there(self.array):
                raise InputError(unseen(where))
            return np.asarray(self.view[key])
        except DadmmError:
            raise
        except Exception as error:
            raise InputError(f"{where} cannot be read: {type(error).__name__}: {error}") from error


def _rooted(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array whose store, if it is a local folder, has an absolute path."""
    store = array.store
    if not isinstance(store, LocalStore) or Path(store.root).is_absolute():
        return array
    root = LocalStore(Path(store.root).absolute(), read_only=True)
    return zarr.open_array(root, path=array.path, mode="r", zarr_format=array.metadata.zarr_format)


def is_there(array: zarr.Array[Any]) -> bool:
    """Whether an array's metadata can be read in this process."""
    name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    return bool(sync((array.store_path / name).exists()))


def fingerprint(block: Array) -> int:
    """Return the CRC-32C of an array's bytes."""
    return int(google_crc32c.value(np.ascontiguousarray(block).reshape(-1).view(np.uint8)))
