"""Sweeps find the codes and the dictionary that the defining problems ask for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from sklearn.decomposition._nmf import _initialize_nmf

from dadmm.numerics import nonnegative


def problem(rows, d, r, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    s = rng.exponential(size=(r, d)) * (rng.random((r, d)) < 0.5)
    m = rng.exponential(size=(rows, r)) * (rng.random((rows, r)) < 0.5)
    return np.maximum(m @ s + noise * rng.normal(size=(rows, d)), 0), s, m


def value(z, s, m, target=0.0, rho=0.0, l1=0.0, l2=0.0):
    return (
        0.5 * ((z - m @ s) ** 2).sum()
        + 0.5 * rho * ((m - target) ** 2).sum()
        + l1 * m.sum()
        + 0.5 * l2 * (m**2).sum()
    )


def test_codes_are_non_negative_least_squares():
    z, s, _ = problem(100, 12, 5)
    found = nonnegative.codes(z, s, 2000)
    wanted = np.array([nnls(s.T, row)[0] for row in z])
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_codes_are_drawn_to_a_target_and_penalised():
    z, s, m = problem(4, 8, 3, seed=1)
    target = m + np.random.default_rng(2).normal(size=m.shape)
    options = {"rho": 0.7, "l1": 0.2, "l2": 0.3}
    found = nonnegative.codes(z, s, 2000, target=target, **options)

    def at(flat):
        return value(z, s, flat.reshape(m.shape), target, **options)

    best = minimize(at, m.ravel(), bounds=[(0, None)] * m.size, method="L-BFGS-B", tol=1e-14)
    assert at(found.ravel()) <= best.fun + 1e-9
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
def test_a_sweep_over_the_codes_never_raises_the_objective(seed, r, dtype):
    z, s, m = (array.astype(dtype) for array in problem(20, 9, r, seed))
    values = [value(z, s, m, l1=0.1)]
    for _ in range(4):
        m = nonnegative.codes(z, s, 1, start=m, l1=0.1)
        values.append(value(z, s, m, l1=0.1))
    assert (m >= 0).all()
    assert (np.diff(values) <= 1e-5 * (1 + values[0])).all()


def test_rows_do_not_depend_on_each_other():
    z, s, _ = (array.astype(np.float32) for array in problem(300, 17, 6))
    gram, cross = s @ s.T, z @ s.T
    whole = nonnegative.coded(gram, cross, 20)
    for picked in (slice(0, 1), slice(5, 77), slice(63, 66), slice(299, 300)):
        part = nonnegative.coded(gram, np.ascontiguousarray(cross[picked]), 20)
        np.testing.assert_array_equal(part, whole[picked])


def test_the_start_costs_no_more_than_nothing():
    z, s, _ = problem(50, 9, 4)
    first = nonnegative.codes(z, s, 0)
    assert value(z, s, first) < value(z, s, 0 * first)


def test_rows_and_factors_of_zeros_have_codes_of_zeros():
    z, s, _ = problem(10, 6, 3)
    z[4], s[1] = 0, 0
    found = nonnegative.codes(z, s, 50)
    assert np.isfinite(found).all()
    assert not found[4].any()
    assert not found[:, 1].any()


def test_the_dictionary_is_non_negative_least_squares_on_the_sums():
    z, s, m = problem(60, 7, 4)
    found = nonnegative.dictionary(m.T @ m, m.T @ z, s, 3000)
    wanted = np.array([nnls(m, column)[0] for column in z.T]).T
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_a_penalised_dictionary_meets_its_first_order_condition():
    z, s, m = problem(60, 7, 4)
    gram, cross, l1, l2 = m.T @ m, m.T @ z, 3.0, 2.0
    found = nonnegative.dictionary(gram, cross, s, 3000, l1=l1, l2=l2)
    gradient = gram @ found - cross + l1 + l2 * found
    assert np.abs(gradient[found > 0]).max() < 1e-8
    assert gradient[found == 0].min() > -1e-8
    assert (found == 0).any()


@pytest.mark.parametrize("overlap", [0.0, 5.0])
def test_a_row_of_length_one_is_the_best_of_them(overlap):
    z, s, m = problem(60, 5, 3)
    gram, cross = m.T @ m, m.T @ z
    found = nonnegative.dictionary(gram, cross, s, 500, unit=True, overlap=overlap)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)

    def at(s):
        shared = (s @ s.T).sum() - (s**2).sum()
        return 0.5 * np.vdot(gram, s @ s.T) - np.vdot(cross, s) + 0.5 * overlap * shared

    rng = np.random.default_rng(0)
    for _ in range(300):
        other, k = found.copy(), rng.integers(3)
        other[k] = np.maximum(found[k] + 0.05 * rng.normal(size=5), 0)
        other[k] /= np.linalg.norm(other[k])
        assert at(other) >= at(found) - 1e-9


@pytest.mark.parametrize("left", [0.0, 1e-42, 1e-21, 1e-19])
def test_a_row_of_which_next_to_nothing_is_left_stays_of_length_one(left):
    s = np.eye(3, 5, dtype=np.float32)
    gram, cross = np.eye(3, dtype=np.float32), 2 * s
    cross[1] = left
    found = nonnegative.dictionary(gram, cross, s, unit=True)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[[0, 2]], s[[0, 2]], rtol=1e-5)


def test_rows_that_must_not_overlap_share_no_features():
    z, s, m = problem(60, 12, 4)
    found = nonnegative.dictionary(m.T @ m, m.T @ z, s, 50, unit=True, overlap=1e4)
    assert ((found > 0).sum(axis=0) <= 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_a_sweep_over_the_dictionary_never_raises_the_objective(seed, unit):
    z, s, m = problem(30, 6, 4, seed)
    s = s[s.any(axis=1)]
    m = m[:, : len(s)]
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    gram, cross, energy = m.T @ m, m.T @ z, (z**2).sum()
    before = nonnegative.objective(energy, gram, cross, s)
    after = nonnegative.objective(
        energy, gram, cross, nonnegative.dictionary(gram, cross, s, 1, unit)
    )
    assert after <= before * (1 + 1e-12)


def test_the_objective_comes_from_sums():
    z, s, m = problem(40, 8, 3)
    found = nonnegative.objective((z**2).sum(), m.T @ m, m.T @ z, s)
    assert found == pytest.approx(0.5 * ((z - m @ s) ** 2).sum(), rel=1e-10)


def test_the_start_from_sums_is_scikit_learns():
    z, _, _ = problem(80, 9, 4)
    v = nonnegative.leading(z.T @ z, 5)
    scores = z @ v.T
    above, below = np.maximum(scores, 0), np.minimum(scores, 0)
    found = nonnegative.nndsvd(v, (above**2).sum(axis=0), (below**2).sum(axis=0))
    _, wanted = _initialize_nmf(z, 5, init="nndsvd", random_state=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_singular_vectors_of_less_data_than_factors_are_zeros():
    z = np.outer(np.arange(1.0, 5.0), [1.0, 2.0, 0.0])
    v = nonnegative.leading(z.T @ z, 2)
    scores = z @ v.T
    found = nonnegative.nndsvd(v, (scores.clip(0) ** 2).sum(0), (scores.clip(None, 0) ** 2).sum(0))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0] / found[0].max(), [0.5, 1.0, 0.0], atol=1e-12)


def test_a_dead_factor_is_seeded_again_and_changes_nothing_yet():
    z, s, m = problem(50, 6, 4)
    m[:, 2] = 0
    revived, dead = nonnegative.revive(m.T @ m, s, (0,))
    assert dead == [2]
    np.testing.assert_array_equal(m @ revived, m @ s)
    assert revived[2].any()
    np.testing.assert_array_equal(revived, nonnegative.revive(m.T @ m, s, (0,))[0])
    codes = nonnegative.codes(z, revived, 50)
    assert (codes[:, 2] > 0).any()


def test_factors_that_are_all_used_or_all_dead_stay():
    _, s, m = problem(50, 6, 4)
    assert nonnegative.revive(m.T @ m, s, (0,))[1] == []
    assert nonnegative.revive(np.zeros((4, 4)), s, (0,))[1] == []


def test_the_exact_product_of_a_row_does_not_depend_on_its_place():
    rng = np.random.default_rng(0)
    for _ in range(300):  # of these shapes BLAS gives 40 in float32 other bits
        n, d, r = rng.integers(1, 100), rng.integers(1, 40), rng.integers(1, 9)
        z, s = rng.random((n, d), np.float32), rng.random((r, d), np.float32)
        order = rng.permutation(n)
        found = nonnegative.exactly(z, s)
        np.testing.assert_array_equal(found[order], nonnegative.exactly(z[order], s))
        np.testing.assert_allclose(found, z.astype(float) @ s.T.astype(float), rtol=1e-6)
        assert found.dtype == np.float32
