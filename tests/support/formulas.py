"""The formulas of relaxed ADMM, and of the functions in it, written out plainly."""

import numpy as np
from scipy import special

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
