"""How much of the machine one iteration of the relaxed ADMM reaches, and what Dask costs.

    python benchmarks/relaxed.py [--widths 256,1024] [--rounds 3]

For each width: three hidden layers (two residual), 10 classes, random data of the same width, the
proximal 3-splitting with its state kept.  One round measures, one after the other: the float32
matrix-product rate of 1 and of 2 processes at once (rows of a chunk x width, by width x width,
one BLAS thread each), the solver's own functions in a plain loop in one process, and iterations
on 1 and on 2 Dask worker processes.  Medians over rounds are printed, ratios are formed round by
round.  Operations are counted as executed: a symmetric product X'X counts half.

"in memory" for processes is a run without a path: its blocks lie in the system's shared memory.
"outside tasks" is 1 - (time in task bodies) / (workers x wall time): waiting, scheduling,
transfers, and what the driver does between two graphs.

Run it alone; a busy machine makes it worthless.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from itertools import pairwise
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask
import numpy as np
from distributed import Client, LocalCluster, get_task_stream
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import dadmm
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.eager import iterate
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.sums import combine

CLASSES = 10
WORKERS = (1, 2)


def operations(widths, rows):
    """Count floating-point operations of one iteration, `rows` samples, weight solves left out."""
    total = 0
    last = len(widths) - 1
    for i, (a, b) in enumerate(pairwise(widths), start=1):
        total += 2 * a * b  # pre-activation
        total += 2 * a * b  # cross sum
        total += 2 * a * b  # forward pass
        if i > 1:
            total += 2 * a * b + 2 * a * a  # what the layer above asks for, and M^-1
            total += a * a  # Gram sum
        if i == last:
            total += a * a + 2 * a * b  # sums of the head refit
    return rows * total


def product_rate(width, rows, seconds=0.5):
    """Return float32 operations per second of this process's matrix product."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, width), dtype=np.float32)
    w = rng.standard_normal((width, width), dtype=np.float32)
    out = np.empty_like(a)
    np.matmul(a, w, out=out)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        np.matmul(a, w, out=out)
        count += 1
    return count * 2 * rows * width * width / (time.perf_counter() - begin)


def rate_of(pool, processes, width, rows):
    """Return the summed rate of as many processes at once."""
    jobs = [pool.apply_async(product_rate, (width, rows)) for _ in range(processes)]
    return sum(job.get() for job in jobs)


def plain_loop(solver, x, y, width, chunk, iterations):
    """Return seconds per iteration of the same functions in a plain loop, one process."""
    arch = dadmm.Architecture.build(width, (width,) * 3, CLASSES)
    problem = Problem(arch, "cross_entropy", 1e-3, len(x), CLASSES)
    params = solver.initial(problem, 0)
    weights = {}
    for layer in solver.layout(problem).layers:
        weights |= solver.prepare(problem, layer, params)
    targets = np.eye(CLASSES, dtype=np.float32)[y]
    chunks, found = [], []
    for first in range(0, len(x), chunk):
        piece = Chunk(x[first : first + chunk], targets[first : first + chunk], {})
        state, sums = solver.start(problem, weights, piece)
        piece.state.update(state)
        chunks.append(piece)
        found.append(sums)
    constants = combine(found)
    seconds = []
    with threadpool_limits(1):
        for _ in range(iterations + 1):
            begin = time.perf_counter()
            params, _ = iterate(solver, problem, params, constants, chunks)
            seconds.append(time.perf_counter() - begin)
    return median(seconds[1:])


def on_dask(client, solver, x, y, width, chunk, iterations, run):
    """Return (seconds per iteration, share of worker time outside task bodies)."""
    spans = []

    def mark(iteration, row):
        spans.append((time.time(), row["seconds"]))

    with client.as_current(), get_task_stream(client) as stream:
        dadmm.ADMMClassifier(
            (width,) * 3,
            solver=solver,
            max_iter=iterations + 2,
            tol=0,
            standardize="none",
            random_state=0,
            chunks=chunk,
            run=run,
        ).fit(x, y, callback=mark)
    # The first two iterations compile, open and warm up.
    first, last = spans[1][0], spans[-1][0]
    busy = sum(
        span["stop"] - span["start"]
        for record in stream.data
        for span in record["startstops"]
        if span["action"] == "compute" and span["start"] >= first and span["stop"] <= last
    )
    workers = len(client.scheduler_info()["workers"])
    outside = 1 - busy / (workers * (last - first))
    return median(seconds for _, seconds in spans[2:]), outside


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", default="256,1024")
    parser.add_argument("--rows", type=int, default=60_000, help="half of it from width 512 on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--state", choices=["keep", "recompute"], default="keep")
    parser.add_argument("--stores", default="memory,disk")
    options = parser.parse_args()
    solver = dadmm.RelaxedADMM(state=options.state)
    out = Console(soft_wrap=True, highlight=False, width=120)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in (
        "width", "store", "workers", "s/iteration", "GFLOP/s", "of product rate", "outside tasks",
        "to plain loop", "to 1 worker",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    clusters = {}
    context = multiprocessing.get_context("spawn")
    with dask.config.set(WORKER_SETTINGS), context.Pool(max(WORKERS)) as pool:
        for workers in WORKERS:
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            )
            clusters[workers] = (cluster, Client(cluster, set_as_default=False))
        try:
            for width in (int(w) for w in options.widths.split(",")):
                rows = options.rows if width < 512 else options.rows // 2
                measure(options, solver, pool, clusters, width, rows, table)
        finally:
            for cluster, client in clusters.values():
                client.close()
                cluster.close()
    out.print(table)


def measure(options, solver, pool, clusters, width, rows, table):
    """Add a width's rows to the table."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width), dtype=np.float32)
    y = rng.integers(0, CLASSES, rows)
    chunk = -(-rows // 8)
    work = operations([width] * 4 + [CLASSES], rows)
    stores = options.stores.split(",")
    seen = {(store, w): [] for store in stores for w in WORKERS}
    for number in range(options.rounds):
        rate = {w: rate_of(pool, w, width, chunk) for w in WORKERS}
        plain = plain_loop(solver, x, y, width, chunk, options.iterations)
        for store in stores:
            base = None
            for workers in WORKERS:
                with tempfile.TemporaryDirectory(dir=".") as folder:
                    run = None if store == "memory" else f"{folder}/run"
                    seconds, outside = on_dask(
                        clusters[workers][1], solver, x, y, width, chunk, options.iterations, run
                    )
                base = base or seconds
                speed = work / seconds
                share, efficiency = speed / rate[workers], plain / seconds / workers
                row = (seconds, speed / 1e9, share, outside, efficiency, base / seconds)
                seen[store, workers].append(row)
        print(f"width {width}, round {number + 1} of {options.rounds}: product "
              f"{rate[1] / 1e9:.0f} and {rate[2] / 1e9:.0f} GFLOP/s (1 and 2 processes), "
              f"plain loop {plain:.3f} s = {work / plain / rate[1]:.2f} of it",
              file=sys.stderr)  # fmt: skip
    for (store, workers), found in seen.items():
        seconds, speed, share, outside, plain, gain = (median(v) for v in zip(*found, strict=True))
        table.add_row(
            str(width), store, str(workers), f"{seconds:.3f}", f"{speed:.0f}", f"{share:.2f}",
            f"{outside:.1%}", f"{plain:.2f}", f"{gain:.2f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
