"""Simulate a scheduler, workers and a network, event by event.

The model follows Dask as dadmm uses it:

* One scheduler handles finished tasks one after the other, and messages to and from it take time.
  Tasks to spread wait at the scheduler; a worker has at most `AHEAD` of them at a time.  Other
  tasks go to the worker that would have their inputs first.
* A worker does one task at a time, in the order of their turns, and fetches inputs of the next
  while it computes.
* On the network a worker sends one result after the other, and receives likewise.  A result that
  many want comes from any worker that has it by then.  A worker serves at most `ASKED` at once;
  those it refuses look again later.

Results stay where they are made, workers do not die, and tasks are not stolen.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dadmm.app.planner.costs import Cost
from dadmm.app.planner.structure import Tasks

# Dask's defaults: tasks of a worker with one thread (worker-saturation 1.1), connections that a
# worker serves, and seconds until one that was refused looks again.
AHEAD = 2
ASKED = 50
AGAIN = 0.15
# Holders of an input that are compared.
LOOKED_AT = 8


@dataclass(frozen=True)
class Cluster:
    """The cluster that tasks run on.

    Parameters
    ----------
    workers : int
    net : float
        Bytes per second that a worker sends, and receives; infinity for no limit.
    task : float
        Seconds of the scheduler per task.
    overhead : float
        Seconds of a worker per task, beside the task's work.
    message : float
        Seconds of a message, one way.
    stragglers : float
        Standard deviation of the logarithm of a visit's time; the mean time stays as it is.
    seed : int
    """

    workers: int
    net: float = np.inf
    task: float = 0.0
    overhead: float = 0.0
    message: float = 0.0
    stragglers: float = 0.0
    seed: int = 0


@dataclass
class Trace:
    """The outcome of a simulation.

    Attributes
    ----------
    seconds : float
        Time until the scheduler knows the last task's result.
    phases : dict of str to float
        Seconds of all workers together: the tasks' phases, "transfer" (a worker with a task waits
        for an input) and "overhead".
    sent : float
        Bytes over the network.
    tasks : int
    """

    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    sent: float = 0.0
    tasks: int = 0


def simulate(tasks: Tasks, costs: Sequence[Cost], cluster: Cluster) -> Trace:
    """Return how the tasks of an iteration run on a cluster; `costs` has one for each kind."""
    return _Simulation(tasks, costs, cluster).run()


class _Sender:
    """Which workers have a result that many want, and when each could send it."""

    def __init__(self, worker: int, time: float) -> None:
        self.known: list[tuple[float, int]] = [(time, worker)]
        self.coming: list[tuple[float, int]] = []

    def choose(self, now: float, free: list[float], each: float) -> tuple[float, int]:
        """Return when a worker that asks now begins to be served, and by whom."""
        while self.coming and self.coming[0][0] <= now:
            _, worker = heapq.heappop(self.coming)
            heapq.heappush(self.known, (free[worker], worker))
        begin, worker = self._first(self.known, free)
        if begin <= now + ASKED * each or not self.coming:
            return max(begin, now), worker
        later, other = self._first(self.coming, free)
        later += AGAIN / 2
        return (later, other) if later < begin else (begin, worker)

    @staticmethod
    def _first(heap: list[tuple[float, int]], free: list[float]) -> tuple[float, int]:
        """Return who could send first, after updating the times of busy workers."""
        while heap[0][0] < free[heap[0][1]]:
            worker = heap[0][1]
            heapq.heapreplace(heap, (free[worker], worker))
        return heap[0]


class _Simulation:
    def __init__(self, tasks: Tasks, costs: Sequence[Cost], cluster: Cluster) -> None:
        self.tasks, self.costs, self.cluster = tasks, costs, cluster
        count, workers = len(tasks), cluster.workers
        self.missing = [len(needs) for needs in tasks.needs]
        self.after: list[list[int]] = [[] for _ in range(count)]
        for task, needs in enumerate(tasks.needs):
            for need in needs:
                self.after[need].append(task)
        self.seconds = self._durations()
        self.size = [costs[kind].result for kind in tasks.kind]
        self.spread = [kind.spread for kind in tasks.kinds]
        # Tasks that wait at the scheduler, and workers that may get more tasks.
        self.queue: list[tuple[int, int]] = []
        self.spare: list[list[int]] = [list(range(workers - 1, -1, -1))]
        self.spare += [[] for _ in range(AHEAD - 1)]
        self.given = [0] * workers
        self.load = [0.0] * workers
        # The tasks of each worker: (turn, task, when its inputs are there, when it came).
        self.assigned: list[list[tuple[int, int, float, float]]] = [[] for _ in range(workers)]
        self.running = [False] * workers
        self.idle_since = [0.0] * workers
        self.sends = [0.0] * workers
        self.receives = [0.0] * workers
        # Who has each result since when; and who sends each result that many want.
        self.where: list[dict[int, float]] = [{}] * count
        self.senders: dict[int, _Sender] = {}
        self.scheduler = 0.0
        self.events: list[tuple[float, int, int, int]] = []
        self.number = 0
        self.trace = Trace(tasks=count)
        self.phases: dict[str, float] = {"transfer": 0.0, "overhead": 0.0}

    def _durations(self) -> list[float]:
        kind = np.asarray(self.tasks.kind)
        seconds = np.array([each.seconds for each in self.costs])[kind]
        if self.cluster.stragglers:
            rng, sigma = np.random.default_rng(self.cluster.seed), self.cluster.stragglers
            noise = np.exp(sigma * rng.standard_normal(len(kind)) - sigma**2 / 2)
            varies = np.array([each.varies for each in self.costs])[kind]
            seconds = np.where(varies, seconds * noise, seconds)
        found: list[float] = (seconds + self.cluster.overhead).tolist()
        return found

    def run(self) -> Trace:
        """Go through the events in the order of time."""
        for task, missing in enumerate(self.missing):
            if not missing:
                heapq.heappush(self.queue, (self.tasks.turn[task], task))
        self._hand_out(0.0)
        while self.events:
            now, _, task, worker = heapq.heappop(self.events)
            if task >= len(self.tasks):  # the scheduler learns of its end
                self._heard(now, task - len(self.tasks), worker)
            elif task >= 0:
                self._finished(now, task, worker)
            elif not self.running[worker]:
                self._start(now, worker)
        counted = np.bincount(self.tasks.kind, minlength=len(self.costs))
        for each, times in zip(self.costs, counted.tolist(), strict=True):
            for name, taken in each.phases.items():
                self.phases[name] = self.phases.get(name, 0.0) + times * taken
        self.phases["overhead"] = self.cluster.overhead * len(self.tasks)
        self.trace.phases = self.phases
        return self.trace

    def _event(self, time: float, task: int, worker: int) -> None:
        self.number += 1
        heapq.heappush(self.events, (time, self.number, task, worker))

    def _heard(self, now: float, task: int, worker: int) -> None:
        """Note a task's end at the scheduler: others may begin."""
        self.given[worker] -= 1
        self.load[worker] -= self.seconds[task]
        if self.given[worker] < AHEAD:
            self.spare[self.given[worker]].append(worker)
        for waiting in self.after[task]:
            self.missing[waiting] -= 1
            if self.missing[waiting]:
                continue
            if self.spread[self.tasks.kind[waiting]]:
                heapq.heappush(self.queue, (self.tasks.turn[waiting], waiting))
            else:
                self._assign(now, waiting, self._nearest(waiting))
        self._hand_out(now)
        self.trace.seconds = now

    def _hand_out(self, now: float) -> None:
        """Give waiting tasks to the workers that have the fewest."""
        while self.queue:
            worker = self._idlest()
            if worker is None:
                return
            self._assign(now, heapq.heappop(self.queue)[1], worker)

    def _idlest(self) -> int | None:
        for given, workers in enumerate(self.spare):
            while workers:
                worker = workers.pop()
                if self.given[worker] == given:
                    return worker
        return None

    def _nearest(self, task: int) -> int:
        """Return the worker that could start a task first, inputs included."""
        needs = self.tasks.needs[task]
        candidates: dict[int, None] = {}
        for need in needs:
            for i, worker in enumerate(self.where[need]):
                if i == LOOKED_AT:
                    break
                candidates[worker] = None
        best, found = np.inf, 0
        for worker in candidates:
            lacks = sum(self.size[need] for need in needs if worker not in self.where[need])
            begins = self.load[worker] + lacks / self.cluster.net
            if begins < best:
                best, found = begins, worker
        return found

    def _assign(self, now: float, task: int, worker: int) -> None:
        """Send a task to a worker, which fetches the inputs it lacks."""
        self.given[worker] += 1
        self.load[worker] += self.seconds[task]
        if self.given[worker] < AHEAD:
            self.spare[self.given[worker]].append(worker)
        came = now + self.cluster.message
        ready = came
        for need in self.tasks.needs[task]:
            there = self.where[need].get(worker)
            if there is None:
                there = self._fetch(came, need, worker)
            if there > ready:
                ready = there
        self.assigned[worker].append((self.tasks.turn[task], task, ready, came))
        if not self.running[worker]:
            self._event(ready, -1, worker)

    def _fetch(self, now: float, need: int, worker: int) -> float:
        """Fetch a result from another worker; return when it arrives."""
        each = self.size[need] / self.cluster.net
        self.trace.sent += self.size[need]
        holders = self.where[need]
        if len(self.after[need]) > 1:
            sender = self.senders.get(need)
            if sender is None:
                (owner, since), *_ = holders.items()
                sender = self.senders[need] = _Sender(owner, since)
            begin, source = sender.choose(now, self.sends, each)
        else:
            (source, _), *_ = holders.items()
            begin = max(now, self.sends[source])
            sender = None
        done = max(begin, self.receives[worker]) + each
        self.sends[source] = max(self.sends[source], begin) + each
        self.receives[worker] = done
        holders[worker] = done
        if sender is not None:
            heapq.heappush(sender.coming, (done, worker))
        return done

    def _start(self, now: float, worker: int) -> None:
        """Begin the first in turn of the tasks that have their inputs."""
        waiting = self.assigned[worker]
        if not waiting:
            return
        chosen = None
        for entry in waiting:
            if entry[2] <= now and (chosen is None or entry < chosen):
                chosen = entry
        if chosen is None:
            self._event(min(entry[2] for entry in waiting), -1, worker)
            return
        waiting.remove(chosen)
        _, task, _, came = chosen
        self.phases["transfer"] += max(0.0, now - max(came, self.idle_since[worker]))
        self.running[worker] = True
        self._event(now + self.seconds[task], task, worker)

    def _finished(self, now: float, task: int, worker: int) -> None:
        self.running[worker] = False
        self.idle_since[worker] = now
        self.where[task] = {worker: now}
        arrives = now + self.cluster.message
        self.scheduler = max(self.scheduler, arrives) + self.cluster.task
        self._event(self.scheduler, task + len(self.tasks), worker)
        self._start(now, worker)
