"""The compiled loops of optimisers against their formulas, and against torch's."""

import numpy as np
import pytest

from dadmm.numerics import optimizer_kernels
from support.kernels import close, each_dtype


def flat(count, dtype, size=57, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, size))
    return tuple(row.astype(dtype) for row in drawn)


# -------------------------------------------------------------------------------------- optimisers


def adam_twin(theta, g, m, v, rate, beta1, beta2, correction, eps, l2, shrink):
    d = g + l2 * theta
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d**2
    return shrink * theta - rate * m / (np.sqrt(v) * correction + eps), m, v


@each_dtype
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("shrink", [1.0, 0.99])
def test_adam_is_its_formula(dtype, l2, shrink):
    theta, g, m, v = flat(4, dtype)
    v = v**2
    options = (0.02, 0.9, 0.999, 1.7, 1e-8, l2, shrink)
    wide = [block.astype(np.float64) for block in (theta, g, m, v)]
    expected = adam_twin(*wide, *options)
    gradient = g.copy()
    optimizer_kernels.adam(theta, g, m, v, *options)
    for found, twin in zip((theta, m, v), expected, strict=True):
        close(found, twin, dtype)
    np.testing.assert_array_equal(g, gradient)


@each_dtype
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("shrink", [1.0, 0.99])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_formula(dtype, l2, shrink, momentum):
    theta, g, m = flat(3, dtype)
    wide = [block.astype(np.float64) for block in (theta, g, m)]
    moved = momentum * wide[2] + wide[1] + l2 * wide[0]
    gradient = g.copy()
    optimizer_kernels.sgd(theta, g, m, 0.02, momentum, l2, shrink)
    close(m, moved, dtype)
    close(theta, shrink * wide[0] - 0.02 * moved, dtype)
    np.testing.assert_array_equal(g, gradient)


def test_a_parameter_without_gradient_stays_where_it_is():
    theta, m, v = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for correction in (31.6, 1.0):
        optimizer_kernels.adam(theta, m.copy(), m, v, 0.1, 0.9, 0.999, correction, 1e-8, 0.0, 1.0)
    np.testing.assert_array_equal(theta, 1)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_steps_of_adam_are_torchs(l2, decay):
    torch = pytest.importorskip("torch")
    theta, *gradients = flat(12, np.float64)
    weight = torch.tensor(theta.copy(), requires_grad=True)
    twin = torch.optim.AdamW([weight], lr=0.03, weight_decay=decay, betas=(0.8, 0.99), eps=1e-7)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        weight.grad = torch.tensor(g + l2 * theta)
        twin.step()
        rate, correction = 0.03 / (1 - 0.8**t), (1 - 0.99**t) ** -0.5
        optimizer_kernels.adam(
            theta, g, m, v, rate, 0.8, 0.99, correction, 1e-7, l2, 1 - 0.03 * decay
        )
        np.testing.assert_allclose(theta, weight.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_steps_of_sgd_are_torchs():
    torch = pytest.importorskip("torch")
    theta, *gradients = flat(12, np.float64)
    weight = torch.tensor(theta.copy(), requires_grad=True)
    twin = torch.optim.SGD([weight], lr=0.03, momentum=0.9, weight_decay=0.1)
    m = np.zeros_like(theta)
    for g in gradients:
        weight.grad = torch.tensor(g)
        twin.step()
        optimizer_kernels.sgd(theta, g, m, 0.03, 0.9, 0.1, 1.0)
        np.testing.assert_allclose(theta, weight.detach().numpy(), rtol=1e-11, atol=1e-12)


@each_dtype
def test_nan_in_a_gradient_shows_in_its_parameter(dtype):
    theta, g, m, v = flat(4, dtype)
    g[5] = np.nan
    other = theta.copy()
    optimizer_kernels.adam(theta, g, m.copy(), v**2, 0.1, 0.9, 0.999, 1.0, 1e-8, 0.0, 1.0)
    optimizer_kernels.sgd(other, g, m, 0.1, 0.9, 0.0, 1.0)
    for found in (theta, other):
        assert np.isnan(found[5])
        assert np.isfinite(np.delete(found, 5)).all()


@each_dtype
def test_augment_adds_the_gradient_of_the_consensus_terms(dtype):
    g, multiplier, theta, anchor = flat(4, dtype)
    expected = g + multiplier + 0.3 * (theta - anchor)
    optimizer_kernels.augment(g, multiplier, theta, anchor, 0.3)
    close(g, expected, dtype)


# ----------------------------------------------------------------------------------------- softmax


def test_what_has_faded_becomes_zero_and_nothing_subnormal_stays():
    """A dead unit's gradient is that of its weights' penalty alone."""
    theta = np.array([1e-31, -1e-39, 1e-29, 0.5], np.float32)
    m, v = np.full(4, 1e-38, np.float32), np.full(4, 1e-40, np.float32)
    optimizer_kernels.adam(
        theta, np.zeros(4, np.float32), m, v, 0.0, 0.9, 0.999, 1.0, 1e-8, 0.0, 1.0
    )
    np.testing.assert_array_equal(theta, np.array([0, 0, 1e-29, 0.5], np.float32))
    assert not m.any()
    assert not v.any()
