"""Where each solver stops scaling, simulated: a table and a picture for docs/scaling.md.

    python benchmarks/scaling.py [--picture docs/scaling.png] [--machine benchmarks/machine.json]

10^9 rows of 1024 features, nine hidden layers of 1024, 10 classes, on 1 to 4096 workers.  The
rates are those of a machine that was measured once, in benchmarks/machine.json; the network has
10 Gbit/s per worker, the store 1 GB/s per worker, the scheduler takes 1 ms a task.

Nothing is trained, so it may run beside anything; it takes some minutes.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import dadmm
from dadmm.planner import machine as machines
from dadmm.planner.forecast import WORKERS, Conditions, Subject, enough, forecast, sweep
from dadmm.solvers.base import Problem

ROWS, WIDTH, DEPTH, CLASSES = 10**9, 1024, 10, 10
GIVEN = Conditions(disk=1e9, net=1.25e9, task=1e-3, latency=1e-3, stragglers=0.1)
# Rows of a chunk of 16 MiB, of one of 64 MiB, and eight times the former.
SMALL, MIDDLE, LARGE = 4096, 16384, 32768


def subject(solver, rows):
    arch = dadmm.Architecture.build(WIDTH, (WIDTH,) * (DEPTH - 1), CLASSES)
    problem = Problem(arch, "cross_entropy", 1e-3, ROWS, CLASSES)
    return Subject(solver, problem, (rows,) * (ROWS // rows), in_place=True)


def block(agents, **options):
    return dadmm.BlockADMM(agents=agents, **options)


CASES = {
    "relaxed": (dadmm.RelaxedADMM(), SMALL),
    "relaxed, chunks 8 times as large": (dadmm.RelaxedADMM(), LARGE),
    "relaxed, a region for each layer": (dadmm.RelaxedADMM(regions=DEPTH), LARGE),
    "relaxed, nothing kept": (dadmm.RelaxedADMM(state="recompute"), LARGE),
    "block, 2 agents": (block(2), MIDDLE),
    "block, 64 agents": (block(64), MIDDLE),
    "block, 1024 agents": (block(1024), MIDDLE),
    "block, 1024 agents, 4 local epochs": (block(1024, local_epochs=4), MIDDLE),
    "block, 4096 agents": (block(4096), MIDDLE),
    "block, 4096 agents, 4 local epochs": (block(4096, local_epochs=4), MIDDLE),
}
# What is free, to see what it costs.
FREE = {
    "network": {"net": 1e15},
    "scheduler": {"task": 0.0, "latency": 0.0},
    "stragglers": {"stragglers": 0.0},
}


def gains(one, machine, workers):
    """Return the share of an iteration that is saved if something were free."""
    whole = forecast(one, machine, workers, GIVEN, detailed=False).seconds
    return {
        name: 1
        - forecast(one, machine, workers, replace(GIVEN, **free), detailed=False).seconds / whole
        for name, free in FREE.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture")
    parser.add_argument("--machine", default=str(Path(__file__).parent / "machine.json"))
    parser.add_argument("--cases", help="names, with semicolons between them")
    options = parser.parse_args()
    machine = machines.load(Path(options.machine)) or machines.typical()
    drawn = {}
    print("| case | chunks | tasks | enough workers | s per epoch | " + " | ".join(FREE) + " |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.cases.split(";") if options.cases else CASES:
        solver, rows = CASES[name]
        one, began = subject(solver, rows), time.perf_counter()
        epochs = getattr(solver, "local_epochs", 1)
        found = sweep(one, machine, GIVEN, WORKERS)
        few, _ = enough(found)
        drawn[name] = [each.seconds / epochs for each in found]
        saved = gains(one, machine, min(2 * few.workers, WORKERS[-1]))
        cells = [
            name, f"{len(one.chunks):,}", f"{few.tasks:,}", f"{few.workers:,}",
            f"{few.seconds / epochs:,.0f}", *(f"{100 * share:.0f} %" for share in saved.values()),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)
        seconds = ", ".join(f"{each.workers}: {each.seconds:.4g}" for each in found)
        print(f"{name} ({time.perf_counter() - began:.0f} s): {seconds}", file=sys.stderr)
    if options.picture:
        draw(drawn, options.picture)


def draw(drawn, picture):
    """Plot seconds per epoch against workers."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axes, kind in zip(both, ("relaxed", "block"), strict=True):
        shown = {name: values for name, values in drawn.items() if name.startswith(kind)}
        for name, values in shown.items():
            axes.plot(WORKERS, values, ".-", label=name)
        if shown:
            first = next(iter(shown.values()))[0]
            axes.plot(WORKERS, [first / w for w in WORKERS], ":", color="gray", label="ideal")
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="seconds per epoch")
        axes.set_xscale("log", base=2)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main()
