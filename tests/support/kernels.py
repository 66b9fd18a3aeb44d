"""Inputs and tolerances for the compiled loops."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

DTYPES = [np.float32, np.float64]
PIECEWISE = ["relu", "leaky_relu", "identity"]

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_skip = pytest.mark.parametrize("skip", [False, True])
bounded = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def tolerance(dtype):
    return 3e-5 if dtype == np.float32 else 1e-12


def blocks(count, dtype, rows=23, width=7, seed=0, scale=1.0):
    drawn = scale * np.random.default_rng(seed).standard_normal((count, rows, width))
    return tuple(block.astype(dtype) for block in drawn)


def close(found, expected, dtype, scale=1.0):
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=tolerance(dtype), atol=scale * tolerance(dtype)
    )
