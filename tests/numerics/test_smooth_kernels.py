"""The compiled U-updates with smooth activations: global minima, and extremes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.numerics import relaxed_kernels
from dadmm.numerics.activations import ACTIVATIONS, PIECEWISE, get_activation
from dadmm.solvers.relaxed.subproblems import update_u
from support.kernels import bounded, each_dtype, each_skip, seeds

SMOOTH = ["tanh", "sigmoid", "softplus"]


each_smooth = pytest.mark.parametrize("activation", SMOOTH)


each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


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


# ---------------------------------------------------------------------------------- exact U-update


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
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_entry_and_shows_in_the_sums(dtype, activation, exact, bad):
    act = get_activation(activation)
    for where in (0, 2, 3, 4):
        arguments = blocks(dtype)
        arguments[where][11, 3] = bad
        u = arguments[2]
        sums = update_u(exact, act, *arguments, True, 1.0, 1.0, 0.1)
        assert not np.isfinite(sums).all()
        finite = np.isfinite(u)
        if activation in SMOOTH and exact:
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


# ---------------------------------------------------------------------------- linearized, dispatch


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
    found = update_u(False, act, pre, bias, u, v, previous, skip, mu, nu, tau)

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
    found = update_u(True, act, *arguments, skip, 1.0, 2.0, 0.1)
    if act.kind == PIECEWISE:
        expected = relaxed_kernels.u_piecewise(*others, skip, act.slope, 1.0, 2.0, 0.1)
    else:
        expected = relaxed_kernels.u_smooth(act.kind, *others, skip, 1.0, 2.0, 0.1)
    assert found == expected
    np.testing.assert_array_equal(arguments[2], others[2])
