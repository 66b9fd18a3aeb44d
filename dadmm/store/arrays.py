"""Store arrays in this process, or in a zarr v3 group."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dadmm.errors import DamageError, StoreError
from dadmm.numerics.types import Array
from dadmm.store import metadata
from dadmm.store.chunks import read_chunk, write_chunk
from dadmm.store.files import ROOT, Files, LocalFiles, RemoteFiles
from dadmm.store.metadata import ArraySpec
from dadmm.store.place import absolute, refuse_unseen

COMMIT = "commit.json"
PREVIOUS = "commit.previous.json"


class Blocks(Protocol):
    """A store of named arrays, cut by rows into chunks, each written whole."""

    spare: int  # generations kept beside the committed one

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """Make room for an array whose chunks have `rows` rows."""

    def read(self, name: str, chunk: int) -> Array:
        """Return a chunk.  The caller may change chunks of state.

        The chunk is valid until this thread reads the same variable again.

        Raises
        ------
        DamageError
            If the chunk is missing or damaged.
        """

    def expect(self, name: str, chunk: int) -> None:
        """Prepare to read a chunk soon."""

    def write(self, name: str, chunk: int, block: Array) -> None:
        """Write a whole chunk; `block` is the store's from now on."""

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        """Store a whole array in chunks of `rows` rows; None makes one chunk."""

    def get(self, name: str, rows: int | None = None) -> Array:
        """Return a whole array, or at least its first `rows` rows.  Errors as `read`."""

    def count(self, name: str) -> int:
        """Return the number of an array's chunks."""

    def names(self, group: str) -> list[str]:
        """Return the names of the arrays and groups directly in a group."""

    def delete(self, name: str) -> None:
        """Remove an array or a group, if it is there."""

    def settle(self, group: str) -> None:
        """Make the arrays of a group durable."""

    def publish(self, record: Mapping[str, Any]) -> None:
        """Replace the commit record, atomically and durably."""

    def record(self) -> dict[str, Any] | None:
        """Return the commit record; None before the first commit."""

    def previous_record(self) -> dict[str, Any] | None:
        """Return the commit record before the last one; None if there is none."""


class MemoryBlocks(Blocks):
    """Arrays in this process, for the synchronous and threaded schedulers.

    Reads of state copy, because a visit changes the state that it reads.  The copies reuse the
    buffers of deleted generations, so that an iteration allocates nothing large.
    """

    spare = 0

    def __init__(self) -> None:
        self._arrays: dict[str, dict[int, Array]] = {}
        self._free: dict[tuple[tuple[int, ...], str], list[Array]] = {}
        self._record: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        self._arrays[name] = {}

    def read(self, name: str, chunk: int) -> Array:
        block = self._arrays[name][chunk]
        if not name.startswith("state/"):
            view = block.view()
            view.flags.writeable = False
            return view
        with self._lock:
            spare = self._free.get((block.shape, block.dtype.str))
            out = spare.pop() if spare else np.empty_like(block)
        np.copyto(out, block)
        return out

    def write(self, name: str, chunk: int, block: Array) -> None:
        # C order, as a file would return it: BLAS adds in another order for other layouts.
        self._arrays[name][chunk] = np.ascontiguousarray(block)

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        self._arrays[name] = {0: np.asarray(array)}

    def get(self, name: str, rows: int | None = None) -> Array:
        return self._arrays[name][0]

    def expect(self, name: str, chunk: int) -> None:
        pass  # memory has nothing to prepare

    def count(self, name: str) -> int:
        return len(self._arrays[name])

    def settle(self, group: str) -> None:
        pass  # memory is never durable

    def names(self, group: str) -> list[str]:
        under = [n[len(group) + 1 :] for n in list(self._arrays) if n.startswith(group + "/")]
        return sorted({n.split("/")[0] for n in under})

    def delete(self, name: str) -> None:
        for key in [k for k in self._arrays if k == name or k.startswith(name + "/")]:
            for block in self._arrays.pop(key).values():
                if key.startswith("state/"):
                    with self._lock:
                        self._free.setdefault((block.shape, block.dtype.str), []).append(block)

    def publish(self, record: Mapping[str, Any]) -> None:
        self._record = dict(record)

    def record(self) -> dict[str, Any] | None:
        return None if self._record is None else dict(self._record)

    def previous_record(self) -> dict[str, Any] | None:
        return None


class ZarrBlocks(Blocks):
    """Arrays in a zarr v3 group, each file with a checksum.

    Parameters
    ----------
    url : str
        A local folder, or a URL that fsspec knows.
    token : str
        Distinguishes this run from earlier ones at the same address.
    durable : bool
        Sync each chunk to the disk when it is written (local folders); False for temporary runs.
    """

    spare = 1

    def __init__(self, url: str | os.PathLike[str], token: str = "", durable: bool = True) -> None:
        self.url = absolute(url)
        self.token = token
        self.durable = durable
        self.local = None if "://" in self.url else Path(self.url)
        self.files: Files = (
            RemoteFiles(self.url) if self.local is None else LocalFiles(self.local, durable)
        )

    def __getstate__(self) -> dict[str, Any]:
        late = isinstance(self.files, LocalFiles) and self.files.late
        system = _system() if late else None
        return {"url": self.url, "token": self.token, "durable": self.durable, "late": system}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ZarrBlocks.__init__(self, state["url"], state["token"], state["durable"])
        system = state["late"]
        if system is not None and system == _system():
            self.sync_late()

    def sync_late(self) -> None:
        """Sync the chunks of a generation when it is settled, not one by one.

        A worker on the same machine does so too: the kernel has all pending writes.
        """
        if isinstance(self.files, LocalFiles) and _system() is not None:
            self.files.late = self.durable

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        # xarray opens an array only if the groups around it have metadata too.
        for group in accumulate(name.split("/")[:-1], "{}/{}".format):
            if not self.files.exists(f"{group}/zarr.json"):
                self.files.save(f"{group}/zarr.json", metadata.group_document())
        text = metadata.array_document(tuple(map(int, shape)), int(rows), np.dtype(dtype).str, dims)
        self.files.save(f"{name}/zarr.json", text)

    def spec(self, name: str, cached: bool = False) -> ArraySpec:
        """Return the shape, chunks and dtype of an array, from its metadata."""
        return (_spec if cached else _spec.__wrapped__)(self, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZarrBlocks):
            return False
        return (self.url, self.token) == (other.url, other.token)

    def __hash__(self) -> int:
        return hash((self.url, self.token))

    def read(self, name: str, chunk: int) -> Array:
        # The thread reuses this memory at its next read of the same variable.
        return self._read(self.spec(name, cached=True), name, chunk, name.rpartition("/")[2])

    def expect(self, name: str, chunk: int) -> None:
        self.files.expect(f"{name}/{self.spec(name, cached=True).file(chunk)}")

    def _read(self, spec: ArraySpec, name: str, chunk: int, reuse: str | None = None) -> Array:
        try:
            whole = read_chunk(self.files, f"{name}/{spec.file(chunk)}", spec, reuse)
        except FileNotFoundError as error:
            self._refuse_unseen()
            raise DamageError(self.url, name, chunk, "is missing") from error
        except StoreError as error:
            raise DamageError(self.url, name, chunk, f"is damaged ({error})") from error
        return whole[: spec.shape[0] - chunk * spec.chunks[0]] if spec.shape else whole

    def _refuse_unseen(self) -> None:
        """Raise `RunError` in a task of a worker that does not see the run."""
        if not self.files.exists(ROOT):
            refuse_unseen(self.url)

    def write(self, name: str, chunk: int, block: Array) -> None:
        spec = self.spec(name, cached=True)
        rows = spec.chunks[0]
        if len(block) != min(rows, spec.shape[0] - chunk * rows):
            raise StoreError(
                f"{name}: chunk {chunk} was given {len(block)} rows, not a whole chunk"
            )
        write_chunk(self.files, f"{name}/{spec.file(chunk)}", block, spec)

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        array = np.asarray(array)
        rows = rows or (max(len(array), 1) if array.ndim else 1)
        self.create(name, array.shape, rows, array.dtype, dims)
        spec = self.spec(name)
        for chunk in range(spec.count):
            block = array[chunk * rows : (chunk + 1) * rows] if array.ndim else array
            write_chunk(self.files, f"{name}/{spec.file(chunk)}", block, spec)

    def get(self, name: str, rows: int | None = None) -> Array:
        spec = self.spec(name)
        if spec.count == 1:
            return self._read(spec, name, 0)
        count = spec.count if rows is None else min(spec.count, -(-rows // spec.chunks[0]))
        parts = [self._read(spec, name, chunk) for chunk in range(count)]
        return np.concatenate(parts) if parts else np.empty(spec.shape, spec.dtype)

    def count(self, name: str) -> int:
        return self.spec(name).count

    def settle(self, group: str) -> None:
        for name in self.names(group):
            self.files.settle(f"{group}/{name}")
        for above in accumulate(group.split("/"), "{}/{}".format):
            if self.files.exists(above):
                self.files.settle(above)

    def names(self, group: str) -> list[str]:
        return sorted(name for name, folder in self.files.entries(group).items() if folder)

    def delete(self, name: str) -> None:
        _spec.cache_clear()
        self.files.delete(name)

    def publish(self, record: Mapping[str, Any]) -> None:
        try:  # keep the record before, in case the new one is damaged
            if before := self.record():
                self.files.save(PREVIOUS, metadata.record(before), sync=False)
        except DamageError:
            pass  # PREVIOUS keeps the last record that is whole
        self.files.save(COMMIT, metadata.record(record), sync=self.durable)
        self.files.settle("")

    def record(self) -> dict[str, Any] | None:
        found = self._record(COMMIT)
        if found is None and self.files.exists(PREVIOUS):
            raise DamageError(self.url, COMMIT, None, "is missing")
        return found

    def previous_record(self) -> dict[str, Any] | None:
        return self._record(PREVIOUS)

    def _record(self, name: str) -> dict[str, Any] | None:
        try:
            return metadata.parse_record(self.files.text(name))
        except FileNotFoundError:
            return None
        except (ValueError, StoreError) as error:
            raise DamageError(self.url, name, None, f"is damaged ({error})") from error


@lru_cache(maxsize=1)
def _system() -> str | None:
    """Return the id of this boot of this machine; None if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return None


@lru_cache(maxsize=1024)
def _spec(blocks: ZarrBlocks, name: str) -> ArraySpec:
    try:
        return metadata.parse_array(blocks.files.text(f"{name}/zarr.json"))
    except FileNotFoundError as error:
        blocks._refuse_unseen()
        raise DamageError(blocks.url, name, None, "is missing") from error
    except (ValueError, StoreError) as error:
        raise DamageError(blocks.url, f"{name}/zarr.json", None, f"is damaged ({error})") from error
