"""Estimators keep their runs, load and resume them, and share them with workers."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import dadmm
from dadmm import ADMMRegressor, BlockADMM, RelaxedADMM
from dadmm.errors import DataError, RunError, StoreError
from dadmm.store.scratch import PREFIX
from support.clusters import processes
from support.messages import naming
from support.supervised import (
    CODES,
    SMALL,
    TARGETS,
    X,
    classifier,
    only_block,
    regressor,
    same_network,
)

pytestmark = pytest.mark.usefixtures("solver")


# ------------------------------------------------------------------------------------------ stores


def test_a_run_is_kept_loaded_and_resumed(tmp_path):
    run = tmp_path / "run"
    fitted = classifier(run=run).fit(X, CODES)
    assert fitted.run_ == str(run)
    for found in (dadmm.load(run), dadmm.resume(run)):
        same_network(found, fitted)
        np.testing.assert_array_equal(found.classes_, fitted.classes_)
        np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))
        xr.testing.assert_identical(found.history_, fitted.history_)
        assert found.get_params() | {"run": run} == fitted.get_params()


def test_a_longer_limit_goes_on_to_the_same_network(tmp_path, solver, monkeypatch):
    seen = []
    if solver == "block":  # a schedule of the learning rate is stretched to the new limit
        constant = BlockADMM(batch_size=8, learning_rate_schedule="constant")
        monkeypatch.setitem(SMALL, "solver", constant)
    classifier(run=tmp_path / "run").fit(X, CODES)
    longer = dadmm.resume(tmp_path / "run", max_iter=6, callback=lambda k, row: seen.append(k))
    assert seen == [5, 6]
    assert longer.n_iter_ == 6
    same_network(longer, classifier(max_iter=6).fit(X, CODES))


@pytest.mark.parametrize("columns", [None, 1, 2])
def test_a_loaded_regression_predicts_the_same_shape(tmp_path, columns):
    y = TARGETS[:, 0] if columns is None else TARGETS[:, :columns]
    fitted = regressor(run=tmp_path / "run").fit(X, y)
    for found in (dadmm.load(tmp_path / "run"), dadmm.resume(tmp_path / "run")):
        np.testing.assert_array_equal(found.predict(X), fitted.predict(X))


@pytest.mark.parametrize("names", [["a", "b", "c"], [1, 5, 9], [0.0, 1.0, 2.0]])
@pytest.mark.parametrize("dtype", [None, object])
def test_labels_survive_the_store(tmp_path, names, dtype):
    y = np.array(names, dtype)[CODES]
    fitted = classifier(run=tmp_path / "run").fit(X, y)
    found = dadmm.load(tmp_path / "run")
    assert found.classes_.dtype == fitted.classes_.dtype
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))


def test_options_that_are_numpy_scalars_can_be_stored(tmp_path):
    options = {
        "hidden_layer_sizes": np.array([8, 8]),
        "max_iter": np.int64(4),
        "alpha": np.float32(0.5),
        "random_state": np.uint32(3),
        "chunks": np.int64(50),
        "solver": RelaxedADMM(tau=np.float64(0.1)),
    }
    fitted = classifier(**options, run=tmp_path / "run").fit(X, CODES)
    same_network(dadmm.load(tmp_path / "run"), fitted)


@only_block
@pytest.mark.parametrize("names", [["a", "b", "c"], [1, 5, 9]])
@pytest.mark.parametrize("given", [float, np.float32])
def test_weights_of_classes_survive_the_store(tmp_path, names, given):
    names = np.array(names)
    weights = {names[0]: given(2), names[1]: given(0.5)}
    fitted = classifier(class_weight=weights, run=tmp_path / "run").fit(X, names[CODES])
    found = dadmm.load(tmp_path / "run")
    assert found.class_weight == weights
    same_network(found, fitted)


def test_a_run_is_replaced_only_when_told_to(tmp_path):
    classifier(run=tmp_path / "run").fit(X, CODES)
    with pytest.raises(StoreError, match=naming(str(tmp_path / "run"), "overwrite=True")):
        classifier(run=tmp_path / "run").fit(X, CODES)
    regressor(run=tmp_path / "run", overwrite=True).fit(X, TARGETS)
    assert isinstance(dadmm.load(tmp_path / "run"), ADMMRegressor)


# ---------------------------------------------------------------------------------------- clusters


@pytest.fixture(scope="module")
def cluster(solver):
    with processes(2) as client:
        yield client


@pytest.fixture
def folders(monkeypatch):
    """Record the temporary folders that are made."""
    made = []
    real = tempfile.mkdtemp

    def recorded(*where, prefix=None, **options):
        folder = real(*where, prefix=prefix, **options)
        if prefix == PREFIX:
            made.append(Path(folder))
        return folder

    monkeypatch.setattr("dadmm.store.scratch.tempfile.mkdtemp", recorded)
    return made


@pytest.mark.processes
def test_worker_processes_share_a_folder_that_is_gone_afterwards(cluster, folders):
    fitted = classifier(chunks=50).fit(da.from_array(X, chunks=31), CODES)
    assert len(folders) == 1
    assert not folders[0].exists()
    assert fitted.run_ is None
    with dask.config.set(scheduler="threads"):
        same_network(fitted, classifier(chunks=50).fit(X, CODES))
    assert fitted.predict(X).shape == (120,)
    assert fitted.history_.attrs["status"] == "finished"


@pytest.mark.processes
def test_the_folder_is_gone_after_an_error_too(cluster, folders):
    x = X.copy()
    x[70, 2] = np.nan
    with pytest.raises(DataError, match=naming("x", "NaN", "row 70", "column 2")):
        classifier().fit(da.from_array(x, chunks=50), CODES)
    assert folders
    assert not any(folder.exists() for folder in folders)


def test_workers_elsewhere_need_a_run_that_all_can_reach(monkeypatch):
    far = SimpleNamespace(
        scheduler=SimpleNamespace(address="tcp://10.1.2.3:8786"),
        scheduler_info=lambda n_workers: {"workers": {}},
    )
    monkeypatch.setattr("dadmm.estimators.start.current_client", lambda: far)
    with pytest.raises(RunError, match=naming("tcp://10.1.2.3:8786", "run=")):
        classifier().fit(X, CODES)
