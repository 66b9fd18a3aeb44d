"""Read the user's own zarr arrays in place, in their own dtype and chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from dask.tokenize import normalize_token
from zarr.storage import FsspecStore, LocalStore

from dadmm.errors import InputError, StoreError
from dadmm.numerics.types import Array


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
            return cls(str(Path(store.root).absolute()), array.path)
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

    def read(self, first: int, last: int) -> Array:
        """Return rows `first` to `last` - 1.

        Raises
        ------
        StoreError
            If they can no longer be read.
        """
        try:
            array = zarr.open_array(self.url, path=self.path, mode="r")
            refuse_pickle(array, str(self))
            if array.ndim != 2 or array.dtype.kind not in "buif" or last > array.shape[0]:
                raise InputError(f"it has shape {array.shape} and dtype {array.dtype}")
            return np.ascontiguousarray(array[first:last])
        except Exception as error:
            raise StoreError(
                f"rows {first} to {last - 1} of {self} cannot be read "
                f"({type(error).__name__}: {' '.join(str(error).split())}); they must stay as they "
                "were when the run began"
            ) from error

    def read_checked(self, first: int, last: int, checksum: int) -> Array:
        """Return rows as `read` does; raise `StoreError` if their checksum has changed."""
        block = self.read(first, last)
        if fingerprint(block) != checksum:
            raise StoreError(
                f"rows {first} to {last - 1} of {self} are not what they were when the run began: "
                "restore them, or start again (copy_data=True keeps a copy)"
            )
        return block


def refuse_pickle(array: zarr.Array[Any], name: str) -> None:
    """Raise `InputError` if decoding an array could run code."""
    if "pickle" in repr(array.metadata.to_dict()).lower():
        raise InputError(f"{name} is encoded with pickle, which can run code: store it as numbers")


class Readable:
    """A zarr array for `dask.array.from_array`, whose read errors are one line."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __dask_tokenize__(self) -> Any:
        return normalize_token(self.array)

    def __getitem__(self, key: Any) -> Array:
        try:
            return np.asarray(self.array[key])
        except Exception as error:
            where = str(self.array.store_path).removeprefix("file://")
            raise InputError(f"{where} cannot be read: {type(error).__name__}: {error}") from error


def fingerprint(block: Array) -> int:
    """Return the CRC-32C of an array's bytes."""
    return int(google_crc32c.value(np.ascontiguousarray(block).reshape(-1).view(np.uint8)))
