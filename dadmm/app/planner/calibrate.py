"""Measure a machine: a few rates in one process, in as many as there are cores, and of Dask.

Only ratios of what the model counts to what the clock says are taken; nothing is tuned to a
run.  It takes about four minutes, and wants the machine to be idle.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dask
import numpy as np
import psutil
from dask.delayed import Delayed
from dask.system import CPU_COUNT
from dask.task_spec import List, Task, TaskRef
from threadpoolctl import threadpool_limits

from dadmm.app.planner.costs import known, seconds
from dadmm.app.planner.machine import ROWS, VISITS, WIDE, WIDTHS, Machine, Rates
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.timing import PREFIX
from dadmm.numerics import (
    layer_kernels,
    nonnegative,
    optimizer_kernels,
    relaxed_kernels,
    softmax_kernels,
)
from dadmm.numerics.activations import TANH, get_activation
from dadmm.numerics.algebra import inverse_spd, solve_spd
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.solvers.registry import STORED
from dadmm.store.arrays import ZarrBlocks

TILE = (256, 256)
CLASSES = 10
FACTORS = 32
PATIENCE = 120.0
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Parameters
    ----------
    each : float
        Seconds that a loop or a product is repeated for.
    rows, widths, wide, visits : tuple of int
        Sizes of products, of float64 matrices, and widths of networks whose visits are timed.
    visit_rows, visit_iterations : int
        Rows of a chunk of theirs at width 256, and iterations: short visits would be disturbed by
        the messages that a worker gets and sends meanwhile.
    chunk : int
        Bytes of a chunk of the store.
    chunks, generations : int
        Chunks of a generation, and generations, of which three are there at a time.
    pause : float
        Seconds between two chunks, as if a visit were between.
    tasks : int
        Trivial tasks on a cluster.
    iterations : int
        Of the small runs that tell what the driver takes.
    """

    each: float = 0.06
    rows: tuple[int, ...] = ROWS
    widths: tuple[int, ...] = WIDTHS
    wide: tuple[int, ...] = WIDE
    visits: tuple[int, ...] = VISITS
    visit_rows: int = 4096
    visit_iterations: int = 10
    chunk: int = 8 * 2**20
    chunks: int = 12
    generations: int = 6
    pause: float = 0.05
    tasks: int = 1000
    iterations: int = 12


def calibrate(folder: str | Path = ".", effort: Effort | None = None) -> Machine:
    """Measure this machine.

    Parameters
    ----------
    folder : path
        Where on the disk the runs will be.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    effort = effort or Effort()
    cores = CPU_COUNT
    with ExitStack() as stack:
        for name in BLAS:
            stack.callback(_restore, name, os.environ.get(name))
            os.environ[name] = "1"  # of the processes to come
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix=".dadmm-", dir=folder))
        alone = _rates(1, disk, effort)
        together = alone if cores == 1 else _rates(cores, disk, effort)
        dask_figures = of_dask(disk, effort)
    return Machine(
        cores=cores,
        memory=float(psutil.virtual_memory().total),
        alone=alone,
        together=together,
        made=f"measured on {datetime.now(UTC):%Y-%m-%d}: {cores} cores, {platform.machine()}",
        **dask_figures,
    )


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


# ------------------------------------------------------------------------------------ one process


def _rates(processes: int, disk: str, effort: Effort) -> Rates:
    """Return the mean rates of as many processes, each measuring the same at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, _join, (barrier,)) as pool:
        jobs = [pool.apply_async(_measure, (disk, effort)) for _ in range(processes)]
        found = [job.get() for job in jobs]
    rates = Rates(
        **{f.name: _mean([getattr(each, f.name) for each in found]) for f in fields(Rates)}
    )
    return replace(rates, visits=visit_ratios(processes, rates, effort))


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return float(np.mean(values))


_barrier: Any = None


def _join(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _together() -> None:
    """Wait until all processes are here: what is measured next is measured in all of them."""
    if _barrier is not None:
        _barrier.wait(PATIENCE)


def _measure(disk: str, effort: Effort) -> Rates:
    with threadpool_limits(1), np.errstate(all="ignore"):
        _together()
        products = {
            rows: {width: product_rate(rows, width, effort.each) for width in effort.widths}
            for rows in effort.rows
        }
        _together()
        loops = {
            name: timed(function, effort.each) / size for name, (function, size) in _loops().items()
        }
        loops["loss"] /= 3  # value, gradient and right answers
        call = _call(effort.each)
        memory = _memory_rate(effort)
        _together()
        wide = {width: _wide_rate(width, effort.each) for width in effort.wide}
        place = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
            shared = store_rates(folder, False, effort)
        stored = store_rates(f"{disk}/{os.getpid()}", True, effort)
    found: dict[str, Any] = {"products": products, "wide": wide, "loops": loops}
    found |= {f"shared_{name}": shared[name] for name in ("read", "write", "delete")}
    found |= {f"disk_{name}": stored[name] for name in ("read", "write", "delete", "cold", "drain")}
    found |= {name: stored[name] for name in ("file", "seek", "unlink")}
    return Rates(call=call, memory=memory, **found)


def timed(function: Callable[[], Any], budget: float) -> float:
    """Return the median seconds of a call, repeated for a while; the first is not counted.

    Seconds of this thread on a processor: what others take of it meanwhile is none of its own.
    """
    function()
    found: list[float] = []
    end = time.perf_counter() + budget
    while len(found) < 3 or time.perf_counter() < end:
        began = time.thread_time()
        function()
        found.append(time.thread_time() - began)
    return max(median(found), 1e-9)


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def product_rate(rows: int, width: int, budget: float) -> float:
    """Return operations per second of (rows, width) by (width, width), in float32."""
    a, w = _random(rows, width), _random(width, width)
    out = np.empty_like(a)
    return 2.0 * rows * width * width / timed(partial(np.matmul, a, w, out=out), budget)


def _wide_rate(width: int, budget: float) -> float:
    a = _random(width, width).astype(np.float64)
    definite = a @ a.T + width * np.eye(width)

    def work() -> None:
        product = a @ a.T
        product += definite
        inverse_spd(product)
        solve_spd(definite.copy(), a.copy())

    # A symmetric product, an inverse, a factor, and two triangles for each right-hand side.
    return width**3 * (1 + 1 + 1 / 3 + 2) / timed(work, budget)


def _call(budget: float) -> float:
    a = _random(4, 4)
    out, other = np.empty_like(a), _random(4, 4)

    def calls() -> None:
        for _ in range(20):
            np.matmul(a, other, out=out)
            np.add(a, other, out=out)
            relaxed_kernels.step(out, other, 0.0)

    return timed(calls, budget) / 60


def _memory_rate(effort: Effort) -> float:
    count = 4 * effort.chunk // 4
    a, b, out = (np.ones(count, np.float32) for _ in range(3))
    return 12.0 * count / timed(partial(np.add, a, b, out=out), effort.each)


def _loops() -> dict[str, tuple[Callable[[], Any], int]]:
    """Return, for each loop, a call of it and how many elements that goes over."""
    size = TILE[0] * TILE[1]
    a, b, c, d = (_random(*TILE) for _ in range(4))
    bias, gradient = _random(TILE[1]), np.empty(TILE[1], np.float32)
    flat = [_random(size) for _ in range(4)]
    np.abs(flat[3], out=flat[3])
    loss, scores = get_loss("cross_entropy"), _random(4096, CLASSES)
    few, weight = scores[:128].copy(), np.ones(128, np.float32)
    targets = loss.encode(np.arange(4096) % CLASSES, CLASSES, np.float32)
    out, kept = np.empty_like(scores), np.empty_like(few)
    x, rows = _random(8192, 512), np.random.default_rng(0).permutation(8192)[:1024]
    picked = np.empty((1024, 512), np.float32)
    centre, factor = np.zeros(512, np.float32), np.ones(512, np.float32)
    tanh = get_activation("tanh")

    def gate() -> None:
        layer_kernels.bias_piecewise(a, bias, 0.0, b, True, c)
        layer_kernels.gate_piecewise(a, 0.0, b, c, gradient)

    def adam() -> None:
        optimizer_kernels.adam(*flat, 1e-3, 0.9, 0.999, 1.0, 1e-8, 0.0, 1.0)

    use = np.abs(_random(64, FACTORS))
    gram, cross = use.T @ use, np.abs(_random(512, FACTORS))
    codes, atoms = cross.copy(), np.abs(_random(FACTORS, 512))

    def losses() -> None:
        loss.value(scores, targets)
        loss.gradient(scores, targets)
        loss.right(scores, targets)

    u, pre = a.copy(), b.copy()
    return {
        "pass": (partial(np.add, a, b, out=c), size),
        "smooth": (partial(tanh.value, a, out=c), size),
        "v_gradient": (
            partial(relaxed_kernels.v_gradient, a, b, True, c, b, c, True, d, 1e-3),
            size,
        ),
        "step": (partial(relaxed_kernels.step, d, b, 1e-6), size),
        "u_piecewise": (
            partial(relaxed_kernels.u_piecewise, pre, bias, u, a, b, True, 0.0, 1.0, 1.0, 1e-3),
            size,
        ),
        # From where it ended: as in a run, where U is never far from its next value.
        "u_smooth": (
            partial(relaxed_kernels.u_smooth, TANH, pre, bias, u, a, b, True, 1.0, 1.0, 1e-3),
            size,
        ),
        "prox": (partial(softmax_kernels.softmax_prox, scores, targets, 1.0, out), scores.size),
        "loss": (losses, scores.size),
        "softmax": (
            partial(softmax_kernels.softmax_gradient, few, targets[:128], weight, kept),
            few.size,
        ),
        "gate": (gate, 2 * size),
        "adam": (adam, size),
        "code_sweep": (
            partial(nonnegative.coded, gram, cross, 10, codes),
            10 * cross.size * FACTORS,
        ),
        "dictionary_sweep": (
            partial(nonnegative.dictionary, gram, cross.T @ cross @ atoms, atoms, 4),
            4 * atoms.size * FACTORS,
        ),
        "gather": (
            partial(layer_kernels.gather_scaled, x, rows, centre, factor, picked),
            picked.size,
        ),
    }


# -------------------------------------------------------------------------------------- the store


def store_rates(folder: str, durable: bool, effort: Effort) -> dict[str, float]:
    """Return bytes per second of "read", "write", "cold", "drain" (onto the disk) and "delete".

    And seconds of a small chunk: "file" if cached, "seek" if not, "unlink" to delete it.  As
    workers do it: whole chunks with checksums, synced once all are written.
    """
    blocks = ZarrBlocks(folder, durable=durable)
    blocks.files.save("zarr.json", b"{}", new=True)
    if durable:
        blocks.sync_late()
    block = np.random.default_rng(os.getpid()).random((effort.chunk // 4096, 1024), np.float32)
    count, size = effort.chunks, block.nbytes
    clock = time.perf_counter if durable else time.thread_time
    written: list[float] = []
    deleted: list[float] = []
    drained = 0.0
    for generation in range(effort.generations):
        group = f"state/{generation}"
        blocks.create(f"{group}/v", (len(block) * count, 1024), len(block), "<f4", ("a", "b"))
        _together()
        last = generation == effort.generations - 1
        began = time.perf_counter()
        for chunk in range(count):
            taken = _timed_once(partial(blocks.write, f"{group}/v", chunk, block), clock)
            if not last:  # between visits the system gets rid of what was written before
                time.sleep(effort.pause)
                written += [taken] if generation > 1 else []
        blocks.settle(group)
        drained = time.perf_counter() - began
        # A disk may be several times as fast where something has been deleted, as it has in a run.
        if generation > 1:
            deleted.append(_timed_once(partial(blocks.delete, f"state/{generation - 2}")))
    kept = f"state/{effort.generations - 1}/v"
    few = f"state/{effort.generations - 1}/few"
    blocks.create(few, (count, 1), 1, "<f4", ("a", "b"))
    busy = time.thread_time
    read = [_timed_once(partial(blocks.read, kept, c), busy) for c in range(count)]
    small = np.zeros((1, 1), np.float32)
    files = [_timed_once(partial(blocks.write, few, c, small)) for c in range(count)]
    files += [_timed_once(partial(blocks.read, few, chunk)) for chunk in range(count)]
    _forget(Path(folder))
    _together()
    cold = [_timed_once(partial(blocks.read, kept, chunk)) for chunk in range(count)]
    seeks = [_timed_once(partial(blocks.read, few, chunk)) for chunk in range(count)]
    unlinked = _timed_once(partial(blocks.delete, few))
    blocks.delete("state")
    return {
        "read": size / median(read),
        "write": size / median(written),
        "cold": size / median(cold),
        "drain": count * size / drained,
        "delete": count * size / median(deleted),
        "file": median(files),
        "seek": median(seeks),
        "unlink": unlinked / count,
    }


def _timed_once(
    function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    began = clock()
    function()
    return clock() - began


def _forget(folder: Path) -> None:
    """Let the system drop what it has cached of a folder's files, where it can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


# ----------------------------------------------------------------------------------- whole visits


def visit_ratios(workers: int, rates: Rates, effort: Effort) -> dict[str, dict[int, float]]:
    """Return, by solver and width, how much longer visits take than their counted operations.

    In small runs, where chunks come from the store and others want the processors, too.
    """
    with _workers(workers) as client, client.as_current():
        return {
            name: {
                width: _visit_ratio(name, width, workers, rates, effort) for width in effort.visits
            }
            for name in STORED
        }


def _visit_ratio(name: str, width: int, workers: int, rates: Rates, effort: Effort) -> float:
    from dadmm.estimators.classifier import ADMMClassifier
    from dadmm.estimators.nmf import NMF
    from dadmm.estimators.problem import pose

    rows, chunks = max(64, effort.visit_rows * 256 // width), 4 * workers
    made: ADMMClassifier | NMF
    if name == "nmf":
        rows *= 4  # there is little to do for each
        made = NMF(min(FACTORS, width // 2), init="random")
    else:
        made = ADMMClassifier((width,) * 3, solver=name, standardize="none")
    x, y = _random(rows * chunks, width), np.arange(rows * chunks) % CLASSES
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


# -------------------------------------------------------------------------------------------- Dask


@contextmanager
def _workers(count: int) -> Iterator[Any]:
    """Give a client of so many worker processes of one thread."""
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


def of_dask(disk: str, effort: Effort) -> dict[str, float]:
    """Return what Dask adds, and the driver: see the parameters of `Machine`."""
    with _workers(2) as client:
        _trivial(client, effort.tasks // 10)
        task = min(_trivial(client, effort.tasks) for _ in range(3)) / effort.tasks
        hop = _chain(client, max(effort.tasks // 10, 5))
        net = _transfer(client, 8 * effort.chunk)
        with client.as_current():
            shared = _driver(None, effort)
            stored = _driver(f"{disk}/driver", effort)
    # Loading, a visit, the sum, the solve and the report wait for each other; four arrays are
    # stored of the parameters.
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
    """Return the seconds of as many tasks that do nothing, and one that waits for them."""
    name = f"nothing-{time.monotonic_ns()}"
    tasks = {
        f"{name}-{i}": Task(f"{name}-{i}", _nothing, _data_producer=True) for i in range(count)
    }
    last = Task(f"{name}-all", _nothing, List(*(TaskRef(key) for key in tasks)))
    tasks[f"{name}-all"] = last
    return _timed_once(lambda: client.compute(Delayed(f"{name}-all", tasks)).result(PATIENCE))


def _chain(client: Any, count: int) -> float:
    """Return the seconds from one task to the next that waits for it."""
    name = f"chain-{time.monotonic_ns()}"
    tasks = {f"{name}-0": Task(f"{name}-0", _nothing)}
    for i in range(1, count):
        tasks[f"{name}-{i}"] = Task(f"{name}-{i}", _nothing, TaskRef(f"{name}-{i - 1}"))
    run = partial(client.compute, Delayed(f"{name}-{count - 1}", tasks))
    return _timed_once(lambda: run().result(PATIENCE)) / count


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
        here, there = (_timed_once(partial(wait_for, made, worker)) for worker in (one, other))
        found.append(max(there - here, 1e-6))
    return size / median(found)


def _driver(run: str | None, effort: Effort) -> float:
    """Return the seconds of an iteration that computes next to nothing."""
    from dadmm.estimators.classifier import ADMMClassifier

    rows = 64
    x, y = _random(rows, 4), np.arange(rows) % 2
    ends: list[float] = []
    ADMMClassifier(
        (4,), max_iter=effort.iterations, tol=0, random_state=0, chunks=rows // 2, run=run
    ).fit(x, y, callback=lambda *_: ends.append(time.perf_counter()))
    return float(median(np.diff(ends)))
