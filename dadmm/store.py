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
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from dadmm.errors import StoreError
from dadmm.network import Network, Scaling
from dadmm.solvers.base import Problem, Solver

Array = NDArray[Any]

FORMAT = 1
KEPT_PARAMS = 3
FLUSH_EVERY = 64


class Blocks(Protocol):
    """Where arrays live: named, cut by rows into chunks, each written whole."""

    spare: int  # generations kept beside the committed one

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """Make room for an array whose chunks have `rows` rows."""

    def read(self, name: str, chunk: int) -> Array:
        """Return a chunk, the caller's to change."""

    def write(self, name: str, chunk: int, block: Array) -> None:
        """Write a whole chunk; `block` is the store's from now on."""

    def put(self, name: str, array: Array, dims: Any = None) -> None:
        """Store a whole array as one chunk."""

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
        self._arrays[name][chunk] = block

    def put(self, name: str, array: Array, dims: Any = None) -> None:
        """See `Blocks.put`."""
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
        return self._record


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
        self.url = str(url)
        self.token = token
        self.durable = durable
        self.local = None if "://" in self.url else Path(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "token": self.token, "durable": self.durable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def create(self, name: str, shape: tuple[int, ...], rows: int, dtype: Any, dims: Any) -> None:
        """See `Blocks.create`; the parent group is made too, so that xarray can open it."""
        parent = name.rpartition("/")[0]
        self._document(parent, _group_document())
        self._document(name, _array_document(shape, rows, np.dtype(dtype).str, dims))

    def _document(self, name: str, text: bytes) -> None:
        """Write a node's metadata, as zarr itself would, without its look round the store."""
        if self.local is not None:
            folder = self.local / name
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / f".zarr.json.{os.getpid()}-{threading.get_ident()}.partial"
            aside.write_bytes(text)
            aside.replace(folder / "zarr.json")
            return
        import fsspec

        with fsspec.open(f"{self.url}/{name}/zarr.json", "wb") as file:
            file.write(text)

    def _open(self, name: str, cached: bool = False) -> zarr.Array[Any]:
        try:
            if cached:
                return _opened(self.url, self.token, name)
            return _opened.__wrapped__(self.url, self.token, name)
        except (FileNotFoundError, KeyError) as error:
            raise StoreError(f"{self.url} has no array {name}: the run store is damaged") from error

    def _chunk_path(self, name: str, chunk: int, ndim: int) -> Path | None:
        if self.local is None:
            return None
        return self.local.joinpath(name, "c", str(chunk), *["0"] * (ndim - 1))

    def read(self, name: str, chunk: int) -> Array:
        """See `Blocks.read`; a missing or damaged chunk is an error that names it."""
        array = self._open(name, cached=True)
        path = self._chunk_path(name, chunk, array.ndim)
        if path is not None and not path.exists():
            raise StoreError(
                f"{self.url}: chunk {chunk} of {name} is missing; resume from another copy of the "
                "run, or start it again"
            )
        rows = array.chunks[0]
        try:
            return np.asarray(array[chunk * rows : (chunk + 1) * rows])
        except ValueError as error:
            raise StoreError(f"{self.url}: chunk {chunk} of {name} is damaged ({error})") from error

    def write(self, name: str, chunk: int, block: Array) -> None:
        """See `Blocks.write`."""
        array = self._open(name, cached=True)
        rows = array.chunks[0]
        first = chunk * rows
        if len(block) != min(rows, array.shape[0] - first):
            raise StoreError(
                f"{name}: chunk {chunk} was given {len(block)} rows, not a whole chunk"
            )
        array[first : first + rows] = block
        self._sync(self._chunk_path(name, chunk, array.ndim))

    def _sync(self, path: Path | None) -> None:
        if path is None or not self.durable:
            return
        for target in (path, path.parent):
            handle = os.open(target, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def put(self, name: str, array: Array, dims: Any = None) -> None:
        """See `Blocks.put`."""
        array = np.asarray(array)
        self.create(name, array.shape, max(1, len(array)) if array.ndim else 1, array.dtype, dims)
        self._open(name)[...] = array
        if self.local is not None:
            self._sync(self.local.joinpath(name, "c", *["0"] * array.ndim))

    def get(self, name: str) -> Array:
        """See `Blocks.get`."""
        try:
            return np.asarray(self._open(name)[...])
        except ValueError as error:
            raise StoreError(f"{self.url}: {name} is damaged ({error})") from error

    def names(self, group: str) -> list[str]:
        """See `Blocks.names`."""
        if self.local is not None:
            folder = self.local / group
            return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.exists() else []
        try:
            found = zarr.open_group(self.url, path=group, mode="r", zarr_format=3)
        except FileNotFoundError:
            return []
        return sorted(name for name, _ in found.members())

    def delete(self, name: str) -> None:
        """See `Blocks.delete`.  A local folder is renamed first, so that none is ever half there."""
        _opened.cache_clear()
        if self.local is None:
            root = zarr.open_group(self.url, mode="r+", zarr_format=3)
            if name in root:
                del root[name]
            return
        folder = self.local / name
        if folder.exists():
            grave = self.local / f".deleted-{name.replace('/', '-')}-{os.getpid()}"
            shutil.rmtree(grave, ignore_errors=True)
            folder.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)

    def publish(self, record: Mapping[str, Any]) -> None:
        """See `Blocks.publish`: write aside, sync, rename, sync the folder."""
        text = json.dumps(record, indent=1)
        if self.local is None:
            import fsspec

            with fsspec.open(f"{self.url}/commit.json", "w") as file:
                file.write(text)
            return
        aside = self.local / f".commit-{os.getpid()}.partial"
        with aside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.local / "commit.json")
        self._sync(self.local / "commit.json")

    def record(self) -> dict[str, Any] | None:
        """See `Blocks.record`."""
        try:
            if self.local is not None:
                text = (self.local / "commit.json").read_text()
            else:
                import fsspec

                with fsspec.open(f"{self.url}/commit.json", "r") as file:
                    text = file.read()
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise StoreError(f"{self.url}/commit.json is damaged: {error}") from error
        return dict(found)


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
        try:
            taken = _is_taken(blocks)
        except OSError as error:
            raise StoreError(f"{url} cannot be looked into: {error.strerror or error}") from error
        if taken and not overwrite:
            raise StoreError(
                f"{url} exists: resume it, choose another path, or overwrite it "
                "(--overwrite, overwrite=True)"
            )
        if taken and overwrite and not _is_run(blocks):
            raise StoreError(f"{url} is not a dadmm run, so it is not overwritten: remove it first")
        try:
            if taken:
                _remove(blocks)
            zarr.create_group(
                blocks.url, attributes={"dadmm": attributes}, overwrite=True, zarr_format=3
            )
        except OSError as error:
            raise StoreError(f"{url} cannot be written: {error.strerror or error}") from error
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
        """Whether the data and its scaling are stored whole: the last is written last."""
        return "y_scale" in self.blocks.names("scaling")

    def update(self, **attributes: Any) -> None:
        """Add to the run's attributes, in the store too."""
        self.attributes |= attributes
        if isinstance(self.blocks, ZarrBlocks):
            root = zarr.open_group(self.blocks.url, mode="r+", zarr_format=3)
            root.attrs["dadmm"] = self.attributes

    # ------------------------------------------------------------------------------ what it holds

    def create_data(self, name: str, columns: int, rows: int, chunk: int, dtype: Any) -> None:
        """Make room for ``data/<name>``, (rows, columns) in chunks of `chunk` rows."""
        dims = ("sample", "feature" if name == "x" else "target")
        self.blocks.create(f"data/{name}", (rows, columns), chunk, dtype, dims)

    def begin(
        self, generation: int, rows: int, chunk: int, widths: Mapping[str, int], dtype: str
    ) -> None:
        """Make room for a generation of state.

        Parameters
        ----------
        rows, chunk : int
            Samples in all, and in a chunk.
        widths : dict
            Variable name to width.
        """
        for name, width in widths.items():
            self.blocks.create(
                f"state/{generation}/{name}",
                (rows, width),
                chunk,
                dtype,
                ("sample", f"{name}_unit"),
            )

    def load_params(self, iteration: int, names: Sequence[str]) -> dict[str, Array]:
        """Return the named parameters of an iteration."""
        return {name: self.blocks.get(f"params/{iteration}/{name}") for name in names}

    def save_params(self, group: str, params: Mapping[str, Array]) -> None:
        """Store parameters in a group, ``params/<iteration>`` or ``network``."""
        for name, array in params.items():
            layer = int(name.rpartition("_")[2])
            dims = (f"unit_{layer - 1}", f"unit_{layer}")[-array.ndim :]
            self.blocks.put(f"{group}/{name}", array, dims)

    def network(self, solver: Solver, problem: Problem) -> Network:
        """Return the finished network, or of a run that has not finished the last committed one."""
        record = self.blocks.record() or {}
        layers = solver.finish(problem).parts[0].layers
        params = {}
        for number, layer in enumerate(layers, start=1):
            for kind in "wb":
                name = f"params/{record['iteration']}/{kind}_{layer}"
                if record.get("final"):
                    name = f"network/{kind}_{number}"
                params[f"{kind}_{number}"] = self.blocks.get(name)
        scaling = self.load_scaling()
        outputs = None if problem.classes else scaling["y"]
        return Network(problem.architecture, params, scaling["x"], outputs)

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

    def sweep(self, iteration: int) -> None:
        """Delete what is not part of a committed iteration: leftovers, and the past but the last.

        Generations go but for `iteration` and, in a store that outlives the process, the one
        before it; of the parameters, later ones go and the last few stay.
        """
        for name in self.blocks.names("state"):
            if not iteration - self.blocks.spare <= int(name) <= iteration:
                self.blocks.delete(f"state/{name}")
        for name in self.blocks.names("params"):
            if not iteration - KEPT_PARAMS < int(name) <= iteration:
                self.blocks.delete(f"params/{name}")
        local = getattr(self.blocks, "local", None)
        if local is not None:
            for leftover in (*local.glob(".deleted-*"), *local.glob(".commit-*.partial")):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    # ----------------------------------------------------------------------------------- history

    def _flush(self, record: Mapping[str, Any]) -> None:
        if not record["rows"]:
            return
        before = self._columns(record["flushed"])
        names = list(dict.fromkeys([*before, *(name for row in record["rows"] for name in row)]))
        for name in names:
            new = [float(row.get(name, math.nan)) for row in record["rows"]]
            old = before.get(name, np.full(record["flushed"], np.nan))
            self.blocks.put(f"history/{name}", np.concatenate([old, new]), ("iteration",))
        count = record["flushed"] + len(record["rows"])
        self.blocks.put("history/iteration", np.arange(1, count + 1), ("iteration",))

    def _columns(self, flushed: int) -> dict[str, Array]:
        names = [n for n in self.blocks.names("history") if n != "iteration"] if flushed else []
        return {name: self.blocks.get(f"history/{name}")[:flushed] for name in names}

    def history(self) -> xr.Dataset:
        """Return the history of the committed iterations, over the dimension `iteration`."""
        record = self.blocks.record() or {"flushed": 0, "rows": []}
        columns = self._columns(record["flushed"])
        rows = record["rows"]
        names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
        data = {}
        for name in names:
            new = [float(row.get(name, math.nan)) for row in rows]
            old = columns.get(name, np.full(record["flushed"], np.nan))
            data[name] = ("iteration", np.concatenate([old, new]))
        count = record["flushed"] + len(rows)
        return xr.Dataset(data, coords={"iteration": np.arange(1, count + 1)})


def _is_run(blocks: ZarrBlocks) -> bool:
    try:
        return "dadmm" in zarr.open_group(blocks.url, mode="r", zarr_format=3).attrs
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        return False


def _is_taken(blocks: ZarrBlocks) -> bool:
    if blocks.local is not None:
        return blocks.local.is_file() or (blocks.local.is_dir() and any(blocks.local.iterdir()))
    return _is_run(blocks)


def _remove(blocks: ZarrBlocks) -> None:
    if blocks.local is not None:
        shutil.rmtree(blocks.local)
    else:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(blocks.url)
        filesystem.rm(path, recursive=True)
