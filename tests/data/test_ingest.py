"""Moments over chunks, scaling, and data stored in a run's chunks."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.data import ingest, moments
from dadmm.data.moments import Moments
from dadmm.errors import DataError
from dadmm.store import Run
from support.messages import naming

X = np.random.default_rng(0).normal(size=(20, 3))


# ----------------------------------------------------------------------------------------- scaling


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e6]),
)
def test_moments_add_up_over_chunks(seed, chunks, centre):
    x = centre + np.random.default_rng(seed).normal(size=(sum(chunks), 2))
    parts = np.split(x, np.cumsum(chunks)[:-1])
    total = moments.sum_moments([Moments.of(part) for part in parts])
    assert total.count == len(x)
    np.testing.assert_allclose(total.mean, x.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.squares, x.var(axis=0) * len(x), rtol=1e-6, atol=1e-8)


def test_scaling_is_per_feature_or_one_for_all_or_none():
    x = X * [1.0, 10.0, 0.0] + 5.0
    found = Moments.of(x)
    by_feature = found.scaling("feature")
    np.testing.assert_allclose(by_feature.centre, x.mean(axis=0))
    np.testing.assert_allclose(by_feature.scale, [x[:, 0].std(), x[:, 1].std(), 1.0])
    np.testing.assert_allclose(found.scaling("global").scale, x.std())
    np.testing.assert_array_equal(found.scaling("none").scale, 1.0)
    np.testing.assert_array_equal(found.scaling("none").centre, 0.0)


# ------------------------------------------------------------------------------------ into the run


@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("chunks", [(20,), (8, 8, 4)])
def test_data_is_stored_in_the_runs_chunks(kind, chunks):
    y = np.arange(20, dtype=np.int32)[:, None]
    x = X if kind == "numpy" else da.from_array(X, chunks=(7, 2))
    y_given = y if kind == "numpy" else da.from_array(y, chunks=9)
    run = Run.in_memory({})
    with dask.config.set(scheduler="threads"):
        x_moments = moments.sum_moments(ingest.store(run, "x", x, chunks))
        y_moments = moments.sum_moments(ingest.store(run, "y", y_given, chunks))
    for name, array in (("x", X), ("y", y)):
        stored = [run.blocks.read(f"data/{name}", c) for c in range(len(chunks))]
        assert tuple(len(block) for block in stored) == chunks
        assert stored[0].dtype == array.dtype
        np.testing.assert_array_equal(np.concatenate(stored), array)
    np.testing.assert_allclose(x_moments.mean, X.mean(axis=0))
    np.testing.assert_allclose(y_moments.squares, y.var() * 20)


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_a_bad_row_is_counted_over_all_chunks(kind):
    x = X.copy()
    x[17, 2] = np.nan
    x = x if kind == "numpy" else da.from_array(x, chunks=(6, 2))
    with (
        dask.config.set(scheduler="threads"),
        pytest.raises(DataError, match=naming("x", "NaN", "row 17", "column 2")),
    ):
        ingest.store(Run.in_memory({}), "x", x, (8, 8, 4))


def test_values_too_large_to_scale_are_refused():
    with pytest.raises(DataError, match=naming("y", "squares")):
        ingest.store(Run.in_memory({}), "y", X * 1e300, (20,))
