"""Containers: the bits of NumPy, predictions in the container that came, nothing read whole."""

from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
import zarr

from dadmm import load
from dadmm.errors import DataError, ShapeError
from support.messages import naming
from support.runs import bits
from support.tables import (
    BOTH,
    CUBE,
    CUBE_Y,
    FRAME,
    INDEX,
    LABELS,
    LAT,
    LON,
    NAMES,
    PRICE,
    ROWS,
    TIME,
    X,
    classifier,
    indexed,
    regressor,
)

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")


sparse = pytest.importorskip("sparse", reason="needs the package sparse")


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


# -------------------------------------------------------------------------- the same bits as NumPy


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
    "dok matrix": lambda: scipy.sparse.dok_matrix(X),
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
        turned = x[["d", "c", "b", "a"]]
        predicted = model.predict(turned if lazy else indexed(turned))
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
    new = x if lazy else indexed(x)
    targets = regressor().fit(x, pd.DataFrame(BOTH, columns=["p", "q"])).predict(new)
    proba = classifier().fit(x, LABELS).predict_proba(new)
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


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("lazy", [False, True])
def test_several_labels_per_row_are_named_columns(lazy):
    table = FRAME.assign(up=(X[:, 0] > 0) * 1, down=(X[:, 1] < 0) * 1)
    plain = classifier().fit(X, table[["up", "down"]].to_numpy())
    x = dd.from_pandas(table, npartitions=3) if lazy else table
    model = classifier().fit(x, ["up", "down"])
    assert bits(model) == bits(plain)
    new = x if lazy else indexed(x)
    for found in (model.predict(new), model.predict_proba(new)):
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
        with pytest.raises(DataError, match=naming("coordinates", "'lat'")):
            model.predict(cube.assign_coords(lat=cube.lat + 1))
        with pytest.raises(ShapeError, match=naming("'lat'")):
            model.predict(cube.rename(lat="y"))


def test_features_may_be_stacked_dimensions(tmp_path):
    cube = CUBE.stack(place=("lat", "lon"))
    trained = regressor(sample_dims="time", run=tmp_path / "run").fit(cube, PRICE[:TIME])
    for model in (trained, load(tmp_path / "run")):
        found = model.predict(cube.isel(place=slice(None, None, -1)))
        np.testing.assert_array_equal(found, trained.predict(cube))


def test_targets_of_a_data_set_with_features_of_their_own_are_refused():
    table = xr.Dataset({"u": CUBE.isel(feature=0, drop=True), "price": CUBE_Y})
    with pytest.raises(ShapeError, match=naming("'price'", "'lat'")):
        regressor(sample_dims="time").fit(table, "price")
    both = regressor().fit(table.assign(twice=2 * CUBE_Y), ["price", "twice"])
    assert both.predict(table).dims == ("time", "lat", "lon", "output")


def test_an_array_of_several_targets_has_one_name():
    y = xr.DataArray(BOTH, dims=("row", "kind"), name="price")
    x = xr.DataArray(X, dims=("row", "column"))
    out = regressor().fit(x, y).predict(x)
    np.testing.assert_array_equal(out.values, regressor().fit(X, BOTH).predict(X))
    assert regressor().fit(X, y).predict(da.from_array(X, chunks=(25, 4))).shape == (ROWS, 2)


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
