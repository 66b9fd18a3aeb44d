"""One training run: what is stored, under which names, and what is committed."""

from __future__ import annotations

import math
import os
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import numpy as np
import xarray as xr

from dadmm.errors import DadmmError, DamageError, RunError, StoreError, TakenError
from dadmm.numerics.types import Array
from dadmm.store import metadata
from dadmm.store.arrays import COMMIT, PREVIOUS, Blocks, MemoryBlocks, ZarrBlocks
from dadmm.store.lock import LOCK, Lock, refuse_locked
from dadmm.store.replace import PASSING
from dadmm.store.sources import Source

FORMAT = 3
KEPT_PARAMS = 3
# Names of the history's columns, which are names of folders.
COLUMN = re.compile(r"[a-z][a-z0-9_]{0,99}")
FLUSH_EVERY = 64
# How inputs and targets are scaled, in the order in which it is written.
SCALING = ("x_centre", "x_scale", "y_centre", "y_scale")
HISTORY_ROWS = 1024
# A record that claims more was forged.
MOST_ITERATIONS = 10**6
ROOT = "zarr.json"


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
        self._lock: Lock | None = None

    def __getstate__(self) -> dict[str, Any]:
        needed = {k: self.attributes[k] for k in ("id", "sources") if k in self.attributes}
        return {"blocks": self.blocks, "attributes": needed, "_lock": None}

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
            If something is there already and `overwrite` is not set, if another driver is at
            work there, or if the place cannot be written to.
        """
        attributes = {**attributes, "format": FORMAT, "id": uuid.uuid4().hex[:8]}
        blocks = ZarrBlocks(url, attributes["id"], durable)
        with _reaching(url, "looked into"):
            taken, ours = _is_taken(blocks), _root_of(blocks) is not None
        if taken and not overwrite:
            kind = TakenError if ours else StoreError
            raise kind(
                f"{url} exists: resume it, choose another path, or overwrite it "
                "(--overwrite, overwrite=True)"
            )
        if taken and not ours:
            raise StoreError(f"{url} is not a dadmm run, so it is not overwritten: remove it first")
        with _reaching(url, "written"):
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
            If there is none, or it has another format version.
        """
        blocks = ZarrBlocks(url)
        with _reaching(url, "read"):
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
                raise ValueError("its attributes are none of a run")
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
        """Whether all that the run needs is stored whole: the scaling is written last."""
        try:
            if self.committed() is None:
                for name in SCALING:
                    self.blocks.get(f"scaling/{name}")
        except DamageError as damage:
            return damage.name in (COMMIT, PREVIOUS)
        return True

    def delete(self) -> None:
        """Remove the run from where it is stored."""
        if isinstance(self.blocks, ZarrBlocks):
            _remove(self.blocks)

    @contextmanager
    def locked(self, force: bool = False) -> Iterator[None]:
        """Keep other drivers away from a run that outlives this process.

        Parameters
        ----------
        force : bool
            Take it from a driver that seems alive.

        Raises
        ------
        StoreError
            If another driver is at work on it.
        """
        if not self.durable or not isinstance(self.blocks, ZarrBlocks):
            yield
            return
        with _reaching(self.blocks.url, "written", RunError):
            self._lock = Lock(self.blocks, force)
        try:
            yield
        finally:
            self._lock.release()
            self._lock = None

    def update(self, **attributes: Any) -> None:
        """Add to the run's attributes, in the store too."""
        self.check_lock()
        self.attributes |= attributes
        if isinstance(self.blocks, ZarrBlocks):
            document = metadata.group_document({"dadmm": self.attributes})
            self.blocks.files.save(ROOT, document, sync=self.durable)

    # ------------------------------------------------------------------------------ what it holds

    def create_data(self, name: str, columns: int, rows: int, chunk: int, dtype: Any) -> None:
        """Make room for ``data/<name>``, (rows, columns) in chunks of `chunk` rows."""
        dims = ("sample", {"x": "feature", "y": "target"}.get(name, name))
        self.blocks.create(f"data/{name}", (rows, columns), chunk, dtype, dims)

    def read_data(self, name: str, chunk: int) -> Array:
        """Return a chunk of ``data/<name>``, from the user's own array where it stays there.

        Raises
        ------
        StoreError
            If it is damaged, or is not what it was when the run began.
        """
        table = self.attributes.get("sources", {}).get(name)
        if table is None:
            return self.blocks.read(f"data/{name}", chunk)
        rows = int(table["rows"])
        expected = _fingerprints(
            cast(Any, self.blocks), f"data/{name}_crc32c", self.attributes["id"]
        )[chunk]
        first = chunk * rows
        last = min(first + rows, int(table["total"]))
        return Source.parse(table).read_checked(first, last, int(expected))

    def expect_data(self, name: str, chunk: int) -> None:
        """Prepare for a chunk of ``data/<name>`` that will be read soon; not of the user's own."""
        if name not in self.attributes.get("sources", {}):
            self.blocks.expect(f"data/{name}", chunk)

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

    def load_params(self, generation: int, names: Iterable[str]) -> dict[str, Array]:
        """Return the named parameters of a generation."""
        return {name: self.blocks.get(f"params/{generation}/{name}") for name in names}

    def save_params(self, group: str, params: Mapping[str, Array]) -> None:
        """Store parameters in a group, ``params/<generation>`` or ``network``."""
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

        It is drawn for a run that takes another's place: tasks of that one may still be at work.
        """
        return int(self.attributes.get("first", 0))

    def commit(
        self,
        iteration: int,
        generation: int,
        row: Mapping[str, float] | None = None,
        previous: int | None = None,
    ) -> None:
        """Say that `iteration` is whole: its state and parameters, settled, and its history.

        Parameters
        ----------
        generation : int
            Where its state and parameters are.
        previous : int or None
            Where those of the iteration before are, if they are still there.

        Raises
        ------
        RunError
            If another driver has taken the run over.
        """
        record = self.committed() or {"flushed": 0, "rows": [], "columns": [], "next": generation}
        if row is not None:
            record["rows"] = [*record["rows"], dict(row)]
        record |= {"iteration": iteration, "generation": generation, "previous": previous}
        record |= {"status": "running", "final": None, "network": None}
        record["next"] = max(record["next"], generation + 1)
        self._publish(record, len(record["rows"]) >= FLUSH_EVERY)

    def finish(self, status: str, final: Mapping[str, float], network: int) -> None:
        """Say that training is over, and why; the network is stored under a number, scored."""
        self.blocks.settle(f"network/{network}")
        record = {**(self.committed() or {}), "status": status}
        self._publish(record | {"final": dict(final), "network": network}, flush=True)
        for name in self.blocks.names("network"):
            if name != str(network):
                self.blocks.delete(f"network/{name}")

    def mark(self, status: str) -> None:
        """Say why the run stopped, at the iteration that is committed."""
        if record := self.committed():
            self._publish({**record, "status": status, "final": None}, flush=True)

    def claim(self, generation: int) -> None:
        """Say that this session may write into generations up to a number, before it does."""
        record = self.committed() or {}
        self._publish({**record, "next": max(record["next"], generation)})

    def retreat(
        self,
        iteration: int,
        generation: int,
        rows: Sequence[Mapping[str, float]],
        previous: int | None = None,
    ) -> None:
        """Go back to an earlier iteration, whose history is `rows`; what came later is gone.

        The arrays of the history are left as they are, for the record before this one counts on
        them; the next flush makes them anew.
        """
        self.settle(generation)
        record = {**(self.committed() or {}), "flushed": 0, "columns": []}
        record |= {"rows": [dict(row) for row in rows], "status": "running", "final": None}
        record |= {"iteration": iteration, "generation": generation, "previous": previous}
        self._publish(record)

    def settle(self, generation: int) -> None:
        """Make durable what a generation consists of, before it is committed."""
        for group in (f"state/{generation}", f"params/{generation}", "constants"):
            self.blocks.settle(group)

    def check_lock(self) -> None:
        """Raise `RunError` if another driver has taken the run over."""
        if self._lock is not None:
            self._lock.check()

    def _publish(self, record: dict[str, Any], flush: bool = False) -> None:
        self.check_lock()
        if flush:
            record["columns"] = self._flush(record)
            record["flushed"] = record["flushed"] + len(record["rows"])
            record["rows"] = []
        self.blocks.publish(record)

    def committed(self) -> dict[str, Any] | None:
        """Return the commit record, or None before the first commit.

        Raises
        ------
        DamageError
            If it is damaged.
        """
        return self._checked(self.blocks.record(), COMMIT)

    def committed_before(self) -> dict[str, Any] | None:
        """Return the commit record before the last one, if it is there and whole."""
        try:
            found = getattr(self.blocks, "previous_record", lambda: None)()
            return self._checked(found, PREVIOUS)
        except DamageError:
            return None

    def _checked(self, record: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
        """Return a record whose form is right: it may come from a store that others made."""
        if record is None:
            return None
        counts = [record.get(key) for key in ("iteration", "generation", "flushed", "next")]
        columns = record.get("columns")
        rows = record.get("rows")
        whole = (
            all(type(n) is int and 0 <= n < 2**53 for n in counts)
            and record["iteration"] <= MOST_ITERATIONS
            and all(
                record.get(key) is None or type(record[key]) is int
                for key in ("previous", "network")
            )
            and isinstance(columns, list)
            and all(isinstance(name, str) and COLUMN.fullmatch(name) for name in columns)
            and isinstance(rows, list)
            and all(map(_is_numbers, rows))
            and record["flushed"] + len(rows) == record["iteration"]
            and isinstance(record.get("status"), str)
            and _is_numbers(record.get("final") or {})
        )
        if not whole or not {"previous", "network", "final"} <= record.keys():
            raise DamageError(str(self.url), name, None, "is damaged (it is no commit record)")
        return record

    def sweep(self, state: Iterable[int], params: Iterable[int]) -> None:
        """Delete generations of state and of parameters but for some, and leftovers."""
        for group, kept in (("state", set(state)), ("params", set(params))):
            for name in self.blocks.names(group):
                if name not in map(str, kept):
                    self.blocks.delete(f"{group}/{name}")

    def tidy(self) -> None:
        """Delete what a killed process left half-written."""
        if isinstance(self.blocks, ZarrBlocks):
            self.blocks.files.tidy()

    # ----------------------------------------------------------------------------------- history

    def _flush(self, record: Mapping[str, Any]) -> list[str]:
        """Move the record's rows into arrays, and return their names.

        Until the record is published the rows are there twice.  Chunks have one size however long
        the history is, and keep what they held: one killed here leaves arrays whose first rows, the
        only ones that the old record counts, are as before.
        """
        history = self._history(record)
        if not record["rows"]:
            return list(record["columns"])
        if not record["flushed"]:
            self.blocks.delete("history")  # of before a retreat
        for name, column in history.variables.items():
            self.blocks.put(f"history/{name}", column.values, ("iteration",), HISTORY_ROWS)
        self.blocks.settle("history")
        return [str(name) for name in history.data_vars]

    def _columns(self, record: Mapping[str, Any], mend: bool) -> dict[str, Array]:
        flushed, columns = record["flushed"], {}
        for name in record["columns"]:
            try:
                found = self.blocks.get(f"history/{name}", flushed)
                if found.ndim != 1 or len(found) < flushed:
                    raise DamageError(str(self.url), f"history/{name}", None, "is too short")
                columns[name] = found[:flushed]
            except DamageError:
                if not mend:
                    raise
        return columns

    def history(self, mend: bool = False) -> xr.Dataset:
        """Return the history of the committed iterations, over the dimension `iteration`.

        Parameters
        ----------
        mend : bool
            Leave out what is damaged, instead of raising `DamageError`.
        """
        empty: dict[str, Any] = {"flushed": 0, "rows": [], "columns": []}
        return self._history(self.committed() or empty, mend)

    def _history(self, record: Mapping[str, Any], mend: bool = False) -> xr.Dataset:
        flushed, rows = record["flushed"], record["rows"]
        columns = self._columns(record, mend)
        data = {}
        for name in dict.fromkeys([*columns, *(name for row in rows for name in row)]):
            old = columns[name] if name in columns else np.full(flushed, np.nan)
            new = [float(row.get(name, math.nan)) for row in rows]
            data[name] = ("iteration", np.concatenate([old, new]))
        return xr.Dataset(data, coords={"iteration": np.arange(1, flushed + len(rows) + 1)})


@lru_cache(maxsize=8)
def _fingerprints(blocks: Any, name: str, token: str) -> Array:
    """Return the checksums of the user's own chunks, which a process reads once."""
    return np.asarray(blocks.get(name))


@contextmanager
def _reaching(
    url: str | os.PathLike[str], doing: str, kind: type[DadmmError] = StoreError
) -> Iterator[None]:
    """Say in one line that a place cannot be reached, whatever its file system raises."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        kind = RunError if getattr(error, "errno", None) in PASSING else kind
        raise kind(f"{url} cannot be {doing}: {why}") from error


def _is_numbers(row: Any) -> bool:
    """Whether a value is a dict of numbers, none too large for a float."""
    return isinstance(row, dict) and all(
        type(v) is float or (type(v) is int and abs(v) < 2**53) for v in row.values()
    )


def _root_of(blocks: ZarrBlocks) -> bytes | None:
    """Return the metadata of what calls itself a run, None for anything else."""
    try:
        text = blocks.files.text(ROOT)
        return text if "dadmm" in metadata.unchecked(text) else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _is_taken(blocks: ZarrBlocks) -> bool:
    """Whether anything is at the place, but for a root that another driver is about to save.

    Of two that save theirs at once the second finds the first one's there, and says so.
    """
    half = re.compile(rf"\.{re.escape(ROOT)}\..*\.partial")
    found = any(not half.fullmatch(name) for name in blocks.files.entries(""))
    return (blocks.local is not None and blocks.local.is_file()) or found


def _remove(blocks: ZarrBlocks) -> None:
    """Remove a run: what makes it resumable first, what shows that it is a run last."""
    order = {COMMIT: 0, PREVIOUS: 0, ROOT: 2, LOCK: 3}
    for name in sorted(blocks.files.entries(""), key=lambda name: order.get(name, 1)):
        blocks.files.delete(name)
