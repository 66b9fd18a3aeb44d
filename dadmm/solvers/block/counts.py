"""What the tasks of Block-ADMM compute, counted; the counted code is beside this file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dadmm.networks.blocks import Dense, NMFBlock
from dadmm.networks.chain import size
from dadmm.numerics.activations import PIECEWISE, get_activation
from dadmm.solvers.block.grid import Task
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.counts import Counts, Footprint, Granularity, Work, target_bytes
from dadmm.solvers.evaluate import EVALUATED
from dadmm.solvers.nmf import counts
from dadmm.solvers.nmf.dictionary import SWEEPS
from dadmm.solvers.parts import Part, Phase
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import HELD_OUT
from dadmm.solvers.stopping import HeldOut

# Calls from Python per mini-batch beside those of its blocks.
PER_BATCH = 25
# What it takes to shuffle a row, or to sort it by its class, in gathers of a number; and to look
# at an entry of its targets for its class.
SHUFFLED, LOOKED = 20, 3
# Fewest rounds of a pass in scattered order.  On MNIST sorted by class 20, 40, 80 and 160 rounds of
# two agents reached 0.962, 0.973, 0.978 and 0.982 in four passes; a round takes about 25 ms.
MIXED = 64


class BlockCounts(Counts):
    """What a run of Block-ADMM costs."""

    whole_inputs = False

    def granularity(self, solver: BlockOptions, problem: Problem) -> Granularity:
        """Return chunks that the agents share evenly; small ones if they are to be mixed."""
        rounds = MIXED if solver.chunk_order == "scattered" else 1
        return Granularity(rounds * solver.agents, solver.agents, 64 * 2**20)

    def footprint(
        self, solver: BlockOptions, problem: Problem, inputs: int, chunks: int
    ) -> Footprint:
        size = np.dtype(problem.dtype).itemsize
        chain, spans = solver.chain(problem), solver.spans(problem)
        widths, grid = chain.widths, solver.schedule == "grid"
        sizes = [solver.size(problem, t) for t in solver.layers(problem)]

        # Inputs and targets; the rows in some order; what is kept, and (grid) what is being made.
        row = inputs * widths[0] + target_bytes(problem) + 24
        row += 8 * solver.splits_by_targets(problem)
        row += size * sum(solver.variables(problem).values())
        ends = [widths[hi] for _, hi in spans[:-1]]
        if grid and ends:
            made = max(a + b for a, b in pairwise([0, *ends, 0]))
            row += size * (max(ends) if solver.mode == "online" else made + 1)

        # Parameters, both moments and the gradient, of one block in the grid; consensus ADMM's
        # multiplier, what was sent, and what is to be sent.
        at_once = max(sizes) if grid else sum(sizes)
        visit = 4 * size * at_once
        if solver.consensus == "admm":
            visit += size * (2 * sum(sizes) + max(sizes))
        # A mini-batch: its inputs, what each link keeps, Z and U.  More rows of the same in the
        # grid, and of the outputs of all links in an evaluation.
        links = [5 * sum(widths[lo - 1 : hi + 1]) for lo, hi in spans]
        batch = solver.batch_rows(problem)
        batch_bytes = (
            max(batch, EVALUATED) * max(links) if grid else batch * (sum(links) + 6 * sum(ends))
        )
        visit += size * (batch_bytes + EVALUATED * (widths[0] + 2 * sum(widths[1:])))

        # Parameters and moments; between rounds also those that the iteration started from.
        rounds = -(-chunks // solver.agents) + solver.early_stopping
        weights = 3 * size * sum(sizes) * (1 if rounds == 1 else 2)
        weights += max(getattr(block, "library", 0) for block in chain.blocks)
        summed = sum(sizes) * (3 if solver.optimizer == "adam" else 2)
        # The new ones, how far they moved, and (consensus ADMM) the step in float64.
        solve = max(sizes) * (4 * size + (8 if solver.consensus == "admm" else 0))
        share = at_once / sum(sizes)
        sums, total = size * summed, 8 * summed
        # Factorisations: a dictionary and its sums in float64; before the first pass, products of
        # all features with each other.
        for i, block in enumerate(chain.blocks):
            if isinstance(block, NMFBlock):
                solve = max(solve, 8 * 4 * widths[i] * widths[i + 1])
                if block.init == "nndsvd":
                    square_bytes = 8 * widths[i] ** 2
                    visit, solve = max(visit, 3 * square_bytes), max(solve, 3 * square_bytes)
                    sums, total = max(sums, square_bytes), max(total, square_bytes)
        return Footprint(row, visit, weights, sums, total, solve, share)

    def visit(self, solver: BlockOptions, problem: Problem, part: Part, rows: int) -> Work:
        work = Work()
        if part.phase is Phase.EVALUATE:
            share = solver.validation_fraction if part.work == HELD_OUT else 1.0
            seen = max(rows * share, 1.0)
            chain = solver.chain(problem)
            _inputs(work, problem, seen, seen / EVALUATED)
            if part.work == HELD_OUT:
                _split(work, solver, problem, rows)
            batch = Work()
            _forward(batch, solver, problem, 1, chain.depth, EVALUATED)
            _measure(batch, problem, EVALUATED)
            work.add(batch, seen / EVALUATED)
            work.result += 64
            return work
        _split(work, solver, problem, rows)
        if solver.schedule == "grid":
            assert isinstance(part.work, Task)
            _grid(solver, problem, work, part.work, rows)
            return work
        trained = _trained(solver, rows)
        batch_rows = min(solver.batch_rows(problem), max(trained, 1))
        batch = Work()
        if solver.plain:
            _online(batch, solver, problem, batch_rows)
        else:
            _sweeps(batch, solver, problem, batch_rows)
        batches = solver.local_epochs * -(-trained // batch_rows)
        work.add(batch, batches)
        _inputs(work, problem, solver.local_epochs * trained, batches)
        work.loop("pass", solver.local_epochs * trained)
        _contribution(work, solver, problem, solver.layers(problem))
        return work

    def weights(self, solver: BlockOptions, problem: Problem, layer: int) -> tuple[Work, Work]:
        """Count reading a block's parameters, and their consensus: see `consensus.update`."""
        item = np.dtype(problem.dtype).itemsize
        kept = item * _kept(solver, problem, layer)
        moved = _learnt(solver, problem, layer) * (8 + 2 * item) + 2 * kept
        update = Work(moved=moved, calls=20, result=kept)
        factors = _factors(solver, problem, layer)
        if factors is not None:
            counts.settled(update, *factors, SWEEPS)
        return Work(moved=kept, result=kept), update


def _factors(solver: BlockOptions, problem: Problem, t: int) -> tuple[int, int] | None:
    """Return the features and factors of a block that factorises; None for others."""
    if solver.factors(problem, t) is None:
        return None
    ((r, features),) = solver.shapes(problem, t).values()
    return features, r


def _kept(solver: BlockOptions, problem: Problem, t: int) -> int:
    """Return how many numbers are stored of a block: parameters and moments, or sums."""
    found = _factors(solver, problem, t)
    return 3 * solver.size(problem, t) if found is None else _learnt(solver, problem, t)


def _learnt(solver: BlockOptions, problem: Problem, t: int) -> int:
    """Return how many numbers the consensus on a block is formed of."""
    found = _factors(solver, problem, t)
    if found is not None:
        features, r = found
        return r * (2 * features + r)
    return (3 if solver.optimizer == "adam" else 2) * solver.size(problem, t)


def _trained(solver: BlockOptions, rows: int) -> int:
    return HeldOut(solver.validation_fraction).kept(rows) if solver.early_stopping else rows


def _split(work: Work, solver: BlockOptions, problem: Problem, rows: int) -> None:
    """Count drawing the rows that are held out, see `HeldOut.split`."""
    if not solver.early_stopping:
        return
    work.loop("gather", SHUFFLED * rows, 12)
    if solver.splits_by_targets(problem):
        work.loop("gather", (SHUFFLED + LOOKED * problem.classes) * rows, 8)


def _inputs(work: Work, problem: Problem, rows: float, batches: float) -> None:
    """Count picking and scaling rows, and picking their targets."""
    widths = problem.architecture.widths
    work.loop("gather", rows * (widths[0] + widths[-1]), 4 * batches)


def _measure(work: Work, problem: Problem, rows: int) -> None:
    outputs = problem.architecture.widths[-1]
    if problem.loss == "cross_entropy":
        work.loop("softmax", rows * outputs, 4)
    else:
        work.loop("loss", 3 * rows * outputs, 12)


def _forward(
    work: Work, solver: BlockOptions, problem: Problem, lo: int, hi: int, rows: int
) -> None:
    chain = solver.chain(problem)
    for i in range(lo, hi + 1):
        inner, outer = chain.widths[i - 1], chain.widths[i]
        block = chain.blocks[i - 1]
        if isinstance(block, NMFBlock):
            counts.coded(work, rows, inner, outer, block.sweeps)
            continue
        if not isinstance(block, Dense):  # a module of others: as a dense one of its parameters
            outer = max(1, size(chain.shapes_of(i)) // max(inner, 1))
        work.product(rows, inner, outer)
        work.calls += 3
        _gate(work, block, rows * outer)


def _gate(work: Work, block: object, elements: float) -> None:
    name = getattr(block, "activation", "relu")
    if name == "identity":
        work.loop("pass", elements)
    elif get_activation(name).kind == PIECEWISE:
        work.loop("gate", elements)
    else:
        work.loop("smooth", elements, 2)
        work.loop("pass", 2 * elements, 2)


def _backward(
    work: Work,
    solver: BlockOptions,
    problem: Problem,
    lo: int,
    hi: int,
    rows: int,
    gradients: bool,
    pull: bool,
) -> None:
    chain = solver.chain(problem)
    for i in range(hi, lo - 1, -1):
        inner, outer = chain.widths[i - 1], chain.widths[i]
        block = chain.blocks[i - 1]
        if isinstance(block, NMFBlock):
            counts.pulled(work, rows, inner, outer, block.sweeps, pull)
            continue
        work.calls += 3
        _gate(work, block, rows * outer)
        if gradients:
            work.product(rows, inner, outer)
        if pull or i > lo:
            work.product(rows, inner, outer)
            if getattr(block, "skip", False):
                work.loop("pass", rows * inner)


def _learn(
    work: Work, solver: BlockOptions, problem: Problem, t: int, rows: int, pull: bool
) -> None:
    lo, hi = solver.spans(problem)[t - 1]
    _backward(work, solver, problem, lo, hi, rows, gradients=True, pull=pull)
    factors = _factors(solver, problem, t)
    if factors is not None:
        counts.absorbed(work, rows, *factors)
        return
    count = solver.size(problem, t)
    calls = 4 * (hi - lo + 1)
    work.loop("adam" if solver.optimizer == "adam" else "pass", count, calls)
    if solver.consensus == "admm":
        work.loop("pass", 2 * count, calls)
    if solver.clip_norm:
        work.loop("pass", 2 * count, 2)


def _online(work: Work, solver: BlockOptions, problem: Problem, rows: int) -> None:
    """Count one mini-batch, see `Local._online`."""
    chain, spans = solver.chain(problem), solver.spans(problem)
    work.calls += PER_BATCH
    _forward(work, solver, problem, 1, chain.depth, rows)
    _measure(work, problem, rows)
    for t in range(len(spans), 0, -1):
        width = chain.widths[spans[t - 1][1]]
        if t < len(spans):
            work.loop("pass", 2 * rows * width, 3)
        _learn(work, solver, problem, t, rows, pull=t > 1)


def _sweeps(work: Work, solver: BlockOptions, problem: Problem, rows: int) -> None:
    """Count one mini-batch, see `Local._sweeps` and `Local._batch`."""
    chain, spans = solver.chain(problem), solver.spans(problem)
    inner = [chain.widths[hi] for _, hi in spans[:-1]]
    work.calls += PER_BATCH
    _forward(work, solver, problem, 1, chain.depth, rows)
    _measure(work, problem, rows)
    if solver.mode == "batch":
        work.loop("gather", 4 * rows * sum(inner), 8 * len(inner))
    for _ in range(solver.z_steps):
        _forward(work, solver, problem, 1, chain.depth, rows)
        work.loop("loss", rows * problem.architecture.widths[-1], 6)
        for lo, hi in spans[1:]:
            _backward(work, solver, problem, lo, hi, rows, gradients=False, pull=True)
        work.loop("pass", 12 * rows * sum(inner), 16 * len(inner))
    work.loop("pass", 2 * rows * sum(inner), 3 * len(inner))
    for _ in range(solver.inner_steps):
        _forward(work, solver, problem, 1, chain.depth, rows)
        work.loop("loss", rows * problem.architecture.widths[-1], 6)
        work.loop("pass", 3 * rows * sum(inner), 4 * len(inner))
        for t in range(1, len(spans) + 1):
            _learn(work, solver, problem, t, rows, pull=False)
    if solver.mode == "batch":
        _forward(work, solver, problem, 1, spans[-1][0] - 1, rows)
        work.loop("pass", 2 * rows * sum(inner), 2 * len(inner))


def _contribution(
    work: Work, solver: BlockOptions, problem: Problem, layers: tuple[int, ...]
) -> None:
    """Count the copies of parameters when a visit begins, and their sums when it ends."""
    item = np.dtype(problem.dtype).itemsize
    kept = sum(_kept(solver, problem, t) for t in layers)
    learnt = sum(_learnt(solver, problem, t) for t in layers)
    remembered = sum(solver.size(problem, t) for t in solver.multiplied(problem) if t in layers)
    work.moved += item * (2 * kept + 3 * learnt + 8 * remembered)
    work.calls += 20 * len(layers)
    work.result += item * learnt + 64


def _grid(solver: BlockOptions, problem: Problem, work: Work, task: Task, rows: int) -> None:
    """Count a task on one block of one chunk, see `dadmm.solvers.block.grid`."""
    t = task.block
    chain, spans = solver.chain(problem), solver.spans(problem)
    lo, hi = spans[t - 1]
    item, trained = np.dtype(problem.dtype).itemsize, _trained(solver, rows)
    below, width = chain.widths[lo - 1], chain.widths[hi]
    work.result = 16
    if task.does == "move":
        work.loop("pass", 10 * trained * width, 20 * trained / EVALUATED)
        work.moved += 5 * item * trained * width
        return
    pieces = trained / EVALUATED
    forward, pull = Work(), Work()
    _forward(forward, solver, problem, lo, hi, EVALUATED)
    forward.loop("gather", EVALUATED * below, 4)
    forward.loop("pass", EVALUATED * width, 4)
    _backward(pull, solver, problem, lo, hi, EVALUATED, gradients=False, pull=True)
    pull.loop("pass", EVALUATED * (3 * width + 3 * below), 8)
    work.moved += item * rows * (below + 2 * width)
    if task.does == "forward":
        work.add(forward, pieces)
        return
    last = t == len(spans)
    train = task.does == "train"
    if not train or solver.mode == "online" or last:
        work.add(forward, pieces)
        if last:
            work.loop("loss", 3 * trained * width, 12 * pieces)
        if not train or solver.mode == "online":
            work.add(pull, pieces)
    if not train:
        return
    if solver.mode == "batch" and not last:
        work.add(forward, pieces)
        work.loop("pass", 2 * trained * width, 2 * pieces)
    batch_rows = min(solver.batch_rows(problem), max(trained, 1))
    batch = Work(calls=PER_BATCH)
    batch.loop("gather", batch_rows * below, 4)
    for _ in range(solver.inner_steps):
        _forward(batch, solver, problem, lo, hi, batch_rows)
        if last:
            batch.loop("loss", batch_rows * width, 8)
        else:
            batch.loop("pass", 4 * batch_rows * width, 6)
        _learn(batch, solver, problem, t, batch_rows, pull=False)
    work.add(batch, solver.local_epochs * -(-trained // batch_rows))
    _contribution(work, solver, problem, (t,))
