"""Forecast an iteration on a number of workers, and where more workers stop helping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dadmm.app.planner.costs import Cost, Setting, Store, cost, known, target_bytes
from dadmm.app.planner.machine import Machine
from dadmm.app.planner.simulate import Cluster, Trace, simulate
from dadmm.app.planner.structure import Tasks, tasks_of
from dadmm.engine.memory import worker_bytes
from dadmm.engine.plan import Plan
from dadmm.solvers.parts import Layout
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver
from dadmm.store import Run

# Iterations of more tasks are extrapolated from their first tasks.
MOST_TASKS = 30_000
# The least visits per worker in the smaller of the two graphs to extrapolate from.
SETTLED = 8
WORKERS = tuple(2**i for i in range(13))
# Doubling the workers is worth it if it makes an iteration this many times as fast.
WORTH = 1.2
GENERATIONS = 3
# Peaks of the same run differ: 726 and 830 MiB were measured where `worker_bytes` says 817.
MARGIN = 1.1


@dataclass(frozen=True)
class Subject:
    """The training to forecast.

    Parameters
    ----------
    solver, problem : Solver, Problem
    chunks : tuple of int
        Rows of each chunk.
    inputs : int
        Bytes of one number of the inputs, as stored.
    in_place : bool
        Whether the inputs are read where they are, from a zarr array.
    unit : int
        Rows of the pieces in which inputs are read in place; 0 if chunks are ranges of rows.
    shuffled : bool
        Whether the inputs are copied by an external shuffle, which takes a second copy for a while.
    on_disk : bool
        Whether the run is stored on a disk, or in the memory that processes share.
    iterations : int
        Most iterations of the run.
    """

    solver: Solver
    problem: Problem
    chunks: tuple[int, ...]
    inputs: int = 4
    in_place: bool = False
    unit: int = 0
    shuffled: bool = False
    on_disk: bool = True
    iterations: int = 1

    @property
    def layout(self) -> Layout:
        """The arrays of the method."""
        return self.solver.layout(self.problem)

    @property
    def state_bytes(self) -> float:
        """Bytes of one generation of state."""
        item = np.dtype(self.problem.dtype).itemsize
        kept = sum(self.layout.state.values()) * self.problem.rows
        per_chunk = sum(self.layout.memory.values()) * len(self.chunks)
        return float(item * (kept + per_chunk))

    @property
    def data_bytes(self) -> float:
        """Bytes of inputs and targets, as stored."""
        row = self.problem.architecture.widths[0] * self.inputs + target_bytes(self.problem)
        return float(row * self.problem.rows)

    @property
    def parameter_bytes(self) -> float:
        """Bytes of one generation of parameters."""
        count = known(self.solver).weights
        works = (count(self.solver, self.problem, i) for i in self.layout.layers)
        return sum(solved.result for _, solved in works)

    @property
    def arrays(self) -> tuple[int, int]:
        """The numbers of arrays of state and of parameters in one generation."""
        state = len(self.layout.state) + len(self.layout.memory)
        return state, sum(len(names) for names in self.layout.layers.values())

    @property
    def disk_bytes(self) -> float:
        """Most bytes on the disk: generations and copied data, or two copies in a shuffle."""
        copied = self.data_bytes
        if self.in_place:
            copied = float(target_bytes(self.problem) * self.problem.rows)
        generations = GENERATIONS * (self.state_bytes + self.parameter_bytes)
        # The shuffle is over before the first generation is written.
        return copied + max(generations, self.data_bytes if self.shuffled else 0.0)

    @property
    def worker_bytes(self) -> float:
        """Bytes of memory that a worker needs, at most."""
        sizes = 1, self.inputs, self.in_place, self.unit
        return MARGIN * worker_bytes(self.solver, self.problem, self.chunks[0], *sizes)

    def plan(self, chunks: int | None = None) -> Plan:
        """Return the plan of a run, or of its first chunks; nothing computes it."""
        fewer = chunks is not None and chunks < len(self.chunks)
        sizes = self.chunks[:chunks] if fewer else self.chunks
        return Plan(Run.in_memory({}), self.solver, self.problem, sizes, 0, "plan")


@dataclass(frozen=True)
class Conditions:
    """Differences of a cluster from the machine that was measured; None takes the machine's.

    Parameters
    ----------
    disk : float or None
        Bytes per second that each worker reads and writes, of a store that nothing caches.
    net : float or None
        Bytes per second that each worker sends and receives.
    task : float or None
        Seconds of the scheduler per task.
    latency : float or None
        Seconds of a message, one way.
    stragglers : float
        Standard deviation of the logarithm of a visit's time.
    seed : int
    cold : bool or None
        Whether reading goes to the disk; None guesses from the sizes.
    """

    disk: float | None = None
    net: float | None = None
    task: float | None = None
    latency: float | None = None
    stragglers: float = 0.1
    seed: int = 0
    cold: bool | None = None


@dataclass(frozen=True)
class Forecast:
    """The forecast of an iteration on a number of workers.

    Parameters
    ----------
    workers : int
    seconds : float
    phases : dict of str to float
        Seconds of an average worker, which add up to `seconds`.
    sent : float
        Bytes over the network.
    tasks : int
    """

    workers: int
    seconds: float
    phases: dict[str, float]
    sent: float
    tasks: int


def forecast(
    subject: Subject,
    machine: Machine,
    workers: int,
    conditions: Conditions | None = None,
    detailed: bool = True,
    known: dict[int, Tasks] | None = None,
) -> Forecast:
    """Return the forecast of an iteration.

    Parameters
    ----------
    machine : Machine
        The machine of the workers, one worker per core.
    detailed : bool
        Whether to separate the scheduler's time from other waiting, by a second simulation.
    known : dict or None
        Tasks of the same subject by number of chunks; new ones are added.
    """
    known = {} if known is None else known
    given = conditions or Conditions()
    busy = min(workers, machine.cores)
    store = store_of(subject, machine, workers, given)
    setting = Setting(subject.solver, subject.problem, subject.inputs, machine.rates(busy), store)
    cluster = cluster_of(machine, workers, given)
    trace = _trace(subject, setting, cluster, known)
    phases = {name: taken / workers for name, taken in trace.phases.items()}
    waiting = max(0.0, trace.seconds - sum(phases.values()))
    phases["scheduler"] = phases.pop("overhead")
    if detailed:
        free = replace(cluster, task=0.0, message=0.0)
        lost = min(waiting, max(0.0, trace.seconds - _trace(subject, setting, free, known).seconds))
        phases["scheduler"] += lost
        waiting -= lost
    phases["waiting"] = waiting
    phases["settle"] = _settle(subject, setting, machine, workers, given, trace)
    phases["driver"] = machine.driver + workers * cluster.task + _delete(subject, setting, given)
    return Forecast(
        workers,
        trace.seconds + phases["settle"] + phases["driver"],
        phases,
        trace.sent,
        trace.tasks,
    )


def cluster_of(machine: Machine, workers: int, given: Conditions) -> Cluster:
    """Return the cluster of some workers under given conditions."""
    task = machine.task if given.task is None else given.task
    message = max(0.0, (machine.hop - machine.task - machine.overhead) / 2)
    return Cluster(
        workers,
        net=machine.net if given.net is None else min(given.net, machine.net),
        task=task,
        overhead=machine.overhead,
        message=message if given.latency is None else given.latency,
        stragglers=given.stragglers,
        seed=given.seed,
    )


def store_of(subject: Subject, machine: Machine, workers: int, given: Conditions) -> Store:
    """Return how fast a worker reads and writes chunks.

    One machine caches what its memory holds beside the workers.  Several machines cache nothing:
    the reader of a chunk is seldom its writer.
    """
    rates = machine.rates(min(workers, machine.cores))
    if not subject.on_disk:
        return Store(rates.shared_read, rates.shared_write, None, rates.file)
    if given.disk is not None:
        write = min(rates.disk_write, given.disk)
        cold = min(given.disk, rates.disk_read)
        return Store(rates.disk_read, write, cold, rates.file, rates.seek)
    from_disk = given.cold
    if from_disk is None:
        kept = 2 * subject.state_bytes + subject.data_bytes
        free = machine.memory - workers * subject.worker_bytes
        from_disk = workers > machine.cores or kept > free / 2
    reached = rates.disk_cold if from_disk else None
    return Store(rates.disk_read, rates.disk_write, reached, rates.file, rates.seek)


def _settle(
    subject: Subject,
    setting: Setting,
    machine: Machine,
    workers: int,
    given: Conditions,
    trace: Trace,
) -> float:
    """Return how long the driver waits for the disk to write what the tasks left in the cache."""
    if not subject.on_disk:
        return 0.0
    drain = setting.rates.disk_drain if given.disk is None else given.disk
    written = subject.state_bytes + subject.parameter_bytes
    left = written / (workers * drain) - 0.9 * trace.seconds
    return max(0.0, left) + sum(subject.arrays) * machine.sync


def _delete(subject: Subject, setting: Setting, given: Conditions) -> float:
    """Return how long the driver, alone, deletes the generation before the last.

    It deletes chunk after chunk, and the system frees their cached bytes.
    """
    rates = setting.rates
    speed = rates.disk_delete if subject.on_disk else rates.shared_delete
    if given.disk is not None:
        speed = np.inf
    state, parameters = subject.arrays
    chunks = state * len(subject.chunks) + parameters
    return (subject.state_bytes + subject.parameter_bytes) / speed + chunks * rates.unlink


def _trace(subject: Subject, setting: Setting, cluster: Cluster, known: dict[int, Tasks]) -> Trace:
    """Simulate an iteration; extrapolate a long one from two of its beginnings."""
    count, (few, more) = len(subject.chunks), _beginnings(subject, cluster.workers)
    if more >= count:
        return simulate(*_priced(subject, count, setting, known), cluster)
    short = simulate(*_priced(subject, few, setting, known), cluster)
    long = simulate(*_priced(subject, more, setting, known), cluster)
    times = (count - more) / (more - few)

    def on(a: float, b: float) -> float:
        return b + times * (b - a)

    return Trace(
        on(short.seconds, long.seconds),
        {name: on(short.phases[name], long.phases[name]) for name in long.phases},
        on(short.sent, long.sent),
        round(on(short.tasks, long.tasks)),
    )


def _beginnings(subject: Subject, workers: int) -> tuple[int, int]:
    """Return two numbers of chunks from which time grows linearly; all twice, if they are few."""
    solver, problem, count = subject.solver, subject.problem, len(subject.chunks)
    passes = solver.passes(problem, min(count, 2)).iteration
    each = sum(len(one.parts) + (len(one.updates) if one.chunks else 0) for one in passes)
    if count * each <= MOST_TASKS:
        return count, count
    together = known(solver).granularity(solver, problem).multiple
    rounds = max(4, -(-SETTLED * workers // (together * len(passes[0].parts))), -(-256 // together))
    return together * rounds, 2 * together * rounds


def _priced(
    subject: Subject, chunks: int, setting: Setting, known: dict[int, Tasks]
) -> tuple[Tasks, list[Cost]]:
    if chunks not in known:
        known[chunks] = tasks_of(subject.plan(chunks))
    return known[chunks], [cost(kind, setting) for kind in known[chunks].kinds]


def sweep(
    subject: Subject,
    machine: Machine,
    conditions: Conditions | None = None,
    workers: Sequence[int] = WORKERS,
) -> list[Forecast]:
    """Return the forecasts of an iteration for some numbers of workers."""
    known: dict[int, Tasks] = {}
    return [forecast(subject, machine, each, conditions, False, known) for each in workers]


def enough(found: Sequence[Forecast]) -> tuple[Forecast, Forecast | None]:
    """Return the first forecast whose doubling is less than `WORTH` times as fast, and that one.

    Without one, return the last forecast, and None.
    """
    for few, many in pairwise(found):
        if few.seconds < WORTH * many.seconds:
            return few, many
    return found[-1], None
