"""Where each solver stops scaling, simulated: a table and a picture for docs/scaling.md.

    python benchmarks/scaling.py [--picture docs/scaling.png] [--rows 10000000]

10^9 rows of 1024 features, nine hidden layers of 1024, 10 classes, on 1 to 16384 workers.  The
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
from dadmm.app.planner import machine as machines
from dadmm.app.planner.forecast import Conditions, Subject, enough, forecast, sweep
from dadmm.solvers.problem import Problem

WIDTH, DEPTH, CLASSES = 1024, 10, 10
# Beyond the 4096 that were asked for, to see the end.
WORKERS = tuple(2**i for i in range(15))
GIVEN = Conditions(disk=1e9, net=1.25e9, task=1e-3, latency=1e-3, stragglers=0.1)
# Rows of a chunk of 16 MiB, of one of 64 MiB, and eight times the former.
SMALL, MIDDLE, LARGE = 4096, 16384, 32768


def subject(solver, rows, whole):
    arch = dadmm.Architecture.build(WIDTH, (WIDTH,) * (DEPTH - 1), CLASSES)
    problem = Problem(arch, "cross_entropy", 1e-3, whole, CLASSES)
    return Subject(solver, problem, (rows,) * max(1, whole // rows), in_place=True)


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
# What is made free, to see what it costs.
FREE = ("network", "scheduler", "stragglers")


def gains(one, machine, workers):
    """Return the share of an iteration that is saved if something were free."""
    fast = replace(machine, net=1e15)
    cases = {
        "network": (fast, replace(GIVEN, net=1e15)),
        "scheduler": (machine, replace(GIVEN, task=1e-9, latency=0.0)),
        "stragglers": (machine, replace(GIVEN, stragglers=0.0)),
    }
    taken = forecast(one, machine, workers, GIVEN, detailed=False).seconds
    return {
        name: 1 - forecast(one, where, workers, given, detailed=False).seconds / taken
        for name, (where, given) in cases.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture")
    parser.add_argument("--machine", default=str(Path(__file__).parent / "machine.json"))
    parser.add_argument("--rows", type=int, default=10**9)
    parser.add_argument("--cases", help="names, with semicolons between them")
    options = parser.parse_args()
    machine = machines.load(Path(options.machine)) or machines.typical()
    drawn = {}
    print(
        "| case | chunks | tasks | enough workers | s per epoch | on 4096 | "
        + " | ".join(FREE)
        + " |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.cases.split(";") if options.cases else CASES:
        solver, rows = CASES[name]
        one, began = subject(solver, rows, options.rows), time.perf_counter()
        epochs = getattr(solver, "local_epochs", 1)
        found = sweep(one, machine, GIVEN, WORKERS)
        few, _ = enough(found)
        drawn[name] = [each.seconds / epochs for each in found]
        saved = gains(one, machine, min(2 * few.workers, WORKERS[-1]))
        full = next(each for each in found if each.workers == 4096)
        cells = [name, *(f"{n:,}" for n in (len(one.chunks), few.tasks, few.workers))]
        cells += [f"{each.seconds / epochs:,.0f}" for each in (few, full)]
        cells += [f"{100 * share:.0f} %" for share in saved.values()]
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
