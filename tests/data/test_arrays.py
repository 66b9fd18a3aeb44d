"""Arrays become matrices of numbers; what cannot is named."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from dadmm.data import arrays, targets
from dadmm.errors import DataError, ShapeError
from support.messages import naming

X = np.random.default_rng(0).normal(size=(20, 3))


def with_unknown_sizes(array, rows=7):
    lazy = da.from_array(array, chunks=(rows, *array.shape[1:]))
    return lazy[da.ones(len(array), chunks=rows, dtype=bool)]


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        X.astype(object),
        pd.DataFrame(X),
        np.asfortranarray(X),
        X.astype(np.longdouble),
        np.ma.masked_array(X),
    ],
    ids=["array", "list", "objects", "frame", "fortran", "longdouble", "masked"],
)
def test_what_holds_numbers_becomes_a_matrix(given):
    found = arrays.as_matrix(given)
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64, np.bool_, ">f8"])
def test_a_matrix_keeps_its_dtype(dtype):
    assert arrays.as_matrix(np.ones((3, 2), dtype)).dtype == dtype


def test_a_dask_array_stays_one():
    assert arrays.is_dask(arrays.as_matrix(da.from_array(X, chunks=7)))


def test_unknown_chunk_sizes_are_found_out_but_not_in_the_callers_array():
    lazy = with_unknown_sizes(X)
    assert arrays.as_matrix(lazy).shape == X.shape
    assert targets.as_column(lazy[:, 0], 20).shape == (20,)
    assert np.isnan(lazy.shape[0])


def test_a_lazy_look_computes_nothing():
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        assert arrays.as_matrix(with_unknown_sizes(X), lazy=True).shape[1] == 3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (X[:, 0], ShapeError, ["x", "1 dimension", "x.reshape(-1, 1)"]),
        (X[None], ShapeError, ["x", "3 dimension"]),
        (5, ShapeError, ["x", "int"]),
        ({"a": 1}, ShapeError, ["x", "dict"]),
        ([[1, 2], [3]], ShapeError, ["x", "lengths"]),
        (None, DataError, ["x", "missing"]),
        (X[:0], DataError, ["x", "0 sample", "shape=(0, 3)"]),
        (X[:, :0], DataError, ["x", "0 feature", "shape=(20, 0)"]),
        (X + 0j, DataError, ["x", "complex128"]),
        (X.astype("M8[s]"), DataError, ["x", "row 0", "column 0"]),
        ([[1.0, "two"]], DataError, ["x", "row 0", "column 0", "'1.0'"]),
        (np.array([[1, 2], [3, "four"]], object), DataError, ["x", "row 1", "column 1", "'four'"]),
        (np.array([[1, 2], [None, 4]], object), DataError, ["x", "row 1", "column 0", "'None'"]),
        (pd.DataFrame({"a": pd.array([1, None])}), DataError, ["x", "row 1", "column 0"]),
        (np.ma.masked_array(X, X > 0), DataError, ["x", "masked"]),
        (da.from_array(X.astype(str)), DataError, ["x", "<U32"]),
        (da.from_array(X[:, 0]), ShapeError, ["x", "1 dimension"]),
    ],
)
def test_what_is_no_matrix_of_numbers_is_named(given, error, words):
    with pytest.raises(error, match=naming(*words)):
        arrays.as_matrix(given)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("row", [0, 19, arrays.ROWS_AT_ONCE + 3])
def test_the_first_value_that_is_not_finite_is_named(value, what, row):
    x = np.zeros((max(20, row + 1), 2))
    x[row, 1] = value
    with pytest.raises(DataError, match=naming("z", what, f"row {row + 5}", "column 1")):
        arrays.check_finite(x, "z", 5)
