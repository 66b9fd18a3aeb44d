"""Factors are matched to attributes by correlation, one by one and all together."""

import numpy as np
import pandas as pd
import pytest

from dadmm.errors import DataError, ShapeError
from dadmm.numerics.matching import correlation, match
from support.messages import naming

RNG = np.random.default_rng(0)


def test_correlations_are_numpys():
    m, a = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
    wanted = np.abs(np.corrcoef(m.T, a.T)[:3, 3:])
    np.testing.assert_allclose(correlation(m, a), wanted, atol=1e-12)


def test_each_attribute_finds_the_factor_that_it_is():
    m = RNG.exponential(size=(200, 5))
    attributes = pd.DataFrame({"size": -2 * m[:, 3] + 1, "ink": m[:, 0]})
    found = match(m, attributes)
    assert found.names == ("size", "ink")
    assert found.factors.tolist() == found.assigned_factors.tolist() == [3, 0]
    np.testing.assert_allclose(found.best, 1)
    assert found.mean_best == pytest.approx(1)
    assert "size" in str(found)


def test_an_assignment_shares_no_factor():
    m = RNG.normal(size=(500, 2))
    a = np.stack([m[:, 0], m[:, 0] + 0.5 * m[:, 1]], axis=1)
    found = match(m, a)
    assert found.factors.tolist() == [0, 0]
    assert sorted(found.assigned_factors) == [0, 1]
    assert found.mean_assigned < found.mean_best


def test_attributes_without_a_factor_left_count_as_not_found():
    m = RNG.normal(size=(100, 1))
    found = match(m, RNG.normal(size=(100, 3)))
    assert sorted(found.assigned_factors) == [-1, -1, 0]
    assert (found.assigned == 0).sum() == 2


def test_what_is_constant_correlates_with_nothing():
    m = np.stack([np.full(20, 0.1), np.arange(20.0)], axis=1)
    found = match(m, np.stack([np.full(20, 3.3), np.arange(20.0)], axis=1))
    np.testing.assert_allclose(found.correlation, [[0, 0], [0, 1]], atol=1e-12)


@pytest.mark.parametrize(
    ("codes", "attributes", "names", "error", "words"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), None, ShapeError, ["(4, 2)", "(3, 2)"]),
        (np.ones((3, 2)), np.ones((3, 2)), ["a"], ShapeError, ["1", "2", "names"]),
        (np.ones((3, 2)), [["x"]] * 3, None, DataError, ["attributes", "'x'"]),
        (np.ones((1, 2)), np.ones((1, 2)), None, DataError, ["correlation", "1"]),
        (np.ones((2, 2)), [[1.0], [np.nan]], ["ink"], DataError, ["row 1", "ink"]),
    ],
)
def test_what_cannot_be_matched_is_refused(codes, attributes, names, error, words):
    with pytest.raises(error, match=naming(*words)):
        match(codes, attributes, names)
