"""Small problems for Block-ADMM, driven by hand in float64."""

from dataclasses import replace

import numpy as np

from dadmm.engine.eager import iterate
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.parts import Pace
from dadmm.solvers.problem import Chunk, Problem
from support.problems import data

HIDDEN = (6, 6, 4)


def block(**options):
    """Return a solver in float64, at a constant rate, unless told."""
    defaults = {"dtype": "float64", "learning_rate_schedule": "constant", "agents": 1}
    return BlockADMM(**{**defaults, **options})


def problem(loss="cross_entropy", n=40, hidden=HIDDEN, activation="tanh", alpha=0.0, **more):
    classes = 0 if loss in ("squared", "huber") else 3
    arch = Architecture.build(5, hidden, 3, activation)
    return Problem(
        arch, loss, alpha, n, classes, target_variation=float(n), dtype="float64", **more
    )


def begin(solver, problem, chunks=1, seed=0, weight=None):
    """Return parameters and chunks to iterate from."""
    x, y = data(problem.loss, problem.rows)
    params = solver.initial(problem, seed)
    made = []
    for c, rows in enumerate(np.array_split(np.arange(problem.rows), chunks)):
        w = None if weight is None else weight[rows]
        chunk = Chunk(x[rows], y[rows], {}, (seed, 0, c), weight=w)
        state, _ = solver.start(problem, params, chunk)
        made.append(replace(chunk, state=state))
    return params, made


def go(solver, problem, passes=1, chunks=1, seed=0, weight=None):
    """Train; return the parameters, the chunks and the reports."""
    params, made = begin(solver, problem, chunks, seed, weight)
    rows = []
    for k in range(passes):
        made = [replace(chunk, seed=(seed, k, c)) for c, chunk in enumerate(made)]
        pace = Pace(k / passes, (k + 1) / passes, solver.stopping.judge(rows, 0.0).rate)
        params, row = iterate(solver, problem, params, {}, made, pace)
        rows.append(row)
    return params, made, rows


def network(solver, problem, params):
    """Return the network's parameters under their own names."""
    found = {}
    for t in solver.layout(problem).layers:
        found |= solver.export(problem, t, params)
    return found


def loss_of(solver, problem, params, x, y):
    out = solver.chain(problem).forward(network(solver, problem, params), x)
    return get_loss(problem.loss).value(out, y) / len(x)


def gradient(solver, problem, params, x, y):
    """The gradient of the mean loss in all parameters, by central differences."""
    found = {}
    for t in solver.layout(problem).layers:
        theta = params[f"theta_{t}"]
        slope = np.empty_like(theta)
        for i in range(len(theta)):
            at = []
            for h in (1e-6, -1e-6):
                moved = theta.copy()
                moved[i] += h
                at.append(loss_of(solver, problem, {**params, f"theta_{t}": moved}, x, y))
            slope[i] = (at[0] - at[1]) / 2e-6
        found[t] = slope
    return found
