"""The losses: their gradients, and the first-order conditions of their proximal maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.optimize import minimize, minimize_scalar

from dadmm.errors import DataError, OptionError
from dadmm.numerics.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    Hinge,
    Huber,
    Loss,
    Squared,
    get_loss,
)
from support.messages import naming

ALL = [*LOSSES.values(), Huber(0.3)]
CODED = [loss for loss in ALL if not loss.multi_label]
SMOOTH = [loss for loss in ALL if np.isfinite(loss.lipschitz)]

each = pytest.mark.parametrize("loss", ALL, ids=repr)
each_smooth = pytest.mark.parametrize("loss", SMOOTH, ids=repr)
each_coded = pytest.mark.parametrize("loss", CODED, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
bounded = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)
betas = st.floats(-3, 4).map(lambda e: 10.0**e)


def instances(loss, seed, rows, outputs, scale=1.0, dtype=np.float64):
    """Random outputs, and targets that mean something to the loss."""
    rng = np.random.default_rng(seed)
    v = (scale * rng.normal(size=(rows, outputs))).clip(-1e3, 1e3)
    if isinstance(loss, Hinge):
        y = rng.choice([-1.0, 1.0], size=v.shape)
    elif isinstance(loss, BinaryCrossEntropy):
        y = rng.random(v.shape).round(rng.integers(2))  # yes and no, or between
    elif isinstance(loss, CrossEntropy):
        y = rng.dirichlet(np.ones(outputs), rows)
        y[::2] = loss.encode(rng.integers(outputs, size=rows), outputs, float)[::2]
    else:
        y = rng.normal(size=v.shape)
    return v.astype(dtype), y.astype(dtype)


def formula(loss, v, y):
    """Compute the loss of one sample as its definition reads."""
    r = np.abs(v - y)
    if isinstance(loss, Squared):
        return 0.5 * np.sum(r**2)
    if isinstance(loss, CrossEntropy):
        return -np.sum(y * special.log_softmax(v))
    if isinstance(loss, BinaryCrossEntropy):
        return -np.sum(y * special.log_expit(v) + (1 - y) * special.log_expit(-v))
    if isinstance(loss, Hinge):
        return sum(max(0, 1 - a * b) for a, b in zip(v, y, strict=True))
    return sum(0.5 * t**2 if t <= loss.delta else loss.delta * (t - loss.delta / 2) for t in r)


@each
def test_decoding_undoes_encoding(loss):
    rng = np.random.default_rng(0)
    codes = rng.integers(2 if loss.multi_label else 5, size=(40, 5) if loss.multi_label else 40)
    np.testing.assert_array_equal(loss.decode(loss.encode(codes, 5)), codes)


def test_a_smoothed_label_is_of_its_likeliest_class():
    codes = np.arange(4)
    y = 0.8 * CrossEntropy().encode(codes, 4) + 0.05
    np.testing.assert_array_equal(CrossEntropy().decode(y), codes)


@each
@each_dtype
def test_value_is_the_sum_over_rows_of_the_definition(loss, dtype):
    v, y = instances(loss, 0, 200, 5, 3.0, dtype)
    expected = sum(
        formula(loss, *row) for row in zip(v.astype(float), y.astype(float), strict=True)
    )
    value = loss.value(v, y)
    assert isinstance(value, float)
    # Only the inputs are rounded to float32: the sum is float64's either way.
    assert value == pytest.approx(expected, rel=1e-13)


@each
@bounded
@given(seed=seeds)
def test_gradient_is_the_limit_of_difference_quotients(loss, seed):
    v, y = instances(loss, seed, 1, 4, 2.0)
    h = 1e-6
    quotients = [(loss.value(v + h * e, y) - loss.value(v - h * e, y)) / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(loss.gradient(v, y)[0], quotients, atol=1e-7)


def test_gradient_of_hinge_is_zero_at_the_kink():
    y = np.array([[1.0, -1.0]])
    assert np.array_equal(Hinge().gradient(y, y), [[0, 0]])
    assert np.array_equal(Hinge().gradient(0.999 * y, y), -y)


@each_smooth
@bounded
@given(seed=seeds)
def test_gradient_is_lipschitz_with_the_constant_given_and_no_smaller_one(loss, seed):
    rng = np.random.default_rng(seed)
    v, y = instances(loss, seed, 50, 3)
    w = v + rng.normal(size=v.shape)
    change = np.linalg.norm(loss.gradient(v, y) - loss.gradient(w, y), axis=1)
    assert (change <= loss.lipschitz * np.linalg.norm(v - w, axis=1) * (1 + 1e-12)).all()


@each_smooth
def test_the_lipschitz_constant_is_attained(loss):
    y = np.array([[1.0, 0.0]])
    v = np.zeros((1, 2)) if loss.has_proba else y
    step = 1e-5 * np.array([[1.0, -1.0]])
    change = loss.gradient(v + step, y) - loss.gradient(v, y)
    assert np.linalg.norm(change) == pytest.approx(loss.lipschitz * np.linalg.norm(step), rel=1e-6)


@each
@settings(max_examples=10, deadline=None)
@given(seed=seeds, beta=betas)
def test_prox_is_as_low_as_a_general_minimiser_gets(loss, seed, beta):
    v, y = instances(loss, seed, 1, 3, 2.0)

    def objective(z):
        return loss.value(z.reshape(1, -1), y) + beta / 2 * np.sum((z - v) ** 2)

    lowest = objective(loss.prox(v, y, beta))
    rival = minimize(objective, v.ravel(), method="Nelder-Mead", options={"fatol": 1e-10})
    assert lowest <= rival.fun * (1 + 1e-12)


@pytest.mark.parametrize("loss", [Hinge(), Huber(), Huber(0.3), BinaryCrossEntropy()], ids=repr)
@bounded
@given(v=st.floats(-4, 4), beta=betas)
def test_prox_of_a_separable_loss_is_the_scalar_minimiser(loss, v, beta):
    y = np.ones((1, 1))

    def objective(z):
        return loss.value(np.array([[z]]), y) + beta / 2 * (z - v) ** 2

    radius = 2 / beta + 1e-3
    scalar = minimize_scalar(
        objective, bounds=(v - radius, v + radius), method="bounded", options={"xatol": 1e-9}
    )
    z = loss.prox(np.array([[v]]), y, beta).item()
    assert objective(z) <= scalar.fun * (1 + 1e-12)
    assert z == pytest.approx(scalar.x, abs=1e-4 * radius)


@each_smooth
@bounded
@given(seed=seeds, beta=betas)
def test_prox_satisfies_its_first_order_condition(loss, seed, beta):
    v, y = instances(loss, seed, 100, 6, 10.0)
    z = loss.prox(v, y, beta)
    residual = loss.gradient(z, y) + beta * (z - v)
    assert np.abs(residual).max() <= 1e-13 * (1 + beta) * (1 + np.abs(v).max())


@bounded
@given(seed=seeds, beta=betas)
def test_prox_of_hinge_balances_a_subgradient(seed, beta):
    v, y = instances(Hinge(), seed, 100, 4, 3.0)
    z = Hinge().prox(v, y, beta)
    pull = beta * (v - z) * y  # must be in the subdifferential of max(0, 1 - m) at m = y z
    margin = y * z
    np.testing.assert_allclose(pull[margin < 1 - 1e-9], -1, rtol=1e-6)
    np.testing.assert_allclose(pull[margin > 1 + 1e-9], 0, atol=1e-12)
    assert (pull >= -1 - 1e-6).all()
    assert (pull <= 1e-12).all()


@each_dtype
@pytest.mark.parametrize("outputs", [1, 2, 10, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy()], ids=repr)
def test_prox_of_cross_entropies_converges_from_any_output_at_any_weight(
    loss, dtype, outputs, scale
):
    v, y = instances(loss, 8, 60, outputs, scale, dtype)
    for beta in 10.0 ** np.arange(-3, 5):
        z = loss.prox(v, y, beta).astype(float)
        residual = loss.gradient(z, y.astype(float)) + beta * (z - v)
        size = 1 + beta * np.abs(v).max(axis=1, keepdims=True)
        assert (np.abs(residual) <= (1e-5 if dtype == np.float32 else 1e-10) * size).all()


def test_prox_of_cross_entropy_converges_from_the_worst_corners():
    # The wrong class saturated, ties, one-hot against one-hot, all outputs alike.
    loss = CrossEntropy()
    v = np.array([[1e3, -1e3, 0], [1e3, 1e3, -1e3], [0, 0, 0], [-1e3, -1e3, -1e3], [500, 1e3, 0]])
    for y in np.eye(3):
        target = np.tile(y, (len(v), 1))
        for beta in [1e-3, 1e-2, 1.0, 1e4]:
            z = loss.prox(v, target, beta)
            residual = loss.gradient(z, target) + beta * (z - v)
            assert np.abs(residual).max() <= 1e-10 * (1 + beta * 1e3)


@each
@bounded
@given(seed=seeds, beta=betas)
def test_prox_is_firmly_non_expansive(loss, seed, beta):
    v, y = instances(loss, seed, 50, 3, 3.0)
    w, _ = instances(loss, seed + 1, 50, 3, 3.0)
    d = loss.prox(v, y, beta) - loss.prox(w, y, beta)
    assert (np.sum(d * d, axis=1) <= np.sum(d * (v - w), axis=1) + 1e-10).all()


@each_dtype
@bounded
@given(seed=seeds, beta=st.floats(-1, 2).map(lambda e: 10.0**e))
def test_moreaus_identity_with_the_conjugate_of_the_squared_loss(dtype, seed, beta):
    # For f(z) = |z - y|^2 / 2, f*(x) = |x|^2 / 2 + x.y, and prox of beta f* is below.
    v, y = instances(Squared(), seed, 20, 3, 3.0, dtype)
    x = beta * v
    conjugate = (x - beta * y) / (1 + beta)
    np.testing.assert_allclose(
        Squared().prox(v, y, beta) + conjugate / beta, v, atol=100 * np.finfo(dtype).eps
    )


@bounded
@given(seed=seeds, beta=st.floats(-1, 2).map(lambda e: 10.0**e))
def test_moreaus_identity_with_the_conjugate_of_hinge(seed, beta):
    # For y = 1, f*(x) = x on [-1, 0]: its prox is a projection, and v is the sum of both parts.
    v, _ = instances(Hinge(), seed, 20, 3, 3.0)
    projection = np.clip(beta * v - beta, -1, 0)
    np.testing.assert_allclose(
        Hinge().prox(v, np.ones_like(v), beta) + projection / beta, v, atol=1e-12
    )


@each
@each_dtype
def test_rows_do_not_depend_on_each_other(loss, dtype):
    v, y = instances(loss, 9, 301, 7, 20.0, dtype)
    for f in (loss.gradient, lambda v, y: loss.prox(v, y, 0.1)):
        whole = f(v, y)
        for part in [np.s_[:1], np.s_[13:200], np.s_[::3], np.s_[[5, 3, 300]]]:
            assert np.array_equal(f(v[part], y[part]), whole[part])


@each
@each_dtype
@pytest.mark.parametrize("alias", ["v", "y", "neither"])
def test_results_keep_the_dtype_and_may_be_written_in_place(loss, dtype, alias):
    for f in (loss.gradient, lambda v, y, out=None: loss.prox(v, y, np.float64(2), out=out)):
        v, y = instances(loss, 10, 30, 4, 2.0, dtype)
        before = v.copy(), y.copy()
        expected = f(v, y)
        assert expected.dtype == dtype
        assert np.array_equal(v, before[0])
        assert np.array_equal(y, before[1])
        out = {"v": v, "y": y, "neither": np.empty_like(v)}[alias]
        assert f(v, y, out=out) is out
        assert np.array_equal(out, expected)


@each
@each_dtype
def test_no_rows_are_no_problem(loss, dtype):
    v = y = np.empty((0, 3), dtype)
    assert loss.value(v, y) == 0
    assert loss.gradient(v, y).shape == loss.prox(v, y, 1.0).shape == (0, 3)


@each
def test_huge_outputs_neither_overflow_nor_warn(loss):
    v = np.array([[1e30, -1e30, 0], [-1e30, -1e30, -1e30]], np.float32)
    y = loss.encode([1, 0] if loss in CODED else np.eye(3, dtype=int)[:2], 3)
    assert np.isfinite(loss.value(v, y))
    assert np.isfinite(loss.gradient(v, y)).all()
    assert np.isfinite(loss.prox(v, y, 1e-2)).all()


@each_coded
@each_dtype
def test_codes_are_encoded_as_the_loss_wants_them(loss, dtype):
    y = loss.encode(np.array([2, 0, 1]), 3, dtype)
    rest = -1 if isinstance(loss, Hinge) else 0
    assert y.dtype == dtype
    assert np.array_equal(y, np.where(np.eye(3)[[2, 0, 1]] == 1, 1, rest))
    assert loss.encode([], 3).shape == (0, 3)


@each_coded
@pytest.mark.parametrize("codes", [[0, 3], [-1, 2]])
def test_codes_out_of_range_are_refused(loss, codes):
    with pytest.raises(DataError, match=naming("2", str(min(codes)), str(max(codes)))):
        loss.encode(codes, 3)


@each_dtype
def test_several_labels_are_0_or_1_each(dtype):
    loss = BinaryCrossEntropy()
    labels = np.array([[0, 1, 1], [0, 0, 0]], np.uint8)
    y = loss.encode(labels, 3, dtype)
    assert y.dtype == dtype
    assert np.array_equal(y, labels)
    for bad in (labels[:, :2], labels[0], 2 * labels, labels - 0.5):
        with pytest.raises(DataError, match=naming("0 or 1", "3 columns")):
            loss.encode(bad, 3)


@each_dtype
def test_probabilities_of_labels_are_the_sigmoid_and_do_not_depend_on_each_other(dtype):
    v = np.random.default_rng(12).normal(size=(50, 4)).astype(dtype) * 100
    p = BinaryCrossEntropy().predict_proba(v)
    assert p.dtype == dtype
    exact = np.exp(special.log_expit(v.astype(float)))
    np.testing.assert_allclose(p, exact, rtol=1e3 * np.finfo(dtype).eps, atol=1e-37)
    assert BinaryCrossEntropy().predict_proba(v, out=v) is v
    assert np.array_equal(v, p)


def test_rows_are_right_where_the_class_or_all_labels_are():
    v = np.array([[2.0, 1.0, -1.0], [-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])
    y = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert BinaryCrossEntropy().right(v, y) == 2
    assert CrossEntropy().right(v, np.eye(3)[[0, 0, 0]]) == 2


@each_dtype
def test_probabilities_are_the_softmax(dtype):
    v = np.random.default_rng(11).normal(size=(50, 4)).astype(dtype) * 100
    p = CrossEntropy().predict_proba(v)
    assert p.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=10 * eps)
    np.testing.assert_allclose(
        p, special.softmax(v.astype(float), axis=1), rtol=1e3 * eps, atol=np.finfo(dtype).tiny
    )
    assert CrossEntropy().predict_proba(v, out=v) is v
    assert np.array_equal(v, p)


@each
def test_only_losses_with_probabilities_predict_them(loss):
    v = np.zeros((2, 2))
    if loss.has_proba:
        assert np.array_equal(loss.predict_proba(v), np.full((2, 2), 0.5))
    else:
        with pytest.raises(OptionError, match=naming(loss.name, "cross_entropy")):
            loss.predict_proba(v)


def test_flags_say_what_a_loss_is_for():
    assert {n for n, loss in LOSSES.items() if loss.classification_only} == {
        "binary_cross_entropy",
        "cross_entropy",
        "hinge",
    }
    assert [n for n, loss in LOSSES.items() if loss.multi_label] == ["binary_cross_entropy"]
    assert {n: loss.lipschitz for n, loss in LOSSES.items()} == {
        "squared": 1,
        "cross_entropy": 0.5,
        "binary_cross_entropy": 0.25,
        "hinge": np.inf,
        "huber": 1,
    }


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_get_loss_knows_names_and_passes_losses_through(name):
    loss = get_loss(name)
    assert isinstance(loss, Loss)
    assert loss.name == name
    assert get_loss(loss) is loss


def test_get_loss_suggests_the_nearest_name():
    with pytest.raises(OptionError, match=naming("loss", "'squarred'", "'squared'")):
        get_loss("squarred")


@pytest.mark.parametrize("delta", [0, -1, float("nan")])
def test_huber_refuses_a_delta_that_is_not_positive(delta):
    with pytest.raises(OptionError, match=naming("delta")):
        Huber(delta)
