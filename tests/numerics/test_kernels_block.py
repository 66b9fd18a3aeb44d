"""The compiled loops of layers and optimisers against NumPy twins, and against torch's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.numerics import layer_kernels, optimizer_kernels, softmax_kernels
from dadmm.numerics.activations import get_activation
from dadmm.numerics.losses import get_loss
from support.kernels import PIECEWISE, blocks, bounded, each_dtype, each_skip, seeds, tolerance


def flat(count, dtype, size=57, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, size))
    return tuple(row.astype(dtype) for row in drawn)


def close(found, expected, dtype, scale=1.0):
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=tolerance(dtype), atol=scale * tolerance(dtype)
    )


# ------------------------------------------------------------------------------------------ layers


@each_dtype
@each_skip
@pytest.mark.parametrize("activation", PIECEWISE)
def test_bias_piecewise_is_the_forward_half_of_a_layer(dtype, skip, activation):
    act = get_activation(activation)
    product, v = blocks(2, dtype)
    bias = np.linspace(-1, 1, 7).astype(dtype)
    a, out = product.copy(), np.full_like(product, np.nan)
    layer_kernels.bias_piecewise(a, bias, act.slope, v, skip, out)
    close(a, product + bias, dtype)
    close(out, act.value(product + bias) + skip * v, dtype)


@each_dtype
def test_bias_piecewise_does_not_read_what_it_does_not_add(dtype):
    product, _ = blocks(2, dtype)
    out = np.empty_like(product)
    narrow = np.full((1, 1), np.nan, dtype)
    layer_kernels.bias_piecewise(product, np.zeros(7, dtype), 0.0, narrow, False, out)
    np.testing.assert_array_equal(out, np.maximum(product, 0))


@each_dtype
@pytest.mark.parametrize("activation", PIECEWISE)
def test_gate_piecewise_is_the_backward_half(dtype, activation):
    act = get_activation(activation)
    a, g = blocks(2, dtype)
    a[0, :3] = 0.0  # at the kink, the left slope
    before = a.copy(), g.copy()
    out, total = np.full_like(g, np.nan), np.full(7, np.nan, dtype)
    layer_kernels.gate_piecewise(a, act.slope, g, out, total)
    expected = g * act.derivative(a)
    close(out, expected, dtype)
    close(total, expected.sum(axis=0), dtype, scale=23)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(g, before[1])


@each_dtype
def test_nan_goes_through_a_layer(dtype):
    a, v = blocks(2, dtype)
    a[2, 3] = np.nan
    out = np.empty_like(a)
    layer_kernels.bias_piecewise(a.copy(), np.zeros(7, dtype), 0.01, v, False, out)
    assert np.isnan(out[2, 3])
    total = np.empty(7, dtype)
    layer_kernels.gate_piecewise(v, 1.0, a, out, total)
    assert np.isnan(total[3])
    assert np.isfinite(np.delete(total, 3)).all()


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


# ------------------------------------------------------------------------------------------ softmax


def softmax_case(dtype, rows=40, k=5, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    out = (scale * rng.standard_normal((rows, k))).astype(dtype)
    y = get_loss("cross_entropy").encode(rng.integers(k, size=rows), k, dtype)
    return out, y, rng.uniform(0.5, 2.0, rows).astype(dtype)


def check_softmax(out, y, weight):
    dtype = out.dtype
    loss = get_loss("cross_entropy")
    g, before = np.full_like(out, np.nan), out.copy()
    value, right = softmax_kernels.softmax_gradient(out, y, weight, g)
    close(g, weight[:, None] * loss.gradient(out, y), dtype, scale=10)
    each = [loss.value(out[i : i + 1], y[i : i + 1]) for i in range(len(out))]
    assert value == pytest.approx(float(weight @ np.array(each)), rel=tolerance(dtype), abs=1e-6)
    assert right == (out.argmax(axis=1) == y.argmax(axis=1)).sum()
    np.testing.assert_array_equal(out, before)


@each_dtype
@pytest.mark.parametrize("k", [2, 10, 100])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_softmax_gradient_is_that_of_the_loss(dtype, k, scale):
    check_softmax(*softmax_case(dtype, k=k, scale=scale))


@each_dtype
def test_softmax_gradient_takes_smoothed_labels(dtype):
    out, y, weight = softmax_case(dtype)
    check_softmax(out, (0.9 * y + 0.1 / 5).astype(dtype), weight)


@bounded
@given(seed=seeds, k=st.integers(2, 12), scale=st.floats(0.1, 100))
def test_rows_of_a_softmax_gradient_sum_to_zero(seed, k, scale):
    out, y, weight = softmax_case(np.float64, 20, k, seed, scale)
    g = np.empty_like(out)
    value, right = softmax_kernels.softmax_gradient(out, y, weight, g)
    np.testing.assert_allclose(g.sum(axis=1), 0, atol=1e-13)
    assert (np.abs(g) <= weight[:, None] * (1 + 1e-12)).all()
    assert value >= 0
    assert 0 <= right <= 20


@each_dtype
@pytest.mark.parametrize("column", range(3))
def test_nan_in_an_output_shows_in_the_loss(dtype, column):
    out, y, weight = softmax_case(dtype, rows=4, k=3)
    out[1, column] = np.nan
    g = np.empty_like(out)
    assert np.isnan(softmax_kernels.softmax_gradient(out, y, weight, g)[0])
    assert np.isfinite(g[[0, 2, 3]]).all()


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
