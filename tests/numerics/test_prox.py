"""The proximal operators against their defining minimisations and the identities they obey."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize

from dadmm.errors import OptionError
from dadmm.numerics import prox
from support.messages import naming

OPERATORS = {
    "squared_l2": partial(prox.squared_l2, weight=0.7),
    "l1": partial(prox.l1, weight=0.7),
    "non_negative": prox.non_negative,
    "box": partial(prox.box, low=-0.5, high=1.5),
    "simplex": prox.simplex,
    "simplex of 3": partial(prox.simplex, total=3.0),
    "l2_ball": partial(prox.l2_ball, radius=1.3),
}
# Projections onto sets that are not convex.
JUMPING = {"binary": prox.binary, "k_sparse": partial(prox.k_sparse, k=2)}
ALL = OPERATORS | JUMPING
# The regulariser of each, without its constraint.
PENALTIES = {
    "squared_l2": lambda z: 0.35 * np.sum(z**2),
    "l1": lambda z: 0.7 * np.sum(np.abs(z)),
}
# The constraint of each on one row, as inequalities >= 0 and equalities == 0.
SETS = {
    "non_negative": (lambda z: z, None),
    "box": (lambda z: np.append(z + 0.5, 1.5 - z), None),
    "simplex": (lambda z: z, lambda z: z.sum() - 1),
    "simplex of 3": (lambda z: z, lambda z: z.sum() - 3),
    "l2_ball": (lambda z: 1.3**2 - z @ z, None),
}
# On these the operator is the identity.
INSIDE = {
    "non_negative": [[0.0, 2.0, 3.0]],
    "box": [[-0.5, 0.0, 1.5]],
    "simplex": [[0.25, 0.75, 0.0]],
    "simplex of 3": [[0.5, 2.5, 0.0]],
    "l2_ball": [[0.3, 1.2, 0.0]],
}

each = pytest.mark.parametrize("name", OPERATORS)
each_of_all = pytest.mark.parametrize("name", ALL)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
bounded = settings(max_examples=50, deadline=None)
entries = st.floats(-10, 10, width=32)
matrices = hnp.arrays(np.float64, (4, 3), elements=entries)


def normal(seed, *shape, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("seed", range(3))
def test_regularisers_are_minimised(name, seed):
    v = normal(seed, 3, 2)

    def objective(z):
        z = z.reshape(v.shape)
        return PENALTIES[name](z) + 0.5 * np.sum((z - v) ** 2)

    lowest = objective(OPERATORS[name](v))
    options = {"fatol": 1e-9, "xatol": 1e-6, "maxfev": 4000, "adaptive": True}
    rival = minimize(objective, v.ravel(), method="Nelder-Mead", options=options)
    assert lowest <= rival.fun * (1 + 1e-12)
    assert lowest == pytest.approx(rival.fun, rel=1e-4)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(5))
def test_projections_are_the_nearest_points(name, seed):
    v = normal(seed, 4)
    inequality, equality = SETS[name]
    constraints = [{"type": "ineq", "fun": inequality}]
    if equality is not None:
        constraints.append({"type": "eq", "fun": equality})
    nearest = minimize(
        lambda z: np.sum((z - v) ** 2),
        np.full(4, 0.2),
        method="SLSQP",
        constraints=constraints,
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(OPERATORS[name](v), nearest.x, atol=1e-6)


@pytest.mark.parametrize("name", SETS)
@bounded
@given(v=matrices)
def test_projections_land_in_their_set_and_stay_there(name, v):
    inequality, equality = SETS[name]
    z = OPERATORS[name](v)
    for row in z:
        assert np.min(inequality(row)) >= -1e-12
        assert equality is None or abs(equality(row)) <= 1e-12
    np.testing.assert_allclose(OPERATORS[name](z), z, atol=1e-12)


@pytest.mark.parametrize("name", INSIDE)
def test_projections_leave_points_of_their_set_alone(name):
    z = np.array(INSIDE[name])
    np.testing.assert_allclose(OPERATORS[name](z), z, rtol=1e-15)


@each
@bounded
@given(v=matrices, w=matrices)
def test_firmly_non_expansive(name, v, w):
    d = OPERATORS[name](v) - OPERATORS[name](w)
    assert np.sum(d * d) <= np.sum(d * (v - w)) + 1e-10


@bounded
@given(v=matrices, weight=st.floats(0.0, 20.0))
def test_moreau_l1_and_the_box(v, weight):
    # The conjugate of weight |.|_1 is the indicator of the box [-weight, weight].
    np.testing.assert_allclose(prox.l1(v, weight) + prox.box(v, -weight, weight), v, atol=1e-12)


@bounded
@given(v=matrices, weight=st.floats(0.01, 20.0))
def test_moreau_squared_l2_and_itself(v, weight):
    # The conjugate of weight/2 |.|^2 is 1/(2 weight) |.|^2.
    np.testing.assert_allclose(
        prox.squared_l2(v, weight) + prox.squared_l2(v, 1 / weight), v, atol=1e-12
    )


@bounded
@given(v=matrices)
def test_moreau_non_negative_and_non_positive(v):
    # A cone and its polar cone.
    np.testing.assert_array_equal(prox.non_negative(v) - prox.non_negative(-v), v)


@bounded
@given(v=matrices, radius=st.floats(0.0, 20.0))
def test_moreau_l2_ball_and_the_norm(v, radius):
    # The conjugate of radius |.| is the indicator of the ball; its own map shortens rows by radius.
    length = np.linalg.norm(v, axis=1, keepdims=True)
    shortened = v * np.maximum(1 - radius / np.where(length > 0, length, 1), 0)
    np.testing.assert_allclose(prox.l2_ball(v, radius) + shortened, v, atol=1e-12)


@bounded
@given(v=matrices)
def test_moreau_simplex_and_the_maximum(v):
    # The conjugate of the simplex' indicator is the largest entry, whose map cuts a row at the
    # level that takes off 1 in all.
    for row, projected in zip(v, prox.simplex(v), strict=True):
        cut = row - projected
        level = cut.max()
        np.testing.assert_allclose(cut, np.minimum(row, level), atol=1e-12)
        assert np.sum(np.maximum(row - level, 0)) == pytest.approx(1)


def test_zero_weight_is_no_regulariser():
    v = normal(1, 5, 4)
    for z in (prox.squared_l2(v, 0), prox.l1(v, 0)):
        assert np.array_equal(z, v)
    assert not prox.l2_ball(v, 0).any()


def test_bounds_of_a_box_may_be_arrays_and_infinite():
    v = np.array([[-9.0, 0.0, 9.0], [-9.0, 0.0, 9.0]], np.float32)
    z = prox.box(v, [-np.inf, 1.0, 2.0], np.array([[5.0], [np.inf]]))
    assert z.tolist() == [[-9, 1, 5], [-9, 1, 9]]
    assert z.dtype == np.float32


@bounded
@given(v=hnp.arrays(np.float64, (3, 4), elements=entries))
def test_binary_is_the_nearest_of_all_sign_patterns(v):
    patterns = np.array(list(product([-1.0, 1.0], repeat=4)))
    z = prox.binary(v)
    assert set(np.unique(z)) <= {-1.0, 1.0}
    rivals = ((v[:, None] - patterns) ** 2).sum(axis=2)
    np.testing.assert_allclose(((v - z) ** 2).sum(axis=1), rivals.min(axis=1), rtol=1e-12)


@each_dtype
def test_binary_takes_either_zero_to_one(dtype):
    v = np.array([0.0, -0.0, 1e-30, -1e-30, 5.0, -5.0], dtype)
    assert prox.binary(v).tolist() == [1, 1, 1, -1, 1, -1]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9])
@bounded
@given(v=hnp.arrays(np.float64, (3, 4), elements=entries))
def test_k_sparse_is_the_nearest_of_all_that_keep_k_entries(k, v):
    z = prox.k_sparse(v, k)
    assert (np.count_nonzero(z, axis=1) <= k).all()
    assert ((z == v) | (z == 0)).all()
    kept = [c for c in product([0.0, 1.0], repeat=4) if sum(c) <= k]
    rivals = ((v[:, None] * (1 - np.array(kept))) ** 2).sum(axis=2)
    np.testing.assert_allclose(((v - z) ** 2).sum(axis=1), rivals.min(axis=1), rtol=1e-12)


def test_k_sparse_keeps_the_first_of_equal_entries():
    assert prox.k_sparse([[2.0, -2.0, 1.0, 2.0], [0.0, 3.0, -1.0, 1.0]], 2).tolist() == [
        [2.0, -2.0, 0.0, 0.0],
        [0.0, 3.0, -1.0, 0.0],
    ]


@pytest.mark.parametrize("k", [0, -1])
def test_k_sparse_keeps_at_least_one(k):
    with pytest.raises(OptionError, match=naming(f"k={k}")):
        prox.k_sparse([[1.0, 2.0]], k)


@each_of_all
@each_dtype
def test_dtype_and_input_are_kept_and_results_written_in_place(name, dtype):
    v = normal(3, 20, 6).astype(dtype)
    before = v.copy()
    z = ALL[name](v)
    assert z.dtype == dtype
    assert z.shape == v.shape
    assert np.array_equal(v, before)
    other = np.empty_like(v)
    assert ALL[name](v, out=other) is other
    assert np.array_equal(other, z)
    assert ALL[name](v, out=v) is v
    assert np.array_equal(v, z)


def test_numpy_scalars_as_weights_do_not_widen_float32():
    v = normal(4, 5, 3).astype(np.float32)
    weight = np.float64(0.3)
    for z in (
        prox.squared_l2(v, weight),
        prox.l1(v, weight),
        prox.box(v, -weight, weight),
        prox.simplex(v, total=weight),
        prox.l2_ball(v, weight),
    ):
        assert z.dtype == np.float32


@each_of_all
def test_lists_of_integers_are_taken_as_float64(name):
    z = ALL[name]([[3, -1], [0, 2]])
    assert z.dtype == np.float64
    assert np.array_equal(z, ALL[name](np.array([[3.0, -1.0], [0.0, 2.0]])))


@each_of_all
@each_dtype
def test_rows_do_not_depend_on_each_other(name, dtype):
    v = normal(5, 103, 9).astype(dtype)
    whole = ALL[name](v)
    for part in [np.s_[:1], np.s_[17:40], np.s_[::3], np.s_[[5, 3, 102]]]:
        assert np.array_equal(ALL[name](v[part]), whole[part])
    assert np.array_equal(ALL[name](v[7]), whole[7])


@each_of_all
@each_dtype
def test_huge_and_tiny_entries_neither_overflow_nor_warn(name, dtype):
    huge = np.finfo(dtype).max / 8
    v = np.array([[huge, -huge, 0], [huge, huge, huge], [1e-30, 0, -1e-30], [0, 0, 0]], dtype)
    assert np.isfinite(ALL[name](v)).all()


@each_dtype
def test_projections_of_far_rows_keep_their_digits(dtype):
    v = normal(6, 50, 30).astype(dtype) + dtype(2.0**20)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(prox.simplex(v).sum(axis=1), 1, atol=30 * eps)
    np.testing.assert_allclose(np.linalg.norm(prox.l2_ball(v, 2.0), axis=1), 2, rtol=10 * eps)
    np.testing.assert_allclose(prox.simplex(v), prox.simplex(v - dtype(2.0**20)), atol=30 * eps)


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
@pytest.mark.parametrize(
    "call",
    [
        lambda bad: prox.squared_l2([1.0], bad),
        lambda bad: prox.l1([1.0], bad),
        lambda bad: prox.box([1.0], 0.0, bad),
        lambda bad: prox.simplex([1.0], total=bad),
        lambda bad: prox.l2_ball([1.0], bad),
    ],
)
def test_parameters_that_make_no_sense_are_refused(call, bad):
    with pytest.raises(OptionError, match=naming(str(bad))):
        call(bad)


def test_empty_sets_are_refused():
    with pytest.raises(OptionError, match=naming("low", "high")):
        prox.box(np.zeros(2), np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    for total in (0.0, float("inf")):
        with pytest.raises(OptionError, match=naming("total")):
            prox.simplex(np.zeros(2), total=total)
