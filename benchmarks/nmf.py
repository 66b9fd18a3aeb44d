"""Factorisation against scikit-learn's: seconds to the same objective, and rows per second.

    DADMM_DATA=... python benchmarks/nmf.py [--rows 60000] [--components 32]
    DADMM_DATA=... python benchmarks/nmf.py --times 8 --memory 800MiB

Each of dadmm's NMF (batch and online, on one core and on two) and scikit-learn's NMF and
MiniBatchNMF (which use one core here) is fitted to MNIST, repeated with noise if more rows are
asked for, with 1, 2, 3, ... passes from the same kind of start; the clock runs for the whole fit,
storing the data and the start included.  What counts is the error of the dictionary: with the
best codes, on rows that none of them has seen.  Shown are the seconds until it is within 1 % of
the best that any of them reached, and until it is that of MiniBatchNMF's last pass.  Fits take
turns, `--repeats` times; medians.

With `--times` the data is so many times as large as a worker's memory, in zarr on the local disk,
and one pass of each, online, is timed: MiniBatchNMF by `partial_fit`, chunk by chunk.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask
import numpy as np
import zarr
from dask.utils import format_bytes, parse_bytes
from distributed import Client
from out_of_core import forget, workers
from rich.console import Console
from rich.table import Table
from sklearn import decomposition

import dadmm
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.datasets import load_dataset
from dadmm.engine.timing import peak_memory
from dadmm.numerics import nonnegative

PASSES = (1, 2, 3, 5, 8, 12, 20, 40, 80)
CHUNK = 8192


def images(rows, seed=0):
    """Return MNIST's training images, and more of the same with noise; uint8."""
    x = load_dataset("mnist")[0][:60000]
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, len(x), rows) if rows > len(x) else np.arange(rows)
    found = x[picked]
    if rows > len(x):
        found = np.where(found > 0, found - (rng.random(found.shape) < 0.5), found).astype(np.uint8)
    return found


def error(s, z):
    """Return the relative error of a dictionary with the best codes."""
    s = np.asarray(s, np.float64)
    m = nonnegative.codes(z, s, 200)
    return float(np.linalg.norm(z - m @ s) / np.linalg.norm(z))


def ours(mode, workers):
    def fit(x, r, passes):
        options = {"mode": mode, "max_iter": passes, "tol": 0, "random_state": 0}
        scheduler = "synchronous" if workers == 1 else "threads"
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            return dadmm.NMF(r, chunks=CHUNK, **options).fit(x).components_

    return fit


def whole(x, r, passes):
    options = {"init": "nndsvd", "max_iter": passes, "tol": 0, "random_state": 0}
    return decomposition.NMF(r, **options).fit(x.astype(np.float32)).components_


def mini(x, r, passes):
    options = {"init": "nndsvda", "max_iter": passes, "tol": 0, "random_state": 0}
    made = decomposition.MiniBatchNMF(r, batch_size=1024, max_no_improvement=None, **options)
    return made.fit(x.astype(np.float32)).components_


FITS = {
    "dadmm batch, 1 core": ours("batch", 1),
    "dadmm batch, 2 cores": ours("batch", 2),
    "dadmm online, 1 core": ours("online", 1),
    "dadmm online, 2 cores": ours("online", 2),
    "scikit-learn NMF": whole,
    "scikit-learn MiniBatchNMF": mini,
}


def compare(options):
    x, test = images(options.rows), load_dataset("mnist")[0][60000:63000].astype(np.float64)
    for fit in FITS.values():  # compile, import
        fit(x[:2000], 4, 1)
    seconds, errors = defaultdict(list), {}
    for _ in range(options.repeats):
        for passes in PASSES:
            for name, fit in FITS.items():
                if passes > (options.most if "scikit" in name else 40):
                    continue
                begin = time.perf_counter()
                s = fit(x, options.components, passes)
                seconds[name, passes].append(time.perf_counter() - begin)
                errors[name, passes] = error(s, test)
                print(f"{name}, {passes}: {seconds[name, passes][-1]:.2f} s, "
                      f"{errors[name, passes]:.4f}", file=sys.stderr)  # fmt: skip
    best = min(errors.values())
    last = errors["scikit-learn MiniBatchNMF", options.most]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("", "rows/s of a pass", f"to {1.01 * best:.4f}", f"to {last:.4f}"):
        table.add_column(column, justify="left" if not column else "right")
    for name in FITS:
        done = sorted(passes for other, passes in seconds if other == name)
        times = {passes: median(seconds[name, passes]) for passes in done}
        each = (times[done[-1]] - times[done[2]]) / (done[-1] - done[2])
        row = [name, f"{len(x) / each:,.0f}"]
        for goal in (1.01 * best, last):
            there = [times[p] for p in done if errors[name, p] <= goal]
            row.append(f"{min(there):.2f} s" if there else f"not in {done[-1]}")
        table.add_row(*row)
    Console(soft_wrap=True, highlight=False, width=120).print(table)


def stream(options):
    """Time one pass over data larger than memory."""
    memory = parse_bytes(options.memory)
    rows = -(-int(options.times * memory) // 784 // CHUNK) * CHUNK
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("", "seconds", "rows/s", "error", "worker's peak"):
        table.add_column(column, justify="left" if not column else "right")
    test = load_dataset("mnist")[0][60000:63000].astype(np.float64)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        shape = {"shape": (rows, 784), "chunks": (CHUNK, 784), "dtype": np.uint8}
        x = zarr.create_array(f"{folder}/x.zarr", compressors=None, **shape)
        for first in range(0, rows, 16 * CHUNK):
            last = min(first + 16 * CHUNK, rows)
            x[first:last] = images(60001, seed=first)[np.arange(last - first) % 60001]
        size = format_bytes(rows * 784)
        print(f"{rows:,} rows, {size}, {options.times:g} x {options.memory}", file=sys.stderr)
        for count in range(1, options.workers + 1):
            with (
                dask.config.set(WORKER_SETTINGS),
                workers(memory, count) as cluster,
                Client(cluster) as client,
            ):
                forget(folder)
                begin = time.perf_counter()
                made = dadmm.NMF(
                    options.components, mode="online", init="random", max_iter=1, tol=0,
                    random_state=0, chunks=2 * CHUNK, run=f"{folder}/run{count}",
                ).fit(x)  # fmt: skip
                took = time.perf_counter() - begin  # the looks before and the score after it, too
                peak = max(client.run(peak_memory).values())
            name = f"dadmm online, {count} worker{'s' * (count > 1)}"
            print(f"{name}: {took:.1f} s, peak {format_bytes(peak)}", file=sys.stderr)
            table.add_row(name, f"{took:.1f}", f"{rows / took:,.0f}",
                          f"{error(made.components_, test):.4f}", format_bytes(peak))  # fmt: skip
        forget(folder)
        made = decomposition.MiniBatchNMF(
            options.components, batch_size=1024, random_state=0, init="random"
        )
        begin = time.perf_counter()
        for first in range(0, rows, CHUNK):
            block = x[first : first + CHUNK].astype(np.float32)
            for i in range(0, CHUNK, 1024):
                made.partial_fit(block[i : i + 1024])
        took = time.perf_counter() - begin
        table.add_row("scikit-learn MiniBatchNMF", f"{took:.1f}", f"{rows / took:,.0f}",
                      f"{error(made.components_, test):.4f}", "")  # fmt: skip
    Console(soft_wrap=True, highlight=False, width=120).print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=20, help="passes of scikit-learn's")
    parser.add_argument("--times", type=float, help="data in units of a worker's memory")
    parser.add_argument("--memory", default="800MiB", help="of a worker")
    parser.add_argument("--workers", type=int, default=2, help="the most, with --times")
    options = parser.parse_args()
    (stream if options.times else compare)(options)


if __name__ == "__main__":
    main()
