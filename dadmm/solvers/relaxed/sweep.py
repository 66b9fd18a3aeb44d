"""One sweep of the relaxed ADMM over the per-sample blocks of a chunk.

`method.py` describes the updates, their order and their source.  A chunk is swept tile by tile of
rows: the blocks of a layer stay in a core's cache while they are worked on, and no temporary grows
with the chunk.
"""

from __future__ import annotations

import numpy as np

from dadmm.numerics import relaxed_kernels, softmax_kernels
from dadmm.numerics.activations import get_activation
from dadmm.numerics.algebra import square
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import lasting
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.relaxed.options import RelaxedOptions
from dadmm.solvers.relaxed.subproblems import TwoSplitBlock, update_u
from dadmm.solvers.sums import Sums, combine

_work = lasting()


def sweep(
    solver: RelaxedOptions,
    problem: Problem,
    span: tuple[int, int],
    weights: Arrays,
    chunk: Chunk,
    left: Array | None = None,
) -> Sums:
    """Update the blocks of layers `span`, from the last to the first, tile by tile of rows."""
    lo, hi = span
    depth = problem.architecture.depth
    state = chunk.state
    below = chunk.x if lo == 1 else (state[f"v_{lo - 1}"] if left is None else left)
    assert below is not None
    sums: Sums = {}
    pull: Array | None = None
    if hi == depth:
        last = state[f"v_{depth - 1}"] if lo < depth else below
        pull = _head(solver, problem, weights, chunk, last, sums)
    elif hi == depth - 1:
        pull = state[f"v_{hi}"] @ weights[f"w_{depth}"]
        pull += weights[f"b_{depth}"] - state[f"v_{depth}"]
        pull *= solver.beta
        pull += state["l"]
    if lo == depth:
        return sums
    tiles: list[Sums] = []
    tile = tile_rows(problem, chunk.rows)
    update = _three if solver.splitting == 3 else _two
    for first in range(0, chunk.rows, tile):
        rows = slice(first, min(first + tile, chunk.rows))
        blocks = {name: block[rows] for name, block in state.items()}
        blocks[f"v_{lo - 1}"] = below[rows]
        if pull is not None:
            blocks["pull"] = pull[rows]
        tiles.append(update(solver, problem, span, weights, blocks))
    return {**sums, **combine(tiles)}


def tile_rows(problem: Problem, rows: int) -> int:
    """Return how many rows make a tile: their blocks of one layer stay in a core's cache."""
    return int(min(rows, np.clip(65536 // max(problem.architecture.widths[1:]), 256, 2048)))


def _head(
    solver: RelaxedOptions,
    problem: Problem,
    weights: Arrays,
    chunk: Chunk,
    below: Array,
    sums: Sums,
) -> Array:
    """Update V_N and L; return beta (A_N - V_N) + L, what the head asks of V_{N-1}."""
    loss = get_loss(problem.loss)
    depth = problem.architecture.depth
    v, multiplier, y = chunk.state[f"v_{depth}"], chunk.state["l"], chunk.y
    assert y is not None
    sums["loss"] = loss.value(v, y)
    a = below @ weights[f"w_{depth}"]
    a += weights[f"b_{depth}"]
    residual = a - v
    sums["head_residual"] = square(residual)
    sums["multiplier_term"] = float(
        np.einsum("ij,ij->i", multiplier, residual).sum(dtype=np.float64)
    )
    target = np.divide(multiplier, solver.beta, out=residual)
    target += a
    if problem.loss == "cross_entropy":
        new = np.empty_like(v)
        softmax_kernels.softmax_prox(target, y, solver.beta, new)
    else:
        new = loss.prox(target, y, solver.beta)
    asked = np.subtract(a, new, out=a)
    asked *= v.dtype.type(solver.beta)
    sums[f"step_v_{depth}"] = square(new - v) + square(asked)
    v[...] = new
    multiplier += asked
    sums[f"size_v_{depth}"] = square(v) + square(multiplier)
    asked += multiplier
    return asked


def _three(
    solver: RelaxedOptions, problem: Problem, span: tuple[int, int], weights: Arrays, blocks: Arrays
) -> Sums:
    """Update V_i exactly, then U_i, from the region's last layer to its first (3-splitting)."""
    arch = problem.architecture
    activation = get_activation(arch.activation)
    lo, hi = span
    sums: Sums = {}
    asked = blocks.get("pull")
    for i in range(min(hi, arch.depth - 1), lo - 1, -1):
        v, u, below = blocks[f"v_{i}"], blocks[f"u_{i}"], blocks[f"v_{i - 1}"]
        above = i + 1
        if asked is None:  # the layer above is another region's: its residual, as it was
            asked = _work.take("pre", blocks[f"u_{above}"].shape, v.dtype)
            np.matmul(v, weights[f"w_{above}"], out=asked)
            asked += weights[f"b_{above}"]
            asked -= blocks[f"u_{above}"]
            asked *= v.dtype.type(solver.mu)
        gradient = np.matmul(
            asked, weights[f"w_{above}"].T, out=_work.take("gradient", v.shape, v.dtype)
        )
        h = activation.value(u, out=_work.take("h", v.shape, v.dtype))
        skip, skip_above = arch.skip(i), above < arch.depth and arch.skip(above)
        h_above, v_above = v, v
        if skip_above:
            v_above = blocks[f"v_{above}"]
            h_above = _work.take("h_above", v.shape, v.dtype)
            activation.value(blocks[f"u_{above}"], out=h_above)
        split, slope = relaxed_kernels.v_gradient(
            v, below if skip else v, skip, h, v_above, h_above, skip_above, gradient, solver.nu
        )
        direction = np.matmul(
            gradient, weights[f"inverse_{above}"], out=_work.take("h", v.shape, v.dtype)
        )
        moved, size = relaxed_kernels.step(v, direction, solver.over_relaxation)
        sums |= {f"split_{i}": split, f"slope_v_{i}": slope}
        sums |= {f"step_v_{i}": moved, f"size_v_{i}": size}

        pre = _work.take("pre", u.shape, u.dtype)
        np.matmul(below, weights[f"w_{i}"], out=pre)
        border = solver.border(problem, i - 1)
        tau = solver.tau + border * (2 * solver.nu * skip * activation.lipschitz**2 + solver.mu)
        exact, b = solver.variant == "proximal", weights[f"b_{i}"]
        found = update_u(exact, activation, pre, b, u, v, below, skip, solver.mu, solver.nu, tau)
        for name, value in zip(("pre", "slope_u", "step_u", "size_u"), found, strict=True):
            sums[f"{name}_{i}"] = value
        asked = pre
    return sums


def _two(
    solver: RelaxedOptions, problem: Problem, span: tuple[int, int], weights: Arrays, blocks: Arrays
) -> Sums:
    """Update V_i, from the region's last layer to its first (2-splitting)."""
    arch = problem.architecture
    activation = get_activation(arch.activation)
    lo, hi = span
    sums: Sums = {}
    mu = solver.mu
    a_above: Array | None = None
    for i in range(min(hi, arch.depth - 1), lo - 1, -1):
        v, below, above = blocks[f"v_{i}"], blocks[f"v_{i - 1}"], i + 1
        a = below @ weights[f"w_{i}"] + weights[f"b_{i}"]
        target = activation.value(a)
        if arch.skip(i):
            target += below
        sums[f"split_{i}"] = square(v - target)
        if above == arch.depth:
            gradient = blocks["pull"] @ weights[f"w_{above}"].T
            gradient += mu * (v - target)
            direction = gradient @ weights[f"inverse_{above}"]
            sums[f"slope_v_{i}"] = square(gradient)
            sums[f"step_v_{i}"], sums[f"size_v_{i}"] = relaxed_kernels.step(
                v, direction, solver.over_relaxation
            )
        else:
            if a_above is None:
                a_above = v @ weights[f"w_{above}"] + weights[f"b_{above}"]
            block = TwoSplitBlock(
                activation=activation,
                skip=arch.skip(above),
                w=weights[f"w_{above}"],
                b=weights[f"b_{above}"],
                target=target,
                above=blocks[f"v_{above}"],
                mu=mu,
                tau=solver.tau,
                margin=mu * solver.border(problem, i),
                inertia=mu * solver.border(problem, i - 1),
            )
            if solver.variant == "linearized":
                new, slope = block.linearized(v, a_above, float(weights[f"curvature_{above}"]))
            else:
                new, slope = block.proximal(
                    v, a_above, weights[f"inverse_{above}"], solver.inner_steps, solver.inner_tol
                )
            sums[f"slope_v_{i}"] = slope
            sums[f"step_v_{i}"], sums[f"size_v_{i}"] = square(new - v), square(new)
            v[...] = new
        a_above = a
    return sums
