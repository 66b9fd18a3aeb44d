"""The torch module computes what the network does, and can be trained."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from dadmm import to_torch
from dadmm.errors import InputError
from dadmm.networks.scaling import Scaling
from dadmm.numerics.activations import ACTIVATIONS
from support.messages import naming
from support.networks import (
    TEXTS,
    X,
    agree,
    constrained,
    each_dtype,
    each_factored,
    factored,
    layered,
    needs_torch,
)

pytestmark = pytest.mark.usefixtures("here")


@needs_torch
@each_dtype
@pytest.mark.parametrize("stem", ["dense", "identity"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_torch_computes_what_the_network_does(activation, stem, dtype):
    agree(layered(activation, stem, dtype=dtype, regression=True))


@needs_torch
@each_dtype
@pytest.mark.parametrize("text", TEXTS)
def test_torch_keeps_the_constraints(text, dtype):
    agree(constrained(text, dtype=dtype))


@needs_torch
@each_dtype
@each_factored
def test_torch_finds_the_codes(kind, dtype):
    network = factored(kind, dtype)
    agree(network)
    assert "sweeps" in str(to_torch(network))


@needs_torch
def test_gradients_flow_through_the_sweeps_of_torch():
    import torch

    module = to_torch(factored(dtype=np.float64))
    x = torch.tensor(X[:7], requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    module(x).square().sum().backward()
    slopes = dict(module.named_parameters())["block_2.s"].grad
    assert torch.isfinite(slopes).all()
    assert slopes[:3].abs().max() > 0
    # By finite differences, along the gradient.
    step = 1e-6 * slopes[:3] / slopes[:3].norm()
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            module.block_2.s[:3] += sign * step
            values.append(float(module(x).square().sum()))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(slopes[:3].norm()), rel=1e-5)


@needs_torch
def test_the_torch_module_is_of_its_own_and_can_be_trained():
    import torch

    network = layered()
    before = {name: array.copy() for name, array in network.params.items()}
    state = torch.get_rng_state()
    module = to_torch(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(p.numel() for p in module.parameters()) == network.architecture.n_parameters
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.from_numpy(X)).square().mean().backward()
    optimizer.step()
    for name, array in network.params.items():
        np.testing.assert_array_equal(array, before[name])
    assert not torch.equal(module.block_1[0].weight, torch.from_numpy(before["w_1"].T))


@needs_torch
@pytest.mark.parametrize("kind", [np.float64, np.int64, np.float32, np.uint8])
def test_the_torch_module_centres_as_the_network_does(kind):
    import torch

    centre = 100.0 if kind in (np.float32, np.uint8) else 1_600_000_003.0
    x = (centre + np.arange(-10, 10).reshape(4, 5)).astype(kind)
    network = replace(layered(), inputs=Scaling(np.full(5, centre), np.full(5, 6.0)))
    with torch.no_grad():
        found = to_torch(network)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, network.forward(x), rtol=1e-5, atol=1e-5)
    assert found.std(axis=0).min() > 0.01


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_cure_is_named():
    with pytest.raises(InputError, match=naming("PyTorch", "dadmm[torch]")):
        to_torch(layered())
