"""The Lagrangian of relaxed ADMM: what is reported of it, and that it never rises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.numerics.losses import get_loss
from support.formulas import LOSS, lagrangian
from support.relaxed import (
    FORMS,
    KINKED,
    SMOOTH,
    advance,
    begin,
    each_form,
    never_rises,
    point,
    relaxed,
    trace,
)

FALLING = ("squared", "cross_entropy", "huber")  # the losses whose gradient is Lipschitz


bounded = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("regions", [1, 2, 3, 5])
@pytest.mark.parametrize("activation", SMOOTH + KINKED)
def test_proximal_three_splitting_never_raises_the_lagrangian(activation, regions):
    for loss, stem, tau in (("squared", "identity", 1e-3), ("cross_entropy", "dense", 0.0)):
        run = begin(relaxed(regions=regions, tau=tau), loss, activation, (5, 5, 5, 4), stem)
        assert never_rises(trace(run, 25))


@pytest.mark.parametrize("regions", [1, 2, 4])
@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("splitting", "variant"), FORMS[1:])
def test_no_form_raises_the_lagrangian_where_the_activation_is_smooth(
    splitting, variant, activation, regions
):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions)
    assert never_rises(trace(begin(solver, "squared", activation, (5, 5, 4), "identity"), 25))


@pytest.mark.parametrize("loss", FALLING)
@each_form
def test_no_loss_with_a_lipschitz_gradient_raises_the_lagrangian(splitting, variant, loss):
    for regions in (1, 4):
        solver = relaxed(splitting=splitting, variant=variant, regions=regions)
        assert never_rises(trace(begin(solver, loss, hidden=(4, 4, 3)), 25))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_over_relaxed_serial_steps_do_not_raise_the_lagrangian(activation):
    for splitting in (3, 2) if activation == "tanh" else (3,):
        solver = relaxed(splitting=splitting, over_relaxation=1.6)
        assert never_rises(trace(begin(solver, "squared", activation), 40))


@bounded
@given(
    form=st.sampled_from(FORMS),
    activation=st.sampled_from(SMOOTH),
    loss=st.sampled_from(FALLING),
    hidden=st.sampled_from([(5, 5, 4), (6, 6, 6), (4, 7, 3)]),
    regions=st.integers(1, 4),
    exponents=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 2)),
    tau=st.sampled_from([0.0, 1e-3, 1.0, 10.0]),
    over_relaxation=st.sampled_from([1.0, 1.6]),
    noise=st.sampled_from([0.0, 1.0, 3.0]),
    seed=st.integers(0, 2**16),
)
def test_no_penalties_and_no_start_raise_the_lagrangian(
    form, activation, loss, hidden, regions, exponents, tau, over_relaxation, noise, seed
):
    mu, nu, beta = 10.0 ** np.array(exponents)
    solver = relaxed(
        splitting=form[0],
        variant=form[1],
        regions=regions,
        mu=mu,
        nu=nu,
        beta=beta,
        tau=tau,
        over_relaxation=over_relaxation,
    )
    run = begin(solver, loss, activation, hidden, n=15, seed=seed, noise=noise)
    values = trace(run, 8)
    assert np.diff(values).max() <= 1e-11 * np.abs(values).max()


@pytest.mark.parametrize("regions", [1, 2, 4])
@each_form
def test_the_reported_objective_is_f_where_the_iteration_started(splitting, variant, regions):
    solver = relaxed(
        splitting=splitting, variant=variant, regions=regions, mu=0.7, nu=1.9, beta=2.0
    )
    for loss, activation in (
        ("huber", "softplus"),
        ("hinge", "relu"),
        ("cross_entropy", "sigmoid"),
    ):
        run = begin(solver, loss, activation, noise=0.5)
        for _ in range(3):
            before = lagrangian(solver, run.problem, point(run))
            assert advance(run)[0]["objective"] == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("regions", [1, 4])
@each_form
@pytest.mark.parametrize("loss", sorted(LOSS))
def test_the_multiplier_is_the_gradient_of_the_loss(loss, splitting, variant, regions):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions, beta=1.5)
    run = begin(solver, loss, hidden=(4, 3, 3))
    for _ in range(5):
        advance(run)
        z = point(run)
        gradient = get_loss(loss).gradient(z["v_4"], z["y"])
        if loss == "hinge":  # any slope from -y to 0 where the margin is 1
            at_kink = np.abs(z["y"] * z["v_4"] - 1) < 1e-9
            assert (z["y"] * z["l"])[at_kink].max(initial=0.0) <= 1e-9
            assert (z["y"] * z["l"])[at_kink].min(initial=0.0) >= -1 - 1e-9
            gradient = np.where(at_kink, z["l"], gradient)
        np.testing.assert_allclose(z["l"], gradient, atol=1e-9)
        if loss == "squared":
            np.testing.assert_allclose(z["l"], z["v_4"] - z["y"], atol=1e-12)
