"""Measure a cluster of processes on this machine: whole visits, Dask and the driver."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed
from dask.task_spec import List, Task, TaskRef

from dadmm.app.planner.costs import known, seconds
from dadmm.app.planner.loop_rates import CLASSES, FACTORS
from dadmm.app.planner.machine import Rates
from dadmm.app.planner.timing import PATIENCE, Effort, drawn, timed_once
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.timing import PREFIX
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.nmf import NMF
from dadmm.estimators.problem import pose
from dadmm.numerics.types import Array
from dadmm.solvers.registry import STORED


@contextmanager
def _workers(count: int) -> Iterator[Any]:
    """Start worker processes of one thread each, and give their client."""
    from distributed import Client, LocalCluster

    with (
        dask.config.set(WORKER_SETTINGS),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def visit_ratios(workers: int, rates: Rates, effort: Effort) -> dict[str, dict[int, float]]:
    """Return, by solver and width, how much longer visits take than their counted operations.

    They are timed in small runs, which read chunks from the store and share the processors.
    """
    with _workers(workers) as client, client.as_current():
        return {
            name: {
                width: _visit_ratio(name, width, workers, rates, effort) for width in effort.visits
            }
            for name in STORED
        }


def _visit_ratio(name: str, width: int, workers: int, rates: Rates, effort: Effort) -> float:
    rows, chunks = max(64, effort.visit_rows * 256 // width), 4 * workers
    made: ADMMClassifier | NMF
    if name == "nmf":
        rows *= 4  # there is little to do for each
        made = NMF(min(FACTORS, width // 2), init="random")
    else:
        made = ADMMClassifier((width,) * 3, solver=name, standardize="none")
    x, y = drawn(rows * chunks, width), np.arange(rows * chunks) % CLASSES
    found: list[float] = []

    def note(iteration: int, row: Mapping[str, float]) -> None:
        found.append(row[f"{PREFIX}visit"])

    made.set_params(max_iter=effort.visit_iterations, tol=0, random_state=0, chunks=rows)
    made.fit(np.abs(x) if name == "nmf" else x, y, callback=note)
    posed = pose(made, x, y)
    solver, problem = posed.solver, posed.problem
    (part,) = solver.passes(problem, chunks).iteration[0].parts
    counted = seconds(known(solver).visit(solver, problem, part, rows), rates, problem.dtype)
    return median(found[len(found) // 3 :]) / chunks / counted


def of_dask(disk: str, effort: Effort) -> dict[str, float]:
    """Return what Dask and the driver add, by the names of the parameters of `Machine`."""
    with _workers(2) as client:
        _trivial(client, effort.tasks // 10)
        task = min(_trivial(client, effort.tasks) for _ in range(3)) / effort.tasks
        hop = _chain(client, max(effort.tasks // 10, 5))
        net = _transfer(client, 8 * effort.chunk)
        with client.as_current():
            shared = _driver(None, effort)
            stored = _driver(f"{disk}/driver", effort)
    # Five tasks wait for each other: load, visit, sum, solve, report. The parameters are 4 arrays.
    return {
        "task": task,
        "overhead": task / 2,
        "hop": hop,
        "net": net,
        "driver": max(shared - 5 * hop, 1e-3),
        "sync": max((stored - shared) / 4, 1e-5),
    }


def _nothing(*_: Any) -> int:
    return 0


def _trivial(client: Any, count: int) -> float:
    """Return the seconds of `count` tasks that do nothing, and of one that waits for them."""
    name = f"nothing-{time.monotonic_ns()}"
    tasks = {
        f"{name}-{i}": Task(f"{name}-{i}", _nothing, _data_producer=True) for i in range(count)
    }
    last = Task(f"{name}-all", _nothing, List(*(TaskRef(key) for key in tasks)))
    tasks[f"{name}-all"] = last
    return timed_once(lambda: client.compute(Delayed(f"{name}-all", tasks)).result(PATIENCE))


def _chain(client: Any, count: int) -> float:
    """Return the seconds from one task to the next that waits for it."""
    name = f"chain-{time.monotonic_ns()}"
    tasks = {f"{name}-0": Task(f"{name}-0", _nothing)}
    for i in range(1, count):
        tasks[f"{name}-{i}"] = Task(f"{name}-{i}", _nothing, TaskRef(f"{name}-{i - 1}"))
    run = partial(client.compute, Delayed(f"{name}-{count - 1}", tasks))
    return timed_once(lambda: run().result(PATIENCE)) / count


def _array(size: int, number: int) -> Array:
    return np.full(size // 8, float(number))


def _transfer(client: Any, size: int) -> float:
    """Return bytes per second from one worker to another."""
    one, other = list(client.scheduler_info(n_workers=-1)["workers"])[:2]

    def wait_for(made: Any, worker: str) -> None:
        client.submit(_nothing, made, workers=[worker], pure=False).result(PATIENCE)

    found = []
    for number in range(4):
        made = client.submit(_array, size, number, workers=[one], pure=False)
        made.result(PATIENCE)
        here, there = (timed_once(partial(wait_for, made, worker)) for worker in (one, other))
        found.append(max(there - here, 1e-6))
    return size / median(found)


def _driver(run: str | None, effort: Effort) -> float:
    """Return the seconds of an iteration that computes next to nothing."""
    rows = 64
    x, y = drawn(rows, 4), np.arange(rows) % 2
    ends: list[float] = []
    ADMMClassifier(
        (4,), max_iter=effort.iterations, tol=0, random_state=0, chunks=rows // 2, run=run
    ).fit(x, y, callback=lambda *_: ends.append(time.perf_counter()))
    return float(median(np.diff(ends)))
