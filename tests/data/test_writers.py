"""What other programs write is read to the same numbers, small or large."""

import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadmm.data import open as opening
from dadmm.data.open import open_path
from dadmm.data.prepare import contain
from dadmm.networks.form import Form

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
pytestmark = pytest.mark.usefixtures("here")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
TABLES = st.lists(
    st.tuples(NUMBERS, st.integers(-(2**31), 2**31), NUMBERS, st.booleans()),
    min_size=3,
    max_size=9,
)


def polars():
    return pytest.importorskip("polars", reason="polars is not installed")


def arrow(table, path, **options):
    pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pandas(table), path, **options)


def cube(table):
    return xr.Dataset({name: ("row", values) for name, values in table.items()})


def stored(table, **options):
    """Write with xarray; truth values have no numbers that zarr's readers agree on."""
    cube(table.astype({"d": "int8"})).to_zarr("w", mode="w", **options)


WRITERS = {
    "pandas, Parquet": lambda t: t.to_parquet("w.parquet"),
    "pandas, gzip": lambda t: t.to_csv("w.csv.gz", index=False),
    "polars, Parquet": lambda t: polars().from_pandas(t).write_parquet("w.parquet"),
    "polars, CSV": lambda t: polars().from_pandas(t).write_csv("w.csv"),
    "pyarrow": lambda t: arrow(t, "w.parquet", row_group_size=2),
    "pyarrow, version 1": lambda t: arrow(t, "w.parquet", version="1.0", compression="gzip"),
    "dask, Parquet": lambda t: dd.from_pandas(t, npartitions=3).to_parquet("w.parquet"),
    "dask, CSV": lambda t: dd.from_pandas(t, npartitions=3).to_csv("w.csv", index=False),
    "dask, zarr": lambda t: da.from_array(t.to_numpy(float), chunks=(2, 3)).to_zarr("w"),
    "xarray, zarr 3": lambda t: stored(t, zarr_format=3, consolidated=False),
    "xarray, zarr 2": lambda t: stored(t, zarr_format=2, consolidated=True),
    "xarray, netCDF": lambda t: cube(t.astype({"d": "int8", "b": "f8"})).to_netcdf("w.nc"),
    "NumPy": lambda t: np.save("w.npy", t.to_numpy(float)),
    "NumPy, Fortran order": lambda t: np.save("w.npy", np.asfortranarray(t.to_numpy(float))),
    "zarr, shards": lambda t: zarr.create_array(
        "w", data=np.pad(t.to_numpy(float), ((0, -len(t) % 4), (0, 0)))[: len(t)],
        chunks=(2, 4), shards=(4, 4), overwrite=True,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", WRITERS)
@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TABLES, st.sampled_from([2**26, 64]))
def test_numbers_come_back_as_they_were_written(writer, rows, small):
    for old in Path().glob("w*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    table = pd.DataFrame(rows, columns=list("abcd"))
    WRITERS[writer](table)
    (path,) = (str(found) for found in Path().glob("w*"))
    before, opening.SMALL = opening.SMALL, small
    try:
        container = contain(open_path(path))
        found = container.matrix(Form(container.names))
        found = found.compute() if hasattr(found, "compute") else found
    finally:
        opening.SMALL = before
    np.testing.assert_array_equal(np.asarray(found, float), table.to_numpy(float))
