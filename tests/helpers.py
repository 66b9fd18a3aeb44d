"""Small problems for the tests, and the formulas of relaxed ADMM written out plainly."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster
from nbclient import NotebookClient
from scipy import special

from dadmm.engine.eager import Eager, iterate
from dadmm.estimators.load import open_plan
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers.parts import Pace
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.solver import Weights
from dadmm.solvers.sums import combine
from dadmm.store import Run as stored  # noqa: N813

ACTIVATION = {
    "relu": lambda u: np.where(u > 0, u, 0.0),
    "leaky_relu": lambda u: np.where(u > 0, u, 0.01 * u),
    "identity": lambda u: u,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda u: np.logaddexp(u, 0.0),
}

LOSS = {
    "squared": lambda v, y: 0.5 * ((v - y) ** 2).sum(),
    "huber": lambda v, y: special.huber(1.0, v - y).sum(),
    "hinge": lambda v, y: np.maximum(1.0 - y * v, 0.0).sum(),
    "binary_cross_entropy": lambda v, y: (np.logaddexp(v, 0.0) - y * v).sum(),
    "cross_entropy": lambda v, y: (special.logsumexp(v, axis=1) - (y * v).sum(1)).sum(),
}

REGRESSION = ("squared", "huber")


def data(loss, n=30, p=5, k=3, seed=0):
    """Inputs and targets, in the loss's encoding, that a small network can learn but not quite."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    signal = np.tanh(x @ rng.standard_normal((p, k))) + 0.1 * rng.standard_normal((n, k))
    if loss in REGRESSION:
        return x, 2.0 * signal
    if get_loss(loss).multi_label:
        return x, (signal > 0).astype(np.float64)
    return x, get_loss(loss).encode(signal.argmax(1), k, np.float64)


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


def lagrangian(solver, problem, z):
    """F at the point `z`, straight from the formula."""
    arch, mu, nu = problem.architecture, solver.mu, solver.nu
    act = ACTIVATION[arch.activation]
    depth = arch.depth
    total = LOSS[problem.loss](z[f"v_{depth}"], z["y"])
    below = z["x"]
    for i in range(1, depth):
        a = below @ z[f"w_{i}"] + z[f"b_{i}"]
        skipped = below if arch.skip(i) else 0.0
        v = z[f"v_{i}"]
        if solver.splitting == 3:
            u = z[f"u_{i}"]
            total += mu / 2 * ((u - a) ** 2).sum() + nu / 2 * ((v - skipped - act(u)) ** 2).sum()
        else:
            total += mu / 2 * ((skipped + act(a) - v) ** 2).sum()
        below = v
    residual = below @ z[f"w_{depth}"] + z[f"b_{depth}"] - z[f"v_{depth}"]
    total += (z["l"] * residual).sum() + solver.beta / 2 * (residual**2).sum()
    weights = sum((z[f"w_{i}"] ** 2).sum() for i in range(1, depth + 1))
    return total / len(z["x"]) + problem.alpha / 2 * weights


def numeric_gradient(f, at, h=1e-5):
    """Central differences of a scalar function of an array."""
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += h
        down[index] -= h
        gradient[index] = (f(up) - f(down)) / (2 * h)
    return gradient


def flip(path, at=None):
    """Flip one bit, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 4
    path.write_bytes(content)


def repeat(path, step, limit):
    """Do an iteration of a run of `limit` by hand, as workers would that are late."""
    pace = Pace(step.iteration / limit, (step.iteration + 1) / limit)
    Eager(open_plan(stored.open(path))).iteration(step, pace)


def execute(notebook, **options):
    """Execute a notebook, in an event loop that is closed afterwards; nbclient's own never is.

    In a thread: `asyncio.run` leaves no current loop behind, in whose place tornado would put one
    that nobody closes.
    """
    made = NotebookClient(notebook, kernel_name="python3", **options)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(made.async_execute())).result()


def wait_for_iteration(run, iteration, process):
    """Wait until a process has committed an iteration of a run."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            record = json.loads((Path(run) / "commit.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            record = {"iteration": -1}
        if record["iteration"] >= iteration:
            return
        time.sleep(0.01)
    raise AssertionError(f"iteration {iteration} was not reached")


@contextmanager
def processes(workers, **options):
    """Two things differ from the defaults: nothing listens off loopback, and no dashboard."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            **options,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client
