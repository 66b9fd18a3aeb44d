"""The run store: data, state generations, parameters, history, and the commit record.

    RUN/                       a zarr v3 group: a local folder, or a URL through fsspec
      zarr.json                attributes: format version, config, package versions, machine
      data/x, data/y           (sample, feature), (sample, target)
      scaling/                 centre and scale of inputs and targets
      constants/               sums that never change (the inputs' Gram matrix)
      state/<generation>/      one array per per-sample variable; a zarr chunk = a data chunk
      params/<iteration>/      w_1, b_1, ...; the last few
      network/                 the finished network, with its last refit
      history/                 (iteration,) arrays
      commit.json              {iteration, generation, status, rows of history not yet in arrays}

Iteration k reads generation k and writes generation k+1, whole chunks only.  What is true if the
process dies, line by line of an iteration:

* while tasks run: generation k and params k are untouched; the record says k.  Generation k+1 is
  partial: `Run.sweep` deletes it on resume.
* after the tasks, before the record is renamed into place: generation k+1 is whole and synced,
  but nobody says so; it is swept and computed again, to the same bits.
* after the rename: the record says k+1, and k+1 is whole.  Generation k-1 may still lie there;
  it is swept.

A task that runs twice writes the same bytes twice; a late twin of an old task can only write into
a generation that is gone or going.  Nothing stored is a pickle.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from fsspec.core import url_to_fs
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from dadmm.chunkfile import read_chunk, write_chunk
from dadmm.errors import StoreError
from dadmm.network import Network, Scaling
from dadmm.solvers.base import Problem, Solver

Array = NDArray[Any]

FORMAT = 1
KEPT_PARAMS = 3
FLUSH_EVERY = 64
HISTORY_ROWS = 1024


class Blocks(Protocol):
    """Where arrays live: named, cut by rows into chunks, each written whole."""

    spare: int  # generations kept beside the committed one

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """Make room for an array whose chunks have `rows` rows."""

    def read(self, name: str, chunk: int) -> Array:
        """Return a chunk, the caller's to change."""

    def write(self, name: str, chunk: int, block: Array) -> None:
        """Write a whole chunk; `block` is the store's from now on."""

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        """Store a whole array, in chunks of `rows` rows; as one chunk unless told."""

    def get(self, name: str) -> Array:
        """Return a whole array."""

    def names(self, group: str) -> list[str]:
        """Return the names of what lies directly in a group."""

    def delete(self, name: str) -> None:
        """Remove an array or a group, if it is there."""

    def publish(self, record: Mapping[str, Any]) -> None:
        """Replace the commit record, atomically and durably."""

    def record(self) -> dict[str, Any] | None:
        """Return the commit record, or None before the first commit."""


class MemoryBlocks:
    """Blocks in this process, for the synchronous and threaded schedulers.

    Reads copy, because a visit changes what it reads; buffers of deleted generations are used
    again for the copies, so that an iteration allocates nothing large.
    """

    spare = 0

    def __init__(self) -> None:
        self._arrays: dict[str, dict[int, Array]] = {}
        self._free: dict[tuple[tuple[int, ...], str], list[Array]] = {}
        self._record: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """See `Blocks.create`."""
        self._arrays[name] = {}

    def read(self, name: str, chunk: int) -> Array:
        """See `Blocks.read`."""
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
        """See `Blocks.write`."""
        # Rows lie as a store would give them back: BLAS adds in another order if they do not.
        self._arrays[name][chunk] = np.ascontiguousarray(block)

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        """See `Blocks.put`; always one piece."""
        self._arrays[name] = {0: np.asarray(array)}

    def get(self, name: str) -> Array:
        """See `Blocks.get`."""
        return self._arrays[name][0]

    def names(self, group: str) -> list[str]:
        """See `Blocks.names`."""
        under = [n[len(group) + 1 :] for n in list(self._arrays) if n.startswith(group + "/")]
        return sorted({n.split("/")[0] for n in under})

    def delete(self, name: str) -> None:
        """See `Blocks.delete`."""
        for key in [k for k in self._arrays if k == name or k.startswith(name + "/")]:
            for block in self._arrays.pop(key).values():
                if key.startswith("state/"):
                    with self._lock:
                        self._free.setdefault((block.shape, block.dtype.str), []).append(block)

    def publish(self, record: Mapping[str, Any]) -> None:
        """See `Blocks.publish`."""
        self._record = dict(record)

    def record(self) -> dict[str, Any] | None:
        """See `Blocks.record`."""
        return None if self._record is None else dict(self._record)


@lru_cache(maxsize=256)
def _opened(url: str, token: str, name: str) -> zarr.Array[Any]:
    # `token` tells runs apart that were stored at one address one after the other.
    # Chunks are written even if they equal the fill value: one that is missing is an error.
    return zarr.open_array(
        url, path=name, mode="r+", zarr_format=3, config={"write_empty_chunks": True}
    )


class ZarrBlocks:
    """Blocks in a zarr v3 group, each chunk with a CRC-32C.

    Parameters
    ----------
    url : str
        A local folder or a URL that fsspec knows.
    token : str
        Tells this run from others that were at the same address before.
    durable : bool
        Sync each chunk to the disk as it is written (local folders).  Off for temporary runs.
    """

    spare = 1

    def __init__(self, url: str | os.PathLike[str], token: str = "", durable: bool = True) -> None:
        self.url = str(url).removeprefix("file://")
        self.token = token
        self.durable = durable
        self.local = None if "://" in self.url else Path(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "token": self.token, "durable": self.durable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """See `Blocks.create`; the groups around it are made too, so that xarray can open them."""
        for group in accumulate(name.split("/")[:-1], "{}/{}".format):
            if not self._exists(f"{group}/zarr.json"):
                self._document(group, _group_document())
        self._document(name, _array_document(shape, rows, np.dtype(dtype).str, dims))

    def _document(self, name: str, text: bytes) -> None:
        """Write a node's metadata, as zarr itself would, without its look round the store."""
        if self.local is None:
            filesystem, path = self._remote(f"{name}/zarr.json")
            filesystem.pipe_file(path, text)
            return
        folder = self.local / name
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "zarr.json", text, self.durable)

    def _remote(self, name: str) -> tuple[Any, str]:
        """Return fsspec's file system, told to forget what it knew (others write), and path."""
        filesystem, path = url_to_fs(f"{self.url}/{name}")
        filesystem.invalidate_cache(path)
        return filesystem, path

    def _exists(self, name: str) -> bool:
        if self.local is not None:
            return (self.local / name).exists()
        filesystem, path = self._remote(name)
        return bool(filesystem.exists(path))

    def _open(self, name: str, cached: bool = False) -> zarr.Array[Any]:
        try:
            if cached:
                return _opened(self.url, self.token, name)
            return _opened.__wrapped__(self.url, self.token, name)
        except (FileNotFoundError, KeyError) as error:
            raise StoreError(f"{self.url} has no array {name}: the run store is damaged") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.url}: zarr.json of {name} is damaged ({error})") from error

    def read(self, name: str, chunk: int) -> Array:
        """See `Blocks.read`; a missing or damaged chunk is an error that names it.

        From a local folder a chunk is read into memory that this thread uses again at its next
        read of the same variable.
        """
        array = self._open(name, cached=True)
        return self._read(array, name, chunk, reuse=name.rpartition("/")[2])

    def _read(
        self, array: zarr.Array[Any], name: str, chunk: int, reuse: str | None = None
    ) -> Array:
        at = _chunk_name(name, chunk, array.ndim)
        rows = array.chunks[0] if array.ndim else 1
        part: Any = slice(chunk * rows, (chunk + 1) * rows) if array.ndim else ...
        try:
            if self.local is not None:
                whole = read_chunk(self.local / at, array.chunks, array.dtype, reuse)
                return whole[: array.shape[0] - chunk * rows] if array.ndim else whole
            if not self._exists(at):
                raise FileNotFoundError(at)
            return np.asarray(array[part])
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.url}: chunk {chunk} of {name} is missing; resume from another copy of the "
                "run, or start it again"
            ) from error
        except (ValueError, StoreError) as error:
            raise StoreError(f"{self.url}: chunk {chunk} of {name} is damaged ({error})") from error

    def write(self, name: str, chunk: int, block: Array) -> None:
        """See `Blocks.write`."""
        array = self._open(name, cached=True)
        rows = array.chunks[0]
        if len(block) != min(rows, array.shape[0] - chunk * rows):
            raise StoreError(
                f"{name}: chunk {chunk} was given {len(block)} rows, not a whole chunk"
            )
        self._write(array, name, chunk, block)

    def _write(self, array: zarr.Array[Any], name: str, chunk: int, block: Array) -> None:
        rows = array.chunks[0] if array.ndim else 1
        if self.local is not None:
            path = self.local / _chunk_name(name, chunk, array.ndim)
            block = np.asarray(block, array.dtype)
            write_chunk(path, block, rows, array.fill_value, self.durable)
        elif array.ndim:
            array[chunk * rows : (chunk + 1) * rows] = block
        else:
            array[...] = block

    def put(self, name: str, array: Array, dims: Any = None, rows: int | None = None) -> None:
        """See `Blocks.put`."""
        array = np.asarray(array)
        rows = rows or (len(array) if array.ndim else 1)
        self.create(name, array.shape, rows, array.dtype, dims)
        target = self._open(name)
        for chunk in range(-(-len(array) // rows) if array.ndim else 1):
            block = array[chunk * rows : (chunk + 1) * rows] if array.ndim else array
            self._write(target, name, chunk, block)

    def get(self, name: str) -> Array:
        """See `Blocks.get`; a missing or damaged chunk is an error that names it."""
        array = self._open(name)
        if array.ndim == 0:
            return self._read(array, name, 0)
        chunks = range(array.cdata_shape[0])
        return np.concatenate([self._read(array, name, chunk) for chunk in chunks])

    def names(self, group: str) -> list[str]:
        """See `Blocks.names`."""
        try:
            if self.local is not None:
                return sorted(p.name for p in (self.local / group).iterdir() if p.is_dir())
            filesystem, path = self._remote(group)
            found = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(Path(f["name"]).name for f in found if f["type"] == "directory")

    def delete(self, name: str) -> None:
        """See `Blocks.delete`; a local folder is renamed first, so that none is ever half there."""
        _opened.cache_clear()
        if self.local is None:
            filesystem, path = self._remote(name)
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)
            return
        folder = self.local / name
        if folder.exists():
            grave = self.local / f".deleted-{name.replace('/', '-')}-{os.getpid()}"
            shutil.rmtree(grave, ignore_errors=True)
            folder.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)

    def publish(self, record: Mapping[str, Any]) -> None:
        """See `Blocks.publish`: write aside, sync, rename, sync the folder."""
        text = json.dumps({**record, "crc32": _checksum(record)}, indent=1).encode()
        if self.local is None:
            filesystem, path = self._remote("commit.json")
            filesystem.pipe_file(path, text)
            return
        _replace(self.local / "commit.json", text, durable=True)

    def record(self) -> dict[str, Any] | None:
        """See `Blocks.record`; a damaged one is an error."""
        try:
            if self.local is not None:
                text = (self.local / "commit.json").read_bytes()
            else:
                filesystem, path = self._remote("commit.json")
                text = filesystem.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            found = dict(json.loads(text))
            whole = found.pop("crc32", None) == _checksum(found)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.url}/commit.json is damaged: {error}") from error
        if not whole:
            raise StoreError(f"{self.url}/commit.json is damaged: its checksum does not match")
        return found


def _chunk_name(name: str, chunk: int, ndim: int) -> str:
    return "/".join([name, "c", *([str(chunk)] if ndim else []), *["0"] * (ndim - 1)])


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record).encode())


def _replace(path: Path, text: bytes, durable: bool) -> None:
    """Write a small file aside and rename it, so that nobody ever sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    aside.write_bytes(text)
    if durable:
        _fsync(aside)
    aside.replace(path)
    if durable:
        _fsync(path.parent)


def _fsync(path: Path) -> None:
    """Sync a file, and the folder that says that it is there."""
    for target in (path, path.parent) if path.is_file() else (path,):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@lru_cache(maxsize=1024)
def _array_document(
    shape: tuple[int, ...], rows: int, dtype: str, dims: tuple[str, ...] | None
) -> bytes:
    """Let zarr describe an array once; a generation has the same arrays as the one before it."""
    memory = MemoryStore()
    zarr.create_array(
        memory,
        shape=shape,
        chunks=(rows, *(max(1, n) for n in shape[1:])) if shape else (),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
        dimension_names=dims,
        zarr_format=3,
    )
    return memory._store_dict["zarr.json"].to_bytes()


@lru_cache(maxsize=1)
def _group_document() -> bytes:
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()


class Run:
    """One training run: what is stored, under which names, and what is committed.

    Parameters
    ----------
    blocks : Blocks
        Where it is stored.
    attributes : dict
        Format version, config and versions, as JSON.

    Notes
    -----
    A `Run` on `ZarrBlocks` pickles to its address, so tasks carry it instead of arrays; one on
    `MemoryBlocks` must stay in its process.
    """

    def __init__(self, blocks: Blocks, attributes: Mapping[str, Any]) -> None:
        self.blocks = blocks
        self.attributes = dict(attributes)

    def __getstate__(self) -> dict[str, Any]:
        return {"blocks": self.blocks, "attributes": {"id": self.attributes["id"]}}

    # --------------------------------------------------------------------------- life of a run

    @classmethod
    def in_memory(cls, attributes: Mapping[str, Any]) -> Run:
        """Start a run that lives and dies with this process."""
        return cls(MemoryBlocks(), {**attributes, "format": FORMAT, "id": uuid.uuid4().hex[:8]})

    @classmethod
    def create(
        cls,
        url: str | os.PathLike[str],
        attributes: Mapping[str, Any],
        overwrite: bool = False,
        durable: bool = True,
    ) -> Run:
        """Start a run in a new store.

        Raises
        ------
        StoreError
            If something is there already and `overwrite` is not set, or if the place cannot be
            written to.
        """
        attributes = {**attributes, "format": FORMAT, "id": uuid.uuid4().hex[:8]}
        blocks = ZarrBlocks(url, attributes["id"], durable)
        with _reaching(url, "looked into"):
            taken, ours = _is_taken(blocks), _is_run(blocks)
        if taken and not overwrite:
            raise StoreError(
                f"{url} exists: resume it, choose another path, or overwrite it "
                "(--overwrite, overwrite=True)"
            )
        if taken and not ours:
            raise StoreError(f"{url} is not a dadmm run, so it is not overwritten: remove it first")
        with _reaching(url, "written"):
            if taken:
                _remove(blocks)
            zarr.create_group(blocks.url, attributes={"dadmm": attributes}, zarr_format=3)
        _opened.cache_clear()
        return cls(blocks, attributes)

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> Run:
        """Open an existing run.

        Raises
        ------
        StoreError
            If there is none, or it has another format version.
        """
        blocks = ZarrBlocks(url)
        with _reaching(url, "read"):
            if not _is_run(blocks):
                what = "is not a dadmm run" if _is_taken(blocks) else "does not exist"
                raise StoreError(f"{url} {what}: give the folder that a fit was started with")
            group = zarr.open_group(blocks.url, mode="r", zarr_format=3)
        attributes: Any = group.attrs["dadmm"]
        if attributes.get("format") != FORMAT:
            raise StoreError(
                f"{url} has store format {attributes.get('format')}, this dadmm reads {FORMAT}: "
                f"use dadmm {attributes.get('versions', {}).get('dadmm', 'of that version')}"
            )
        return cls(ZarrBlocks(url, attributes["id"]), attributes)

    @property
    def url(self) -> str | None:
        """Return the address of the store; None for a run in memory."""
        return getattr(self.blocks, "url", None)

    @property
    def durable(self) -> bool:
        """Whether the run outlives this process."""
        return bool(getattr(self.blocks, "durable", False))

    @property
    def has_data(self) -> bool:
        """Whether the data and its scaling are stored whole: the scaling is written last."""
        if self.blocks.record() is None:
            try:
                self.load_scaling()
            except StoreError:
                return False
        return True

    def delete(self) -> None:
        """Remove the run from where it is stored."""
        if isinstance(self.blocks, ZarrBlocks):
            _remove(self.blocks)

    def update(self, **attributes: Any) -> None:
        """Add to the run's attributes, in the store too."""
        self.attributes |= attributes
        if isinstance(self.blocks, ZarrBlocks):
            root = zarr.open_group(self.blocks.url, mode="r+", zarr_format=3)
            root.attrs["dadmm"] = self.attributes

    # ------------------------------------------------------------------------------ what it holds

    def create_data(self, name: str, columns: int, rows: int, chunk: int, dtype: Any) -> None:
        """Make room for ``data/<name>``, (rows, columns) in chunks of `chunk` rows."""
        dims = ("sample", {"x": "feature", "y": "target"}.get(name, name))
        self.blocks.create(f"data/{name}", (rows, columns), chunk, dtype, dims)

    def begin(
        self,
        generation: int,
        rows: int,
        chunk: int,
        widths: Mapping[str, int],
        dtype: str,
        dim: str = "sample",
    ) -> None:
        """Make room for a generation of state.

        Parameters
        ----------
        rows, chunk : int
            Samples in all, and in a chunk.
        widths : dict
            Variable name to width.
        dim : str
            What a row is.
        """
        for name, width in widths.items():
            self.blocks.create(
                f"state/{generation}/{name}",
                (rows, width),
                chunk,
                dtype,
                (dim, f"{name}_unit"),
            )

    def load_params(self, iteration: int, names: Sequence[str]) -> dict[str, Array]:
        """Return the named parameters of an iteration."""
        return {name: self.blocks.get(f"params/{iteration}/{name}") for name in names}

    def save_params(self, group: str, params: Mapping[str, Array]) -> None:
        """Store parameters in a group, ``params/<iteration>`` or ``network``."""
        for name, array in params.items():
            kind, _, layer = name.rpartition("_")
            if kind in ("w", "b") and array.ndim in (1, 2):
                dims = (f"in_{layer}", f"out_{layer}")[-array.ndim :]
            elif array.ndim == 1:
                dims = (f"parameter_{layer}",)
            else:
                dims = tuple(f"{name}_{axis}" for axis in range(array.ndim))
            self.blocks.put(f"{group}/{name}", array, dims)

    def network(self, solver: Solver, problem: Problem, best: int | None = None) -> Network:
        """Return the finished network; before it is, that of iteration `best`, or of the last."""
        record = self.blocks.record() or {}
        params: dict[str, Array] = {}
        if record.get("final"):
            names = self.blocks.names("network")
            params = {name: self.blocks.get(f"network/{name}") for name in names}
        else:
            for layer in solver.finish(problem).parts[0].layers:
                names = list(solver.exported(problem, layer))
                stored = self.load_params(best or record["iteration"], names)
                params |= solver.export(problem, layer, stored)
        scaling = self.load_scaling()
        outputs = None if problem.classes else scaling["y"]
        return Network(solver.model(problem), params, scaling["x"], outputs)

    def load_scaling(self) -> dict[str, Scaling]:
        """Return how inputs ("x") and targets ("y") are scaled."""
        get = self.blocks.get
        return {
            which: Scaling(get(f"scaling/{which}_centre"), get(f"scaling/{which}_scale"))
            for which in "xy"
        }

    def save_scaling(self, scaling: Mapping[str, Scaling]) -> None:
        """Store how inputs ("x") and targets ("y") are scaled."""
        for which, affine in scaling.items():
            dim = ("feature" if which == "x" else "target",)
            self.blocks.put(f"scaling/{which}_centre", affine.centre, dim)
            self.blocks.put(f"scaling/{which}_scale", affine.scale, dim)

    def commit(
        self,
        iteration: int,
        row: Mapping[str, float] | None = None,
        status: str = "running",
        final: Mapping[str, float] | None = None,
    ) -> None:
        """Say that `iteration` is whole: its state, its parameters and its row of history.

        Parameters
        ----------
        status : str
            "running", or why the run stopped.
        final : dict or None
            Scores of the network that the ``network`` group holds from now on.
        """
        record = self.blocks.record() or {"flushed": 0, "rows": []}
        record["final"] = dict(final) if final is not None else None
        if row is not None:
            record["rows"] = [*record["rows"], dict(row)]
        record |= {"iteration": iteration, "generation": iteration, "status": status}
        if len(record["rows"]) >= FLUSH_EVERY or status != "running":
            self._flush(record)
            record["flushed"] = record["flushed"] + len(record["rows"])
            record["rows"] = []
        self.blocks.publish(record)

    def committed(self) -> dict[str, Any] | None:
        """Return the commit record, or None before the first commit."""
        return self.blocks.record()

    def sweep(self, iteration: int, best: int | None = None) -> None:
        """Delete what is not part of a committed iteration: leftovers, and the past but the last.

        Generations go but for `iteration` and, in a store that outlives the process, the one
        before it; of the parameters, later ones go and the last few, and the best, stay.
        """
        for name in self.blocks.names("state"):
            if not iteration - self.blocks.spare <= int(name) <= iteration:
                self.blocks.delete(f"state/{name}")
        for name in self.blocks.names("params"):
            if not iteration - KEPT_PARAMS < int(name) <= iteration and int(name) != best:
                self.blocks.delete(f"params/{name}")
        local = getattr(self.blocks, "local", None)
        if local is not None:
            for grave in local.glob(".deleted-*"):
                shutil.rmtree(grave, ignore_errors=True)
            for pattern in ("*.partial", "history/**/*.partial"):
                for partial in local.glob(pattern):
                    partial.unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------- history

    def _flush(self, record: Mapping[str, Any]) -> None:
        """Move the record's rows into arrays; until it is published they are there twice.

        Chunks have one size however long the history is, and keep what they held: one killed here
        leaves arrays whose first rows, the only ones that the old record counts, are as before.
        """
        if record["rows"]:
            history = self._history(record)
            for name, column in history.variables.items():
                self.blocks.put(f"history/{name}", column.values, ("iteration",), HISTORY_ROWS)

    def _columns(self, flushed: int) -> dict[str, Array]:
        names = [n for n in self.blocks.names("history") if n != "iteration"] if flushed else []
        return {name: self.blocks.get(f"history/{name}")[:flushed] for name in names}

    def history(self) -> xr.Dataset:
        """Return the history of the committed iterations, over the dimension `iteration`."""
        return self._history(self.blocks.record() or {"flushed": 0, "rows": []})

    def _history(self, record: Mapping[str, Any]) -> xr.Dataset:
        flushed, rows = record["flushed"], record["rows"]
        columns = self._columns(flushed)
        data = {}
        for name in dict.fromkeys([*columns, *(name for row in rows for name in row)]):
            old = columns.get(name, np.full(flushed, np.nan))
            new = [float(row.get(name, math.nan)) for row in rows]
            data[name] = ("iteration", np.concatenate([old, new]))
        return xr.Dataset(data, coords={"iteration": np.arange(1, flushed + len(rows) + 1)})


@contextmanager
def _reaching(url: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """Say in one line that a place cannot be reached, whatever its file system raises."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        raise StoreError(f"{url} cannot be {doing}: {why}") from error


def _is_run(blocks: ZarrBlocks) -> bool:
    try:
        return "dadmm" in zarr.open_group(blocks.url, mode="r", zarr_format=3).attrs
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        return False


def _is_taken(blocks: ZarrBlocks) -> bool:
    if blocks.local is not None:
        return blocks.local.is_file() or (blocks.local.is_dir() and any(blocks.local.iterdir()))
    filesystem, path = blocks._remote("")
    try:
        return bool(filesystem.ls(path))
    except FileNotFoundError:
        return False


def _remove(blocks: ZarrBlocks) -> None:
    """Remove a run: what makes it resumable first, what shows that it is a run last."""
    if blocks.local is None:
        filesystem, path = blocks._remote("")
        filesystem.rm(path, recursive=True)
        return
    order = {"commit.json": 0, "zarr.json": 2}
    for entry in sorted(blocks.local.iterdir(), key=lambda entry: order.get(entry.name, 1)):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
