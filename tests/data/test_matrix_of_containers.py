"""Whatever container trains, and whatever other one predicts: the predictions are NumPy's."""

import itertools

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadmm.errors import InputError
from support.tables import regressor

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
pl = pytest.importorskip("polars", reason="needs polars")

NAMES = ["a", "b", "c", "d"]
ROWS = 60
# Whole numbers, which every dtype holds.
X = np.random.default_rng(3).integers(0, 50, size=(ROWS, 4))
Y = X[:, 0] - 2.0 * X[:, 1]
DTYPES = ["float64", "float32", "int64", "int16", "uint8"]
LIMITS = [64, 300, 2**26]  # bytes of a table that is read at once: some parts, few, and one


def halves(frame, rows, verify_meta):
    parts = [dask.delayed(frame.iloc[i : i + rows]) for i in range(0, len(frame), rows)]
    return dd.from_delayed(parts, meta=frame.iloc[:0], verify_meta=verify_meta)


def arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def stored(frame, rows):
    data = frame.to_numpy()
    return zarr.create_array(zarr.storage.MemoryStore(), data=data, chunks=(rows, 3))


def files(frame, rows, folder, suffix):
    """Write files of so many rows, and return their folder."""
    folder = folder / f"{len(list(folder.iterdir()))}{suffix}"
    folder.mkdir()
    for first in range(0, len(frame), rows):
        part, path = frame.iloc[first : first + rows], folder / f"part.{first // rows}{suffix}"
        part.to_csv(path, index=False) if suffix == ".csv" else part.to_parquet(path)
    return str(folder)


def one_file(frame, folder, suffix):
    path = folder / f"{len(list(folder.iterdir()))}{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


# From a pandas frame, the rows of a chunk and a folder.
NAMELESS = {
    "numpy": lambda frame, rows, folder: frame.to_numpy(),
    "numpy by columns": lambda frame, rows, folder: np.asfortranarray(frame.to_numpy()),
    "list": lambda frame, rows, folder: frame.to_numpy().tolist(),
    "dask": lambda frame, rows, folder: da.from_array(frame.to_numpy(), chunks=(rows, 3)),
    "zarr": lambda frame, rows, folder: stored(frame, rows),
    "sparse": lambda frame, rows, folder: scipy.sparse.csr_array(frame.to_numpy()),
    "unnamed pandas": lambda frame, rows, folder: pd.DataFrame(frame.to_numpy()),
}
NAMED = {
    "pandas": lambda frame, rows, folder: frame,
    "nullable pandas": lambda frame, rows, folder: frame.convert_dtypes(),
    "pandas of Arrow": lambda frame, rows, folder: frame.convert_dtypes(dtype_backend="pyarrow"),
    "dask frame": lambda frame, rows, folder: dd.from_pandas(frame, chunksize=rows),
    "delayed frame": lambda frame, rows, folder: halves(frame, rows, verify_meta=True),
    "unverified frame": lambda frame, rows, folder: halves(frame, rows, verify_meta=False),
    "pyarrow": lambda frame, rows, folder: arrow(frame),
    "record batch": lambda frame, rows, folder: arrow(frame).to_batches()[0],
    "polars": lambda frame, rows, folder: pl.from_arrow(arrow(frame)),
    "records": lambda frame, rows, folder: frame.to_records(index=False),
    "dict": lambda frame, rows, folder: {name: frame[name].to_numpy() for name in frame},
    "xarray": lambda frame, rows, folder: xr.DataArray(
        frame.to_numpy(), dims=("row", "column"), coords={"column": list(frame.columns)}
    ),
    "lazy data set": lambda frame, rows, folder: xr.Dataset(
        {name: ("row", frame[name].to_numpy()) for name in frame}
    ).chunk(row=rows),
    "CSV": lambda frame, rows, folder: one_file(frame, folder, ".csv"),
    "Parquet": lambda frame, rows, folder: one_file(frame, folder, ".parquet"),
    "folder of CSV": lambda frame, rows, folder: files(frame, rows, folder, ".csv"),
    "folder of Parquet": lambda frame, rows, folder: files(frame, rows, folder, ".parquet"),
}
ALL = {**NAMELESS, **NAMED}
ORDERS = list(itertools.permutations(range(4)))


@pytest.fixture(scope="module")
def expected():
    return regressor().fit(X, Y).predict(X)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("matrix")


def as_frame(dtype="float64", order=(0, 1, 2, 3), names=NAMES):
    return pd.DataFrame(X, columns=names).astype(dtype).iloc[:, list(order)]


def check(model, x, expected):
    found = np.asarray(dask.compute(model.predict(x))[0]).reshape(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("trained", ALL)
def test_every_container_predicts_what_every_other_one_learnt(trained, folder, expected):
    dtypes, chunks, orders = map(itertools.cycle, (DTYPES, (7, 20, 61), ORDERS[1:]))
    model = regressor().fit(ALL[trained](as_frame(next(dtypes)), 20, folder), Y)
    for name, make in ALL.items():
        named = trained in NAMED and name in NAMED
        frame = as_frame(next(dtypes), next(orders) if named else range(4))
        check(model, make(frame, next(chunks), folder), expected)
        if named:
            wrong = make(as_frame(names=["a", "b", "z", "d"]), 20, folder)
            with pytest.raises(InputError, match=r"unseen at fit time: z|coordinates of 'column'"):
                model.predict(wrong)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    trained=st.sampled_from(sorted(ALL)),
    new=st.sampled_from(sorted(ALL)),
    order=st.sampled_from(ORDERS),
    dtypes=st.tuples(*[st.sampled_from(DTYPES)] * 2),
    chunks=st.tuples(*[st.integers(1, ROWS + 1)] * 2),
    limit=st.sampled_from(LIMITS),
    by_name=st.booleans(),
)
def test_order_dtype_chunks_and_sizes_change_nothing(
    folder, expected, trained, new, order, dtypes, chunks, limit, by_name
):
    named = trained in NAMED and new in NAMED
    table = as_frame(dtypes[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dadmm.data.open.SMALL", limit)
        if by_name and trained in NAMED and trained != "xarray":  # an array has no column for y
            x, y = ALL[trained](table.astype("float64").assign(y=Y), chunks[0], folder), "y"
        else:
            x, y = ALL[trained](table, chunks[0], folder), Y
        model = regressor().fit(x, y)
        frame = as_frame(dtypes[1], order if named else range(4))
        check(model, ALL[new](frame, chunks[1], folder), expected)
