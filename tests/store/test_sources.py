"""Lazy inputs: read where they are or copied chunk by chunk, in their own dtype, never whole."""

import shutil
import tracemalloc
from contextlib import nullcontext

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from dadmm import ADMMClassifier, ADMMRegressor, load, resume
from dadmm.data.ingest import in_place
from dadmm.errors import DataError, OrderWarning, StoreError
from dadmm.store import Run
from dadmm.store.sources import AT_ONCE, Source
from support.messages import naming
from support.runs import bits

ROWS = 100
RNG = np.random.default_rng(3)
X = RNG.integers(0, 255, (ROWS, 6)).astype(np.uint8)
Y = (X[:, 0] > X[:, 1]).astype(int)


def model(run=None, kind=ADMMClassifier, **options):
    same = {"max_iter": 3, "tol": 0, "random_state": 0, "chunks": 30, "shuffle": False}
    return kind((5, 5), run=run, **{**same, **options})


@pytest.fixture
def stored(tmp_path):
    """Inputs whose chunks fit those of the run nowhere."""
    zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(13, 4))
    return zarr.open_array(str(tmp_path / "x.zarr"), mode="r")


def test_inputs_in_zarr_stay_where_they_are_to_the_same_bits(stored, tmp_path):
    fitted = model(tmp_path / "run").fit(stored, Y)
    assert bits(fitted) == bits(model().fit(X, Y))
    names = Run.open(tmp_path / "run").blocks.names("data")
    assert names == ["x_crc32c", "y"]
    assert bits(load(tmp_path / "run")) == bits(fitted)


def test_a_copy_is_kept_where_it_is_asked_for(stored, tmp_path):
    fitted = model(tmp_path / "run", copy_data=True).fit(stored, Y)
    assert bits(fitted) == bits(model().fit(X, Y))
    blocks = Run.open(tmp_path / "run").blocks
    assert blocks.names("data") == ["x", "y"]
    assert blocks.read("data/x", 0).dtype == np.uint8


@pytest.mark.parametrize("how", ["dask", "misaligned dask", "xarray", "large chunks", "unread"])
def test_other_lazy_inputs_are_copied_chunk_by_chunk(how, stored, tmp_path):
    lazy = {
        "dask": lambda: da.from_array(X, chunks=(30, 6)),
        "misaligned dask": lambda: da.from_array(X, chunks=((7, 50, 1, 42), (2, 4))),
        "xarray": lambda: xr.DataArray(da.from_array(X, chunks=11), dims=("sample", "feature")),
        "large chunks": lambda: zarr.open_array(save(tmp_path, chunks=(90, 6)), mode="r"),
        "unread": lambda: open_unread(tmp_path),
    }[how]()
    told = how == "large chunks"
    with pytest.warns(OrderWarning, match=naming("90", "30")) if told else nullcontext():
        fitted = model(tmp_path / "run").fit(lazy, Y)
    assert bits(fitted) == bits(model().fit(X, Y))
    assert Run.open(tmp_path / "run").blocks.names("data") == ["x", "y"]


def save(folder, chunks):
    zarr.create_array(str(folder / "large.zarr"), data=X, chunks=chunks)
    return str(folder / "large.zarr")


def open_unread(folder):
    path = folder / "set.zarr"
    xr.Dataset({"x": (("sample", "feature"), X)}).to_zarr(path, consolidated=False)
    return xr.open_zarr(path, chunks=None, consolidated=False)["x"]


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    """One pass for the scaling and one for each visit, of no more rows than a chunk has."""
    path = save(tmp_path, (10, 6))
    read = []
    real = Source.read

    def noted(self, ranges):
        read.append(sum(last - first for first, last in ranges))
        return real(self, ranges)

    monkeypatch.setattr(Source, "read", noted)
    with dask.config.set(scheduler="sync"):
        model(max_iter=2).fit(zarr.open_array(path, mode="r"), Y)
    assert max(read) == 30
    assert sum(read) == ROWS * (1 + 1 + 2 + 1)  # scaling, start, two passes, final score


def test_targets_and_weights_may_be_lazy_too(stored, tmp_path):
    targets = zarr.create_array(str(tmp_path / "y.zarr"), data=X[:, :2] / 255.0, chunks=(13, 2))
    fitted = model(kind=ADMMRegressor).fit(stored, targets)
    assert bits(fitted) == bits(model(kind=ADMMRegressor).fit(X, X[:, :2] / 255.0))
    labels = zarr.create_array(str(tmp_path / "labels.zarr"), data=Y, chunks=9)
    assert bits(model().fit(stored, labels)) == bits(model().fit(X, Y))
    predicted = fitted.predict(stored)
    assert isinstance(predicted, da.Array)
    np.testing.assert_array_equal(predicted.compute(), fitted.predict(X))
    assert fitted.score(stored, targets) == pytest.approx(fitted.score(X, X[:, :2] / 255.0))


def test_inputs_that_have_changed_since_are_never_trained_on(stored, tmp_path):
    run = tmp_path / "run"
    model(run).fit(stored, Y)
    other = zarr.open_array(str(tmp_path / "x.zarr"), mode="r+")
    other[40, 2] = X[40, 2] ^ 1
    with pytest.raises(StoreError, match=naming("30", "59", str(tmp_path / "x.zarr"))):
        resume(run, max_iter=5)
    assert Run.open(run).committed()["iteration"] == 3
    assert load(run).n_iter_ == 3  # the network needs no inputs
    other[40, 2] = X[40, 2]
    assert resume(run, max_iter=5).n_iter_ == 5


def test_inputs_that_are_gone_are_named(stored, tmp_path):
    run = tmp_path / "run"
    model(run).fit(stored, Y)
    shutil.rmtree(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match=naming(str(tmp_path / "x.zarr"), "read")):
        resume(run, max_iter=5)


def test_bad_numbers_in_place_are_named_by_their_row(tmp_path):
    x = X.astype(np.float32)
    x[57, 3] = np.nan
    array = zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(10, 6))
    with pytest.raises(DataError, match=naming("x", "NaN", "row 57", "column 3")):
        model(tmp_path / "run").fit(array, Y)
    assert not (tmp_path / "run" / "zarr.json").exists()


def test_what_other_processes_cannot_open_is_copied():
    array = zarr.create_array(zarr.storage.MemoryStore(), data=X, chunks=(10, 6))
    assert in_place(array) is None
    assert bits(model().fit(array, Y)) == bits(model().fit(X, Y))
    assert in_place(X) is None


def test_an_array_inside_a_group_is_found_again(tmp_path):
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    array = group.create_array("deep/x", data=X, chunks=(10, 6))
    source = in_place(array)
    assert source == Source(str(tmp_path / "g.zarr"), "deep/x")
    np.testing.assert_array_equal(source.read([(5, 9)]), X[5:9])


def test_pieces_are_read_without_a_second_copy_of_the_chunk(tmp_path):
    x = np.random.default_rng(0).random((8000, 100), dtype=np.float32)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(50, 100))
    source = Source(str(tmp_path / "x.zarr"), "")
    ranges = [(first, first + 50) for first in range(0, 8000, 100)]
    source.read(ranges[:2])  # what zarr keeps
    tracemalloc.start()
    try:
        found = source.read(ranges)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, x.reshape(-1, 50, 100)[::2].reshape(-1, 100))
    pieces = 3 * AT_ONCE * 50 * 400
    assert found.nbytes < peak < found.nbytes + pieces + 2**18
