"""The rates of a machine, and the file that keeps them, which is checked when it is read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dadmm.errors import InputError
from dadmm.solvers.counts import LOOPS
from dadmm.store.replace import as_json, replace_file, writing

VERSION = 2
MOST_BYTES = 2**20
# Rows and widths of timed products, and widths of timed float64 matrices.
ROWS = (32, 128, 512, 4096)
WIDTHS = (8, 32, 128, 512, 1024)
WIDE = (32, 128, 512, 1024)
# Widths of timed visits.
VISITS = (32, 256, 1024)

Table = dict[int, float]  # size to rate; logarithms are interpolated linearly


@dataclass(frozen=True)
class Rates:
    """The speed of one process, while either none or all of the other cores are busy.

    Parameters
    ----------
    products : dict of int to dict of int to float
        Rows, then width, to floating-point operations of float32 per second.
    wide : dict of int to float
        Width to operations per second of float64 on square matrices: factors and products.
    loops : dict of str to float
        Seconds per element of each loop of `dadmm.solvers.counts.LOOPS`, in the cache.
    call : float
        Seconds of a call from Python that has next to nothing to compute.
    memory : float
        Bytes per second of passes over arrays that no cache holds.
    shared_read, shared_write : float
        Bytes per second of the store in the system's memory, checksums included.
    disk_read, disk_cold, disk_write : float
        Bytes per second of the store on the disk: reading cached chunks, reading others, and
        writing into the system's cache.
    disk_drain : float
        Bytes per second from the system's cache onto the disk, synced.
    shared_delete, disk_delete : float
        Bytes per second at which the driver, alone, deletes a generation.
    unlink : float
        Seconds of deleting even the smallest chunk.
    file, seek : float
        Seconds of reading or writing even the smallest chunk; and of reading one not cached.
    visits : dict of str to dict of int to float
        Solver, then width, to the ratio of a visit's time in a run to that of its counted
        operations.
    """

    products: dict[int, Table]
    wide: Table
    loops: dict[str, float]
    call: float
    memory: float
    shared_read: float
    shared_write: float
    disk_read: float
    disk_cold: float
    disk_write: float
    disk_drain: float
    shared_delete: float
    disk_delete: float
    unlink: float
    file: float
    seek: float
    visits: dict[str, Table] = field(default_factory=dict)

    def product(self, rows: float, inner: float, outer: float) -> float:
        """Return operations per second of a product of these sizes.

        A square with the same ratio of operations to numbers moved replaces the smaller sizes.
        """
        low, middle, high = sorted((rows, inner, outer))
        width = 2 * low * middle / (low + middle)
        by_rows = {each: interpolate(table, width) for each, table in self.products.items()}
        return interpolate(by_rows, high)


@dataclass(frozen=True)
class Machine:
    """A machine, and the overhead of Dask.

    Parameters
    ----------
    cores : int
    memory : float
        Bytes.
    alone, together : Rates
        Rates of one process by itself, and of each of one process per core.
    task : float
        Seconds of the scheduler, and of sending the graph, per task.
    overhead : float
        Seconds of a worker per task, beside the task's work.
    hop : float
        Seconds from the end of a task to the start of one that waited for it.
    net : float
        Bytes per second between two workers.
    driver : float
        Seconds of the driver per iteration, whatever is computed.
    sync : float
        Seconds to make and sync an array of a generation, beside its bytes.
    made : str
        Date and place of the measurement.
    """

    cores: int
    memory: float
    alone: Rates
    together: Rates
    task: float
    overhead: float
    hop: float
    net: float
    driver: float
    sync: float
    made: str

    def rates(self, busy: int) -> Rates:
        """Return the rates of each of `busy` processes at work on one machine."""
        if self.cores == 1 or busy <= 1:
            return self.alone
        share = (min(busy, self.cores) - 1) / (self.cores - 1)
        mixed: Rates = mix(self.alone, self.together, share)
        return mixed


def interpolate(table: Mapping[int, float], at: float) -> float:
    """Return a table's value: linear between points in logarithms, constant beyond the ends."""
    sizes = sorted(table)
    if at <= sizes[0]:
        return table[sizes[0]]
    for low, high in pairwise(sizes):
        if at <= high:
            share = math.log(at / low) / math.log(high / low)
            return math.exp((1 - share) * math.log(table[low]) + share * math.log(table[high]))
    return table[sizes[-1]]


def mix(a: Any, b: Any, share: float) -> Any:
    """Return the geometric mean, weighted by `share`, of two machines, rates or numbers."""
    if isinstance(a, (Machine, Rates)):
        names = (f.name for f in fields(a))
        return replace(a, **{n: mix(getattr(a, n), getattr(b, n), share) for n in names})
    if isinstance(a, Mapping):
        return {key: mix(a[key], b[key], share) for key in a if key in b}
    return a ** (1 - share) * b**share if isinstance(a, float) else a


def place(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the calibration, in the user's folder for caches."""
    folder = environ.get("XDG_CACHE_HOME", "")
    base = Path(folder) if os.path.isabs(folder) else Path(environ.get("HOME", "~")) / ".cache"
    return base.expanduser() / "dadmm" / "machine.json"


def save(machine: Machine, path: Path) -> None:
    """Write a calibration; errors as `dadmm.store.replace.writing`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, as_json({"version": VERSION, **asdict(machine)}))


def load(path: Path) -> Machine | None:
    """Return the calibration in a file; None if there is no file.

    Raises
    ------
    InputError
        If the file is not of this version, or has numbers out of range.
    """
    cure = "measure again: dadmm plan --calibrate"
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {cure}") from error
    try:
        if len(content) > MOST_BYTES:
            raise ValueError("it is too large")
        return parse(json.loads(content))
    except (ValueError, RecursionError) as error:
        why = (
            "it is no JSON" if isinstance(error, (json.JSONDecodeError, RecursionError)) else error
        )
        raise InputError(f"{path} is no calibration: {why}; {cure}") from error


def parse(found: Any) -> Machine:
    """Return the machine that a table describes; `ValueError` says what is wrong with it."""
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    _only(found, ("version", *(f.name for f in fields(Machine))), "the file")
    cores = found["cores"]
    if type(cores) is not int or not 1 <= cores <= 65536:
        raise ValueError("cores is not 1 to 65536")
    if not isinstance(found["made"], str) or len(found["made"]) > 200:
        raise ValueError("made is no short text")
    numbers = {
        name: _number(found[name], name, 1e-9, 1e18)
        for name in ("memory", "task", "overhead", "hop", "net", "driver", "sync")
    }
    alone, together = (_rates(found[name], name) for name in ("alone", "together"))
    return Machine(cores, alone=alone, together=together, made=found["made"], **numbers)


def _rates(found: Any, where: str) -> Rates:
    names = tuple(f.name for f in fields(Rates))
    _only(found, names, where)
    if not isinstance(found["products"], dict) or not found["products"]:
        raise ValueError(f"{where}.products is no table")
    if not isinstance(found["visits"], dict):
        raise ValueError(f"{where}.visits is no table")
    _only(found["loops"], LOOPS, f"{where}.loops")
    tables = ("products", "wide", "loops", "visits")
    plain = {
        name: _number(found[name], f"{where}.{name}", 1e-9, 1e15)
        for name in names
        if name not in tables
    }
    return Rates(
        products={
            _size(rows, f"{where}.products"): _table(table, f"{where}.products.{rows}", 1e3, 1e16)
            for rows, table in found["products"].items()
        },
        wide=_table(found["wide"], f"{where}.wide", 1e3, 1e16),
        loops={
            name: _number(value, f"{where}.loops.{name}", 1e-13, 1.0)
            for name, value in found["loops"].items()
        },
        visits={
            _solver(name, f"{where}.visits"): _table(table, f"{where}.visits.{name}", 0.01, 100.0)
            for name, table in found["visits"].items()
        },
        **plain,
    )


def _only(found: Any, names: tuple[str, ...], where: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{where} is no table")
    wrong = sorted({*found} ^ {*names}, key=str)
    if wrong:
        raise ValueError(f"{where} lacks, or should not have, {wrong[0]!r}")


def _table(found: Any, where: str, least: float, most: float) -> Table:
    if not isinstance(found, dict) or not 1 <= len(found) <= 64:
        raise ValueError(f"{where} is no table of sizes")
    return {_size(n, where): _number(v, f"{where}.{n}", least, most) for n, v in found.items()}


def _size(text: object, where: str) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise ValueError(f"{where} has the size {str(text)[:20]!r}")
    if int(text) < 1:
        raise ValueError(f"{where} has the size 0")
    return int(text)


def _solver(name: str, where: str) -> str:
    if name not in ("block", "nmf", "relaxed"):
        raise ValueError(f"{where} has a solver {name[:20]!r}")
    return name


def _number(value: Any, where: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where} is no number")
    if not least <= value <= most:  # this refuses NaN too
        raise ValueError(f"{where} is not from {least:g} to {most:g}")
    return float(value)


def typical() -> Machine:
    """Return figures of a machine of two shared server cores, for users who measured none."""
    products = {
        rows: {8: low * 2e9, 32: low * 12e9, 128: low * 60e9, 512: low * 95e9, 1024: low * 100e9}
        for rows, low in ((32, 0.5), (128, 0.8), (512, 1.0), (4096, 1.0))
    }
    loops = dict.fromkeys(LOOPS, 0.5e-9) | {
        "pass": 0.15e-9, "smooth": 2e-9, "u_smooth": 20e-9, "prox": 60e-9, "loss": 10e-9,
        "softmax": 4e-9, "code_sweep": 0.1e-9, "dictionary_sweep": 0.1e-9,
    }  # fmt: skip
    alone = Rates(
        products=products,
        wide={32: 2e9, 128: 10e9, 512: 25e9, 1024: 30e9},
        loops=loops,
        call=1.5e-6,
        memory=8e9,
        shared_read=2.5e9,
        shared_write=1.5e9,
        disk_read=2.5e9,
        disk_cold=1.2e9,
        disk_write=1.0e9,
        disk_drain=0.7e9,
        shared_delete=6e9,
        disk_delete=4e9,
        unlink=1e-4,
        file=3e-4,
        seek=1e-3,
        visits={name: {256: 1.0} for name in ("block", "nmf", "relaxed")},
    )
    shared = {name: getattr(alone, name) / 2 for name in ("disk_cold", "disk_drain")}
    return Machine(
        cores=2,
        memory=16e9,
        alone=alone,
        together=replace(alone, **shared),
        task=1e-3,
        overhead=1e-3,
        hop=5e-3,
        net=0.8e9,
        driver=0.05,
        sync=3e-3,
        made="typical figures of two server cores: nothing was measured here",
    )
