"""Paths mean the same in every process, and what is not there is never read as zeros."""

import os
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from scipy import sparse

from dadmm import ADMMRegressor, load, resume
from dadmm.errors import InputError, RunError, StoreError
from dadmm.store import arrays
from dadmm.store.place import absolute
from support.clusters import processes
from support.messages import naming
from support.sparse_groups import write_sparse
from support.terminal import command

X = np.random.default_rng(0).integers(1, 9, size=(60, 4)).astype(np.int32)
Y = X[:, 0] - 2.0 * X[:, 1]
OPTIONS = {"max_iter": 2, "random_state": 0, "chunks": 20, "shuffle": False}


def regressor(**options):
    return ADMMRegressor((4,), **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def elsewhere():
    """Give a client of workers that stand in another folder than this process."""
    with processes(1) as client:
        client.run(os.chdir, "/")
        yield client


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def stored(zarr_format=3):
    array = zarr.create_array("x.zarr", data=X, chunks=(20, 4), zarr_format=zarr_format)
    assert not Path(array.store.root).is_absolute()
    return array


def data_set():
    xr.Dataset({"u": (("row", "column"), X)}).chunk(row=20).to_zarr("u.zarr", consolidated=False)
    return xr.open_zarr("u.zarr", chunks={}, consolidated=False)["u"]


KINDS = {
    "zarr": stored,
    "zarr of version 2": lambda: stored(2),
    "path": lambda: stored() and "x.zarr",
    "path from home": lambda: stored() and "~/x.zarr",
    "dask array from zarr": lambda: da.from_zarr(stored()),
    "dask array from a path": lambda: stored() and da.from_zarr("x.zarr"),
    "dask array with it inside": lambda: da.from_array(stored(), chunks=20, inline_array=True),
    "sums of dask arrays": lambda: (da.from_zarr(stored()) + 1)[::-1][::-1] - 1,
    "xarray": data_set,
    "path of a data set": lambda: data_set() is not None and "u.zarr",
}


@pytest.mark.parametrize("name", KINDS)
def test_relative_places_are_those_of_the_caller(name, here, elsewhere):
    x = KINDS[name]()
    expected = regressor().fit(X, Y).predict(X)
    for options in ({}, {"copy_data": True}):
        found = regressor(**options).fit(x, Y).predict(X)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    lazy = regressor().fit(X, Y).predict(x)
    assert not isinstance(lazy, np.ndarray)
    np.testing.assert_allclose(np.asarray(lazy.compute()), expected, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_what_a_worker_does_not_see_is_an_error_that_names_it(name, here, elsewhere):
    x = KINDS[name]()
    lazy = regressor().fit(X, Y).predict(x)
    (place,) = here.glob("*.zarr")
    shutil.rmtree(place)
    address = next(iter(elsewhere.scheduler_info()["workers"]))
    with pytest.raises(InputError, match=naming(address, str(place), "all workers reach")):
        lazy.compute()


def test_targets_and_sparse_matrices_are_read_there_too(here, elsewhere):
    y = zarr.create_array("y.zarr", data=Y, chunks=(20,))
    expected = regressor().fit(X, Y).predict(X)
    np.testing.assert_allclose(regressor().fit(X, y).predict(X), expected, rtol=1e-4)
    write_sparse("m.zarr", sparse.csr_matrix(X))
    found = regressor().fit(zarr.open_group("m.zarr/X"), Y).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    table = pd.DataFrame(X, columns=list("abcd")).assign(y=Y)
    table.to_csv("t.csv", index=False)
    np.testing.assert_allclose(regressor().fit("t.csv", "y").predict(X), expected, rtol=1e-4)


def test_a_relative_run_is_where_the_caller_stands(here, elsewhere, monkeypatch):
    model = regressor(run="runs/one").fit(X, Y)
    assert model.run_ == str(here / "runs" / "one")
    other = regressor(run=Path("~/runs/two")).fit(X, Y)
    assert other.run_ == str(here / "runs" / "two")
    (here / "away").mkdir()
    monkeypatch.chdir(here / "away")
    for run in (model.run_, "../runs/one", "~/runs/two"):
        np.testing.assert_array_equal(load(run).predict(X), model.predict(X))
    assert os.listdir(here / "away") == []


def takes_places_for(place):
    """Let this process find runs at another place; None undoes that."""
    arrays.absolute = absolute if place is None else lambda url: place


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_run_that_workers_do_not_see_is_named(when, here, elsewhere):
    address, nowhere = next(iter(elsewhere.scheduler_info()["workers"])), str(here / "no" / "where")

    def vanish(iteration, row):
        elsewhere.run(takes_places_for, nowhere)

    if when == "at the start":
        vanish(0, {})
    try:
        with pytest.raises(RunError, match=naming(address, nowhere, "all workers reach")):
            regressor(run="run", max_iter=3, tol=0).fit(X, Y, callback=vanish)
    finally:
        elsewhere.run(takes_places_for, None)
    assert not Path(nowhere).exists()


def test_an_input_that_a_resumed_run_does_not_see_is_named(here):
    array = stored()
    model = regressor(run="run").fit(array, Y)
    assert model.n_iter_ == 2
    shutil.rmtree("x.zarr")
    with pytest.raises(StoreError, match=naming(str(here / "x.zarr"))):
        resume("run", max_iter=3)


def test_the_command_line_knows_the_home_folder(here):
    np.save("x.npy", X)
    regressor(run="run").fit(X, Y)
    done = command("predict", "~/run", "~/x.npy", "~/found.npy")
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X))
    assert command("export", "~/run", "~/n.safetensors").code == 0
    np.testing.assert_array_equal(load("~/n.safetensors").predict(X), load("run").predict(X))
