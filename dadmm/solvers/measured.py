"""The memory that a method's visits hold, measured on small chunks of random data."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dadmm.networks.scaling import Scaling
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import release
from dadmm.solvers.counts import Footprint, target_bytes
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.solver import Solver, Weights, call
from dadmm.solvers.sums import Sums, combine

# Rows of the two chunks, whose difference shows what grows with the rows.
SIZES = (64, 192)


def measure(solver: Solver, problem: Problem, inputs: int) -> Footprint:
    """Measure on two small chunks what a run holds in memory.

    Memory that Python and NumPy allocate is counted, that of compiled libraries is not.

    Parameters
    ----------
    inputs : int
        Bytes of one of the stored inputs.
    """
    params = solver.initial(problem, 0)
    layout = solver.layout(problem)
    prepared: dict[int, Arrays] = {}
    making = 0
    for layer, names in layout.layers.items():
        own = {name: params[name] for name in names}
        with _peak() as peak:
            prepared[layer] = solver.prepare(problem, layer, own)
        making = max(making, peak())
    _visits(solver, problem, inputs, prepared, SIZES[0])  # what only a first call takes
    found = [_visits(solver, problem, inputs, prepared, rows) for rows in SIZES]
    (least, sums), (most, _) = found
    row = max(0, -(-(most - least) // (SIZES[1] - SIZES[0])))
    updating = 0
    for layer, own in prepared.items():
        with _peak() as peak:
            solver.update(problem, layer, Weights(own, own, {}), combine([sums]))
        updating = max(updating, peak())
    size = sum(np.asarray(array).size for array in sums.values())
    return Footprint(
        row=row + target_bytes(problem),
        visit=max(0, least - row * SIZES[0]),
        weights=2 * sum(_bytes(own) for own in prepared.values()),
        sums=_bytes(sums),
        total=8 * size,
        solve=max(making, updating),
    )


def _visits(
    solver: Solver, problem: Problem, inputs: int, prepared: dict[int, Arrays], rows: int
) -> tuple[int, Sums]:
    """Return the peak of all parts on one chunk, its data included, and the iteration's sums."""
    merged = {name: array for own in prepared.values() for name, array in own.items()}
    passes = solver.passes(problem, 1)
    sums: Sums = {}
    release()
    with _peak() as peak:
        x, y = _data(problem, inputs, rows)
        seed, scaling = (0, 0, 0), Scaling.identity(x.shape[1])
        weight = np.ones(rows, problem.dtype) if problem.weighted else None
        chunk = Chunk(x, y, {}, seed, weight=weight, scaling=scaling, dtype=problem.dtype)
        state, constants = solver.start(problem, merged, chunk)
        chunk.state.update(state)
        for each in (*passes.before, *passes.iteration, *passes.after):
            for part in each.parts:
                found = call(solver, problem, part, merged, chunk)
                if each in passes.iteration:
                    sums |= found
    return peak(), constants | sums


def _data(problem: Problem, inputs: int, rows: int) -> tuple[Array, Array | None]:
    """Return inputs and targets that nothing can be learnt from."""
    rng = np.random.default_rng(0)
    widths = problem.architecture.widths
    kind = {1: "u1", 2: "f2", 4: "f4"}.get(inputs, "f8")
    x = rng.random((rows, widths[0])).astype(kind)
    if not problem.supervised:
        return x, None
    if not problem.classes:
        return x, rng.standard_normal((rows, widths[-1])).astype(problem.dtype)
    loss = get_loss(problem.loss)
    shape = (rows, problem.classes) if loss.multi_label else (rows,)
    codes = rng.integers(2 if loss.multi_label else problem.classes, size=shape)
    return x, loss.encode(codes, problem.classes, problem.dtype)


def _bytes(arrays: dict[str, Any]) -> int:
    return sum(np.asarray(array).nbytes for array in arrays.values())


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the most bytes that the block held beyond those before."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    most = 0
    try:
        yield lambda: most
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()
