"""The compiled updates of relaxed ADMM against NumPy twins, in both dtypes and with every flag."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.numerics import relaxed_kernels
from dadmm.numerics.activations import get_activation
from support.kernels import PIECEWISE, blocks, bounded, each_dtype, each_skip, seeds, tolerance


def squares(a):
    return (a.astype(np.float64) ** 2).sum()


# -------------------------------------------------------------------------------------- V gradient


@each_dtype
@each_skip
@pytest.mark.parametrize("skip_next", [False, True])
def test_v_gradient_adds_the_splitting_terms(dtype, skip, skip_next):
    v, previous, h, v_next, h_next, product = blocks(6, dtype)
    others = [block.copy() for block in (v, previous, h, v_next, h_next)]
    g, nu = product.copy(), 1.7
    found = relaxed_kernels.v_gradient(v, previous, skip, h, v_next, h_next, skip_next, g, nu)
    r = v - skip * previous - h
    expected = product + nu * r - skip_next * nu * (v_next - v - h_next)
    np.testing.assert_allclose(g, expected, atol=tolerance(dtype))
    assert g.dtype == dtype
    assert found == pytest.approx((squares(r), squares(expected)), rel=tolerance(dtype))
    for block, other in zip((v, previous, h, v_next, h_next), others, strict=True):
        np.testing.assert_array_equal(block, other)


# -------------------------------------------------------------------------------------------- step


@each_dtype
@pytest.mark.parametrize("length", [1.0, 1.6])
def test_a_step_moves_against_its_direction(dtype, length):
    v, direction = blocks(2, dtype)
    before = v.copy()
    moved, size = relaxed_kernels.step(v, direction, length)
    np.testing.assert_allclose(v, before - length * direction, atol=tolerance(dtype))
    assert moved == pytest.approx(squares(length * direction), rel=tolerance(dtype))
    assert size == pytest.approx(squares(v), rel=tolerance(dtype))


def test_sums_of_squares_do_not_lose_small_rows_behind_large_ones():
    v = np.ones((4096, 1), np.float32)
    v[0] = 2.0**13  # its square is 2^26: in float32 the ones after it would vanish
    _, size = relaxed_kernels.step(v, np.zeros_like(v), 1.0)
    assert size == 2.0**26 + 4095


# ------------------------------------------------------------------------------------------ U step


@each_dtype
@each_skip
@pytest.mark.parametrize("activation", PIECEWISE)
@pytest.mark.parametrize(("mu", "nu", "tau"), [(1.0, 1.0, 1e-3), (0.3, 5.0, 0.0), (2.0, 0.1, 4.0)])
def test_u_piecewise_is_the_prox_of_its_activation(dtype, skip, activation, mu, nu, tau):
    act = get_activation(activation)
    product, u, v, previous = blocks(4, dtype, scale=2.0)
    (bias,) = blocks(1, dtype, rows=7, width=1, seed=1)
    bias = bias[:, 0].copy()
    old, pre = u.copy(), product.copy()
    found = relaxed_kernels.u_piecewise(pre, bias, u, v, previous, skip, act.slope, mu, nu, tau)

    a_pre = product + bias
    a = v - skip * previous
    expected = act.prox(a, (mu * a_pre + tau * old) / (mu + tau), nu, mu + tau)

    def objective(z):
        f = nu * (act.value(z).astype(np.float64) - a) ** 2
        return f + mu * (z - a_pre).astype(np.float64) ** 2 + tau * (z - old) ** 2

    # Where two minima tie to rounding the two may choose differently, but not worse.
    assert (objective(u) <= objective(expected) + 10 * tolerance(dtype)).all()
    tied = np.abs(u - expected) > tolerance(dtype) * 10
    assert tied.mean() < 0.02
    np.testing.assert_allclose(pre, mu * (a_pre - u), atol=10 * tolerance(dtype))
    gradient = mu * (old - a_pre) + nu * (act.value(old) - a) * act.derivative(old)
    sums = (squares(old - a_pre), squares(gradient), squares(u - old), squares(u))
    assert found == pytest.approx(sums, rel=10 * tolerance(dtype))


def scalars(*values):
    return [np.array([[value]], np.float64) for value in values]


def slope_at_kink(activation, pre, a, mu=1.0, nu=1.0):
    """|0 - subdifferential| at u = 0 of nu/2 (act(u) - a)^2 + mu/2 (u - pre)^2, as reported."""
    p, u, v = scalars(pre, 0.0, a)
    bias, slope = np.zeros(1), get_activation(activation).slope
    return np.sqrt(relaxed_kernels.u_piecewise(p, bias, u, v, v, False, slope, mu, nu, 0.1)[1])


def test_the_slope_at_the_kink_is_the_distance_to_the_subdifferential():
    # relu: left derivative -mu pre, right derivative -mu pre - nu a
    assert slope_at_kink("relu", pre=1.0, a=1.0) == 1.0  # [-2, -1]
    assert slope_at_kink("relu", pre=-1.0, a=-1.0) == 1.0  # [1, 2]
    assert slope_at_kink("relu", pre=-1.0, a=0.5) == pytest.approx(0.5)  # [0.5, 1]
    assert slope_at_kink("relu", pre=-1.0, a=2.0) == 0.0  # [-1, 1]
    assert slope_at_kink("relu", pre=1.0, a=-2.0) == 0.0  # [-1, 1], a minimum
    assert slope_at_kink("leaky_relu", pre=1.0, a=1.0) == pytest.approx(1.01)  # [-2, -1.01]
    assert slope_at_kink("leaky_relu", pre=0.0, a=1.0) == pytest.approx(0.01)  # [-1, -0.01]
    assert slope_at_kink("identity", pre=1.0, a=1.0) == pytest.approx(2.0)


@bounded
@given(seed=seeds, activation=st.sampled_from(PIECEWISE))
def test_u_piecewise_leaves_no_better_point_on_a_grid(seed, activation):
    rng = np.random.default_rng(seed)
    act = get_activation(activation)
    pre, u, v = 2 * rng.standard_normal((3, 5, 6))
    mu, nu, tau = 10 ** rng.uniform(-2, 2, 3)
    product, old = pre.copy(), u.copy()
    relaxed_kernels.u_piecewise(pre, np.zeros(6), u, v, v, False, act.slope, mu, nu, tau)

    def objective(z):
        return nu * (act.value(z) - v) ** 2 + mu * (z - product) ** 2 + tau * (z - old) ** 2

    for z in np.linspace(-10, 10, 401):
        there = objective(np.full_like(u, z))
        assert (objective(u) <= there + 1e-12 * (1 + there)).all()


@each_dtype
@pytest.mark.parametrize("where", range(5))
def test_nan_in_any_block_shows_in_the_sums(dtype, where):
    pre, u, v, previous = blocks(4, dtype)
    bias = np.zeros(7, dtype)
    (pre, u, v, previous, bias[None])[where][0, 3] = np.nan
    assert np.isnan(
        relaxed_kernels.u_piecewise(pre, bias, u, v, previous, True, 0.0, 1.0, 1.0, 0.1)
    ).any()
    six = blocks(6, dtype)
    six[where][0, 3] = np.nan
    assert np.isnan(
        relaxed_kernels.v_gradient(six[0], six[1], True, *six[2:5], True, six[5], 1.0)
    ).any()
    assert np.isnan(relaxed_kernels.step(*(six[i] for i in (where, 5)), 1.0)).any()
