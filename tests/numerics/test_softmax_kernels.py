"""The compiled prox and gradient of cross-entropy against those of the loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.numerics import softmax_kernels
from dadmm.numerics.losses import get_loss
from support.kernels import bounded, close, each_dtype, seeds, tolerance

# -------------------------------------------------------------------------------------------- prox


def prox_case(seed, rows, k, scale, dtype=np.float64):
    rng = np.random.default_rng(seed)
    v = (scale * rng.standard_normal((rows, k))).astype(dtype)
    return v, get_loss("cross_entropy").encode(rng.integers(k, size=rows), k, dtype)


def check_prox(v, y, beta):
    loss = get_loss("cross_entropy")
    out = np.full_like(v, np.nan)
    softmax_kernels.softmax_prox(v, y, beta, out)
    atol = 1e-9 if v.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(out, loss.prox(v, y, beta), rtol=atol, atol=atol)
    return out


@each_dtype
@pytest.mark.parametrize("beta", [0.5, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("k", [2, 10, 100])
def test_softmax_prox_is_that_of_the_loss(dtype, beta, k):
    for scale in (1.0, 30.0, 1000.0):
        assert check_prox(*prox_case(0, 40, k, scale, dtype), beta).dtype == dtype


@pytest.mark.parametrize("beta", [1e-3, 1e-2, 0.1])
def test_softmax_prox_reaches_far_targets_of_a_weak_penalty(beta):
    for scale in (1.0, 30.0, 1000.0):
        for k in (2, 10):
            check_prox(*prox_case(0, 200, k, scale), beta)


def test_softmax_prox_takes_smoothed_labels_and_works_in_place():
    v, y = prox_case(1, 30, 4, 3.0)
    y = 0.9 * y + 0.1 / 4
    out = check_prox(v, y, 2.0)
    softmax_kernels.softmax_prox(v, y, 2.0, v)
    np.testing.assert_array_equal(v, out)


def test_softmax_prox_keeps_nan_in_its_row():
    v, y = prox_case(2, 3, 4, 1.0)
    v[1, 2] = np.nan
    out = np.zeros_like(v)
    softmax_kernels.softmax_prox(v, y, 1.0, out)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


@bounded
@given(seed=seeds, beta=st.floats(0.5, 1e3), scale=st.floats(0.1, 100), k=st.integers(2, 12))
def test_softmax_prox_solves_its_first_order_condition(seed, beta, scale, k):
    v, y = prox_case(seed, 20, k, scale)
    out = np.empty_like(v)
    softmax_kernels.softmax_prox(v, y, beta, out)
    condition = get_loss("cross_entropy").gradient(out, y) + beta * (out - v)
    np.testing.assert_allclose(condition, 0, atol=1e-11 * (1 + beta * scale))


def far_case(seed, rows, k, scale, dtype=np.float64):
    rng = np.random.default_rng(seed)
    v = (scale * rng.uniform(-1, 1, (rows, k))).astype(dtype)
    return v, get_loss("cross_entropy").encode(rng.integers(k, size=rows), k, dtype)


@each_dtype
@pytest.mark.parametrize("beta", [1e-3, 1e-2, 0.1, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("k", [1, 2, 3, 10, 100])
def test_softmax_prox_is_that_of_the_loss_everywhere(dtype, beta, k):
    loss = get_loss("cross_entropy")
    eps = np.finfo(dtype).eps
    for scale in (1.0, 10.0, 100.0, 1000.0):
        v, y = far_case(0, 60, k, scale, dtype)
        out = np.full_like(v, np.nan)
        softmax_kernels.softmax_prox(v, y, beta, out)
        atol = 4 * eps * (scale + 1 / beta) + 1e-13 * (1 + 1 / beta)
        np.testing.assert_allclose(out, loss.prox(v, y, beta), rtol=0, atol=atol)
        if dtype == np.float64:
            condition = loss.gradient(out, y) + beta * (out - v)
            np.testing.assert_allclose(condition, 0, atol=1e-13 * (1 + (beta + 1) * scale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_prox_of_a_row_that_is_not_finite_is_nan(bad):
    v, y = far_case(2, 3, 20, 5.0)
    expected = np.empty_like(v)
    softmax_kernels.softmax_prox(v, y, 0.5, expected)
    v[1, 7] = bad
    out = np.zeros_like(v)
    softmax_kernels.softmax_prox(v, y, 0.5, out)
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], expected[[0, 2]])


def test_rows_of_softmax_prox_do_not_depend_on_each_other():
    v, y = far_case(3, 50, 11, 20.0)
    whole = np.empty_like(v)
    softmax_kernels.softmax_prox(v, y, 0.1, whole)
    for rows in (np.s_[:1], np.s_[10:33]):
        out = np.empty_like(v[rows])
        softmax_kernels.softmax_prox(v[rows], y[rows], 0.1, out)
        np.testing.assert_array_equal(out, whole[rows])


@bounded
@given(seed=seeds, log_beta=st.floats(-4, 5), log_scale=st.floats(-2, 4), k=st.integers(1, 30))
def test_softmax_prox_of_smoothed_labels_solves_its_condition(seed, log_beta, log_scale, k):
    beta, scale = 10.0**log_beta, 10.0**log_scale
    v, y = far_case(seed, 10, k, scale)
    y = 0.9 * y + 0.1 / k
    z = v.copy()
    softmax_kernels.softmax_prox(z, y, beta, z)
    condition = get_loss("cross_entropy").gradient(z, y) + beta * (z - v)
    np.testing.assert_allclose(condition, 0, atol=1e-12 * (1 + (beta + 1) * scale + 1 / beta))


# ---------------------------------------------------------------------------------------- gradient


def gradient_case(dtype, rows=40, k=5, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    out = (scale * rng.standard_normal((rows, k))).astype(dtype)
    y = get_loss("cross_entropy").encode(rng.integers(k, size=rows), k, dtype)
    return out, y, rng.uniform(0.5, 2.0, rows).astype(dtype)


def check_gradient(out, y, weight):
    dtype = out.dtype
    loss = get_loss("cross_entropy")
    g, before = np.full_like(out, np.nan), out.copy()
    value, right = softmax_kernels.softmax_gradient(out, y, weight, g)
    close(g, weight[:, None] * loss.gradient(out, y), dtype, scale=10)
    each = [loss.value(out[i : i + 1], y[i : i + 1]) for i in range(len(out))]
    assert value == pytest.approx(float(weight @ np.array(each)), rel=tolerance(dtype), abs=1e-6)
    hits = out.argmax(axis=1) == y.argmax(axis=1)
    assert right == pytest.approx(float(weight[hits].sum()), rel=tolerance(dtype))
    np.testing.assert_array_equal(out, before)


@each_dtype
@pytest.mark.parametrize("k", [2, 10, 100])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_softmax_gradient_is_that_of_the_loss(dtype, k, scale):
    check_gradient(*gradient_case(dtype, k=k, scale=scale))


@each_dtype
def test_softmax_gradient_takes_smoothed_labels(dtype):
    out, y, weight = gradient_case(dtype)
    check_gradient(out, (0.9 * y + 0.1 / 5).astype(dtype), weight)


@bounded
@given(seed=seeds, k=st.integers(2, 12), scale=st.floats(0.1, 100))
def test_rows_of_a_softmax_gradient_sum_to_zero(seed, k, scale):
    out, y, weight = gradient_case(np.float64, 20, k, seed, scale)
    g = np.empty_like(out)
    value, right = softmax_kernels.softmax_gradient(out, y, weight, g)
    np.testing.assert_allclose(g.sum(axis=1), 0, atol=1e-13)
    assert (np.abs(g) <= weight[:, None] * (1 + 1e-12)).all()
    assert value >= 0
    assert 0 <= right <= 20


@each_dtype
@pytest.mark.parametrize("column", range(3))
def test_nan_in_an_output_shows_in_the_loss(dtype, column):
    out, y, weight = gradient_case(dtype, rows=4, k=3)
    out[1, column] = np.nan
    g = np.empty_like(out)
    assert np.isnan(softmax_kernels.softmax_gradient(out, y, weight, g)[0])
    assert np.isfinite(g[[0, 2, 3]]).all()
