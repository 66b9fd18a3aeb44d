"""The same labels in any container make the same classes, and come back from files as they were."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import dadmm
from dadmm import ADMMClassifier
from dadmm.app.scores import metrics
from support.messages import naming
from support.tables import indexed
from support.terminal import command

X = np.random.default_rng(0).normal(size=(60, 3)).round(3)
CODES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
NAMES = {
    "text": np.array(["no", "yes", "perhaps, or not"]),
    "flags": np.array([False, True]),
    "int64": np.array([-1, 2**53, 2**53 + 1]),
    "uint64": np.array([1, 2**63, 2**63 + 1], np.uint64),
}


def stored(y):
    array = zarr.create_array(
        zarr.storage.MemoryStore(),
        shape=y.shape,
        chunks=(20,),
        dtype=str if is_text(y) else y.dtype,
    )
    array[:] = y
    return array


def is_text(y):
    return y.dtype.kind == "U"


def variable(y):
    return y.astype(np.dtypes.StringDType()) if is_text(y) else y


CONTAINERS = {
    "list": np.ndarray.tolist,
    "array": lambda y: y,
    "strings": variable,
    "objects": lambda y: y.astype(object),
    "series": pd.Series,
    "string series": lambda y: pd.Series(y, dtype="string" if is_text(y) else None),
    "arrow series": lambda y: pd.Series(y, dtype="string[pyarrow]" if is_text(y) else None),
    "category": lambda y: pd.Series(y).astype("category"),
    "dask": lambda y: da.from_array(y, chunks=20),
    "dask strings": lambda y: da.from_array(variable(y), chunks=20),
    "dask objects": lambda y: da.from_array(y.astype(object), chunks=20),
    "dask series": lambda y: dd.from_pandas(pd.Series(y), npartitions=3),
    "dask category": lambda y: dd.from_pandas(pd.Series(y).astype("category"), npartitions=3),
    "xarray": lambda y: xr.DataArray(y, dims="row"),
    "xarray strings": lambda y: xr.DataArray(variable(y), dims="row"),
    "lazy xarray": lambda y: xr.DataArray(variable(y), dims="row").chunk(row=20),
    "zarr": stored,
}


def codes_of(name):
    return np.minimum(CODES, len(NAMES[name]) - 1)


@pytest.fixture(scope="module")
def plain():
    """Return what a fit of the codes themselves predicts, by the kind of labels."""
    return {name: model().fit(X, codes_of(name)).predict(X) for name in NAMES}


def model(**options):
    return ADMMClassifier((4,), max_iter=3, random_state=0, **options)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_the_same_classes_in_any_container(name, container, plain):
    names, codes = np.sort(NAMES[name]), codes_of(name)
    given = CONTAINERS[container](names[codes])
    fitted = model().fit(X, given)
    assert fitted.classes_.tolist() == names.tolist()
    assert {type(label) for label in fitted.classes_.tolist()} == {type(names.tolist()[0])}
    assert fitted.predict(X).tolist() == names[plain[name]].tolist()
    right = (plain[name] == codes).mean()
    assert fitted.score(X, given) == fitted.score(X, names[codes]) == right


@pytest.mark.parametrize("container", ["array", "strings", "objects", "dask series"])
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_stored_resumed_and_written(name, container, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = np.sort(NAMES[name])
    given = CONTAINERS[container](names[codes_of(name)])
    fitted = model(run="run").fit(X, given)
    for again in (dadmm.load("run"), dadmm.resume("run")):
        assert again.classes_.tolist() == names.tolist()
        assert again.classes_.dtype == fitted.classes_.dtype
    np.save("x.npy", X)
    wanted = names[plain[name]].tolist()
    for end in ("npy", "csv", "parquet", "zarr"):
        done = command("predict", "run", "x.npy", f"out.{end}")
        assert done.code == 0, done.err
        assert written(f"out.{end}", names) == wanted, end


def written(path, names):
    """Return the labels of a file that `dadmm predict` wrote."""
    if path.endswith("npy"):
        return np.load(path).tolist()
    if path.endswith("zarr"):
        return zarr.open_array(path)[:].tolist()
    if path.endswith("parquet"):
        return pd.read_parquet(path).iloc[:, 0].tolist()
    known = {str(label): label for label in names.tolist()}
    return [known[label] for label in pd.read_csv(path, header=None, dtype=str)[0]]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_lazy_label_is_named_with_its_row(missing):
    y = NAMES["text"][CODES].astype(object)
    y[47] = missing
    lazy = da.from_array(y, chunks=20)
    for given in (lazy, xr.DataArray(lazy, dims="row"), y.tolist()):
        with pytest.raises(dadmm.errors.DataError, match=naming("y", "missing", "row 47")):
            model().fit(X, given)


def test_metrics_of_large_labels_are_those_of_their_codes(plain):
    names = np.sort(NAMES["uint64"])
    given = names[codes_of("uint64")]
    scores = metrics(model().fit(X, given), X, given)
    assert scores["classes"] == names.tolist()
    assert scores["accuracy"] == (plain["uint64"] == codes_of("uint64")).mean()
    assert np.sum(scores["confusion"]) == len(X)


@pytest.mark.parametrize(
    "contain",
    [
        lambda x: indexed(pd.DataFrame(x)),
        lambda x: xr.DataArray(x, dims=("row", "f")),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_probabilities_have_the_labels_as_names(name, contain):
    names = np.sort(NAMES[name])
    found = model().fit(X, names[codes_of(name)]).predict_proba(contain(X))
    columns = found.columns if hasattr(found, "columns") else found.output
    assert columns.to_numpy().tolist() == names.tolist()
