"""What it costs when neither data nor state fit into the workers' memory.

    python benchmarks/out_of_core.py [--cases relaxed-256,relaxed-1024,block] [--memory 1GiB]
    python benchmarks/out_of_core.py --pieces
    python benchmarks/out_of_core.py --flat docs/memory.png

Workers have `--memory` each.  Relaxed ADMM keeps `--times` as much state (three hidden layers of
that width) as they have memory together, Block-ADMM (784 features, two hidden layers of 128) has
as much data; both lie on the local disk, under the current folder.  For comparison the same chunks,
but few of them, in the system's shared memory, before and after.  In one run.

The system's page cache would keep what it can: before every iteration that is timed, its pages of
the run are dropped, so that all is read from the disk.  "of memory" is the throughput per row
against that in memory.  "bound" is the larger of two: floating-point work over the rate of matrix
products, and bytes over the rates of the disk, each measured with as many processes at once.

`--pieces` trains Block-ADMM on inputs that stay in zarr, `--times` as large as a worker's memory:
chunks of the run are contiguous ranges of rows, or pieces from all over the array, in turns.

`--flat` trains on n, 4n, 16n and 64n rows and plots the peak memory of a worker.

Run it alone; it wants disk for three generations of the state.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask
import dask.array as da
import numpy as np
import zarr
from dask.utils import format_bytes, parse_bytes
from distributed import Client, LocalCluster
from relaxed import CLASSES, operations, rate_of
from rich.console import Console
from rich.table import Table

import dadmm
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.memory import chunk_rows
from dadmm.engine.timing import peak_memory
from dadmm.solvers.problem import Problem

FEATURES = 784
FILE = 16 * 2**20


def workers(memory, count):
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=memory,
        host="127.0.0.1",
        dashboard_address=None,
    )


# --------------------------------------------------------------------------------------- the disk


def write_files(folder, count):
    block = np.random.default_rng(os.getpid()).integers(0, 255, FILE, dtype=np.uint8)
    begin = time.perf_counter()
    for i in range(count):
        handle = os.open(f"{folder}/{os.getpid()}-{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(handle, block)
        os.fsync(handle)
        os.close(handle)
    return count * FILE / (time.perf_counter() - begin)


def read_files(folder, count):
    block = np.empty(FILE, np.uint8)
    names = sorted(Path(folder).glob(f"{os.getpid()}-*"))[:count]
    forget(folder)
    begin = time.perf_counter()
    for name in names:
        with name.open("rb", buffering=0) as file:
            file.readinto(block.data)
    return len(names) * FILE / (time.perf_counter() - begin)


def forget(folder):
    """Drop the pages of a folder's files from the system's cache; they are on the disk already."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def disk_rates(pool, workers, count=48):
    """Return bytes per second of synced writes and of cold reads, by all processes at once."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rates = []
        for job in (write_files, read_files):
            jobs = [pool.apply_async(job, (folder, count)) for _ in range(workers)]
            rates.append(sum(found.get() for found in jobs))
    return rates


# -------------------------------------------------------------------------------------- the cases


def relaxed(width):
    """Return a solver, its network, and per row: bytes of state, of inputs, and operations."""
    solver, hidden = dadmm.RelaxedADMM(), (width,) * 3
    arch = dadmm.Architecture.build(width, hidden, CLASSES)
    problem = Problem(arch, "cross_entropy", 1e-3, 10**7, CLASSES)
    state = 4 * sum(solver.layout(problem).state.values())
    return solver, problem, state, 4 * width, operations([width] * 4 + [CLASSES], 1)


def block():
    solver, hidden = dadmm.BlockADMM(), (128, 128)
    arch = dadmm.Architecture.build(FEATURES, hidden, CLASSES)
    problem = Problem(arch, "cross_entropy", 1e-3, 10**7, CLASSES)
    # Forward, and backward for weights and inputs; not for the inputs of the first layer.
    work = 6 * arch.n_parameters - 2 * FEATURES * hidden[0]
    return solver, problem, 0, 4 * FEATURES, work


def inputs_of(labels, features, block_info=None):
    """Return noise that gives its label away: on mere noise all weights would fade to denormals."""
    rng = np.random.default_rng(block_info[0]["chunk-location"][0])
    x = rng.standard_normal((len(labels), features), dtype=np.float32)
    x[np.arange(len(x)), labels] += 3
    return x


def train(solver, problem, rows, chunk, run, iterations):
    """Return the seconds of each iteration, its inputs and state forgotten before."""
    features, *hidden, _ = problem.architecture.widths
    y = da.random.default_rng(0).integers(0, CLASSES, rows, chunks=chunk)
    x = y.map_blocks(
        inputs_of, features, new_axis=1, chunks=(y.chunks[0], (features,)), dtype=np.float32
    )
    seconds = []

    def note(iteration, row):
        seconds.append(row["seconds"])
        if run is not None:
            forget(run)

    dadmm.ADMMClassifier(
        tuple(hidden),
        solver=solver,
        max_iter=iterations,
        tol=0,
        standardize="none",
        random_state=0,
        chunks=chunk,
        run=run,
    ).fit(x, y, callback=note)
    return seconds


def measure(name, options, pool, table):
    """Add a case's row to the table."""
    kind, _, width = name.partition("-")
    solver, problem, state, inputs, work = relaxed(int(width)) if kind == "relaxed" else block()
    memory = parse_bytes(options.memory)
    rows = int(options.times * options.workers * memory // (state or inputs))
    problem = replace(problem, rows=rows)
    chunk = chunk_rows(solver, problem, "auto", memory, inputs=4, streamed=True)[0]
    rows = -(-rows // chunk) * chunk
    with workers(memory, options.workers) as cluster, Client(cluster) as client:
        inside = train(solver, problem, 8 * chunk, chunk, None, 6)[2:]
        with tempfile.TemporaryDirectory(dir=".") as folder:
            outside = train(solver, problem, rows, chunk, f"{folder}/run", options.iterations)
        inside += train(solver, problem, 8 * chunk, chunk, None, 6)[2:]
        inside, outside = median(inside) / (8 * chunk), median(outside[1:]) / rows
        peak = max(client.run(peak_memory).values())
    product = rate_of(pool, options.workers, int(width or 128), chunk if kind == "relaxed" else 128)
    write, read = disk_rates(pool, options.workers)
    disk = (state + inputs) / read + state / write
    bound = max(work / product, disk)
    print(
        f"{name}: {rows:,} rows in chunks of {chunk:,}; products {product / 1e9:.0f} GFLOP/s; disk "
        f"{write / 1e9:.2f} GB/s written, {read / 1e9:.2f} read; per row {work / product * 1e6:.1f}"
        f" us of products, {disk * 1e6:.1f} us of disk, in memory {inside * 1e6:.1f} us",
        file=sys.stderr,
    )
    table.add_row(
        name, format_bytes(rows * (state or inputs)), f"{outside * rows:.1f}",
        f"{rows / (outside * rows):,.0f}", f"{inside / outside:.2f}", f"{bound / outside:.2f}",
        format_bytes(peak),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- pieces


def stored_inputs(place, rows, unit, compressed):
    """Store pixels that give their labels away, in zarr; return the array and the labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, rows)
    array = zarr.create_array(
        place, shape=(rows, FEATURES), chunks=(unit, FEATURES), dtype="uint8",
        compressors="auto" if compressed else None,
    )  # fmt: skip
    for first in range(0, rows, 64 * unit):
        own = labels[first : first + 64 * unit]
        block = rng.integers(0, 255, (len(own), FEATURES), dtype=np.uint8)
        block[:, FEATURES // 2 :] = 0  # as images have background
        block[np.arange(len(own)), own] = 255
        array[first : first + len(own)] = block
    return zarr.open_array(place, mode="r"), labels


def pieces(options, table):
    """Compare reading pieces from all over an array to reading it in order."""
    memory = parse_bytes(options.memory)
    rows = int(options.times * memory // FEATURES)
    for compressed in (False, True):
        with (
            tempfile.TemporaryDirectory(dir=".") as folder,
            workers(memory, options.workers) as cluster,
            Client(cluster) as client,
        ):
            x, y = stored_inputs(f"{folder}/x.zarr", rows, options.unit, compressed)
            taken = {False: [], True: []}
            for turn in range(4):
                seconds = []

                def note(iteration, row, seconds=seconds, folder=folder):
                    seconds.append(row["seconds"])
                    forget(folder)

                dadmm.ADMMClassifier(
                    (128, 128), max_iter=options.iterations, tol=0, random_state=0,
                    shuffle="auto" if turn % 2 else False, run=f"{folder}/run", overwrite=True,
                ).fit(x, y, callback=note)  # fmt: skip
                taken[bool(turn % 2)] += seconds[1:]
            peak = max(client.run(peak_memory).values())
        order, mixed = (median(taken[kind]) for kind in (False, True))
        table.add_row(
            "zstd" if compressed else "plain", f"{rows:,}", f"{rows / order:,.0f}",
            f"{rows / mixed:,.0f}", f"{order / mixed:.2f}", format_bytes(peak),
        )  # fmt: skip


# --------------------------------------------------------------------------------------- flatness


def flat(picture, memory):
    """Plot the peak memory of a worker against the number of rows."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    for name, case in {"relaxed, width 256": relaxed(256), "block": block()}.items():
        solver, problem, state, inputs, _ = case
        chunk, sizes, peaks = 8192, [], []
        for times in (1, 4, 16, 64):
            rows = 2 * chunk * times
            with workers(memory, 2) as cluster, Client(cluster) as client:
                with tempfile.TemporaryDirectory(dir=".") as folder:
                    train(solver, problem, rows, chunk, f"{folder}/run", 2)
                peaks.append(max(client.run(peak_memory).values()) / 2**20)
            sizes.append(rows * (state + inputs) / 2**20)
            print(f"{name}: {rows:,} rows, {sizes[-1]:,.0f} MiB of data and state, peak "
                  f"{peaks[-1]:.0f} MiB", file=sys.stderr)  # fmt: skip
        axes.plot(sizes, peaks, "o-", label=name)
    axes.plot(sizes, sizes, ":", color="gray", label="all of it")
    axes.set(
        xscale="log", xlabel="data and state (MiB)", ylabel="peak of a worker (MiB)", ylim=(0, 1000)
    )
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="relaxed-256,relaxed-1024,block")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1GiB", help="of a worker")
    parser.add_argument("--times", type=float, default=8)
    parser.add_argument("--iterations", type=int, default=5, help="the first is not timed")
    parser.add_argument("--pieces", action="store_true")
    parser.add_argument("--unit", type=int, default=500, help="rows of the stored chunks of those")
    parser.add_argument("--flat", metavar="PICTURE")
    options = parser.parse_args()
    with dask.config.set(WORKER_SETTINGS):
        if options.flat:
            flat(options.flat, options.memory)
            return
        if options.pieces:
            table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
            for column in (
                "stored", "rows", "rows/s in order", "rows/s in pieces", "ratio", "worker's peak",
            ):  # fmt: skip
                table.add_column(column, justify="right", no_wrap=True)
            pieces(options, table)
            Console(soft_wrap=True, highlight=False, width=120).print(table)
            return
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in (
            "case", "on disk", "s/iteration", "rows/s", "of memory", "of bound", "worker's peak",
        ):  # fmt: skip
            table.add_column(column, justify="right", no_wrap=True)
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            for name in options.cases.split(","):
                measure(name, options, pool, table)
        Console(soft_wrap=True, highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
