"""Relaxed ADMM on small problems, driven by hand in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dadmm.engine.eager import iterate
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.solver import Weights
from dadmm.solvers.sums import combine
from support.problems import REGRESSION, data

SMOOTH = ("tanh", "sigmoid", "softplus")
KINKED = ("relu", "leaky_relu")
FORMS = [(s, v) for s in (3, 2) for v in ("proximal", "linearized")]
each_form = pytest.mark.parametrize(("splitting", "variant"), FORMS)


@dataclass
class Run:
    """Everything of a run that is driven by hand; `chunks` and `params` change as it advances."""

    solver: Any
    problem: Problem
    params: dict
    constants: dict
    chunks: list


def relaxed(**options):
    """Return a solver in float64 unless told."""
    return RelaxedADMM(**{"dtype": "float64", **options})


def begin(
    solver,
    loss="squared",
    activation="tanh",
    hidden=(4, 4, 3),
    stem="dense",
    alpha=1e-2,
    n=30,
    p=5,
    seed=0,
    cuts=(),
    noise=0.0,
    xy=None,
):
    """Start a run on rows cut at `cuts`; `noise` moves its state away from the forward pass."""
    x, y = data(loss, n, p) if xy is None else xy
    arch = Architecture.build(x.shape[1], hidden, y.shape[1], activation, stem)
    classes = 0 if loss in REGRESSION else y.shape[1]
    variation = float(((y - y.mean(0)) ** 2).sum())
    problem = Problem(arch, loss, alpha, len(x), classes, variation, solver.dtype)
    solver.check(problem)
    params = solver.initial(problem, seed)
    weights = prepared(solver, problem, params)
    rng = np.random.default_rng(seed)
    blocks = {
        name: noise * rng.standard_normal((len(x), w))
        for name, w in solver.layout(problem).state.items()
    }
    chunks, sums = [], []
    for rows in np.split(np.arange(len(x)), list(cuts)):
        chunk = Chunk(x[rows].astype(solver.dtype), y[rows].astype(solver.dtype), {})
        state, found = solver.start(problem, weights, chunk)
        for name, block in state.items():
            block += blocks[name][rows].astype(solver.dtype)
        if state:  # L stays the gradient of the loss, as it is after every iteration
            last = state[f"v_{arch.depth}"]
            state["l"][...] = get_loss(loss).gradient(last, chunk.y)
        chunk.state.update(state)
        chunks.append(chunk)
        sums.append(found)
    return Run(solver, problem, params, combine(sums), chunks)


def prepared(solver, problem, params):
    """Return what visits need of all layers."""
    weights = {}
    for layer in solver.layout(problem).layers:
        weights |= solver.prepare(problem, layer, params)
    return weights


def unmoved(arrays):
    """Return a layer's arrays as an iteration's first pass gives them to `Solver.update`."""
    return Weights(arrays, arrays, {})


def advance(run, iterations=1):
    """Iterate, and return the history."""
    history = []
    for _ in range(iterations):
        run.params, row = iterate(run.solver, run.problem, run.params, run.constants, run.chunks)
        history.append(row)
    return history


def trace(run, iterations, column="objective"):
    return np.array([row[column] for row in advance(run, iterations)])


def point(run):
    """Return a copy of all blocks by name: x, y, parameters and state, over all rows."""
    blocks = {name: np.array(value, np.float64) for name, value in run.params.items()}
    for name in run.chunks[0].state:
        blocks[name] = np.concatenate([c.state[name] for c in run.chunks]).astype(np.float64)
    blocks["x"] = np.concatenate([c.x for c in run.chunks]).astype(np.float64)
    blocks["y"] = np.concatenate([c.y for c in run.chunks]).astype(np.float64)
    return blocks


def weights(z, i):
    return np.vstack([z[f"w_{i}"], z[f"b_{i}"]])


def never_rises(values):
    """Whether no value is above the one before it, to rounding in float64."""
    return np.isfinite(values).all() and np.diff(values).max() <= 1e-12 * abs(values[0])
