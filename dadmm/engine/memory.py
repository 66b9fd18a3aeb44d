"""The memory that a run will need, and from it the rows per chunk, before it starts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from dask.utils import format_bytes, parse_bytes

from dadmm.cluster.worker import BASE_BYTES, MIB
from dadmm.engine.layout import FAN_IN
from dadmm.engine.plan import Plan
from dadmm.errors import OptionError, ShapeError
from dadmm.solvers.counts import Footprint, Granularity, counts_of
from dadmm.solvers.measured import measure
from dadmm.solvers.parts import Pass
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver
from dadmm.store.sources import AT_ONCE

SMALLEST = 256
MOST_MEMORY = 2**62
# Chunks of pieces may be so many times as large as a method prefers, if no memory is given.
LARGER = 4
# Whole pieces may make a chunk so many times as large.
LITTLE_MORE = 1.05
# They are so many times as many as a method wants at least.
MANY = 8
ROUNDS = 1024
# The scheduler takes a millisecond for each: an iteration over so many takes half an hour.
MOST_CHUNKS = 2 * 10**6
# What arrays cost beside their bytes: holes in the heap, BLAS's buffers.  Measured: up to a tenth.
HEAP = 0.1
# Share of a worker's memory to use.  At 80 % Dask pauses a worker, for ever because its buffers
# are kept; at 95 % its nanny ends it.
USABLE = 0.75
# Blocks of a user's dask array that a worker holds for each thread: two, and what making and
# measuring them takes.  What else the user's graph needs is not known.
STREAMED = 4
# Blocks that reading a user's zarr array takes: the rows wanted, and up to two chunks beyond them,
# decoded and put together.
DECODED = 3


def worker_bytes(
    solver: Solver,
    problem: Problem,
    rows: int,
    threads: int = 1,
    inputs: int = 8,
    in_place: bool = False,
    unit: int = 0,
) -> int:
    """Return the memory that a worker needs, in bytes, Python included.

    Parameters
    ----------
    rows : int
        Of a chunk.
    threads : int
        Visits that the worker does at once.
    inputs : int
        Bytes of one number of the inputs, as they are stored.
    in_place : bool
        Whether inputs are read from a user's zarr array, whose chunks are decoded in visits.
    unit : int
        Rows of a piece, if these are read piece by piece; 0 if a chunk is one range of rows.
    """
    fixed, per_row = _needs(solver, problem, -(-problem.rows // max(rows, 1)), threads, inputs)
    width = problem.architecture.widths[0] * inputs
    decoded = threads * width * _decoded(rows, unit) if in_place else 0
    return fixed + rows * per_row + decoded


def _decoded(rows: int, unit: int) -> int:
    """Return the rows of a user's zarr array that reading a chunk holds in memory."""
    in_order = DECODED * rows
    # The chunk, and pieces on their way into it: as stored, decoded, and cut out.
    return min(in_order, rows + 3 * AT_ONCE * unit) if unit else in_order


def budget(plan: Plan, memory_limit: int | str | None, threads: int) -> dict[str, float]:
    """Return columns of history: the memory that a worker should need, and what it was given."""
    source = _source(plan)
    sizes = threads, plan.run.attributes["input_bytes"], source is not None, _unit(source)
    planned = worker_bytes(plan.solver, plan.problem, plan.chunks[0], *sizes)
    given = {} if memory_limit is None else {"memory_limit": float(memory_bytes(memory_limit))}
    return {"memory_planned": float(planned), **given}


def check_workers(plan: Plan, memory_limit: int | str | None, threads: int) -> None:
    """Raise `OptionError` if workers have too little memory for the chunks of a stored run."""
    sizes = memory_limit, threads, plan.run.attributes["input_bytes"]
    source, of = _source(plan), (plan.solver, plan.problem, plan.chunks)
    chunk_rows(*of, *sizes, in_place=source is not None, unit=_unit(source))


def _source(plan: Plan) -> Mapping[str, Any] | None:
    """Return where a run reads its inputs in place, as it is stored; None if it has a copy."""
    found: Mapping[str, Any] | None = plan.run.attributes.get("sources", {}).get("x")
    return found


def _unit(source: Mapping[str, Any] | None) -> int:
    """Return the rows of the pieces of inputs in place; 0 for none."""
    return int((source or {}).get("unit", 0))


def _needs(
    solver: Solver, problem: Problem, chunks: int, threads: int, inputs: int
) -> tuple[int, int]:
    """Return the bytes that a worker needs for any number of rows, and those per row of a chunk.

    Every thread keeps the buffers of its visits.  To these are added the sums that wait while
    visits go on; or, later, the total and the memory of the weight solves.
    """
    need = footprint(solver, problem, inputs, chunks)
    # Rounds are all alike, and large data may have more than can be listed quickly.
    rounds = solver.passes(problem, min(chunks, ROUNDS)).iteration
    passes = [each for each in rounds if each.updates]
    waiting = max(_waiting(need, each, chunks, threads) for each in passes)
    solving = need.total + min(threads, len(solver.layout(problem).layers)) * need.solve
    fixed = need.weights + threads * need.visit + max(waiting, solving)
    return BASE_BYTES + math.ceil((1 + HEAP) * fixed), math.ceil((1 + HEAP) * threads * need.row)


_measured: dict[str, Footprint] = {}


def footprint(solver: Solver, problem: Problem, inputs: int, chunks: int) -> Footprint:
    """Return what a run holds in memory: counted by the method, or else measured."""
    known = counts_of(solver)
    if known is not None:
        return known.footprint(solver, problem, inputs, chunks)
    key = f"{solver!r} {problem!r} {inputs}"
    if key not in _measured:
        _measured[key] = measure(solver, problem, inputs)
    return _measured[key]


def _waiting(need: Footprint, each: Pass, chunks: int, threads: int) -> int:
    """Return the most bytes of a pass's sums that wait to be added up in the tree.

    The scheduler adds up what it can before it visits more.  So these wait: one group of results
    and those of the other threads, their total, and on every level a total for its other half.
    """
    visited = chunks if each.chunks is None else len(each.chunks)
    # Of the group that takes the most chunks to fill: in the grid, a layer's own.
    parts = min(Counter(part.group for part in each.parts).values())
    results = min(visited, -(-FAN_IN // parts) + threads - 1)
    groups = -(-visited * parts // FAN_IN)
    totals = 1 + math.ceil(math.log2(groups))
    before, after = results * need.sums, totals * need.total
    return math.ceil(need.share * (before + after) + (1 - need.share) * max(before, after))


def chunk_rows(
    solver: Solver,
    problem: Problem,
    chunks: int | Sequence[int] | str = "auto",
    memory_limit: int | str | None = None,
    threads: int = 1,
    inputs: int = 8,
    streamed: bool = False,
    in_place: bool = False,
    unit: int = 0,
    least: int = 0,
) -> tuple[int, ...]:
    """Return the rows of each chunk.

    Parameters
    ----------
    chunks : int, sequence of int, or "auto"
        Rows per chunk; or every chunk's rows, all equal but a smaller last one; or chosen from
        the data's size and the memory.
    memory_limit : int, str or None
        Memory of one worker, as a number of bytes or such as "2GiB", of which `USABLE` is used;
        None does not limit.
    threads, inputs, in_place : int, int, bool
        See `worker_bytes`.
    streamed : bool
        Whether the inputs are a dask array, whose blocks the workers hold while they store them.
    unit : int
        Rows of the pieces in which inputs are read in place, or 0.  "auto" makes chunks of whole
        pieces, if it can.
    least : int
        Rows that "auto" gives a chunk at least, if the memory and the number of chunks allow it.

    Raises
    ------
    ShapeError
        If the chunks do not tile the rows.
    OptionError
        If `chunks` is no number of rows, or the memory is too small for the network, for the
        chunks given, or for the smallest.
    """
    n = problem.rows
    _check_fits(solver, problem, None if memory_limit is None else memory_bytes(memory_limit))

    def need(rows: int) -> int:
        training = worker_bytes(solver, problem, rows, threads, inputs, in_place, unit)
        block = rows * problem.architecture.widths[0] * inputs
        return max(training, BASE_BYTES + threads * STREAMED * block) if streamed else training

    if isinstance(chunks, str) and chunks == "auto":
        rows = _auto(solver, problem, memory_limit, need)
        if rows < least and _may_be_larger(solver, problem, least, memory_limit, need):
            rows = least
        if 0 < unit <= rows:
            multiple = _granularity(solver, problem).multiple
            larger = (rows // unit + 1) * unit
            fits = memory_limit is None or need(larger) <= _usable(memory_limit)
            most = larger if fits and larger <= LITTLE_MORE * rows else rows
            rows = _whole_units(n, rows, most, unit, least, multiple)
        return _tiles(n, rows)
    given = _given(chunks, n)
    if memory_limit is not None:
        needed = need(given[0])
        if needed > _usable(memory_limit):
            candidates = _falling(n, min(SMALLEST, n))
            most = _first_that_fits(candidates, memory_limit, need)
            raise OptionError(
                f"memory_limit={_words(memory_limit)} is too small for chunks of {given[0]} rows: "
                f"a worker needs at least {_mib(needed)} for them; chunks={most} would fit"
            )
    return given


def _given(chunks: Any, n: int) -> tuple[int, ...]:
    """Return the rows of each chunk, as asked for."""
    if isinstance(chunks, (int, np.integer)) and not isinstance(chunks, bool):
        if chunks < 1:
            raise OptionError(f"chunks={chunks}: use 1 row per chunk or more")
        return _tiles(n, min(int(chunks), n))
    if isinstance(chunks, Sequence) and not isinstance(chunks, str):
        given = tuple(chunks)
        if not all(isinstance(rows, (int, np.integer)) and rows > 0 for rows in given):
            raise OptionError(f"chunks={given}: give every chunk 1 row or more")
        given = tuple(int(rows) for rows in given)
        if sum(given) != n:
            raise ShapeError(f"chunks={given} cover {sum(given)} rows, the data has {n}")
        if given != _tiles(n, given[0]):
            raise ShapeError(
                f"chunks={given} do not tile: all must be equal but the last, which may be smaller"
            )
        return given
    raise OptionError(f"chunks={chunks!r}: use 'auto', a number of rows, or every chunk's rows")


def memory_bytes(memory_limit: int | str) -> int:
    """Return a memory limit in bytes; raise `OptionError` if it is none."""
    try:
        return min(int(parse_bytes(memory_limit)), MOST_MEMORY)
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise OptionError(f"memory_limit={memory_limit!r}: write it like '2GiB'") from error


def _check_fits(solver: Solver, problem: Problem, memory: int | None) -> None:
    """Refuse a network that needs more memory than this machine or a worker has."""
    from distributed.system import MEMORY_LIMIT

    needed, _ = _needs(solver, problem, 1, 1, 8)
    if needed > max(MEMORY_LIMIT, memory or 0):
        widths = " - ".join(map(str, problem.architecture.widths))
        raise OptionError(
            f"the network {widths} needs about {format_bytes(needed)} of memory, this machine has "
            f"{format_bytes(MEMORY_LIMIT)}: make it narrower, or give the workers' memory_limit"
        )


def _tiles(n: int, rows: int) -> tuple[int, ...]:
    if n > MOST_CHUNKS * rows:
        raise OptionError(
            f"{-(-n // rows):,} chunks of {rows:,} rows are more than a graph can have: use larger "
            "chunks, or more memory"
        )
    full, rest = divmod(n, rows)
    return (rows,) * full + ((rest,) if rest else ())


def _usable(memory_limit: int | str) -> int:
    return int(USABLE * memory_bytes(memory_limit))


def _mib(needed: int) -> str:
    """Return the least memory limit that lets so many bytes be used."""
    return f"{math.ceil(needed / USABLE / MIB)} MiB"


def _words(memory_limit: int | str) -> str:
    """Return a limit as it was given; that of a client's workers is a number of bytes."""
    return repr(memory_limit) if isinstance(memory_limit, str) else format_bytes(memory_limit)


def _first_that_fits(
    candidates: Sequence[int], memory_limit: int | str, need: Callable[[int], int]
) -> int:
    """Return the first candidate, in rows per chunk, that a worker has memory for.

    Fewer rows need not use less memory: more chunks mean a deeper sum tree.
    """
    needs = []
    for rows in candidates:
        needs.append(need(rows))
        if needs[-1] <= _usable(memory_limit):
            return rows
    raise OptionError(
        f"memory_limit={_words(memory_limit)} is too small for this network: a worker needs "
        f"at least {_mib(min(needs))}"
    )


def _falling(first: int, least: int) -> list[int]:
    """Return numbers of rows from `first` to `least`, each a fifth below the one before."""
    found = [first]
    while found[-1] > least:
        found.append(max(least, found[-1] * 4 // 5))
    return found


def _auto(
    solver: Solver,
    problem: Problem,
    memory_limit: int | str | None,
    need: Callable[[int], int],
) -> int:
    """Return the rows per chunk that the method prefers; if they do not fit, others."""
    n = problem.rows
    widest = max(problem.architecture.widths) * np.dtype(problem.dtype).itemsize
    wanted = _granularity(solver, problem)
    multiple = wanted.multiple
    liked = max(1, min(wanted.most_bytes // widest, max(-(-n // wanted.fewest), SMALLEST), n))
    if memory_limit is None:
        return _evenly(n, liked, multiple)
    smaller = _falling(liked, min(SMALLEST, liked))
    larger = _falling(n, liked)[::-1]
    candidates = [_evenly(n, rows, multiple) for rows in (*smaller, *larger)]
    return _first_that_fits(candidates, memory_limit, need)


def _may_be_larger(
    solver: Solver,
    problem: Problem,
    rows: int,
    memory_limit: int | str | None,
    need: Callable[[int], int],
) -> bool:
    """Whether chunks of so many rows, more than a method prefers, would still be good ones."""
    wanted = _granularity(solver, problem)
    if problem.rows < MANY * wanted.fewest * rows:
        return False
    if memory_limit is not None:
        return need(rows) <= _usable(memory_limit)
    widest = max(problem.architecture.widths) * np.dtype(problem.dtype).itemsize
    return rows * widest <= LARGER * wanted.most_bytes


def _granularity(solver: Solver, problem: Problem) -> Granularity:
    """Return how a method's data is best cut."""
    known = counts_of(solver)
    return Granularity() if known is None else known.granularity(solver, problem)


def _whole_units(n: int, rows: int, most: int, unit: int, least: int, multiple: int) -> int:
    """Return about as many rows, in whole units, and at most `most`.

    Best is a number of chunks that is a multiple, then a full last chunk, then no more than `rows`.
    """

    def worth(units: int) -> tuple[bool, float, bool, int]:
        size = units * unit
        whole = -(-n // size) % multiple == 0
        return whole, min(_last(n, size) / size, 0.9), size <= rows, units

    units = rows // unit
    fewest = max(1, units * 9 // 10, min(least // unit, units))
    return unit * max(range(fewest, most // unit + 1), key=worth)


def _last(n: int, rows: int) -> int:
    """Return the rows of the last chunk."""
    return (n - 1) % rows + 1


def _evenly(n: int, rows: int, multiple: int) -> int:
    """Return the rows per chunk, fewer so that the number of chunks is a multiple."""
    if rows * multiple >= n:
        return rows
    count = -(-n // rows)
    return -(-n // (-(-count // multiple) * multiple))
