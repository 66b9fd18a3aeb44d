"""A training run in its store: data, generations of state, and the commit record."""

from __future__ import annotations

import os
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from dadmm.errors import DamageError, RunError, StoreError, TakenError
from dadmm.numerics.types import Array
from dadmm.store import history, metadata
from dadmm.store.arrays import COMMIT, PREVIOUS, Blocks, MemoryBlocks, ZarrBlocks
from dadmm.store.commit import checked
from dadmm.store.files import ROOT
from dadmm.store.lock import LOCK, Lock, refuse_locked
from dadmm.store.replace import reaching
from dadmm.store.sources import Source

FORMAT = 3
KEPT_PARAMS = 3
# The record's rows move into the history's arrays when they are so many.
FLUSH_EVERY = 64
# The arrays of the scaling, in the order of writing.
SCALING = ("y_centre", "y_scale", "x_centre", "x_scale")


class Run:
    """A training run in its store.

    Parameters
    ----------
    blocks : Blocks
        The store.
    attributes : dict
        Format version, config and versions, as JSON.

    Notes
    -----
    A run on `ZarrBlocks` pickles to its address, so tasks carry it instead of arrays; a run on
    `MemoryBlocks` must stay in its process.
    """

    def __init__(self, blocks: Blocks, attributes: Mapping[str, Any]) -> None:
        self.blocks = blocks
        self.attributes = dict(attributes)
        self._lock: Lock | None = None

    def __getstate__(self) -> dict[str, Any]:
        needed = {k: self.attributes[k] for k in ("id", "sources") if k in self.attributes}
        return {"blocks": self.blocks, "attributes": needed, "_lock": None}

    @classmethod
    def in_memory(cls, attributes: Mapping[str, Any]) -> Run:
        """Start a run in the memory of this process."""
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
            If the place is taken and `overwrite` is not set, if another driver trains there, or
            if the place cannot be written to.
        """
        attributes = {**attributes, "format": FORMAT, "id": uuid.uuid4().hex[:8]}
        blocks = ZarrBlocks(url, attributes["id"], durable)
        with reaching(url, "read", StoreError):
            taken, ours = _is_taken(blocks), _root_of(blocks) is not None
        if taken and not overwrite:
            kind = TakenError if ours else StoreError
            raise kind(
                f"{url} exists: resume it, choose another path, or overwrite it "
                "(--overwrite, overwrite=True)"
            )
        if taken and not ours:
            raise StoreError(f"{url} is not a dadmm run, so it is not overwritten: remove it first")
        with reaching(url, "written", StoreError):
            if taken:
                attributes["first"] = secrets.randbelow(2**40)
                refuse_locked(blocks)
                _remove(blocks)
            document = metadata.group_document({"dadmm": attributes})
            try:
                blocks.files.save(ROOT, document, new=True, sync=durable)
            except FileExistsError as error:
                raise TakenError(f"{url} was started by another driver just now") from error
        return cls(blocks, attributes)

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> Run:
        """Open an existing run.

        Raises
        ------
        StoreError
            If there is no run, or it has another format version.
        """
        blocks = ZarrBlocks(url)
        with reaching(url, "read", StoreError):
            text = _root_of(blocks)
            if text is None:
                what = "is not a dadmm run" if _is_taken(blocks) else "does not exist"
                raise StoreError(f"{url} {what}: give the folder that a fit was started with")
        attributes = metadata.unchecked(text)["dadmm"]
        found = attributes.get("format") if isinstance(attributes, dict) else None
        if isinstance(found, int) and found != FORMAT:
            versions = attributes.get("versions")
            version = versions.get("dadmm") if isinstance(versions, dict) else None
            raise StoreError(
                f"{url} has store format {found}, this dadmm reads {FORMAT}: "
                f"use dadmm {version if isinstance(version, str) else 'of that version'}"
            )
        try:
            metadata.parse_group(text)
            if not isinstance(attributes, dict):
                raise ValueError("it has no attributes of a run")
        except ValueError as error:
            raise DamageError(str(url), ROOT, None, f"is damaged ({error})") from error
        if not isinstance(attributes.get("id"), str):
            raise DamageError(str(url), ROOT, None, "is damaged (the run has no id)")
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
        """Whether data and scaling are stored whole: the scaling is written last."""
        try:
            if self.committed() is None:
                for name in SCALING:
                    self.blocks.get(f"scaling/{name}")
        except DamageError as damage:
            return damage.name in (COMMIT, PREVIOUS)
        return True

    @property
    def can_go_on(self) -> bool:
        """Whether the run can be resumed: its data are stored, or it knows where its inputs are."""
        return self.has_data or self.attributes.get("pending") is not None

    def delete(self) -> None:
        """Delete the run from its store."""
        if isinstance(self.blocks, ZarrBlocks):
            self.blocks.files.close()
            _remove(self.blocks)

    @contextmanager
    def locked(self, force: bool = False) -> Iterator[None]:
        """Lock the run against other drivers, if it outlives this process.

        At the end nothing more is written through this object: tasks of a graph that failed may
        still run in their threads.

        Parameters
        ----------
        force : bool
            Take the lock even if its owner seems alive.

        Raises
        ------
        StoreError
            If another driver holds the lock.
        """
        if not self.durable or not isinstance(self.blocks, ZarrBlocks):
            yield
            return
        with reaching(self.blocks.url, "written", RunError):
            self._lock = Lock(self.blocks, force)
        try:
            yield
        finally:
            self.blocks.files.close()
            self._lock.release()
            self._lock = None

    def update(self, **attributes: Any) -> None:
        """Add attributes to the run and its store."""
        self.check_lock()
        self.attributes |= attributes
        if isinstance(self.blocks, ZarrBlocks):
            document = metadata.group_document({"dadmm": self.attributes})
            self.blocks.files.save(ROOT, document, sync=self.durable)

    def create_data(self, name: str, columns: int, rows: int, chunk: int, dtype: Any) -> None:
        """Make room for ``data/<name>``, (rows, columns) in chunks of `chunk` rows."""
        dims = ("sample", {"x": "feature", "y": "target"}.get(name, name))
        self.blocks.create(f"data/{name}", (rows, columns), chunk, dtype, dims)

    def read_data(self, name: str, chunk: int) -> Array:
        """Return a chunk of ``data/<name>``, or of the user's own array that is read in place.

        Raises
        ------
        StoreError
            If the chunk is damaged, or has changed since the run began.
        """
        table = self.attributes.get("sources", {}).get(name)
        if table is None:
            return self.blocks.read(f"data/{name}", chunk)
        blocks: Any = self.blocks
        checksums = _checksums(blocks, f"data/{name}_crc32c", self.attributes["id"])
        return Source.parse(table).read_checked(self._ranges(name, chunk), int(checksums[chunk]))

    def expect_data(self, name: str, chunk: int) -> None:
        """Prepare to read a chunk of ``data/<name>``, or of the user's own array, soon."""
        table = self.attributes.get("sources", {}).get(name)
        if table is None:
            self.blocks.expect(f"data/{name}", chunk)
        else:
            Source.parse(table).expect(self._ranges(name, chunk))

    def order(self) -> Array | None:
        """Return the caller's number of each row, (rows,) int64; None if they are in order."""
        blocks = self.blocks
        if "row" in blocks.names("data"):
            found = [
                blocks.read("data/row", c)[:, 0].copy() for c in range(blocks.count("data/row"))
            ]
            return np.concatenate(found)
        if not self.attributes.get("sources", {}).get("x", {}).get("unit"):
            return None
        pieces = self.blocks.get("data/x_pieces").tolist()
        return np.concatenate([np.arange(first, end) for first, end in pieces])

    def _ranges(self, name: str, chunk: int) -> list[tuple[int, int]]:
        """Return the ranges of rows of the user's own array that make a chunk."""
        table = self.attributes["sources"][name]
        first, total = chunk * int(table["rows"]), int(table["total"])
        last = min(first + int(table["rows"]), total)
        if not table.get("unit"):
            return [(first, last)]
        blocks: Any = self.blocks
        pieces, ends = _pieces(blocks, f"data/{name}_pieces", self.attributes["id"])
        low, high = np.searchsorted(ends, [first, last], side="right")
        found = [(int(begin), int(end)) for begin, end in pieces[low : max(high, low + 1)]]
        whole = sum(end - begin for begin, end in found) == last - first
        if not whole or not all(0 <= begin < end <= total for begin, end in found):
            raise StoreError(f"{self.url}: data/{name}_pieces do not fit its chunks")
        return found

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
            The name of the rows' dimension.
        """
        for name, width in widths.items():
            path, dims = f"state/{generation}/{name}", (dim, f"{name}_unit")
            self.blocks.create(path, (rows, width), chunk, dtype, dims)

    def load_params(self, generation: int, names: Iterable[str]) -> dict[str, Array]:
        """Return the named parameters of a generation."""
        return {name: self.blocks.get(f"params/{generation}/{name}") for name in names}

    def save_params(self, group: str, params: Mapping[str, Array]) -> None:
        """Store parameters in a group, ``params/<generation>`` or ``network/<number>``."""
        for name, array in params.items():
            kind, _, layer = name.rpartition("_")
            if kind in ("w", "b") and array.ndim in (1, 2):
                dims = (f"in_{layer}", f"out_{layer}")[-array.ndim :]
            elif array.ndim == 1:
                dims = (f"parameter_{layer}",)
            else:
                dims = tuple(f"{name}_{axis}" for axis in range(array.ndim))
            self.blocks.put(f"{group}/{name}", array, dims)

    @property
    def first(self) -> int:
        """Return the number of the first generation.

        A run that overwrites another draws it at random: tasks of the other may still be running.
        """
        return int(self.attributes.get("first", 0))

    def commit(
        self,
        iteration: int,
        generation: int,
        row: Mapping[str, float] | None = None,
        previous: int | None = None,
    ) -> None:
        """Commit `iteration`, whose state and parameters must be settled.

        Parameters
        ----------
        generation : int
            The generation of its state and parameters.
        row : dict or None
            Its row of the history.
        previous : int or None
            The generation of the iteration before, if that is still there.

        Raises
        ------
        RunError
            If another driver has taken the run over.
        """
        record = self.committed() or {
            "flushed": 0,
            "rows": [],
            "columns": [],
            "next": generation,
            "started": generation,
        }
        if row is not None:
            record["rows"] = [*record["rows"], dict(row)]
        record |= {"iteration": iteration, "generation": generation, "previous": previous}
        record |= {"status": "running", "final": None, "network": None}
        record["next"] = max(record["next"], generation + 1)
        self._publish(record, len(record["rows"]) >= FLUSH_EVERY)

    def finish(self, status: str, final: Mapping[str, float], network: int) -> None:
        """Commit the end of training: its status, final scores, and the number of the network."""
        self.blocks.settle(f"network/{network}")
        record = {**(self.committed() or {}), "status": status}
        self._publish(record | {"final": dict(final), "network": network}, flush=True)
        for name in self.blocks.names("network"):
            if name != str(network):
                self.blocks.delete(f"network/{name}")

    def mark(self, status: str) -> None:
        """Record why the run stopped, at the committed iteration."""
        if record := self.committed():
            self._publish({**record, "status": status, "final": None}, flush=True)

    def claim(self, generation: int) -> None:
        """Record that this session may write generations below a number, before it does."""
        record = self.committed() or {}
        self._publish({**record, "next": max(record["next"], generation)})

    def retreat(
        self,
        iteration: int,
        generation: int,
        rows: Sequence[Mapping[str, float]],
        previous: int | None = None,
        started: int | None = None,
    ) -> None:
        """Commit an earlier iteration, with `rows` as its history; later iterations are lost.

        The arrays of the history stay, because the record before this one counts on them; the next
        flush writes them anew.

        Parameters
        ----------
        started : int or None
            The generation, if its state was made anew by the method's start.
        """
        self.settle(generation)
        record = {**(self.committed() or {}), "flushed": 0, "columns": []}
        if started is not None:
            record["started"] = started
        there = set(self.blocks.names("params"))
        for row in (kept := [dict(row) for row in rows])[-KEPT_PARAMS:]:
            # Parameters that later iterations displaced are not kept any more.
            if str(int(row.get("generation", -1))) not in there:
                row.pop("generation", None)
        record |= {"rows": kept, "status": "running", "final": None}
        record |= {"iteration": iteration, "generation": generation, "previous": previous}
        self._publish(record)

    def settle(self, generation: int) -> None:
        """Make a generation durable, before it is committed."""
        for group in (f"state/{generation}", f"params/{generation}", "constants"):
            self.blocks.settle(group)

    def check_lock(self) -> None:
        """Raise `RunError` if another driver has taken the run over."""
        if self._lock is not None:
            self._lock.check()

    def _publish(self, record: dict[str, Any], flush: bool = False) -> None:
        self.check_lock()
        if flush:
            record["columns"] = history.flush(self.blocks, record)
            record["flushed"] = record["flushed"] + len(record["rows"])
            record["rows"] = []
        self.blocks.publish(record)

    def committed(self) -> dict[str, Any] | None:
        """Return the commit record, or None before the first commit.

        Raises
        ------
        DamageError
            If the record is damaged.
        """
        return checked(self.blocks.record(), self.url, COMMIT)

    def committed_before(self) -> dict[str, Any] | None:
        """Return the commit record before the last one; None if it is gone or damaged."""
        try:
            return checked(self.blocks.previous_record(), self.url, PREVIOUS)
        except DamageError:
            return None

    def sweep(self, state: Iterable[int], params: Iterable[int]) -> None:
        """Delete all generations but those of `state` and `params`."""
        for group, kept in (("state", set(state)), ("params", set(params))):
            for name in self.blocks.names(group):
                if name not in map(str, kept):
                    self.blocks.delete(f"{group}/{name}")

    def tidy(self) -> None:
        """Delete files that a killed process left half-written."""
        if isinstance(self.blocks, ZarrBlocks):
            self.blocks.files.tidy()

    def history(self, mend: bool = False) -> xr.Dataset:
        """Return the history of the committed iterations, over the dimension `iteration`.

        Parameters
        ----------
        mend : bool
            Leave out damaged arrays, instead of raising `DamageError`.
        """
        empty: dict[str, Any] = {"flushed": 0, "rows": [], "columns": []}
        return history.read(self.blocks, self.committed() or empty, mend)


@lru_cache(maxsize=8)
def _checksums(blocks: Blocks, name: str, run: str) -> Array:
    """Return the checksums of the user's own chunks; a process reads them once."""
    return np.asarray(blocks.get(name))


@lru_cache(maxsize=8)
def _pieces(blocks: Blocks, name: str, run: str) -> tuple[Array, Array]:
    """Return ranges of the user's rows, and how many rows there are up to the end of each.

    A process reads them once.
    """
    pieces = np.asarray(blocks.get(name))
    return pieces, np.cumsum(pieces[:, 1] - pieces[:, 0])


def _root_of(blocks: ZarrBlocks) -> bytes | None:
    """Return the root's metadata if it claims to be a run's, else None."""
    try:
        text = blocks.files.text(ROOT)
        return text if "dadmm" in metadata.unchecked(text) else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _is_taken(blocks: ZarrBlocks) -> bool:
    """Whether anything is at the place.

    A root that another driver is writing does not count: if two drivers start at once, the second
    finds the first one's file and fails.
    """
    half = re.compile(rf"\.{re.escape(ROOT)}\..*\.partial")
    found = any(not half.fullmatch(name) for name in blocks.files.entries(""))
    return (blocks.local is not None and blocks.local.is_file()) or found


def _remove(blocks: ZarrBlocks) -> None:
    """Delete a run: the commit records first, so that nobody resumes half of it.

    The root and the lock go last: until then the place is known as a run, and locked.  Tasks that
    still run may write meanwhile, but begin no folder once the root is gone.
    """
    order = {COMMIT: 0, PREVIOUS: 0, ROOT: 2, LOCK: 3}
    for name in sorted(blocks.files.entries(""), key=lambda name: order.get(name, 1)):
        blocks.files.delete(name)
    for name in blocks.files.entries(""):
        blocks.files.delete(name)
