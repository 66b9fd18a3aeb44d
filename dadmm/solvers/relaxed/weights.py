"""The work of relaxed ADMM once per iteration: curvatures of V, and the weight solves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dadmm.numerics.activations import get_activation
from dadmm.numerics.algebra import inverse_spd, largest_eigenvalue, solve_spd, square
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers.problem import Problem
from dadmm.solvers.relaxed.options import RelaxedOptions
from dadmm.solvers.solver import Weights
from dadmm.solvers.sums import Sums, numbers


def prepare(solver: RelaxedOptions, problem: Problem, layer: int, params: Arrays) -> Arrays:
    """Return a layer's parameters and the inverse of M, the curvature of V in the layer below.

    M is the same for every sample.  It is inverted in float64: its condition is that of
    ``nu I + mu W W'``, so a product with the inverse is as good as a solve, and faster.
    """
    arch = problem.architecture
    dtype = problem.dtype
    w = params[f"w_{layer}"]
    out = {
        f"w_{layer}": np.ascontiguousarray(w, dtype),
        f"b_{layer}": np.ascontiguousarray(params[f"b_{layer}"], dtype),
    }
    below = layer - 1
    if not 1 <= below < arch.depth:
        return out
    wide = w.astype(np.float64)
    product = wide @ wide.T
    if solver.splitting != 3 and layer < arch.depth:
        norm = float(np.linalg.norm(wide, 2)) if np.isfinite(wide).all() else np.nan
    del wide
    skip = float(arch.skip(layer))
    right = solver.border(problem, below)  # between the layer below and this one
    left = solver.border(problem, below - 1)
    if layer == arch.depth:
        own = solver.nu if solver.splitting == 3 else solver.mu
        diagonal = own + solver.tau
        product *= solver.beta + (solver.beta + 4.0) * right
    elif solver.splitting == 3:
        diagonal = solver.nu * (1.0 + skip * (1 + right)) + solver.tau
        product *= solver.mu * (1 + right)
    else:
        lipschitz = get_activation(arch.activation).lipschitz
        product *= solver.mu * lipschitz**2 * (1 + skip) * (1 + right)
        diagonal = solver.mu * (1 + 2 * skip * (1 + right)) + solver.tau
        curvature = solver.mu * (skip + lipschitz * norm) ** 2
        out[f"curvature_{layer}"] = np.array(max(solver.tau, curvature))
    diagonal += left * (2 * solver.nu * arch.skip(below) if solver.splitting == 3 else solver.mu)
    product.flat[:: len(product) + 1] += diagonal
    out[f"inverse_{layer}"] = inverse_spd(product).astype(dtype)
    return out


def solve(
    solver: RelaxedOptions, problem: Problem, layer: int, weights: Weights, sums: Sums
) -> tuple[Arrays, Sums]:
    """Solve for [W_i; b_i]; the bias row is not regularised.

    Parameters
    ----------
    weights : Weights
        The layer's parameters now; those at the start of the iteration differ only between the
        inner steps of the proximal 2-splitting.
    sums : dict
        Totals over all rows; a layer that the last pass did not visit keeps its weights.
    """
    arch = problem.architecture
    names = (f"w_{layer}", f"b_{layer}")
    old = _stacked(weights, names)
    settled = f"settled_{layer}"
    details: Sums = dict(weights.details)
    if layer == solver.layers(problem)[-1]:
        details = {**numbers(sums), **details}  # of the first pass, which alone sweeps
    if f"cross_{layer}" not in sums:  # not visited, or settled: unchanged
        return {name: weights[name] for name in (*names, settled) if name in weights}, details
    n = problem.rows
    g = np.asarray(sums[f"gram_{layer}"], np.float64) / n
    c = np.asarray(sums[f"cross_{layer}"], np.float64) / n
    ridge = np.full(len(g), problem.alpha)
    ridge[-1] = 0.0
    gradient = ridge[:, None] * old  # of the penalty, to which the rest is added
    tau = solver.tau
    if layer > arch.depth:  # the readout: majorised Newton, exact for the squared loss
        curvature = min(get_loss(problem.loss).lipschitz, 1.0)
        tau = 1e-8
        gradient += c
    elif layer == arch.depth or solver.splitting == 3:
        curvature = solver.beta if layer == arch.depth else solver.mu
        residual = g @ old
        residual -= c
        residual *= curvature
        gradient += residual
        del residual
    else:
        activation = get_activation(arch.activation)
        bound = activation.mix + activation.bend * sums.get(f"max_offset_{layer}", 0.0)
        curvature = solver.mu * bound
        c *= solver.mu
        gradient += c
        if solver.variant == "linearized":
            curvature = max(tau, curvature * largest_eigenvalue(g))
            g[...], tau = 0.0, curvature
    del c
    start = _stacked(weights.start, names)
    right = old - start
    first = not right.any()
    right *= tau
    right *= solver.variant == "proximal"
    right += gradient
    g *= curvature
    g.flat[:: len(g) + 1] += ridge + tau
    step = solve_spd(g, right)
    del g, right
    new = np.subtract(old, step, out=old)
    dtype = weights[names[0]].dtype
    params = {names[0]: new[:-1].astype(dtype), names[1]: new[-1].astype(dtype)}
    if layer > arch.depth:
        return params, {**details, "readout": square(new)}
    squares = start**2
    details |= {
        f"penalty_{layer}": float(np.multiply(ridge[:, None], squares, out=squares).sum()),
        f"step_w_{layer}": square(new - start),
        f"size_w_{layer}": square(new),
    }
    if first:
        details[f"slope_w_{layer}"] = square(gradient)
    elif square(step) <= (solver.inner_tol * solver.inner_tol) * square(new - start):
        params[settled] = np.array(True)
    return params, details


def _stacked(params: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Return ``[W; b]`` in float64."""
    w, b = (params[name] for name in names)
    out = np.empty((len(w) + 1, w.shape[1]))
    out[:-1], out[-1] = w, b
    return out
