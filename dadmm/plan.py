"""What a run will need, before it starts: rows per chunk from the memory of a worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from dask.utils import format_bytes, parse_bytes
from distributed.system import MEMORY_LIMIT

from dadmm.errors import OptionError, ShapeError
from dadmm.solvers.base import Problem, Solver

SMALLEST = 256
# Python, NumPy, numba, zarr and distributed themselves.
BASE_BYTES = 250 * 2**20


def chunk_rows(
    solver: Solver,
    problem: Problem,
    chunks: int | Sequence[int] | str = "auto",
    memory_limit: int | str | None = None,
) -> tuple[int, ...]:
    """Return the rows of each chunk.

    Parameters
    ----------
    chunks : int, sequence of int, or "auto"
        Rows per chunk; or every chunk's rows, all equal but a smaller last one; or chosen from
        the data's size and the memory.
    memory_limit : int, str or None
        Memory of one worker, as a number of bytes or such as "2GiB"; None does not limit.

    Raises
    ------
    ShapeError
        If the chunks do not tile the rows.
    OptionError
        If `chunks` is no number of rows, or the memory is too small for the network or for the
        smallest chunk.
    """
    n = problem.rows
    memory = None if memory_limit is None else _bytes(memory_limit)
    _check_fits(solver, problem, memory)
    if isinstance(chunks, str) and chunks == "auto":
        return _tiles(n, _auto(solver, problem, memory))
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


def _bytes(memory_limit: int | str) -> int:
    try:
        return int(parse_bytes(memory_limit))
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise OptionError(f"memory_limit={memory_limit!r}: write it like '2GiB'") from error


def _check_fits(solver: Solver, problem: Problem, memory: int | None) -> None:
    """Refuse a network that would take all memory of this machine before training could fail."""
    fixed = solver.footprint(problem)[1]
    if fixed > max(MEMORY_LIMIT, memory or 0):
        widths = " - ".join(map(str, problem.architecture.widths))
        raise OptionError(
            f"the network {widths} needs about {format_bytes(fixed)} of memory, this machine has "
            f"{format_bytes(MEMORY_LIMIT)}: make it narrower, or give the workers' memory_limit"
        )


def _tiles(n: int, rows: int) -> tuple[int, ...]:
    full, rest = divmod(n, rows)
    return (rows,) * full + ((rest,) if rest else ())


def _auto(solver: Solver, problem: Problem, memory: int | None) -> int:
    n = problem.rows
    widest = max(problem.architecture.widths) * np.dtype(problem.dtype).itemsize
    fewest, multiple, most = solver.granularity(problem)
    rows = min(most // widest, max(-(-n // fewest), SMALLEST))
    if memory is not None:
        per_row, fixed = solver.footprint(problem)
        affordable = (memory - BASE_BYTES - fixed) // per_row
        if affordable < min(SMALLEST, n):
            needed = BASE_BYTES + fixed + min(SMALLEST, n) * per_row
            raise OptionError(
                f"memory_limit={format_bytes(memory)} is too small for this network: a worker "
                f"needs at least {-(-needed // 2**20)} MiB"
            )
        rows = min(rows, affordable)
    rows = max(1, min(int(rows), n))
    if rows * multiple < n:
        count = -(-n // rows)
        rows = -(-n // (-(-count // multiple) * multiple))
    return rows
