"""Containers: the bits of NumPy, predictions in the container that came, nothing read whole."""

import json
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
import zarr

from dadmm import ADMMClassifier, ADMMRegressor, load, resume
from dadmm.data.columns import MOST_CATEGORIES
from dadmm.errors import DataError, InputError, OptionError, ShapeError, StoreError
from dadmm.networks.form import Column, Form
from dadmm.store import Run, metadata

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
sparse = pytest.importorskip("sparse", reason="needs the package sparse")

RNG = np.random.default_rng(5)
ROWS = 60
X = RNG.normal(size=(ROWS, 4)).round(3)
X[X < -1] = 0
LABELS = np.where(X[:, 0] > X[:, 1], "yes", "no")
PRICE = X[:, 0] * 2 + np.sin(X[:, 1])
BOTH = np.stack([PRICE, -PRICE], axis=1)
NAMES = ["a", "b", "c", "d"]
INDEX = pd.Index(np.arange(ROWS) * 10 + 3, name="id")
FRAME = pd.DataFrame(X, columns=NAMES, index=INDEX)
OPTIONS = {"max_iter": 2, "random_state": 0, "chunks": 25, "tol": 0}
TIME, LAT, LON = 5, 4, 3
CUBE = xr.DataArray(
    X.reshape(TIME, LAT, LON, 4),
    dims=("time", "lat", "lon", "feature"),
    coords={
        "time": pd.date_range("2020-01-01", periods=TIME),
        "lat": [10.0, 20.0, 30.0, 40.0],
        "lon": [0.0, 5.0, 10.0],
        "feature": NAMES,
        "height": (("lat", "lon"), np.ones((LAT, LON))),
    },
)
CUBE_Y = CUBE.isel(feature=0, drop=True).copy(data=PRICE.reshape(TIME, LAT, LON)).rename("price")


def classifier(**options):
    return ADMMClassifier((5, 5), **{**OPTIONS, **options})


def regressor(**options):
    return ADMMRegressor((5, 5), **{**OPTIONS, **options})


def bits(estimator):
    return {name: array.tobytes() for name, array in estimator.network_.params.items()}


@pytest.fixture(scope="module")
def expected():
    """What NumPy arrays give."""
    return regressor().fit(X, PRICE)


@contextmanager
def nothing_computed():
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        yield


def lazy_cube(**chunks):
    return CUBE.chunk(chunks or {"time": 2, "lat": 2})


def blocks_of(kind):
    return da.from_array(X, chunks=(25, 2)).map_blocks(kind)


# ------------------------------------------------------------------------- the same bits as NumPy

CONTAINERS = {
    "dask": lambda: da.from_array(X, chunks=(13, 3)),
    "unknown sizes": lambda: da.from_array(X, chunks=(13, 4))[da.ones(ROWS, chunks=13) > 0],
    "zarr": lambda: zarr.create_array(zarr.storage.MemoryStore(), data=X, chunks=(10, 3)),
    "pandas": lambda: FRAME,
    "nullable pandas": lambda: FRAME.astype("Float64"),
    "numbered columns": lambda: pd.DataFrame(X),
    "dask frame": lambda: dd.from_pandas(FRAME, npartitions=4),
    "dask frame without divisions": lambda: dd.from_pandas(FRAME, npartitions=4).clear_divisions(),
    "csr": lambda: scipy.sparse.csr_array(X),
    "coo matrix": lambda: scipy.sparse.coo_matrix(X),
    "sparse": lambda: sparse.COO.from_numpy(X),
    "scipy blocks": lambda: blocks_of(scipy.sparse.csr_array),
    "sparse blocks": lambda: blocks_of(sparse.COO.from_numpy),
    "xarray": lambda: CUBE.stack(sample=("time", "lat", "lon")).transpose("sample", "feature"),
    "named dimensions": lambda: xr.DataArray(X.T, dims=("feature", "row")),
    "cube": lambda: CUBE,
    "lazy cube": lazy_cube,
    "transposed cube": lambda: CUBE.transpose("feature", "lon", "lat", "time"),
    "data set": lambda: CUBE.to_dataset("feature"),
    "lazy data set": lambda: lazy_cube().to_dataset("feature"),
}
DIMS = {"named dimensions": "row"} | dict.fromkeys(
    ["cube", "lazy cube", "transposed cube", "data set", "lazy data set"], ("time", "lat", "lon")
)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_trains_and_predicts_to_the_bits_of_numpy(name, expected):
    x = CONTAINERS[name]()
    model = regressor(sample_dims=DIMS.get(name)).fit(x, PRICE)
    assert bits(model) == bits(expected)
    with np.errstate(all="raise"):
        predicted = np.asarray(dask.compute(model.predict(x))[0]).reshape(-1)
    # Products of fewer rows may round otherwise.
    np.testing.assert_allclose(predicted, expected.predict(X), rtol=1e-5)
    assert model.score(x, PRICE) == pytest.approx(expected.score(X, PRICE))
    assert model.n_features_in_ == 4


@pytest.mark.parametrize("name", ["pandas", "dask frame", "lazy cube", "data set"])
def test_targets_and_weights_come_in_containers_too(name):
    weight = np.linspace(1, 2, ROWS)
    plain = regressor().fit(X, BOTH, sample_weight=weight)
    wrap = {
        "pandas": lambda a, n: pd.DataFrame(a, columns=n).set_index(INDEX),
        "dask frame": lambda a, n: dd.from_pandas(pd.DataFrame(a, columns=n), npartitions=3),
        "lazy cube": lambda a, n: xr.DataArray(
            a.reshape(TIME, LAT, LON, -1), dims=("time", "lat", "lon", "target")
        ).chunk({"time": 3}),
    }
    wrap["data set"] = wrap["lazy cube"]
    y, w = wrap[name](BOTH, ["p", "q"]), wrap[name](weight[:, None], ["w"])
    x = CONTAINERS[name]()
    model = regressor().fit(x, y, sample_weight=w)
    assert bits(model) == bits(plain)
    assert model.score(x, y, w) == pytest.approx(plain.score(X, BOTH, weight))
    found = np.asarray(dask.compute(model.predict(x))[0]).reshape(-1, 2)
    np.testing.assert_allclose(found, plain.predict(X), rtol=1e-5)


@pytest.mark.parametrize("lazy", [False, True])
def test_labels_of_tables_may_be_text(lazy):
    table = FRAME.assign(kind=LABELS)
    plain = classifier().fit(X, LABELS)
    x = dd.from_pandas(table, npartitions=4) if lazy else table
    for model in (classifier().fit(x[NAMES], x["kind"]), classifier().fit(x, "kind")):
        assert bits(model) == bits(plain)
        assert model.classes_.tolist() == ["no", "yes"]
        assert model.score(x, "kind") == plain.score(X, LABELS)


# -------------------------------------------------------------------- the container that was given


@pytest.mark.parametrize("lazy", [False, True])
def test_a_data_frame_gets_its_index_and_names_back(lazy, expected):
    table = FRAME.assign(price=PRICE)
    x = dd.from_pandas(table, npartitions=4) if lazy else table
    model = regressor().fit(x, "price")
    with nothing_computed():
        predicted = model.predict(x[["d", "c", "b", "a"]])
    if lazy:
        assert isinstance(predicted, dd.Series)
        assert predicted.divisions == x.divisions
        predicted = predicted.compute()
    pd.testing.assert_series_equal(
        predicted, pd.Series(expected.predict(X), index=INDEX, name="price"), rtol=1e-5
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_a_data_frame_gets_columns_for_targets_and_classes(lazy):
    x = dd.from_pandas(FRAME, npartitions=4) if lazy else FRAME
    targets = regressor().fit(x, pd.DataFrame(BOTH, columns=["p", "q"])).predict(x)
    proba = classifier().fit(x, LABELS).predict_proba(x)
    for found, columns in ((targets, ["p", "q"]), (proba, ["no", "yes"])):
        assert list(found.columns) == columns
        assert list(found.compute().columns if lazy else found.columns) == columns
        assert (found.compute() if lazy else found).index.equals(INDEX)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["array", "set"])
def test_xarray_gets_its_dimensions_and_coordinates_back(lazy, kind, expected):
    x = lazy_cube() if lazy else CUBE
    model = regressor().fit(x if kind == "array" else x.to_dataset("feature"), CUBE_Y)
    assert model.feature_names_in_.tolist() == NAMES
    given = x.isel(feature=[2, 0, 1, 3])
    with nothing_computed():
        predicted = model.predict(given if kind == "array" else given.to_dataset("feature"))
    assert (predicted.chunks is not None) == lazy
    wanted = CUBE_Y.copy(data=expected.predict(X).reshape(TIME, LAT, LON))
    assert predicted.name == "price"
    assert predicted.dims == wanted.dims
    xr.testing.assert_allclose(predicted.compute(), wanted)
    again = model.predict(x.isel(time=[1], lat=[0, 2]).transpose("lon", "lat", "time", "feature"))
    some = wanted.isel(time=[1], lat=[0, 2])
    some["height"] = some["height"].T
    xr.testing.assert_allclose(again.compute(), some)


def test_a_variable_of_a_data_set_may_be_the_target(expected):
    whole = CUBE.to_dataset("feature").assign(price=CUBE_Y)
    model = regressor().fit(whole, "price")
    assert bits(model) == bits(expected)
    assert model.predict(whole).dims == ("time", "lat", "lon")
    assert model.score(whole, "price") == pytest.approx(expected.score(X, PRICE))


def test_a_variable_without_a_sample_dimension_is_repeated_over_it():
    height = np.broadcast_to(np.arange(LON), (TIME, LAT, LON)).reshape(-1, 1)
    plain = regressor().fit(np.hstack([X, height]), PRICE)
    whole = CUBE.to_dataset("feature").assign(price=CUBE_Y, z=("lon", np.arange(LON)))
    assert bits(regressor().fit(whole, "price")) == bits(plain)
    assert bits(regressor().fit(whole.chunk({"time": 2}), "price")) == bits(plain)


def test_classes_of_xarray_are_an_output_dimension():
    labels = CUBE_Y.copy(data=LABELS.reshape(TIME, LAT, LON)).rename("kind")
    model = classifier().fit(CUBE, labels)
    proba = model.predict_proba(lazy_cube())
    assert proba.dims == ("time", "lat", "lon", "output")
    assert proba["output"].values.tolist() == ["no", "yes"]
    assert proba.chunks is not None
    np.testing.assert_allclose(proba.sum("output"), 1, rtol=1e-5)
    assert model.predict(CUBE).isin(["no", "yes"]).all()


def test_numpy_and_sparse_give_numpy_and_lazy_arrays_lazy_ones(expected):
    for x in (X, X.tolist(), scipy.sparse.csr_array(X), sparse.COO.from_numpy(X)):
        assert type(expected.predict(x)) is np.ndarray
    with nothing_computed():
        for name in ("dask", "unknown sizes", "zarr", "sparse blocks"):
            assert isinstance(expected.predict(CONTAINERS[name]()), da.Array)


def test_an_empty_partition_is_no_rows(expected):
    x = dd.from_pandas(FRAME, npartitions=4)
    x = dd.concat([x.partitions[:2], x.partitions[2][x.partitions[2]["a"] > 99], x.partitions[2:]])
    assert bits(regressor().fit(x, PRICE)) == bits(expected)
    np.testing.assert_allclose(expected.predict(x).compute(), expected.predict(X), rtol=1e-5)


# ------------------------------------------------------------------------------ nothing read whole


def test_a_lazy_table_is_never_in_memory_whole(tmp_path):
    live, most = [0], [0]

    def make(i):
        live[0] += 1
        most[0] = max(most[0], live[0])
        return pd.DataFrame(np.full((10, 3), float(i)), columns=list("abc"))

    def let_go(frame):
        live[0] -= 1
        return frame

    x = dd.from_map(make, range(12), meta=make(0).iloc[:0]).map_partitions(
        let_go, meta=make(0).iloc[:0]
    )
    live[0] = most[0] = 0
    with dask.config.set(scheduler="sync"):
        model = regressor(run=tmp_path / "run", chunks=20).fit(x, "c")
        assert len(model.predict(x).partitions[:2].compute()) == 20
    assert most[0] <= 2  # of twelve; a chunk of the run needs two


@pytest.mark.parametrize("name", ["lazy cube", "sparse blocks", "unknown sizes"])
def test_predictions_for_some_rows_compute_no_others(name, expected):
    seen = []

    def note(block):
        seen.append(len(block))
        return block

    if name == "lazy cube":
        x = lazy_cube(time=1)
        x = x.copy(data=x.data.map_blocks(note, dtype=x.dtype, meta=np.empty((0,) * 4)))
        model = regressor().fit(CUBE, CUBE_Y)
        part = model.predict(x).isel(time=[3])
    else:
        x = CONTAINERS[name]().map_blocks(note)
        part = expected.predict(x).blocks[1]
    seen.clear()
    with dask.config.set(scheduler="sync"):
        assert np.isfinite(np.asarray(part)).all()
    assert len(seen) == (2 if name == "sparse blocks" else 1)  # two blocks of columns


def test_large_lazy_cubes_are_chunked_along_their_samples():
    """Reshaping to samples must not bring a whole array together."""
    lazy = xr.DataArray(
        da.ones((400, 20, 30, 6), chunks=(10, 20, 30, 6)), dims=("time", "lat", "lon", "feature")
    )
    y = lazy.isel(feature=0)
    from dadmm.data.prepare import prepare_training

    found = prepare_training(lazy, y)
    assert max(found.x.chunks[0]) == 6000
    assert found.x.shape == (240_000, 6)
    assert found.y.chunks[0] == found.x.chunks[0]


# ------------------------------------------------------------------ categories and missing values


def holed():
    table = FRAME.reset_index(drop=True).assign(
        colour=np.resize(["red", "green", "blue", "red"], ROWS),
        size=pd.Categorical(np.resize([3, 1, 2], ROWS)),
        good=np.resize([True, False], ROWS),
        price=PRICE,
    )
    table.loc[[2, 40], "b"] = np.nan
    table.loc[7, "colour"] = None
    return table


def by_hand(table):
    colour = table["colour"].fillna("red")
    columns = [table[name] for name in "abcd"]
    columns[1] = columns[1].fillna(columns[1].mean())
    columns += [colour == c for c in ("blue", "green", "red")]
    columns += [table["size"] == s for s in (1, 2, 3)]
    return np.column_stack([*columns, table["good"]]).astype(float)


ENCODED = {"categorical": "one_hot", "missing": "impute"}


@pytest.mark.parametrize("lazy", [False, True])
def test_categories_are_one_hot_and_missing_values_filled(lazy, tmp_path):
    table = holed()
    plain = regressor().fit(by_hand(table), PRICE)
    x = dd.from_pandas(table, npartitions=4) if lazy else table
    model = regressor(**ENCODED, run=tmp_path / "run").fit(x, "price")
    np.testing.assert_allclose(
        np.asarray(model.predict(x)), plain.predict(by_hand(table)), rtol=1e-4, atol=1e-5
    )
    assert model.feature_names_in_.tolist() == [*NAMES, "colour", "size", "good"]
    assert model.n_features_in_ == 7
    assert model.network_.architecture.widths[0] == 11
    again = load(tmp_path / "run")
    assert again._form == model._form
    row = table.iloc[[7]]
    np.testing.assert_array_equal(again.predict(row), np.asarray(model.predict(x))[[7]])
    more = resume(tmp_path / "run", max_iter=3)
    assert more.n_iter_ == 3
    assert more.predict(row).index.tolist() == [7]


def test_arrays_are_imputed_by_the_means_of_training():
    x = X.copy()
    x[3, 1] = x[50, 2] = np.nan
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    plain = regressor().fit(filled, PRICE)
    cube = CUBE.copy(data=x.reshape(CUBE.shape))
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=x, chunks=(10, 3))
    for given in (x, da.from_array(x, chunks=(13, 3)), cube, cube.chunk({"time": 2}), stored):
        y = CUBE_Y if isinstance(given, xr.DataArray) else PRICE
        model = regressor(missing="impute").fit(given, y)
        found = np.asarray(model.predict(given)).reshape(-1)
        np.testing.assert_allclose(found, plain.predict(filled), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model._form.fills, np.nanmean(x, axis=0))
    with pytest.raises(DataError, match="x contains infinity in row 3, column 1"):
        model.predict(np.where(np.isnan(x), np.inf, x))


def test_a_category_that_training_never_saw_is_an_error_or_zeros():
    table = holed()
    model = regressor(**ENCODED).fit(table, "price")
    new = table.assign(colour=["mauve", *table["colour"][1:]])
    words = "category 'mauve' in column 'colour', row 0, which training never saw"
    with pytest.raises(DataError, match=words):
        model.predict(new)
    lazy = model.predict(dd.from_pandas(new, npartitions=3))
    with pytest.raises(DataError, match=words):
        lazy.compute()
    model.set_params(handle_unknown="ignore")
    zeros = by_hand(new)
    zeros[0, 4:7] = 0
    np.testing.assert_allclose(
        model.predict(new), model.network_.forward(zeros)[:, 0], rtol=1e-5, atol=1e-6
    )


def test_partial_fit_keeps_the_categories_of_the_first_call():
    table = holed()
    model = regressor(**ENCODED).partial_fit(table, "price")
    first = model._form
    model.partial_fit(table.iloc[:20], "price")  # means and categories of its own
    assert model._form == first


# --------------------------------------------------------------------------------------- bad input

T = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 1.0], "y": [1.0, 2.0, 3.0]})
MIXED = pd.DataFrame({"a": np.array([1, "x", 2.5], object), "y": [1.0, 2.0, 3.0]})
MANY = pd.DataFrame({"a": [f"{i}" for i in range(MOST_CATEGORIES + 1)]}).assign(y=1.0)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("table", "y", "options", "error", "words"),
    [
        (T, "yy", {}, OptionError, "no column of x is called 'yy': did you mean 'y'"),
        (
            T.assign(c="u"),
            "y",
            {},
            DataError,
            "columns that are not numeric: c.*; encode them with",
        ),
        (T.assign(c=pd.Timestamp(0)), "y", {}, DataError, "not numeric: c.*; convert or drop them"),
        (T.assign(c=pd.Timestamp(0)), "y", ENCODED, DataError, "not numeric: c.*; convert or drop"),
        (T.assign(c=1j), "y", ENCODED, DataError, "not numeric: c.*; convert or drop"),
        (T.assign(b=[1, None, 2]), "y", {}, DataError, "x contains NaN.*column 'b'.*impute"),
        (T.assign(b=np.nan), "y", ENCODED, DataError, "no value at all in column 'b': drop it"),
        (T.assign(y=[1, None, 2]), "y", {}, DataError, r"y has a missing value \(NaN\) in row 1"),
        (T.assign(b=[1, np.inf, 2]), "y", {}, DataError, "x contains infinity in row 1, column 1"),
        (MANY, "y", ENCODED, DataError, "'a' has more than 1000 categories: drop it"),
        (T.iloc[:0], "y", {}, DataError, "x is empty"),
        (T[["y"]], "y", {}, DataError, "x has no columns"),
        (T, T["y"][:2].to_numpy(), {}, ShapeError, "y has 2 rows, x has 3"),
    ],
)
def test_bad_tables_end_in_one_line(table, y, options, error, words, lazy):
    x = dd.from_pandas(table, npartitions=2) if lazy else table
    with pytest.raises(error, match=words) as caught:
        regressor(**options).fit(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fit", "error", "words"),
    [
        (
            lambda: regressor(**ENCODED).fit(MIXED, "y"),
            DataError,
            "'a' holds float and int and str",
        ),
        (
            lambda: regressor(**ENCODED).fit(MIXED.assign(a=np.array([1, 2, 3], object)), "y"),
            DataError,
            "astype.float. for numbers",
        ),
        (
            lambda: regressor().fit(T.set_axis(["a", "a", "y"], axis=1), "y"),
            InputError,
            "x has the column 'a' twice: rename one",
        ),
        (
            lambda: regressor().fit(T.set_axis(["a", 1, "y"], axis=1), "y"),
            InputError,
            "only supported if all input features have string names",
        ),
        (lambda: regressor().fit(X, "price"), InputError, "x has no named columns: pass y as"),
        (
            lambda: regressor(sample_dims="tme").fit(CUBE, CUBE_Y),
            OptionError,
            "no dimension of x is called 'tme': did you mean 'time'",
        ),
        (lambda: regressor().fit(CUBE, CUBE_Y[:2]), DataError, "different coordinates of 'time'"),
        (
            lambda: regressor().fit(CUBE.drop_vars("time"), CUBE_Y[:2]),
            ShapeError,
            "y has sizes .*'time': 2.*, x has .*'time': 5",
        ),
        (
            lambda: regressor().fit(CUBE, CUBE_Y.rename(time="t", lat="l", lon="o")),
            ShapeError,
            "none is sh",
        ),
        (
            lambda: regressor(sample_dims=("time", "lat")).fit(CUBE, CUBE_Y.isel(lat=0)),
            ShapeError,
            "y has no dimension 'lat'",
        ),
        (
            lambda: regressor().fit(
                CUBE.to_dataset("feature").assign(s=("lat", list("uvwx"))), CUBE_Y
            ),
            DataError,
            "x is not numeric: s has dtype <U1",
        ),
        (
            lambda: regressor().fit(CUBE.to_dataset("feature"), "prise"),
            OptionError,
            "no variable of",
        ),
        (lambda: regressor().fit(xr.Dataset(), PRICE), InputError, "x is empty"),
        (
            lambda: regressor().fit(CUBE, CUBE_Y.to_dataset()),
            InputError,
            "y is a data set: name one",
        ),
        (
            lambda: regressor(categorical="onehot").fit(T, "y"),
            OptionError,
            "use 'refuse' or 'one_hot'",
        ),
        (lambda: regressor(missing=None).fit(T, "y"), OptionError, "missing=None: use 'refuse' or"),
        (
            lambda: regressor(handle_unknown=0).fit(T, "y"),
            OptionError,
            "handle_unknown=0: use 'error'",
        ),
        (lambda: regressor(sample_dims=()).fit(X, PRICE), OptionError, "use names of dimensions"),
        (lambda: regressor(sample_dims=3).fit(X, PRICE), OptionError, "use names of dimensions"),
    ],
)
def test_bad_containers_end_in_one_line(fit, error, words):
    with pytest.raises(error, match=words) as caught:
        fit()
    assert "\n" not in str(caught.value)


def test_columns_are_taken_by_name_or_named():
    model = regressor(**ENCODED).fit(holed(), "price")
    table = holed().drop(columns="price")
    for x, words in (
        (table.drop(columns=["a", "good"]), "seen at fit time, yet now missing: a, good"),
        (table.assign(zz=1), "unseen at fit time: zz"),
        (table.to_numpy(), "x has no column names, but training encoded a table"),
        (table.assign(a="text"), "column 'a' has dtype .*, where training had numbers"),
        (table.assign(colour=5), "column 'colour' holds int, where training had str"),
    ):
        with pytest.raises(InputError, match=words):
            model.predict(x)
    plain = regressor().fit(FRAME, PRICE)
    with pytest.raises(DataError, match="x contains NaN: column 'b' has no value in row 13"):
        plain.predict(FRAME.assign(b=[1.0, np.nan, *X[2:, 1]]))
    with pytest.raises(DataError, match="columns that are not numeric: a"):
        plain.predict(FRAME.assign(a="u"))
    np.testing.assert_array_equal(plain.predict(X), plain.predict(FRAME))


@pytest.mark.parametrize(
    "forged",
    [
        None,
        {},
        {"names": "ab"},
        {"names": [1]},
        {"names": ["a", "a"]},
        {"columns": [1]},
        {"columns": [{"categories": None, "fill": float("inf")}]},
        {"columns": [{"categories": None, "fill": True}]},
        {"columns": [{"categories": [], "fill": None}]},
        {"columns": [{"categories": [[]], "fill": None}]},
        {"columns": [{"categories": ["u"], "fill": "v"}]},
        {"names": ["a"], "columns": [{"categories": None, "fill": None}] * 2},
        {"dims": None},
        {"features": [["lat", 5]]},
        {"features": [[1, None]]},
        {"features": [["lat", [[]]]]},
        {"targets": {"a": 1}},
    ],
)
def test_forged_forms_are_refused(forged):
    good = {"names": None, "columns": [], "targets": None, "dims": [], "features": []}
    with pytest.raises(InputError, match="does not say what its inputs were"):
        Form.from_json(forged if not forged else good | forged)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("columns", [{"categories": None, "fill": None}] * 7, "its columns do not fit its network"),
        ("names", ["a"], "its columns do not fit its names"),
        ("targets", 5, "5 is no list"),
    ],
)
def test_a_run_with_a_forged_form_is_refused(tmp_path, key, value, words):
    regressor(**ENCODED, run=tmp_path / "run").fit(holed(), "price")
    stored = Run.open(tmp_path / "run").attributes
    stored["inputs"][key] = value
    (tmp_path / "run" / "zarr.json").write_bytes(metadata.group_document({"dadmm": stored}))
    with pytest.raises(StoreError, match=f"cannot be used: .*{words}"):
        load(tmp_path / "run")


def test_a_form_survives_json():
    form = Form(
        ("a", "b", "c"),
        (Column(None, 0.5), Column(("u", "v"), "v"), Column((1, 2))),
        ("p",),
        ("time", "lat"),
        {"lon": [0.1, 2.0], "band": ["u", "v"], "z": None},
    )
    assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form


@pytest.mark.parametrize("lazy", [False, True])
def test_several_labels_per_row_are_named_columns(lazy):
    table = FRAME.assign(up=(X[:, 0] > 0) * 1, down=(X[:, 1] < 0) * 1)
    plain = classifier().fit(X, table[["up", "down"]].to_numpy())
    x = dd.from_pandas(table, npartitions=3) if lazy else table
    model = classifier().fit(x, ["up", "down"])
    assert bits(model) == bits(plain)
    for found in (model.predict(x), model.predict_proba(x)):
        assert list(found.columns) == ["up", "down"]
    assert model.score(x, ["up", "down"]) == plain.score(X, table[["up", "down"]].to_numpy())


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["array", "data set"])
def test_features_of_xarray_are_taken_by_dimension_and_coordinate(lazy, kind, tmp_path):
    cube = CUBE.chunk({"time": 2}) if lazy else CUBE
    cube = cube if kind == "array" else cube.to_dataset(name="u").assign(v=2 * cube)
    y = PRICE[:TIME]
    trained = regressor(sample_dims="time", run=tmp_path / "run").fit(cube, y)
    expected = trained.predict(cube).values
    for model in (trained, load(tmp_path / "run")):
        for other in (
            cube.transpose("lon", "feature", "time", "lat"),
            cube.isel(lat=slice(None, None, -1), lon=[2, 0, 1]),
            cube.drop_vars(["lat", "lon", "feature", "height"]),
        ):
            np.testing.assert_array_equal(model.predict(other).values, expected)
        with pytest.raises(DataError, match="other coordinates of 'lat' than training"):
            model.predict(cube.assign_coords(lat=cube.lat + 1))
        with pytest.raises(ShapeError, match=r"training had .*'lat'"):
            model.predict(cube.rename(lat="y"))


def test_targets_of_a_data_set_with_features_of_their_own_are_refused():
    table = xr.Dataset({"u": CUBE.isel(feature=0, drop=True), "price": CUBE_Y})
    with pytest.raises(ShapeError, match="target 'price' has the dimension 'lat' besides"):
        regressor(sample_dims="time").fit(table, "price")
    both = regressor().fit(table.assign(twice=2 * CUBE_Y), ["price", "twice"])
    assert both.predict(table).dims == ("time", "lat", "lon", "output")


def test_an_array_of_several_targets_has_one_name():
    y = xr.DataArray(BOTH, dims=("row", "kind"), name="price")
    x = xr.DataArray(X, dims=("row", "column"))
    out = regressor().fit(x, y).predict(x)
    np.testing.assert_array_equal(out.values, regressor().fit(X, BOTH).predict(X))
    assert regressor().fit(X, y).predict(da.from_array(X, chunks=(25, 4))).shape == (ROWS, 2)


@pytest.mark.parametrize("which", ["x", "y", "frame"])
def test_blocks_that_break_their_promise_of_whole_numbers_are_refused(which):
    whole = (X * 10).astype(int)
    table = pd.DataFrame(whole, columns=NAMES)
    halves = da.from_array(whole, chunks=(25, 4)).map_blocks(lambda b: b + 0.5, dtype=int)
    x, y = {
        "x": (halves, PRICE),
        "y": (whole, halves[:, 0]),
        "frame": (
            dd.from_pandas(table, npartitions=2).map_partitions(
                lambda part: part + 0.5, meta=table.iloc[:0]
            ),
            PRICE,
        ),
    }[which]
    with pytest.raises(DataError, match=r"has float64.*int64, which was promised, cannot hold"):
        regressor().fit(x, y)
    fits = da.from_array(whole, chunks=(25, 4)).map_blocks(lambda b: b.astype(float), dtype=int)
    assert bits(regressor().fit(fits, PRICE)) == bits(regressor().fit(whole, PRICE))


def test_warm_start_keeps_columns_and_categories():
    frame = FRAME.assign(kind=np.resize(["u", "v", "w"], ROWS))
    options = {"warm_start": True, "categorical": "one_hot"}
    again, turned = (regressor(**options).fit(frame, PRICE) for _ in range(2))
    again.fit(frame, PRICE)
    turned.fit(frame[["kind", "d", "c", "b", "a"]], PRICE)
    assert bits(again) == bits(turned)
    with pytest.raises(DataError, match=r"category 'z' in column 'kind'.*never saw"):
        again.fit(frame.replace({"kind": {"w": "z"}}), PRICE)


def test_categories_of_another_type_are_no_unknown_ones():
    frame = FRAME.assign(kind=np.resize(["1", "2"], ROWS))
    model = regressor(categorical="one_hot", handle_unknown="ignore").fit(frame, PRICE)
    with pytest.raises(DataError, match="'kind' holds int, where training had str: convert it"):
        model.predict(frame.astype({"kind": int}))


def test_rows_in_another_order_are_refused_where_the_index_says_so():
    y, weight = pd.Series(PRICE, INDEX), pd.Series(np.arange(ROWS) + 1.0, INDEX)
    turned = slice(None, None, -1)

    def lazy_frame(order=slice(None)):
        return dd.from_pandas(FRAME[order], npartitions=3, sort=False)

    def lazy_y(order=slice(None)):
        return dd.from_pandas(y[order], npartitions=2, sort=False)

    expected = bits(regressor().fit(X, PRICE))
    for fit in (
        lambda: regressor().fit(FRAME, y[turned]),
        lambda: regressor().fit(FRAME, y, sample_weight=weight[turned]),
        lambda: regressor().fit(FRAME, y).score(FRAME, y[turned]),
        lambda: regressor().fit(lazy_frame(turned), y),
        lambda: regressor().fit(lazy_frame(), lazy_y(turned)),
        lambda: regressor().fit(lazy_frame(), y, sample_weight=weight[turned]),
        lambda: regressor().fit(FRAME, lazy_y(turned)),
    ):
        with pytest.raises(DataError, match="the same index in another order: sort"):
            fit()
    assert bits(regressor().fit(FRAME, y)) == expected
    assert bits(regressor().fit(lazy_frame(), lazy_y())) == expected
    assert bits(regressor().fit(lazy_frame(turned), lazy_y(turned))) != expected
    assert bits(regressor().fit(FRAME, y.reset_index(drop=True))) == expected
    turned_both = bits(regressor().fit(FRAME[turned], y[turned]))
    assert turned_both == bits(regressor().fit(X[turned], PRICE[turned]))


@pytest.mark.parametrize("lazy", [False, True])
def test_named_targets_are_those_of_training_in_any_order(lazy):
    table = FRAME.assign(price=PRICE, cost=-PRICE)
    table = dd.from_pandas(table, npartitions=3) if lazy else table
    x, y = table[NAMES], table[["price", "cost"]]
    turned = table[["cost", "price"]]
    model = regressor().fit(x, y)
    score = model.score(X, BOTH)
    assert model.score(x, turned) == pytest.approx(score)
    assert model.score(table, ["cost", "price"]) == pytest.approx(score)
    one, other = (regressor().partial_fit(x, y) for _ in range(2))
    assert bits(one.partial_fit(x, y)) == bits(other.partial_fit(x, turned))
