"""The compiled loops of a layer, forwards and backwards, against NumPy twins."""

import numpy as np
import pytest

from dadmm.numerics import layer_kernels
from dadmm.numerics.activations import get_activation
from support.kernels import PIECEWISE, blocks, close, each_dtype, each_skip


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
