"""Predictions in files: of stores, frames and arrays as people have them."""

from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numcodecs import Delta

from dadmm import ADMMRegressor
from dadmm.data.write import changed_last, write
from support.tables import indexed
from support.terminal import command

pytestmark = pytest.mark.usefixtures("here")

ROWS = 40
X = np.random.default_rng(5).normal(size=(ROWS, 3))
TIME = pd.date_range("2020", periods=ROWS)


def cube(**coordinates):
    coords = {"time": TIME, "name": ("time", [f"day {i}" for i in range(ROWS)]), **coordinates}
    return xr.Dataset({"u": (("time", "f"), X), "v": (("time",), X[:, 0])}, coords)


def fitted():
    return ADMMRegressor((4,), max_iter=2, random_state=0, run="run").fit(X, X[:, 0])


ENCODINGS = {
    "of version 2": {"zarr_format": 2},
    "with filters": {
        "zarr_format": 2,
        "encoding": {"time": {"filters": [Delta("<i8")], "dtype": "i8"}},
    },
    "with shards": {
        "zarr_format": 3,
        "encoding": {"time": {"shards": (20,), "chunks": (10,)}, "level": {"chunks": (7,)}},
    },
    "packed": {
        "zarr_format": 2,
        "encoding": {"level": {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -9}},
    },
}


@pytest.mark.filterwarnings("ignore:Numcodecs codecs", "ignore:The codec", "ignore:.*specification")
@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("uneven", [False, True])
def test_predictions_do_not_carry_the_encodings_of_the_source(kind, uneven):
    source = cube(level=("time", np.arange(ROWS) / 2))
    source.to_zarr("x.zarr", consolidated=False, **ENCODINGS[kind])
    model = fitted()
    data = xr.open_zarr("x.zarr", chunks={}, consolidated=False)
    if uneven:
        data = data.chunk(time=(7, 20, 13))
    write(model.predict(data["u"]), "out.zarr")
    found = xr.open_zarr("out.zarr", consolidated=False)
    np.testing.assert_allclose(found["prediction"], model.predict(X), rtol=1e-5)
    assert found["time"].equals(data["time"].compute())
    assert found["name"].values.tolist() == source["name"].values.tolist()
    np.testing.assert_allclose(found["level"], source["level"])


def test_a_store_of_version_2_is_predicted_from_the_command_line():
    cube().to_zarr("x.zarr", zarr_format=2)
    ADMMRegressor((4,), max_iter=2, random_state=0, run="run").fit("x.zarr", "v")
    for _ in range(2):
        done = command("predict", "run", "x.zarr", "out.zarr", "--overwrite")
        assert done.code == 0, done.err
    found = xr.open_zarr("out.zarr", consolidated=False)
    assert pd.DatetimeIndex(found["time"]).equals(TIME)


@pytest.mark.parametrize("target", ["out.npy", "out.zarr", "out.csv", "out.parquet"])
def test_predictions_of_a_lazy_frame_are_written(target):
    dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
    frame = pd.DataFrame(X, columns=list("abc"))
    model = fitted()
    write(model.predict(dd.from_pandas(frame, npartitions=7)), target)
    found = {
        "out.npy": np.load,
        "out.zarr": lambda path: zarr.open_array(path)[:],
        "out.csv": lambda path: pd.read_csv(path).to_numpy()[:, 0],
        "out.parquet": lambda path: pd.read_parquet(path).to_numpy()[:, 0],
    }[target](target)
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5)


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_an_index_of_levels_is_written(target):
    index = pd.MultiIndex.from_product([list("ab"), range(ROWS // 2)], names=["s", "i"])
    write(fitted().predict(indexed(pd.DataFrame(X, index=index))), target)
    found = pd.read_csv(target) if target == "out.csv" else pd.read_parquet(target).reset_index()
    assert found[["s", "i"]].to_numpy().tolist() == [list(pair) for pair in index]


def test_a_change_of_any_file_of_a_glob_is_seen():
    for i in range(3):
        Path(f"x-{i}.csv").write_text("a\n1\n")
    before = changed_last("x-*.csv")
    assert before[0] == 3
    Path("x-1.csv").write_text("a\n1\n2\n")
    assert changed_last("x-*.csv") != before
    assert changed_last("memory://x.csv") is None


def test_a_folder_takes_the_place_of_a_file_and_the_other_way_round(tmp_path):
    target, frame = tmp_path / "out.parquet", pd.DataFrame({"a": [1, 2]})
    for again in (frame, dd.from_pandas(frame, npartitions=2), frame):
        write(again, str(target))
        assert pd.read_parquet(target)["a"].tolist() == [1, 2]
