"""Networks with random numbers everywhere, and what it means that two are the same."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from dadmm import Network, to_torch
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Dense, NMFBlock, Residual
from dadmm.networks.chain import Chain
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target
from dadmm.numerics.constraints import Constraint

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
needs_onnx = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("onnxruntime") is None,
    reason="onnx or onnxruntime is not installed",
)
needs_safetensors = pytest.mark.skipif(
    find_spec("safetensors") is None, reason="safetensors is not installed"
)

TEXTS = ["non_negative", "binary", "simplex", "k_sparse:3", "l2_ball:1.2345678", "box:0.3"]
TEXTS += ["l1:0.1", "squared_l2:0.5"]
LABELS = {
    "text": np.array(["cat", "dog", "élan"]),
    "objects": np.array(["cat", "dog", "élan"], dtype=object),
    "int": np.array([-5, 2, 9], np.int16),
    "float": np.array([0.5, 1.5, 2.5]),
}
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (60, 5))
Y = np.array(["cat", "dog", "emu"])[np.digitize(X[:, 0], [2.0, 4.0])]
SMALL = {"hidden_layer_sizes": (6, 6), "max_iter": 2, "random_state": 0}
# Features of numbers that are not negative, from a few parts.
PARTS = RNG.exponential(size=(60, 3)) @ (RNG.exponential(size=(3, 8)) * (RNG.random((3, 8)) < 0.6))


def made(arch, dtype=np.float32, target=None, regression=False):
    """Return a network with random numbers everywhere."""
    rng = np.random.default_rng(1)
    params = arch.initial(0, dtype)
    params = {n: a + 0.3 * rng.standard_normal(a.shape).astype(dtype) for n, a in params.items()}
    features, outputs = arch.widths[0], arch.widths[-1]
    inputs = Scaling(rng.normal(3.0, 1.0, features), rng.uniform(1.0, 3.0, features))
    undo = Scaling(rng.normal(50.0, 9.0, outputs), rng.uniform(5.0, 9.0, outputs))
    return Network(arch, params, inputs, undo if regression else None, target or Target())


def layered(activation="tanh", stem="dense", **options):
    return made(Architecture.build(5, (5, 5, 4), 3, activation, stem), **options)


def constrained(text, **options):
    blocks = [Dense(8, "softplus"), Residual("tanh"), Dense(3, "identity")]
    constraints = {2: Constraint.parse(text)}
    if text != "binary":
        constraints[1] = Constraint.parse("l2_ball:2")
    return made(Chain.build(5, blocks, constraints), **options)


FACTORED = {
    "alone": [NMFBlock(3)],
    "penalised": [NMFBlock(4, l1=0.2, l2=0.3, sweeps=3)],
    "one": [NMFBlock(1)],
    "inside": [Dense(8), NMFBlock(4, l1=0.05, sweeps=50), Dense(3, "identity")],
    "twice": [Dense(8), NMFBlock(6), Dense(5, "softplus"), NMFBlock(4), Dense(3, "identity")],
    "last": [Dense(8, "sigmoid"), NMFBlock(4)],
}
each_factored = pytest.mark.parametrize("kind", FACTORED)


def factored(kind="inside", dtype=np.float32, **options):
    """Return a network that factorises; the last factor of the first dictionary is all zeros."""
    constraints = {2: Constraint.parse("l2_ball:0.5")} if kind == "twice" else {}
    network = made(Chain.build(5, FACTORED[kind], constraints), dtype, **options)
    params = {n: abs(a) if n.startswith("s") else a for n, a in network.params.items()}
    first = next(name for name in params if name.startswith("s"))
    if len(params[first]) > 1:
        params[first][-1] = 0
    return replace(network, params=params)


def runtime(path):
    """Return a function from inputs to the named outputs of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"x": x}), strict=True))


def tolerance(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-11}


def agree(network, onnx=False, fewest=0):
    """Check that torch, or ONNX Runtime, computes what the network does, for any number of rows."""
    for rows in (60, 1, fewest):
        x = X[:rows].astype(network.dtype)
        if onnx:
            found = runtime("model.onnx")(x)["outputs"]
        else:
            import torch

            with torch.no_grad():
                found = to_torch(network)(torch.from_numpy(x)).numpy()
        expected = network.forward(x)
        assert found.dtype == network.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, **tolerance(network.dtype))


def same(one, other):
    """Check that two networks are the same to the bit."""
    assert other.architecture == one.architecture
    assert other.target.loss == one.target.loss
    assert other.target.flat == one.target.flat
    np.testing.assert_array_equal(other.target.classes, one.target.classes)
    arrays = [dict(network.params) for network in (one, other)]
    for found, network in zip(arrays, (one, other), strict=True):
        for scaling in ("inputs", "outputs"):
            if getattr(network, scaling) is not None:
                found |= {f"{scaling}.{k}": v for k, v in vars(getattr(network, scaling)).items()}
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        assert arrays[1][name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[1][name], array)
    np.testing.assert_array_equal(other.forward(X), one.forward(X))
