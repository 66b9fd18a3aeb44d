"""Block-ADMM on two worker processes against tuned Adam: seconds of training to an accuracy.

    DADMM_DATA=... python benchmarks/against_adam.py [--parts race,visit,curve,memory]

MNIST, the residual network 784-256-256-256-10, batches of 128, inputs centred per feature and
divided by one deviation.  Needs torch (the extra ``torch``) and an idle machine.

race     Seconds of training until 97 %, 97.5 % and 98 % of the test set are right: this project on
         2 worker processes, torch's Adam on 2 threads and on 1, scikit-learn's MLPClassifier
         (without residuals, which it has not).  For each accuracy, each side runs the schedule,
         length and learning rate that reached it soonest on a tenth of the training rows held out
         (torch: constant, cosine and one-cycle over 2 to 8 epochs, 1e-3, 2e-3, 4e-3; ours: cosine
         and one-cycle over 2 to 5 passes, 2e-3, 4e-3, 6e-3, 1 or 4 rounds a pass).  Then three
         seeds on all rows, the sides one after another within a seed; medians.  Starting
         workers, importing and compiling are not counted; evaluating is not either.
visit    What share of a visit its matrix products alone would take, and seconds per pass with the
         allocator as dadmm sets it for its workers and as Dask's nanny leaves it.
curve    Test accuracy per pass for 1, 2, 4 and 8 chunks, one consensus a pass.
memory   Peak memory of a worker: the fused schedule and the grid.
"""

import argparse
import math
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask
import numpy as np
from distributed import Client, LocalCluster
from rich.console import Console
from rich.table import Table

import dadmm
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.datasets import load_dataset

HIDDEN = (256, 256, 256)
BATCH = 128
TARGETS = (0.97, 0.975, 0.98)
SEEDS = (0, 1, 2)
out = Console(soft_wrap=True, highlight=False, width=120)


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextmanager
def workers(count, settings=WORKER_SETTINGS):
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=count, threads_per_worker=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit=0,
        )  # fmt: skip
    with cluster, Client(cluster, set_as_default=False) as client, client.as_current():
        yield client


def split(held_out):
    """Return (x, y, x_test, y_test); the test is a tenth of the training rows if held out."""
    x, y = load_dataset("mnist")
    if not held_out:
        return x[:60000], y[:60000], x[60000:], y[60000:]
    order = np.random.default_rng(0).permutation(60000)
    return x[order[6000:]], y[order[6000:]], x[order[:6000]], y[order[:6000]]


# ------------------------------------------------------------------------------------- the sides


def ours(data, config, seed):
    """Return [(seconds so far, accuracy)] after each pass."""
    x = data[0]
    schedule, passes, rate, rounds = config
    solver = dadmm.BlockADMM(
        learning_rate=rate, learning_rate_schedule=schedule, batch_size=BATCH, agents=2
    )
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        model = dadmm.ADMMClassifier(
            HIDDEN, solver=solver, max_iter=passes, tol=0, standardize="global",
            random_state=seed, chunks=-(-len(x) // (2 * rounds)), run=f"{folder}/run",
        )  # fmt: skip
        return watched(model, data)


def watched(model, data):
    """Fit a model with a run store; return [(seconds so far, test accuracy)] after each pass."""
    x, y, xt, yt = data
    found = []

    def mark(iteration, row):
        seconds = row["seconds"] + (found[-1][0] if found else 0.0)
        found.append((seconds, dadmm.load(model.run).score(xt, yt)))

    model.fit(x, y, callback=mark)
    return found


def adam(job):
    """Return the same for torch's Adam; runs in a process of its own."""
    held_out, config, seed, threads = job
    import torch
    from torch import nn

    schedule, epochs, rate = config
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    x, y, xt, yt = split(held_out)
    x, xt = (z.astype("f4") / 255 for z in (x, xt))
    centre, scale = x.mean(0), x.std()
    x, xt = (torch.from_numpy((z - centre) / scale) for z in (x, xt))
    y, yt = torch.from_numpy(y), torch.from_numpy(yt)
    widths = [x.shape[1], *HIDDEN]

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = pairwise(widths)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
            self.head = nn.Linear(widths[-1], 10)

        def forward(self, v):
            for layer in self.layers:
                u = torch.relu(layer(v))
                v = v + u if u.shape == v.shape and layer is not self.layers[0] else u
            return self.head(v)

    net = Residual()
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    steps = epochs * -(-len(x) // BATCH)
    kinds = torch.optim.lr_scheduler
    pace = {
        "constant": lambda: kinds.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: kinds.CosineAnnealingLR(optimizer, steps),
        "one_cycle": lambda: kinds.OneCycleLR(optimizer, max_lr=rate, total_steps=steps),
    }[schedule]()
    for _ in range(3):  # first calls are slow
        nn.functional.cross_entropy(net(x[:BATCH]), y[:BATCH]).backward()
    seconds, found = 0.0, []
    for _ in range(epochs):
        begin = time.perf_counter()
        order = torch.randperm(len(x))
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            pace.step()
        seconds += time.perf_counter() - begin
        with torch.no_grad():
            found.append((seconds, float((net(xt).argmax(1) == yt).float().mean())))
    return found


def mlp(data, config, seed):
    """Return the same for scikit-learn's MLPClassifier, until it has reached all accuracies."""
    from sklearn.neural_network import MLPClassifier

    x, y, xt, yt = data
    epochs, rate = config
    x, xt = (z.astype("f4") / 255 for z in (x, xt))
    centre, scale = x.mean(0), x.std()
    x, xt = (x - centre) / scale, (xt - centre) / scale
    net = MLPClassifier(HIDDEN, batch_size=BATCH, learning_rate_init=rate, random_state=seed)
    seconds, found = 0.0, []
    for _ in range(epochs):
        begin = time.perf_counter()
        net.partial_fit(x, y, classes=np.arange(10))
        seconds += time.perf_counter() - begin
        found.append((seconds, net.score(xt, yt)))
        if found[-1][1] >= TARGETS[-1]:
            break
    return found


def reached(found, target):
    return next((seconds for seconds, accuracy in found if accuracy >= target), math.inf)


# -------------------------------------------------------------------------------------- the race


def best_of(tried):
    """Return, for each accuracy, the config that reached it soonest on the rows held out."""
    best = {}
    for target in TARGETS:
        times = {config: reached(found, target) for config, found in tried.items()}
        best[target] = min(times, key=times.get)
    return best


def race(pool):
    held = split(held_out=True)
    with workers(2):
        ours(held, ("one_cycle", 1, 1e-3, 1), 0)  # compile
        mine = {}
        for schedule in ("cosine", "one_cycle"):
            for passes in (2, 3, 4, 5):
                for rate in (2e-3, 4e-3, 6e-3):
                    for rounds in (1, 4):
                        config = (schedule, passes, rate, rounds)
                        mine[config] = ours(held, config, 100)
                        say(f"tuning ours  {config} {show(mine[config])}")
    theirs = {}
    grid = [("constant", 8, rate) for rate in (1e-3, 2e-3, 4e-3)]
    for schedule in ("cosine", "one_cycle"):
        grid += [(schedule, n, rate) for n in (2, 3, 4, 6, 8) for rate in (1e-3, 2e-3, 4e-3)]
    for config in grid:
        theirs[config] = pool.apply(adam, ((True, config, 100, 2),))
        say(f"tuning torch {config} {show(theirs[config])}")
    # An epoch takes the same time whatever the rate: 1 thread has the same best configs as 2.
    mine, theirs = best_of(mine), best_of(theirs)
    data = split(held_out=False)
    names = ("dadmm, 2 workers", "torch Adam, 2 threads", "torch Adam, 1 thread", "sklearn MLP")
    seen = {(name, target): [] for name in names for target in TARGETS}
    for seed in SEEDS:
        classic = mlp(data, (12, 1e-3), seed)
        say(f"seed {seed} sklearn {show(classic)}")
        for target in TARGETS:
            with workers(2):
                ours(data, ("one_cycle", 1, 1e-3, 1), 0)
                found = {names[0]: ours(data, mine[target], seed)}
            for name, threads in ((names[1], 2), (names[2], 1)):
                found[name] = pool.apply(adam, ((False, theirs[target], seed, threads),))
            found[names[3]] = classic
            for name, passes in found.items():
                seen[name, target].append(reached(passes, target))
                say(f"seed {seed} to {target:.1%} {name} {show(passes)}")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("to", *names, "to better torch"):
        table.add_column(name, justify="right", no_wrap=True)
    for target in TARGETS:
        times = [median(seen[name, target]) for name in names]
        cells = [f"{t:.2f} s" if t < math.inf else "not reached" for t in times]
        ratio = times[0] / min(times[1:3])
        table.add_row(f"{target:.1%}", *cells, f"{ratio:.2f}")
    out.print("Seconds of training, median of 3 seeds")
    out.print(table)
    for target in TARGETS:
        out.print(f"{target:.1%}: ours {mine[target]}, torch {theirs[target]}")


def show(found):
    return " ".join(f"{seconds:.2f}s:{accuracy:.4f}" for seconds, accuracy in found)


# ------------------------------------------------------------------------------------ the visits


def products(seconds=2.0):
    """Return seconds that a pass's matrix products take in this process, per training row."""
    widths = (784, *HIDDEN, 10)
    rng = np.random.default_rng(0)
    pairs = list(pairwise(widths))
    w = [rng.standard_normal(p, dtype=np.float32) for p in pairs]
    v = [rng.standard_normal((BATCH, p[0]), dtype=np.float32) for p in pairs]
    g = [rng.standard_normal((BATCH, p[1]), dtype=np.float32) for p in pairs]
    dw, dv, a = ([np.empty_like(b) for b in blocks] for blocks in (w, v, g))
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for i in range(len(w)):
            np.matmul(v[i], w[i], out=a[i])
        for i in reversed(range(len(w))):
            np.matmul(v[i].T, g[i], out=dw[i])
            if i:
                np.matmul(g[i], w[i].T, out=dv[i])
        count += BATCH
    return (time.perf_counter() - begin) / count


def visit(pool):
    data = split(held_out=False)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("worker's allocator", "s/pass", "products alone", "share in products"):
        table.add_column(name, justify="right", no_wrap=True)
    seen = {"set by dadmm": [], "nanny's default": []}
    for _ in range(3):
        jobs = [pool.apply_async(products) for _ in range(2)]
        alone = max(job.get() for job in jobs) * len(data[0]) / 2
        for name, settings in (("set by dadmm", WORKER_SETTINGS), ("nanny's default", {})):
            with workers(2, settings):
                found = ours(data, ("one_cycle", 5, 4e-3, 1), 0)
            spans = np.diff([seconds for seconds, _ in found])
            seen[name].append((median(spans), alone))
    for name, found in seen.items():
        seconds, alone = (median(v) for v in zip(*found, strict=True))
        table.add_row(name, f"{seconds:.3f}", f"{alone:.3f}", f"{alone / seconds:.2f}")
    out.print("A pass on 2 workers, reading, scaling, consensus and commit included")
    out.print(table)


def curve(pool):
    x, y, xt, yt = split(held_out=False)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("chunks", "1", "2", "4", "8"):
        table.add_column(name, justify="right")
    for chunks in (1, 2, 4, 8):
        solver = dadmm.BlockADMM(
            learning_rate=1e-3, learning_rate_schedule="constant", agents=chunks, batch_size=BATCH
        )
        with tempfile.TemporaryDirectory() as folder, workers(2):
            found = watched(
                dadmm.ADMMClassifier(
                    HIDDEN, solver=solver, max_iter=8, tol=0, standardize="global",
                    random_state=0, chunks=-(-len(x) // chunks), run=f"{folder}/run",
                ),
                (x, y, xt, yt),
            )  # fmt: skip
        table.add_row(str(chunks), *(f"{found[i][1]:.4f}" for i in (0, 1, 3, 7)))
    out.print("Test accuracy after passes, constant rate 1e-3, one consensus a pass")
    out.print(table)


def peak():
    """Return this process's peak memory since the last call, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return found * 1024


def memory(pool):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16000, 1024), dtype=np.float32)
    y = rng.integers(0, 10, len(x))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("schedule", "before", "peak", "for training"):
        table.add_column(name, justify="right")
    for schedule in ("fused", "grid"):
        solver = dadmm.BlockADMM(blocks=8, schedule=schedule, agents=1)
        with tempfile.TemporaryDirectory() as folder, workers(4) as client:
            client.run(lambda: __import__("dadmm.solvers.block.grid"))
            client.run(peak)
            before = max(client.run(peak).values())
            dadmm.ADMMClassifier(
                (2048,) * 8, solver=solver, max_iter=1, random_state=0, chunks=1000,
                run=f"{folder}/run",
            ).fit(x, y)  # fmt: skip
            after = max(client.run(peak).values())
        mib = 2**20
        table.add_row(
            schedule, f"{before / mib:.0f} MiB", f"{after / mib:.0f} MiB",
            f"{(after - before) / mib:.0f} MiB",
        )  # fmt: skip
    out.print("Peak memory of the fullest of 4 workers: 8 hidden layers of 2048, 8 blocks")
    out.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="race,visit,curve,memory")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for part in options.parts.split(","):
            {"race": race, "visit": visit, "curve": curve, "memory": memory}[part](pool)


if __name__ == "__main__":
    main()
