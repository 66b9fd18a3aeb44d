"""The activations: their calculus, their constants, and the global optimality of their prox."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.optimize import minimize_scalar

from dadmm.errors import OptionError
from dadmm.numerics.activations import ACTIVATIONS, SOFTPLUS, Activation, get_activation
from support.messages import naming

NAMES = sorted(ACTIVATIONS)
CURVED = ["sigmoid", "softplus", "tanh"]
REFERENCE = {
    "relu": lambda u: np.where(u > 0, u, 0),
    "leaky_relu": lambda u: np.where(u > 0, u, 0.01 * u),
    "identity": lambda u: u,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda u: np.logaddexp(u, 0),
}

each = pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS)
each_curved = pytest.mark.parametrize("act", [ACTIVATIONS[n] for n in CURVED], ids=CURVED)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
bounded = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def instances(seed, n, dtype=np.float64):
    """Random a, b, nu, c over many orders of magnitude, with a in and out of the range."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n)) * 10 ** rng.uniform(-2, 2, (2, n))
    nu, c = 10 ** rng.uniform([[-3], [-3]], [[5], [2]], (2, n))
    return tuple(x.astype(dtype) for x in (a, b, nu, c))


def objective(act, u, a, b, nu, c):
    return nu * (act.value(u) - a) ** 2 + c * (u - b) ** 2


def grid_minimum(act, a, b, nu, c):
    """Lowest objective of one instance on a dense grid, polished by scipy."""
    reach = np.sqrt(nu / c) * abs(act.value(b) - a) + 1e-9
    t = np.linspace(-1, 1, 4001)
    grid = np.concatenate([b + reach * t * np.abs(t), np.linspace(-40, 40, 8001)])
    grid.sort()
    values = objective(act, grid, a, b, nu, c)
    i = np.clip(values.argmin(), 1, grid.size - 2)
    polished = minimize_scalar(
        lambda u: objective(act, u, a, b, nu, c),
        bounds=(grid[i - 1], grid[i + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return min(values[i], polished.fun)


@each
@each_dtype
def test_value_is_the_function_of_that_name(act, dtype):
    u = np.linspace(-30, 30, 1001).astype(dtype)
    np.testing.assert_allclose(
        act.value(u), REFERENCE[act.name](u.astype(float)), rtol=20 * np.finfo(dtype).eps
    )


@each
def test_derivative_is_the_limit_of_difference_quotients(act):
    u = np.linspace(-20, 20, 1000)  # an even number of points, so that none is at a kink
    h = 1e-5
    quotient = (act.value(u + h) - act.value(u - h)) / (2 * h)
    np.testing.assert_allclose(act.derivative(u), quotient, atol=1e-9)


@each
def test_derivative_at_a_kink_is_the_left_one(act):
    zero = np.zeros(1)
    if not act.smooth:
        assert act.derivative(zero) == act.slope


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("tanh", lambda u: 4 * np.exp(-2 * u)),
        ("sigmoid", lambda u: np.exp(-u)),
        ("softplus", lambda u: np.ones_like(u)),
    ],
)
def test_derivative_keeps_its_digits_in_the_tails(name, tail):
    u = np.linspace(30, 300, 100)
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(u), tail(u), rtol=1e-12)


@each
def test_constants_are_the_suprema_they_claim_to_be(act):
    u = np.linspace(-40, 40, 2_000_000)
    first = act.derivative(u)
    second = np.gradient(first, u) if act.smooth else np.zeros_like(u)
    for claimed, found in [
        (act.lipschitz, np.abs(first)),
        (act.bend, np.abs(second)),
        (act.mix, first**2 + act.value(u) * second),
    ]:
        assert claimed * 0.999 - 1e-6 <= found.max() <= claimed + 1e-9


@each_curved
@bounded
@given(a=st.floats(-100, 100))
def test_mix_and_bend_bound_the_curvature_of_the_squared_residual(act, a):
    u = np.linspace(-40, 40, 20_001)
    slope = (act.value(u) - a) * act.derivative(u)
    assert np.abs(np.gradient(slope, u)).max() <= act.mix + abs(a) * act.bend + 1e-9


@each
@each_dtype
@pytest.mark.parametrize("method", ["value", "derivative"])
def test_value_and_derivative_keep_dtype_and_inputs_and_write_in_place(act, dtype, method):
    f = getattr(act, method)
    u = np.random.default_rng(0).normal(size=(7, 5)).astype(dtype)
    before = u.copy()
    result = f(u)
    assert result.dtype == dtype
    assert result.shape == u.shape
    assert np.array_equal(u, before)
    assert f(u, out=u) is u
    assert np.array_equal(u, result)


@each
@each_dtype
def test_huge_arguments_neither_overflow_nor_warn(act, dtype):
    u = np.array([0, 1e-30, 1, 100, 1e4, 1e30], dtype)
    u = np.concatenate([-u, u])
    assert np.isfinite(act.value(u)).all()
    assert np.isfinite(act.derivative(u)).all()
    a, b = np.meshgrid(u, u)
    for nu, c in [(0, 1), (1e-10, 1), (1, 1), (1e10, 1), (1, 1e-10)]:
        assert np.isfinite(act.prox(a, b, nu, c)).all()


@each
def test_infinity_goes_to_the_limit(act):
    ends = np.array([-np.inf, np.inf])
    assert np.array_equal(act.value(ends), REFERENCE[act.name](ends))


@each
def test_nan_stays_nan_and_stays_where_it_is(act):
    a, b = np.array([[np.nan, 1, 1], [1, np.nan, 1]])
    assert np.isnan(act.value(a)).tolist() == [True, False, False]
    assert np.isnan(act.prox(a, b, 1.0, 1.0)).tolist() == [True, True, False]


@each
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_prox_is_as_low_as_a_dense_grid_polished(act, seed):
    a, b, nu, c = instances(seed, 20)
    found = objective(act, act.prox(a, b, nu, c), a, b, nu, c)
    for i, value in enumerate(found):
        assert value <= grid_minimum(act, a[i], b[i], nu[i], c[i]) * (1 + 1e-9)


@each_curved
@bounded
@given(seed=seeds)
def test_prox_is_a_stationary_point_with_no_lower_one_in_its_bracket(act, seed):
    a, b, nu, c = instances(seed, 300)
    u = act.prox(a, b, nu, c)
    residual = nu * (act.value(u) - a) * act.derivative(u)
    # Rounding moves u by eps |u|, which the curvature of the first term amplifies.
    rounding = 1e-11 * (1 + np.abs(u)) * (c + nu * (act.mix + np.abs(a) * act.bend))
    assert (np.abs(residual + c * (u - b)) <= rounding).all()
    lowest = objective(act, u, a, b, nu, c)
    for t in np.linspace(0, 1, 200):
        rival = objective(act, b + t * (u - b), a, b, nu, c)
        assert (lowest <= rival * (1 + 1e-9)).all()


@each_curved
@bounded
@given(
    above=st.floats(-2, 1.5),
    excess=st.floats(-3, 3),
    tilt=st.floats(-1, 1),
)
def test_prox_chooses_rightly_where_a_second_minimum_is_born(act, above, excess, tilt):
    # The curvature of the first term is lowest at top; nu is such that the objective has just
    # become concave there (or has long been), and b such that top is nearly stationary.
    grid = np.linspace(-15, 15, 30_001)
    a = act.value(np.float64(-40)) + 10**above
    slope = (act.value(grid) - a) * act.derivative(grid)
    bump = -np.gradient(slope, grid)
    top = bump[grid < 0.5].argmax()
    c = np.ones(12)
    nu = (1 + 10 ** (excess + np.linspace(0, 1, 12))) / bump[top]
    b = grid[top] + nu * slope[top] + tilt * np.linspace(0, 2, 12)
    u = act.prox(np.full(12, a), b, nu, c)
    found = objective(act, u, a, b, nu, c)
    rivals = objective(act, grid, a, b[:, None], nu[:, None], c[:, None]).min(axis=1)
    assert (found <= rivals * (1 + 1e-13)).all()


def test_prox_finds_the_far_one_of_two_minima():
    # tanh is flat around b = -8, so that a local method stays there.
    tanh = ACTIVATIONS["tanh"]
    a, b = np.array([0.9]), np.array([-8.0])
    far = tanh.prox(a, b, 25.0, 1.0)
    assert far > 0
    assert objective(tanh, far, a, b, 25.0, 1.0) < 87 < 90 < objective(tanh, b, a, b, 25.0, 1.0)
    np.testing.assert_allclose(tanh.prox(a, b, 20.0, 1.0), b, atol=1e-4)


@each
@bounded
@given(seed=seeds)
def test_prox_is_monotone_in_both_of_its_targets(act, seed):
    # The objective has decreasing differences in (u, b) and, act being increasing, in (u, a).
    a, b, nu, c = instances(seed, 200)
    u = act.prox(a, b, nu, c)
    slack = 1e-9 * (1 + np.abs(u))
    assert (act.prox(a, b + 0.1, nu, c) >= u - slack).all()
    assert (act.prox(a + 0.1, b, nu, c) >= u - slack).all()


@bounded
@given(seed=seeds)
def test_prox_has_the_symmetries_of_its_activation(seed):
    a, b, nu, c = instances(seed, 100)
    tanh, sigmoid = ACTIVATIONS["tanh"].prox, ACTIVATIONS["sigmoid"].prox
    np.testing.assert_array_equal(tanh(-a, -b, nu, c), -tanh(a, b, nu, c))
    np.testing.assert_allclose(
        sigmoid(0.5 - a, -b, nu, c), -sigmoid(0.5 + a, b, nu, c), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        sigmoid((1 + a) / 2, 2 * b, 4 * nu, c / 4), 2 * tanh(a, b, nu, c), rtol=1e-7, atol=1e-9
    )


@each
def test_prox_without_weight_on_the_activation_is_b(act):
    a, b, _, c = instances(1, 100)
    assert np.array_equal(act.prox(a, b, 0.0, c), b)


@each
def test_prox_with_all_weight_on_the_activation_inverts_it(act):
    u = np.linspace(0.1, 5, 50)
    np.testing.assert_allclose(act.prox(act.value(u), u - 0.05, 1e12, 1.0), u, rtol=1e-6)


def test_prox_of_relu_is_the_better_of_its_two_branches():
    a, b, nu, c = instances(2, 10_000)
    relu = ACTIVATIONS["relu"]
    left, right = np.minimum(b, 0), np.maximum((nu * a + c * b) / (nu + c), 0)
    f_left, f_right = (objective(relu, u, a, b, nu, c) for u in (left, right))
    sure = np.abs(f_left - f_right) > 1e-12 * (f_left + f_right)
    expected = np.where(f_left <= f_right, left, right)[sure]
    np.testing.assert_allclose(relu.prox(a, b, nu, c)[sure], expected, rtol=1e-12, atol=1e-15)


def test_prox_of_relu_in_a_tie_stays_left():
    a, b = np.ones(1), -np.ones(1)
    assert ACTIVATIONS["relu"].prox(a, b, 3.01, 1.0) > 0
    assert ACTIVATIONS["relu"].prox(a, b, 3.0, 1.0) == b  # 3 either way: at -1, and at 1/2


def test_prox_of_identity_is_the_weighted_mean():
    a, b, nu, c = instances(3, 1000)
    expected = nu / (nu + c) * a + c / (nu + c) * b
    result = ACTIVATIONS["identity"].prox(a, b, nu, c)
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-13)


@each
def test_prox_in_float32_is_that_of_float64_rounded(act):
    a, b, nu, c = instances(4, 2000, np.float32)
    single = act.prox(a, b, nu, c)
    double = act.prox(*(x.astype(float) for x in (a, b, nu, c)))
    assert single.dtype == np.float32
    if act.name in CURVED:
        assert np.array_equal(single, double.astype(np.float32))
    else:
        a, b, nu, c = (x.astype(float) for x in (a, b, nu, c))
        excess = objective(act, single.astype(float), a, b, nu, c) - objective(
            act, double, a, b, nu, c
        )
        assert (excess <= 1e-6 * (nu * a**2 + c * b**2)).all()


@each
@each_dtype
def test_prox_of_an_entry_does_not_depend_on_the_others(act, dtype):
    a, b, nu, c = (x.reshape(100, 101) for x in instances(5, 10_100, dtype))
    whole = act.prox(a, b, nu, c)
    for part in [np.s_[17:30], np.s_[::3], np.s_[:, 5:8], np.s_[::-2, ::7], np.s_[42:43, 42:43]]:
        assert np.array_equal(act.prox(a[part], b[part], nu[part], c[part]), whole[part])
    assert np.array_equal(act.prox(a.T, b.T, nu.T, c.T), whole.T)


@each
@each_dtype
@pytest.mark.parametrize("alias", ["a", "b", "neither", "strided"])
def test_prox_writes_in_place(act, dtype, alias):
    a, b = (x.reshape(60, 100) for x in instances(6, 6000, dtype)[:2])
    expected = act.prox(a, b, 2.0, 0.5)
    assert expected.dtype == dtype
    out = {"a": a, "b": b, "neither": np.empty_like(a)}.get(
        alias, np.empty((60, 200), dtype)[:, ::2]
    )
    assert act.prox(a, b, 2.0, 0.5, out=out) is out
    assert np.array_equal(out, expected)


@each
def test_prox_leaves_its_inputs_alone_and_broadcasts(act):
    a, b, nu, c = instances(7, 12)
    inputs = a.reshape(3, 4), b[:4], nu[:3, None], float(c[0])
    copies = [np.copy(x) for x in inputs]
    result = act.prox(*inputs)
    full = np.broadcast_arrays(*inputs)
    assert np.array_equal(result, act.prox(*(np.ascontiguousarray(x) for x in full)))
    assert all(np.array_equal(x, y) for x, y in zip(inputs, copies, strict=True))


@each
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)])
def test_prox_takes_any_shape(act, shape):
    assert act.prox(np.ones(shape), np.zeros(shape), 1.0, 1.0).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_get_activation_knows_names_and_passes_activations_through(name):
    act = get_activation(name)
    assert act.name == name
    assert get_activation(act) is act


def test_get_activation_suggests_the_nearest_name():
    with pytest.raises(OptionError, match=naming("activation", "'rellu'", "'relu'")):
        get_activation("rellu")


def test_an_activation_is_immutable():
    act = get_activation("softplus")
    assert act == Activation("softplus", SOFTPLUS, 0.0, 1.0, 0.25, 1.046, True)
    with pytest.raises(AttributeError):
        act.slope = 1.0
