"""The rate at which steps shrink, as it is fitted to them."""

import math

import numpy as np
import pytest

from dadmm.numerics.algebra import convergence_rate


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.999, 1.05])
@pytest.mark.parametrize("count", [8, 50])
def test_the_rate_of_a_geometric_series_is_found(rate, count):
    found, fit = convergence_rate(3.0 * rate ** np.arange(count))
    assert found == pytest.approx(rate, rel=1e-9)
    assert fit == pytest.approx(1.0, abs=1e-6)


def test_only_the_second_half_counts():
    steps = np.concatenate([np.full(20, 100.0), 0.5 ** np.arange(20)])
    assert convergence_rate(steps)[0] == pytest.approx(0.5)


def test_noise_lowers_the_fit():
    rng = np.random.default_rng(0)
    steps = 0.9 ** np.arange(60) * np.exp(rng.normal(0, 0.3, 60))
    rate, fit = convergence_rate(steps)
    assert rate == pytest.approx(0.9, abs=0.02)
    assert 0.5 < fit < 0.999


def test_steps_of_one_length_have_rate_one():
    rate, fit = convergence_rate(np.full(20, 0.1))
    assert rate == pytest.approx(1.0)
    assert fit == pytest.approx(1.0)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [1.0],
        0.5 ** np.arange(7),
        np.zeros(20),
        np.full(20, np.nan),
        np.concatenate([0.5 ** np.arange(10), np.zeros(10)]),
    ],
    ids=["none", "one", "seven", "zeros", "nan", "zeros in the second half"],
)
def test_too_few_steps_have_no_rate(steps):
    assert all(math.isnan(value) for value in convergence_rate(np.asarray(steps, float)))


def test_a_few_zero_or_missing_steps_do_not_matter():
    steps = 0.8 ** np.arange(40)
    steps[[25, 30]] = 0, np.nan
    assert convergence_rate(steps)[0] == pytest.approx(0.8)
