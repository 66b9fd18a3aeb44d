"""What the tasks of relaxed ADMM compute, counted; the counted code is beside this file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dadmm.networks.scaling import SCALED
from dadmm.numerics.activations import PIECEWISE, get_activation
from dadmm.solvers.counts import Counts, Footprint, Granularity, Work, target_bytes
from dadmm.solvers.parts import Part, Phase
from dadmm.solvers.problem import Problem
from dadmm.solvers.relaxed.options import RelaxedOptions, Task
from dadmm.solvers.relaxed.sweep import tile_rows

# Usual steps per row and sweep on a subproblem without a closed form: a row rests once it has
# settled, but its tile goes on.
STEPS = 4
TRIALS = 1.3


class RelaxedCounts(Counts):
    """What a run of relaxed ADMM costs."""

    whole_inputs = True

    def granularity(self, solver: RelaxedOptions, problem: Problem) -> Granularity:
        """Return enough chunks to keep a few workers busy, whatever their number is."""
        return Granularity(fewest=8, most_bytes=16 * 2**20)

    def footprint(
        self, solver: RelaxedOptions, problem: Problem, inputs: int, chunks: int
    ) -> Footprint:
        size = np.dtype(problem.dtype).itemsize
        arch = problem.architecture
        widths, hidden, outputs = arch.widths, arch.widths[1:-1], arch.widths[-1]
        keeps, two = solver.state == "keep", solver.splitting == 2

        # Inputs as stored and scaled, targets as stored and encoded; the state.
        row = (inputs + size) * widths[0] + target_bytes(problem)
        row += size * sum(solver.kept(problem).values())
        # One layer of all rows: the features, or (2-splitting) the residuals of a weight step.
        row += size * (max(hidden) if two else hidden[-1] if keeps else 0)
        if not keeps:  # the regions' edges as they were
            row += size * sum(widths[lo - 1] for lo, _ in solver.spans(problem)[1:])
        # The head: outputs, and the loss (three in float64) or its proximal step; numbers per row.
        row += outputs * (size + max(24, 5 * size)) + 16 + size

        # Blocks of a tile of rows, of the sweep and of the forward pass; inputs being scaled.
        tile = tile_rows(problem, problem.rows) * max(hidden) * size
        visit = (16 if two else 8) * tile + 8 * SCALED * widths[0]

        product = [(a + 1) * b for a, b in pairwise(widths)]
        square = [(a + 1) ** 2 for a in widths[:-1]]
        if solver.head_refit:
            product.append(product[-1])
        # Weights, and inverses of the curvatures.  In the passes after the first also the weights
        # as they were, and a total beside the first one, which the layers that rest wait with.
        weights = size * (sum(product) + sum(a * a for a in hidden))
        if solver.refines:
            inner = slice(1, arch.depth - 1)
            weights += 2 * size * sum(product)
            weights += 8 * (product[0] + sum(square[inner]) + sum(product[inner]))
        # Gram and cross products of each layer; layer 1's Gram matrix is summed once, before.
        grams = sum(square[1:]) + (square[-1] if solver.head_refit else 0)
        sums = max(grams + sum(product), square[0])
        # Float64: the matrix, which layer 1 has twice (as stored, and its own), and five products;
        # or W, W W' and its inverse.
        solve = [
            8 * (square * (2 if i == 0 else 1) + max(5 * product, square + 3 * product))
            for i, (square, product) in enumerate(zip(square, product, strict=False))
        ]
        solve += [
            16 * square + (8 + 2 * size) * product
            for square, product in zip(square[1:], product[1:], strict=False)
        ]
        return Footprint(row, visit, weights, size * sums, 8 * sums, max(solve))

    def visit(self, solver: RelaxedOptions, problem: Problem, part: Part, rows: int) -> Work:
        work, keeps = Work(), solver.state == "keep"
        if part.phase is Phase.EVALUATE:
            _evaluate(solver, problem, work, rows, forward=keeps)
            return work
        does = part.work
        assert isinstance(does, Task)
        if not keeps and does.sweep is not None:
            _forward(work, problem, rows, rows, to=problem.architecture.depth)
            _loss_passes(work, problem, rows, 1)
        if does.evaluate:
            _evaluate(solver, problem, work, rows, forward=keeps)
        if does.sweep is not None:
            for span in [does.sweep] if keeps else solver.spans(problem):
                _sweep(solver, problem, work, span, rows)
        for layer in does.couple:
            _couple(solver, problem, work, layer, rows)
        return work

    def weights(self, solver: RelaxedOptions, problem: Problem, layer: int) -> tuple[Work, Work]:
        return _prepare(solver, problem, layer), _solve(solver, problem, layer)


def _prepare(solver: RelaxedOptions, problem: Problem, layer: int) -> Work:
    """Count `dadmm.solvers.relaxed.weights.prepare`."""
    arch, size = problem.architecture, np.dtype(problem.dtype).itemsize
    work = Work()
    index = min(layer, arch.depth)
    below, above = arch.widths[index - 1], arch.widths[index]
    work.result = size * (below + 1) * above
    work.moved = 4 * work.result
    if 1 <= layer - 1 < arch.depth:
        work.dense(below, below * below * above + below**3)
        if solver.splitting == 2 and layer < arch.depth:
            work.dense(below, 8.0 * below * below * above)  # singular values
        work.result += size * below * below
        work.moved += 24 * below * below
    return work


def _solve(solver: RelaxedOptions, problem: Problem, layer: int) -> Work:
    """Count `dadmm.solvers.relaxed.weights.solve`."""
    arch = problem.architecture
    work = Work()
    index = min(layer, arch.depth)
    width, out = arch.widths[index - 1] + 1, arch.widths[index]
    work.dense(width, width**3 / 3 + 4.0 * width * width * out)
    if solver.splitting == 2 and solver.variant == "linearized" and layer < arch.depth:
        work.dense(width, 4.0 * width**3)  # the largest eigenvalue, which memory limits
    work.moved = 8.0 * (4 * width * width + 10 * width * out)
    work.result = np.dtype(problem.dtype).itemsize * width * out
    if layer == 1:
        work.constants = 8.0 * width * width
    return work


def _loss_passes(work: Work, problem: Problem, rows: int, times: float) -> None:
    """Count evaluations of the loss on so many rows: its value, its gradient, or right answers."""
    work.loop("loss", times * rows * problem.architecture.widths[-1], 6)


def _activation(work: Work, problem: Problem, elements: float, calls: float = 1.0) -> None:
    smooth = get_activation(problem.architecture.activation).kind != PIECEWISE
    work.loop("smooth" if smooth else "pass", elements, calls)


def _forward(work: Work, problem: Problem, rows: int, tile: int, to: int) -> None:
    arch, size = problem.architecture, np.dtype(problem.dtype).itemsize
    tiles = rows / tile
    for i in range(1, to + 1):
        inner, outer = arch.widths[i - 1], arch.widths[i]
        work.product(tile, inner, outer, tiles)
        work.loop("pass", rows * outer, tiles)
        if i < arch.depth:
            _activation(work, problem, rows * outer, tiles)
            if arch.skip(i):
                work.loop("pass", rows * outer, tiles)
        if tile == rows:
            work.moved += size * rows * (inner + 5 * outer)
    work.moved += size * rows * arch.widths[0]


def _evaluate(
    solver: RelaxedOptions, problem: Problem, work: Work, rows: int, forward: bool
) -> None:
    arch, size = problem.architecture, np.dtype(problem.dtype).itemsize
    width, out = arch.widths[-2], arch.widths[-1]
    if forward:
        _forward(work, problem, rows, tile_rows(problem, rows), to=arch.depth - 1)
        work.loop("pass", rows * width)
        work.moved += size * rows * width
    work.product(rows, width, out)
    work.moved += size * rows * width
    _loss_passes(work, problem, rows, 3)
    work.result += 32
    if solver.head_refit:
        _gram(work, problem, rows, width)
        work.product(rows, width, out)
        work.moved += 3 * size * rows * width
        work.result += size * (width + 1) * out


def _gram(work: Work, problem: Problem, rows: int, width: int) -> None:
    work.product(rows, width, width, 0.5)
    work.loop("pass", rows * width)  # the sum of rows
    work.result += np.dtype(problem.dtype).itemsize * (width + 1) ** 2


def _couple(solver: RelaxedOptions, problem: Problem, work: Work, i: int, rows: int) -> None:
    arch, size = problem.architecture, np.dtype(problem.dtype).itemsize
    below, out = arch.widths[i - 1], arch.widths[i]
    if i > 1:
        _gram(work, problem, rows, below)
        work.moved += 2 * size * rows * below
    if i == arch.depth:
        work.loop("pass", 2 * rows * out, 2)
    elif solver.splitting == 2:
        tile = tile_rows(problem, rows)
        work.product(rows, below, out)
        _activation(work, problem, 2 * rows * out, 2 * rows / tile)
        work.loop("pass", 5 * rows * out, 5 * rows / tile)
        work.moved += size * rows * (below + 5 * out)
    work.product(rows, below, out)
    work.loop("pass", rows * out)
    work.moved += size * rows * (below + 2 * out)
    work.result += size * (below + 1) * out


def _sweep(
    solver: RelaxedOptions, problem: Problem, work: Work, span: tuple[int, int], rows: int
) -> None:
    arch, size = problem.architecture, np.dtype(problem.dtype).itemsize
    lo, hi = span
    depth, widths = arch.depth, arch.widths
    out = widths[-1]
    tile = tile_rows(problem, rows)
    tiles = rows / tile
    if hi == depth:
        work.product(rows, widths[-2], out)
        if problem.loss == "cross_entropy":
            work.loop("prox", rows * out)
        else:
            work.loop("loss", 4 * rows * out)
        _loss_passes(work, problem, rows, 3)
        work.moved += size * rows * widths[-2]
    elif hi == depth - 1:
        work.product(rows, widths[hi], out)
        work.moved += size * rows * widths[hi]
    for i in range(min(hi, depth - 1), lo - 1, -1):
        elements = rows * widths[i]
        edge = i == hi and i + 1 < depth  # the layer above is another region's
        if solver.splitting == 3:
            _three(solver, problem, work, i, tile, tiles, edge)
            work.moved += size * (4 * elements + rows * widths[i - 1])
        else:
            _two(solver, problem, work, i, tile, tiles)
            work.moved += size * (2 * elements + rows * widths[i - 1])
    work.result += 64 * (hi - lo + 1)


def _three(
    solver: RelaxedOptions,
    problem: Problem,
    work: Work,
    i: int,
    tile: int,
    tiles: float,
    edge: bool,
) -> None:
    arch = problem.architecture
    below, width, above = arch.widths[i - 1 : i + 2]
    elements = tile * tiles * width
    if edge:
        work.product(tile, width, above, tiles)
        work.loop("pass", 3 * tile * tiles * above, 3 * tiles)
    work.product(tile, above, width, tiles)
    work.product(tile, width, width, tiles)
    work.product(tile, below, width, tiles)
    values = 1 + (i + 1 < arch.depth and arch.skip(i + 1))
    _activation(work, problem, values * elements, values * tiles)
    work.loop("v_gradient", elements, 2 * tiles)
    work.loop("step", elements, 2 * tiles)
    smooth = get_activation(arch.activation).kind != PIECEWISE
    exact = smooth and solver.variant == "proximal"
    work.loop("u_smooth" if exact else "u_piecewise", elements, 3 * tiles)
    if smooth and not exact:
        work.loop("smooth", elements, 0)


def _two(
    solver: RelaxedOptions, problem: Problem, work: Work, i: int, tile: int, tiles: float
) -> None:
    arch = problem.architecture
    below, width, above = arch.widths[i - 1 : i + 2]
    elements = tile * tiles * width
    work.product(tile, below, width, tiles)
    _activation(work, problem, elements, tiles)
    work.loop("pass", 5 * elements, 5 * tiles)
    if i + 1 == arch.depth:
        work.product(tile, above, width, tiles)
        work.product(tile, width, width, tiles)
        work.loop("pass", 3 * elements, 3 * tiles)
        work.loop("step", elements, tiles)
        return
    wide = tile * tiles * above
    steps = min(solver.inner_steps, STEPS) if solver.variant == "proximal" else TRIALS
    if solver.variant == "linearized":
        work.product(tile, above, width, tiles)  # of one gradient
    else:
        work.product(tile, above, width, steps * tiles)
        work.product(tile, width, width, steps * tiles)
    work.product(tile, width, above, steps * tiles)
    _activation(work, problem, 2 * (1 + steps) * wide, 2 * (1 + steps) * tiles)
    # Most of the time of both kinds of steps goes into picking and comparing rows.
    around, each = (15, 30) if solver.variant == "proximal" else (16, 24)
    work.loop("pass", (around + each * steps) * elements, (around + each * steps) * tiles)
