"""Derivatives of blocks, beside finite differences."""

import numpy as np

from dadmm.networks.blocks import Tape
from dadmm.numerics.workspace import Workspace
from support.formulas import numeric_gradient


def tape():
    return Tape(Workspace(), "test")


def drawn(block, width, rows=4, seed=0, dtype=np.float64):
    """Parameters (biases too are not 0), an input, and something to multiply by."""
    rng = np.random.default_rng(seed)
    params = {n: rng.standard_normal(s).astype(dtype) for n, s in block.shapes(width).items()}
    v = rng.standard_normal((rows, width)).astype(dtype)
    g = rng.standard_normal((rows, block.output(width))).astype(dtype)
    return params, v, g


def products(block, params, v, g):
    """Return what `backward` gives for every parameter and for the input."""
    here = tape()
    block.forward(params, v, here)
    gradients = {name: np.full_like(array, np.nan) for name, array in params.items()}
    back = block.backward(params, g, here, gradients, True)
    return gradients, back.copy()


def check_derivatives(block, params, v, g, atol=1e-7):
    def objective(**changed):
        found = {name: changed.get(name, array) for name, array in params.items()}
        return float((g * block.forward(found, changed.get("input", v), tape())).sum())

    gradients, back = products(block, params, v, g)
    for name in params:
        expected = numeric_gradient(lambda a, name=name: objective(**{name: a}), params[name])
        np.testing.assert_allclose(gradients[name], expected, atol=atol)
    expected = numeric_gradient(lambda a: objective(input=a), v)
    np.testing.assert_allclose(back, expected, atol=atol)
