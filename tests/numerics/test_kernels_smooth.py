"""The compiled U-updates with smooth activations, and the softmax prox, at their extremes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.numerics import kernels, relaxed_kernels, softmax_kernels
from dadmm.numerics.activations import ACTIVATIONS, PIECEWISE, get_activation
from dadmm.numerics.losses import get_loss
from dadmm.solvers.relaxed.subproblems import u_exact, u_linearized

SMOOTH = ["tanh", "sigmoid", "softplus"]

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_skip = pytest.mark.parametrize("skip", [False, True])
each_smooth = pytest.mark.parametrize("activation", SMOOTH)
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
bounded = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def tolerance(dtype):
    return 3e-5 if dtype == np.float32 else 1e-11


def blocks(dtype, rows=23, width=7, seed=0, scale=2.0):
    """Draw pre, bias, u, v and previous."""
    rng = np.random.default_rng(seed)
    shapes = [(rows, width), width, (rows, width), (rows, width), (rows, width)]
    return [(scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def squares(a):
    return (a.astype(np.float64) ** 2).sum()


def minimiser(activation, a, b, r, start):
    """argmin_u r (act(u) - a)^2 + (u - b)^2 by the kernel."""
    kind = get_activation(activation).kind
    pre, u = np.array(b), np.array(start)
    relaxed_kernels.u_smooth(kind, pre, np.zeros(u.shape[1]), u, a, a, False, 1.0, r, 0.0)
    return u


# -------------------------------------------------------------------------------- exact U-update


@each_dtype
@each_skip
@each_smooth
@pytest.mark.parametrize(("mu", "nu", "tau"), [(1.0, 1.0, 1e-3), (0.3, 9.0, 0.0), (2.0, 0.1, 4.0)])
def test_u_smooth_is_the_prox_of_its_activation(dtype, skip, activation, mu, nu, tau):
    act = get_activation(activation)
    product, bias, old, v, previous = blocks(dtype)
    pre, u = product.copy(), old.copy()
    found = relaxed_kernels.u_smooth(act.kind, pre, bias, u, v, previous, skip, mu, nu, tau)

    a_pre, a = product + bias, v - skip * previous
    wide = [block.astype(np.float64) for block in (a_pre, a, old)]
    expected = act.prox(wide[1], (mu * wide[0] + tau * wide[2]) / (mu + tau), nu, mu + tau)

    def objective(z):
        return nu * (act.value(z) - a) ** 2 + mu * (z - a_pre) ** 2 + tau * (z - old) ** 2

    # Where two minima tie to rounding the two may choose differently, but not worse.
    exact = objective(u.astype(np.float64)) - objective(expected)
    assert exact.max() <= (1e-9 if dtype == np.float64 else 1e-5)
    assert (np.abs(u - expected) > tolerance(dtype)).mean() < 0.02
    assert u.dtype == pre.dtype == dtype
    np.testing.assert_allclose(pre, mu * (a_pre - u), atol=tolerance(dtype))
    gradient = mu * (old - a_pre) + nu * (act.value(old) - a) * act.derivative(old)
    sums = (squares(old - a_pre), squares(gradient), squares(u - old), squares(u))
    assert found == pytest.approx(sums, rel=10 * tolerance(dtype))


@each_smooth
@pytest.mark.parametrize("r", [0.0, 1e-3, 0.3, 1.0, 3.0, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("reach", [1.05, 3.0, 12.0])
def test_minima_are_global_whatever_the_weights(activation, r, reach):
    rng = np.random.default_rng(3)
    act = get_activation(activation)
    a, b = reach * rng.uniform(-1, 1, (2, 40, 256))
    expected = act.prox(a, b, r, 1.0)
    u = minimiser(activation, a, b, r, b + 0.3 * rng.standard_normal(b.shape))

    def objective(z):
        return r * (act.value(z) - a) ** 2 + (z - b) ** 2

    lowest = objective(expected)
    np.testing.assert_allclose(objective(u), lowest, rtol=1e-9, atol=1e-9)
    # No point of a grid is better.
    for z in np.linspace(-14, 14, 113):
        assert (objective(u) <= objective(np.full_like(u, z)) + 1e-9 * (1 + lowest)).all()


@each_smooth
@bounded
@given(seed=seeds, logs=st.tuples(*[st.floats(-3, 3)] * 3))
def test_no_point_between_is_better(activation, seed, logs):
    act = get_activation(activation)
    mu, nu, tau = 10.0 ** np.array(logs)
    product, bias, old, v, previous = blocks(np.float64, rows=3, seed=seed)
    pre, u = product.copy(), old.copy()
    relaxed_kernels.u_smooth(act.kind, pre, bias, u, v, previous, True, mu, nu, tau)

    def objective(z):
        f = nu * (act.value(z) - (v - previous)) ** 2
        return f + mu * (z - product - bias) ** 2 + tau * (z - old) ** 2

    for z in np.linspace(-10, 10, 201):
        there = objective(np.full_like(u, z))
        assert (objective(u) <= there + 1e-10 * (1 + there)).all()


@each_smooth
def test_near_ties_end_in_either_minimum(activation):
    # b on a fine grid across the place where the lower minimum changes sides.
    act = get_activation(activation)
    a, r = (2.5, 6.0) if activation == "softplus" else (1.2, 100.0 if activation != "tanh" else 3.0)
    b = np.linspace(-8, 4, 20480).reshape(80, 256)
    u = minimiser(activation, np.full_like(b, a), b, r, np.zeros_like(b))

    def objective(z):
        return r * (act.value(z) - a) ** 2 + (z - b) ** 2

    best = objective(act.prox(a, b, r, 1.0))
    np.testing.assert_allclose(objective(u), best, rtol=1e-12, atol=1e-12)
    assert (np.diff(u.ravel()) > -1e-12).all()  # a proximal map is monotone


@each_smooth
def test_the_start_does_not_matter_without_a_proximal_term(activation):
    rng = np.random.default_rng(4)
    a, b = 3 * rng.uniform(-1, 1, (2, 20, 64))
    first = minimiser(activation, a, b, 1.0, b)
    for start in (np.zeros_like(b), -b, 1e6 * rng.standard_normal(b.shape)):
        np.testing.assert_allclose(minimiser(activation, a, b, 1.0, start), first, atol=1e-12)


@each_dtype
@each_smooth
def test_entries_do_not_depend_on_each_other(dtype, activation):
    act = get_activation(activation)
    product, bias, old, v, previous = blocks(dtype, rows=40, width=33)

    def update(rows):
        pre, u = product[rows].copy(), old[rows].copy()
        relaxed_kernels.u_smooth(
            act.kind, pre, bias, u, v[rows], previous[rows], True, 1.0, 2.0, 0.1
        )
        return u

    whole = update(np.s_[:])
    for rows in (np.s_[:1], np.s_[17:30], np.s_[39:]):
        np.testing.assert_array_equal(update(rows), whole[rows])
    others = np.arange(33) != 5
    product[:, others] *= 3
    old[:, others] = np.nan
    np.testing.assert_array_equal(update(np.s_[:])[:, 5], whole[:, 5])


@each_dtype
@each_activation
@pytest.mark.parametrize("update", [u_exact, u_linearized])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_entry_and_shows_in_the_sums(
    dtype, activation, update, bad
):
    act = get_activation(activation)
    for where in (0, 2, 3, 4):
        arguments = blocks(dtype)
        arguments[where][11, 3] = bad
        u = arguments[2]
        sums = update(act, *arguments, True, 1.0, 1.0, 0.1)
        assert not np.isfinite(sums).all()
        finite = np.isfinite(u)
        if activation in SMOOTH and update is u_exact:
            assert np.isnan(u[11, 3])
        finite[11, 3] = True
        assert finite.all()


@each_smooth
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_blocks_that_have_diverged_take_no_time(activation, bad):
    kind = get_activation(activation).kind
    pre, bias, u, v, previous = blocks(np.float64, rows=500, width=256)
    for block in (pre, u, v):
        block[...] = bad
    relaxed_kernels.u_smooth(kind, pre, bias, u, v, previous, True, 1.0, 1.0, 0.1)
    assert bad == 1e300 or np.isnan(u).all()


@each_smooth
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 2)])
def test_small_blocks(activation, shape):
    act = get_activation(activation)
    pre, bias, u, v, previous = blocks(np.float64, *shape)
    expected = act.prox(v, (pre + bias + 0.5 * u) / 1.5, 2.0, 1.5)
    sums = relaxed_kernels.u_smooth(act.kind, pre, bias, u, v, previous, False, 1.0, 2.0, 0.5)
    np.testing.assert_allclose(u, expected, atol=1e-11)
    assert sums[3] == pytest.approx(squares(u))


# -------------------------------------------------------------------------- linearized, dispatch


@each_dtype
@each_skip
@each_activation
@pytest.mark.parametrize("tau", [1e-3, 0.7, 5.0])
def test_the_linearized_step_is_that_of_its_formula(dtype, skip, activation, tau):
    act = get_activation(activation)
    mu, nu = 0.8, 1.5
    product, bias, old, v, previous = blocks(dtype)
    old[0, :3] = 0.0
    pre, u = product.copy(), old.copy()
    found = u_linearized(act, pre, bias, u, v, previous, skip, mu, nu, tau)

    a_pre, a = product + bias, v - skip * previous
    gradient = mu * (old - a_pre) + nu * (act.value(old) - a) * act.derivative(old)
    bound = nu * (act.mix + act.bend * np.abs(a))
    expected = old - gradient / (mu + np.maximum(tau, bound))
    np.testing.assert_allclose(u, expected, atol=tolerance(dtype))
    np.testing.assert_allclose(pre, mu * (a_pre - u), atol=tolerance(dtype))
    assert u.dtype == pre.dtype == dtype
    sums = (squares(old - a_pre), squares(gradient), squares(u - old), squares(u))
    assert found == pytest.approx(sums, rel=10 * tolerance(dtype))


@each_skip
@each_activation
def test_u_exact_takes_the_kernel_of_its_activation(skip, activation):
    act = get_activation(activation)
    arguments = blocks(np.float64)
    others = [block.copy() for block in arguments]
    found = u_exact(act, *arguments, skip, 1.0, 2.0, 0.1)
    if act.kind == PIECEWISE:
        expected = relaxed_kernels.u_piecewise(*others, skip, act.slope, 1.0, 2.0, 0.1)
    else:
        expected = relaxed_kernels.u_smooth(act.kind, *others, skip, 1.0, 2.0, 0.1)
    assert found == expected
    np.testing.assert_array_equal(arguments[2], others[2])


# -------------------------------------------------------------------------------------- functions


def test_the_exponential_is_exact_to_rounding():
    x = np.concatenate([np.linspace(-708, 708, 30001), np.geomspace(1e-17, 1, 500), [0.0]])
    found = np.array([kernels.exp(value) for value in x])
    np.testing.assert_allclose(found, np.exp(x), rtol=5e-16)
    assert kernels.exp(0.0) == 1.0
    assert 0 < kernels.exp(-np.inf) < 1e-300
    assert np.isnan(kernels.exp(np.nan))


def test_the_logarithm_is_exact_to_rounding():
    x = np.concatenate([np.linspace(0, 1, 10001), np.geomspace(1e-300, 1, 2000)])
    found = np.array([kernels.log1p(value) for value in x])
    np.testing.assert_allclose(found, np.log1p(x), rtol=8e-16)
    assert np.isnan(kernels.log1p(np.nan))


# ---------------------------------------------------------------------------------------- softmax


def softmax_case(seed, rows, k, scale, dtype=np.float64):
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
        v, y = softmax_case(0, 60, k, scale, dtype)
        out = np.full_like(v, np.nan)
        softmax_kernels.softmax_prox(v, y, beta, out)
        atol = 4 * eps * (scale + 1 / beta) + 1e-13 * (1 + 1 / beta)
        np.testing.assert_allclose(out, loss.prox(v, y, beta), rtol=0, atol=atol)
        if dtype == np.float64:
            condition = loss.gradient(out, y) + beta * (out - v)
            np.testing.assert_allclose(condition, 0, atol=1e-13 * (1 + (beta + 1) * scale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_prox_of_a_row_that_is_not_finite_is_nan(bad):
    v, y = softmax_case(2, 3, 20, 5.0)
    expected = np.empty_like(v)
    softmax_kernels.softmax_prox(v, y, 0.5, expected)
    v[1, 7] = bad
    out = np.zeros_like(v)
    softmax_kernels.softmax_prox(v, y, 0.5, out)
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], expected[[0, 2]])


def test_rows_of_softmax_prox_do_not_depend_on_each_other():
    v, y = softmax_case(3, 50, 11, 20.0)
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
    v, y = softmax_case(seed, 10, k, scale)
    y = 0.9 * y + 0.1 / k
    z = v.copy()
    softmax_kernels.softmax_prox(z, y, beta, z)
    condition = get_loss("cross_entropy").gradient(z, y) + beta * (z - v)
    np.testing.assert_allclose(condition, 0, atol=1e-12 * (1 + (beta + 1) * scale + 1 / beta))
