"""Price the tasks of an iteration: seconds of each phase, and bytes of the result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dadmm.app.planner.machine import Rates, interpolate
from dadmm.app.planner.structure import Kind
from dadmm.errors import InputError
from dadmm.numerics.losses import get_loss
from dadmm.solvers.counts import Counts, Work, counts_of
from dadmm.solvers.parts import Part
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver

# Seconds of the last task, which only adds up numbers.
REPORT = 1e-3
# Bytes of a result of a few numbers.
FEW = 500.0


@dataclass(frozen=True)
class Store:
    """How fast one worker reads and writes chunks.

    Parameters
    ----------
    read, write : float
        Bytes per second of cached chunks, checksums included.
    cold : float or None
        Bytes per second of reading chunks that are not cached; None if all are.
    file : float
        Seconds per chunk.
    seek : float
        Seconds per chunk of reading one that is not cached.
    """

    read: float
    write: float
    cold: float | None
    file: float
    seek: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What costs depend on beside the counts.

    Parameters
    ----------
    solver, problem : Solver, Problem
    inputs : int
        Bytes of one number of the inputs, as stored.
    rates : Rates
    store : Store
    """

    solver: Solver
    problem: Problem
    inputs: int
    rates: Rates
    store: Store


@dataclass(frozen=True)
class Cost:
    """What a task takes.

    Parameters
    ----------
    phases : dict of str to float
        Seconds by phase: "load", "read", "visit", "write", "add", "solve".
    result : float
        Bytes of its result.
    varies : bool
        Whether to expect stragglers.
    """

    phases: dict[str, float]
    result: float
    varies: bool = False

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(self.phases.values())


def known(solver: Solver) -> Counts:
    """Return the counts that a method has registered.

    Raises
    ------
    InputError
        If it has registered none.
    """
    found = counts_of(solver)
    if found is None:
        raise InputError(
            f"solver {solver.name!r} does not say what its visits compute, so there is no plan: "
            "register that with dadmm.solvers.counts.register"
        )
    return found


def cost(kind: Kind, setting: Setting) -> Cost:
    """Return the cost of a task of a kind."""
    if kind.name == "visit":
        return _visit(kind, setting)
    if kind.name == "add":
        return _add(kind, setting)
    if kind.name == "load":
        return _load(kind.layer, setting)
    if kind.name == "solve":
        return _solve(kind, setting)
    return Cost({"solve": REPORT}, FEW)


def seconds(work: Work, rates: Rates, dtype: str) -> float:
    """Return how long counted operations take by themselves."""
    double = np.dtype(dtype).itemsize / 4
    products = sum(
        2.0 * a * b * c * times / rates.product(a, b, c)
        for (a, b, c), times in work.products.items()
    )
    loops = sum(count * rates.loops[name] for name, count in work.loops.items())
    wide = sum(count / interpolate(rates.wide, width) for width, count in work.wide.items())
    rest = work.moved / rates.memory + work.calls * rates.call
    return double * (products + loops) + wide + rest


def correction(setting: Setting) -> float:
    """Return the measured ratio of a solver's visits to the time of their counted operations."""
    table = setting.rates.visits.get(setting.solver.name)
    widths = setting.problem.architecture.widths
    return interpolate(table, max(widths[1:-1] or widths[:1])) if table else 1.0


def _visit(kind: Kind, setting: Setting) -> Cost:
    problem, solver, store = setting.problem, setting.solver, setting.store
    part = kind.part
    assert part is not None
    work = known(solver).visit(solver, problem, part, kind.rows)
    visiting = correction(setting) * seconds(work, setting.rates, problem.dtype)
    wanted, files = _read(part, kind.rows, setting)
    reading = wanted / store.read + files * store.file
    if store.cold is not None:
        # The system reads ahead while the worker computes the visit before.
        waiting = max(0.0, wanted / store.cold - wanted / store.read) + files * store.seek
        reading += max(0.0, waiting - visiting) if kind.expects else waiting
    reading += seconds(_scaled(part, kind.rows, setting), setting.rates, problem.dtype)
    sizes = _sizes(kind.rows, setting)
    written = sum(sizes[name] for name in part.writes)
    writing = written / store.write + len(part.writes) * store.file
    return Cost({"read": reading, "visit": visiting, "write": writing}, work.result + FEW, True)


def _sizes(rows: int, setting: Setting) -> dict[str, float]:
    """Return the bytes of a chunk of each array of the state."""
    solver, problem = setting.solver, setting.problem
    item = np.dtype(problem.dtype).itemsize
    layout = solver.layout(problem)
    found = {name: float(item * rows * w) for name, w in layout.state.items()}
    return found | {name: float(item * w) for name, w in layout.memory.items()}


def _read(part: Part, rows: int, setting: Setting) -> tuple[float, int]:
    """Return the bytes, and the number of chunks, that a visit reads."""
    problem, sizes = setting.problem, _sizes(rows, setting)
    names = (*part.reads, *part.fresh)
    wanted, files = sum(sizes[name] for name in names), len(names)
    if part.x:
        wanted, files = wanted + rows * problem.architecture.widths[0] * setting.inputs, files + 1
    if part.y:
        wanted, files = wanted + rows * target_bytes(problem), files + 1 + problem.weighted
    return wanted, files


def target_bytes(problem: Problem) -> int:
    """Return the bytes of a row's targets and weight, as stored."""
    if not problem.supervised:
        return 0
    outputs = problem.architecture.widths[-1]
    stored = 4 if problem.classes else 8 * outputs
    if get_loss(problem.loss).multi_label:
        stored = outputs
    return stored + 8 * problem.weighted


def _scaled(part: Part, rows: int, setting: Setting) -> Work:
    """Return the work of scaling inputs and encoding targets before a visit."""
    work, widths = Work(), setting.problem.architecture.widths
    if part.x and known(setting.solver).whole_inputs:
        work.loop("pass", 2 * rows * widths[0], 4)
        work.moved += rows * widths[0] * (setting.inputs + 4)
    if part.y:
        work.loop("pass", 4 * rows * widths[-1], 6)
    return work


def held(part: Part, rows: int, setting: Setting) -> float:
    """Return the number of numbers in the sums of a part's visits."""
    solver, item = setting.solver, np.dtype(setting.problem.dtype).itemsize
    return known(solver).visit(solver, setting.problem, part, rows).result / item


def _add(kind: Kind, setting: Setting) -> Cost:
    """Return the cost of reading each summand, and of reading and writing the total for each."""
    item = np.dtype(setting.problem.dtype).itemsize
    known = {part: held(part, 1, setting) for parts, _ in kind.parts for part in parts}
    moved, calls = 0.0, 0.0
    for parts, total in kind.parts:
        numbers = sum(known[part] for part in parts)
        moved += numbers * ((8 if total else item) + 16)
        calls += 20 * len(parts)
    taken = moved / setting.rates.memory + calls * setting.rates.call
    return Cost({"add": taken}, 8 * sum(known.values()) + FEW)


def _load(layer: int, setting: Setting) -> Cost:
    solver, problem = setting.solver, setting.problem
    ready, solved = known(solver).weights(solver, problem, layer)
    names = solver.layout(problem).layers[layer]
    taken = solved.result / setting.store.read + len(names) * _file(setting.store)
    taken += seconds(ready, setting.rates, "float32")
    return Cost({"load": taken}, ready.result + FEW)


def _solve(kind: Kind, setting: Setting) -> Cost:
    solver, problem, store = setting.solver, setting.problem, setting.store
    layout = solver.layout(problem)
    ready, work = known(solver).weights(solver, problem, kind.layer)
    taken = seconds(work, setting.rates, "float32")
    taken += work.constants / store.read
    taken += len(layout.constants_of(kind.layer)) * _file(store)
    if not kind.saves:
        return Cost({"solve": taken}, ready.result + FEW)
    names = layout.layers[kind.layer]
    taken += work.result / store.write + 2 * len(names) * store.file
    return Cost({"solve": taken}, FEW)


def _file(store: Store) -> float:
    """Return the seconds of reading a chunk, however small."""
    return store.file + (0.0 if store.cold is None else store.seek)
