"""The scalar functions that compiled loops inline are exact to rounding."""

import numpy as np

from dadmm.numerics import kernels


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
