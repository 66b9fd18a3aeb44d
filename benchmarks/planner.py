"""Whether `dadmm plan` tells the truth: seconds and memory predicted, and measured.

    python benchmarks/planner.py [--cases "relaxed 256;block 128"] [--rounds 3]
    python benchmarks/planner.py --keep machine.json --times times.json
    python benchmarks/planner.py --machine machine.json --times times.json  # nothing is measured

Measures the machine and trains a few iterations of each case on 1 and on 2 worker processes, in
rounds, and measures the machine once more: its speed may change by a quarter within minutes, where
it is shared.  Prints the predicted seconds of an iteration, from the mean of these measurements,
beside the median over rounds of the median iteration, the first three left out, and those during
which other processes took more than a twentieth of the machine; and the predicted memory of a
worker beside the peak of the fullest.

"memory": the run's blocks lie in the system's shared memory.  "disk": on the disk, where the
system has them cached.  "cold": its cache is dropped before every iteration, so that all is read
from the disk, as it is where data and state do not fit into memory.

Run it alone; a busy machine makes it worthless.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask
import numpy as np
import psutil
from distributed import Client, LocalCluster
from out_of_core import forget
from rich.console import Console
from rich.table import Table

import dadmm
from dadmm.app.planner import machine as machines
from dadmm.app.planner.calibrate import calibrate
from dadmm.app.planner.forecast import Conditions, Subject, forecast
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.timing import peak_memory
from dadmm.solvers.registry import make_solver

CLASSES = 10
# Iterations that are wanted of each case; those before, which compile, warm up, and write where no
# generation was deleted yet; the share of the processors that others may have meanwhile; and the
# seconds after which what there is must do.
WANTED = 5
FIRST = 3
OTHERS = 0.05
PATIENCE = 40.0


@dataclass(frozen=True)
class Case:
    """A network, its data, and where its blocks lie."""

    solver: object
    features: int
    hidden: tuple
    rows: int
    chunk: int
    place: str = "memory"
    activation: str = "relu"

    def subject(self):
        """Return it as the planner wants it."""
        full, rest = divmod(self.rows, self.chunk)
        chunks = (self.chunk,) * full + ((rest,) if rest else ())
        return Subject(self.solver, self.problem(), chunks, 4, False, self.place != "memory")

    def problem(self):
        """Return what is minimised."""
        made, labels = self.estimator(), np.arange(self.rows) % CLASSES
        target = made.encode_target(labels, self.rows)
        return made.make_problem((self.rows, self.features), *target, self.solver)

    def estimator(self):
        """Return it as people have it."""
        return dadmm.ADMMClassifier(
            self.hidden, activation=self.activation, solver=self.solver, standardize="none"
        )

    def data(self):
        """Return noise that gives its label away: on mere noise all weights would fade."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.rows, self.features), dtype=np.float32)
        y = rng.integers(0, CLASSES, self.rows)
        x[np.arange(self.rows), y] += 3
        return x, y


class Factors(Case):
    """A factorisation; `hidden` are its factors, and the data not negative."""

    def estimator(self):
        """See `Case.estimator`."""
        return dadmm.NMF(*self.hidden, mode=self.solver.mode, init="random")

    def data(self):
        """Return noise above 0."""
        rng = np.random.default_rng(0)
        return rng.random((self.rows, self.features), dtype=np.float32), None


def relaxed(width, rows, chunk, place="memory", depth=3, **options):
    activation = options.pop("activation", "relu")
    solver = dadmm.RelaxedADMM(**options)
    return Case(solver, width, (width,) * depth, rows, chunk, place, activation)


def block(features, hidden, rows, chunk, place="memory", **options):
    return Case(dadmm.BlockADMM(**options), features, hidden, rows, chunk, place)


def factors(features, r, rows, chunk, place="memory", mode="batch"):
    return Factors(make_solver({"name": "nmf", "mode": mode}), features, (r,), rows, chunk, place)


CASES = {
    "relaxed 64": relaxed(64, 96_000, 12_000),
    "relaxed 256": relaxed(256, 40_000, 5_000),
    "relaxed 256, disk": relaxed(256, 40_000, 5_000, "disk"),
    "relaxed 256, cold": relaxed(256, 40_000, 5_000, "cold"),
    "relaxed 1024": relaxed(1024, 8_192, 1_024),
    "relaxed 256, 64 chunks": relaxed(256, 32_000, 500),
    "relaxed 256, 2 regions": relaxed(256, 40_000, 5_000, regions=2),
    "relaxed 128, linearized": relaxed(128, 40_000, 5_000, splitting=2, variant="linearized"),
    "relaxed 128 tanh, recompute, cold": relaxed(
        128, 40_000, 5_000, "cold", state="recompute", activation="tanh"
    ),
    "block 128": block(784, (128, 128), 60_000, 15_000),
    "block 512, disk": block(784, (512, 512), 24_000, 6_000, "disk"),
    "block 256, batch, cold": block(256, (256,) * 3, 24_000, 6_000, "cold", mode="batch", blocks=2),
    "NMF 32": factors(784, 32, 60_000, 7_500),
    "NMF 32, online, disk": factors(784, 32, 60_000, 7_500, "disk", "online"),
    "DeepFacto 32": block(
        784, (256, 32), 24_000, 6_000, blocks=[dadmm.Dense(256), dadmm.NMFBlock(32)]
    ),
}


def processors():
    """Return seconds that this machine's processors worked, in all and for this process's tree."""
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    own = 0.0
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
            own += spent.user + spent.system
    return busy, own


def train(case, client, folder):
    """Return the seconds of an iteration, its phases, the fullest worker's peak, and how many.

    Medians over iterations during which others had little of the processors.
    """
    x, y = case.data()
    run = None if case.place == "memory" else f"{folder}/run"
    found = []
    at = [time.perf_counter(), *processors()]
    end = time.perf_counter() + PATIENCE

    def note(iteration, row):
        seconds = time.perf_counter() - at[0]
        busy, own = (now - then for now, then in zip(processors(), at[1:], strict=True))
        others = (busy - own) / seconds / psutil.cpu_count()
        phases = {k.removeprefix("seconds_"): v for k, v in row.items() if "seconds_" in k}
        found.append((seconds, others, phases))
        clean = sum(share < OTHERS for _, share, _ in found[FIRST:])
        if clean == WANTED or (time.perf_counter() > end and len(found) > WANTED + FIRST):
            raise StopIteration
        if case.place == "cold":
            forget(run)
        at[:] = [time.perf_counter(), *processors()]

    with client.as_current():
        case.estimator().set_params(
            max_iter=1000, tol=0, random_state=0, chunks=case.chunk, run=run
        ).fit(x, y, callback=note)
    clean = [each for each in found[FIRST:] if each[1] < OTHERS]
    used = clean if len(clean) > 1 else found[FIRST:]
    kept = {name: median(row.get(name, 0.0) for _, _, row in used) for name in used[-1][2]}
    peak = max(client.run(peak_memory).values())
    return median(seconds for seconds, _, _ in used), kept, peak, len(clean)


def measure(name, workers):
    """Return what a case took, as `train` does."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        tempfile.TemporaryDirectory(dir=".") as folder,
    ):
        found = train(CASES[name], client, folder)
    print(f"{name}, {workers}: {found[0]:.3f} s", file=sys.stderr)
    return found


def compare(measured, machine, verbose):
    """Print what was predicted beside what was measured; say how good it was."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in (
        "case", "blocks", "workers", "iterations", "measured s", "predicted s", "ratio", "peak MiB",
        "predicted MiB", "ratio",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "case" else "right", no_wrap=True)
    ratios, memories = [], []
    for (name, workers), rounds in measured.items():
        seconds = median(each[0] for each in rounds)
        phases = {k: median(each[1].get(k, 0.0) for each in rounds) for k in rounds[0][1]}
        peak = max(each[2] for each in rounds)
        clean = sum(each[3] for each in rounds)
        case, subject = CASES[name], CASES[name].subject()
        found = forecast(subject, machine, workers, Conditions(cold=case.place == "cold"))
        told = {k: v * workers for k, v in found.phases.items()}
        if verbose:
            words = ", ".join(
                f"{k} {told.get(k, 0):.3g}/{phases.get(k, 0):.3g}" for k in sorted({*told, *phases})
            )
            print(f"{name}, {workers}: {words} (predicted/measured)", file=sys.stderr)
        memories.append(subject.worker_bytes / peak)
        ratios += [found.seconds / seconds] if clean > 1 else []
        table.add_row(
            name, case.place, str(workers), str(clean), f"{seconds:.3f}", f"{found.seconds:.3f}",
            f"{found.seconds / seconds:.2f}", f"{peak / 2**20:.0f}",
            f"{subject.worker_bytes / 2**20:.0f}", f"{memories[-1]:.2f}",
        )  # fmt: skip
    Console(soft_wrap=True, highlight=False, width=140).print(table)
    good = sum(0.75 <= ratio <= 1.25 for ratio in ratios)
    print(
        f"{good} of {len(ratios)} within 25 %, median {median(ratios):.2f}; "
        f"least predicted memory to peak {min(memories):.2f}"
    )


def timed():
    began = time.perf_counter()
    found = calibrate(".")
    print(f"measured in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help="names, with semicolons between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", help="where to keep what the machine was measured to be")
    parser.add_argument("--machine", help="with --times: what both were measured to be before")
    parser.add_argument("--times", help="where to keep what was timed")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--verbose", action="store_true", help="phase by phase")
    options = parser.parse_args()
    if options.machine and options.times:
        table = json.loads(Path(options.times).read_text())
        measured = {(name, count): found for name, count, found in table}
        compare(measured, machines.load(Path(options.machine)), options.verbose)
        return
    names = options.cases.split(";") if options.cases else list(CASES)
    counts = [int(count) for count in options.workers.split(",")]
    measured = {(name, count): [] for name in names for count in counts}
    machine = timed()
    for done in range(options.rounds):
        with dask.config.set(WORKER_SETTINGS):
            for (name, count), found in measured.items():
                found.append(measure(name, count))
        machine = machines.mix(machine, timed(), 1 / (done + 2))
    if options.keep:
        machines.save(machine, Path(options.keep))
    if options.times:
        table = [[*key, found] for key, found in measured.items()]
        Path(options.times).write_text(json.dumps(table))
    compare(measured, machine, options.verbose)


if __name__ == "__main__":
    main()
