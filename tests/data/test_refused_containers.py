"""Tables and cubes that cannot be trained on end in one line."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask.delayed import delayed

from dadmm.data.columns import MOST_CATEGORIES
from dadmm.errors import DataError, InputError, OptionError, ShapeError
from support.messages import naming
from support.runs import bits
from support.tables import (
    CUBE,
    CUBE_Y,
    ENCODED,
    FRAME,
    INDEX,
    NAMES,
    PRICE,
    ROWS,
    X,
    regressor,
)

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")


@pytest.fixture(scope="module")
def expected():
    """What NumPy arrays give."""
    return regressor().fit(X, PRICE)


T = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 1.0], "y": [1.0, 2.0, 3.0]})


MIXED = pd.DataFrame({"a": np.array([1, "x", 2.5], object), "y": [1.0, 2.0, 3.0]})


MANY = pd.DataFrame({"a": [f"{i}" for i in range(MOST_CATEGORIES + 1)]}).assign(y=1.0)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("table", "y", "options", "error", "words"),
    [
        (T, "yy", {}, OptionError, ["column", "x", "'yy'", "'y'"]),
        (
            T.assign(c="u"),
            "y",
            {},
            DataError,
            ["numeric", "c", "categorical='one_hot'"],
        ),
        (T.assign(c=pd.Timestamp(0)), "y", {}, DataError, ["numeric", "c", "drop"]),
        (T.assign(c=pd.Timestamp(0)), "y", ENCODED, DataError, ["numeric", "c", "drop"]),
        (T.assign(c=1j), "y", ENCODED, DataError, ["numeric", "c", "drop"]),
        (T.assign(b=[1, None, 2]), "y", {}, DataError, ["x", "NaN", "'b'", "impute"]),
        (T.assign(b=np.nan), "y", ENCODED, DataError, ["'b'", "drop"]),
        (T.assign(y=[1, None, 2]), "y", {}, DataError, ["y", "NaN", "row 1"]),
        (T.assign(b=[1, np.inf, 2]), "y", {}, DataError, ["x", "infinity", "row 1", "column 1"]),
        (MANY, "y", ENCODED, DataError, ["'a'", "1000 categories"]),
        (T.iloc[:0], "y", {}, DataError, ["x", "empty"]),
        (T[["y"]], "y", {}, DataError, ["x", "columns"]),
        (T, T["y"][:2].to_numpy(), {}, ShapeError, ["y", "2 rows", "x", "3"]),
    ],
)
def test_bad_tables_end_in_one_line(table, y, options, error, words, lazy):
    x = dd.from_pandas(table, npartitions=2) if lazy else table
    with pytest.raises(error, match=naming(*words)) as caught:
        regressor(**options).fit(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fit", "error", "words"),
    [
        (
            lambda: regressor(**ENCODED).fit(MIXED, "y"),
            DataError,
            ["'a'", "float", "int", "str"],
        ),
        (
            lambda: regressor(**ENCODED).fit(MIXED.assign(a=np.array([1, 2, 3], object)), "y"),
            DataError,
            ["'a'", "astype(float)"],
        ),
        (
            lambda: regressor().fit(T.set_axis(["a", "a", "y"], axis=1), "y"),
            InputError,
            ["x", "'a'", "twice"],
        ),
        (
            lambda: regressor().fit(T.set_axis(["a", 1, "y"], axis=1), "y"),
            InputError,
            ["string names"],
        ),
        (lambda: regressor().fit(X, "price"), InputError, ["x", "y", "columns"]),
        (
            lambda: regressor(sample_dims="tme").fit(CUBE, CUBE_Y),
            OptionError,
            ["dimension", "x", "'tme'", "'time'"],
        ),
        (lambda: regressor().fit(CUBE, CUBE_Y[:2]), DataError, ["coordinates", "'time'"]),
        (
            lambda: regressor().fit(CUBE.drop_vars("time"), CUBE_Y[:2]),
            ShapeError,
            ["y", "'time': 2", "x", "'time': 5"],
        ),
        (
            lambda: regressor().fit(CUBE, CUBE_Y.rename(time="t", lat="l", lon="o")),
            ShapeError,
            ["y", "x", "dimensions"],
        ),
        (
            lambda: regressor(sample_dims=("time", "lat")).fit(CUBE, CUBE_Y.isel(lat=0)),
            ShapeError,
            ["y", "dimension", "'lat'"],
        ),
        (
            lambda: regressor().fit(
                CUBE.to_dataset("feature").assign(s=("lat", list("uvwx"))), CUBE_Y
            ),
            DataError,
            ["x", "numeric", "s", "<U1"],
        ),
        (
            lambda: regressor().fit(CUBE.to_dataset("feature"), "prise"),
            OptionError,
            ["variable", "x", "'prise'"],
        ),
        (lambda: regressor().fit(xr.Dataset(), PRICE), InputError, ["x", "empty"]),
        (
            lambda: regressor().fit(CUBE, CUBE_Y.to_dataset()),
            InputError,
            ["y", "data set"],
        ),
        (
            lambda: regressor(categorical="onehot").fit(T, "y"),
            OptionError,
            ["categorical='onehot'", "'refuse'", "'one_hot'"],
        ),
        (lambda: regressor(missing=None).fit(T, "y"), OptionError, ["missing=None", "'refuse'"]),
        (
            lambda: regressor(handle_unknown=0).fit(T, "y"),
            OptionError,
            ["handle_unknown=0", "'error'"],
        ),
        (lambda: regressor(sample_dims=()).fit(X, PRICE), OptionError, ["sample_dims=()"]),
        (lambda: regressor(sample_dims=3).fit(X, PRICE), OptionError, ["sample_dims=3"]),
    ],
)
def test_bad_containers_end_in_one_line(fit, error, words):
    with pytest.raises(error, match=naming(*words)) as caught:
        fit()
    assert "\n" not in str(caught.value)


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
    with pytest.raises(DataError, match=naming("float64", "int64")):
        regressor().fit(x, y)
    fits = da.from_array(whole, chunks=(25, 4)).map_blocks(lambda b: b.astype(float), dtype=int)
    assert bits(regressor().fit(fits, PRICE)) == bits(regressor().fit(whole, PRICE))


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
        with pytest.raises(DataError, match=naming("index", "order")):
            fit()
    assert bits(regressor().fit(FRAME, y)) == expected
    assert bits(regressor().fit(lazy_frame(), lazy_y())) == expected
    assert bits(regressor().fit(lazy_frame(turned), lazy_y(turned))) != expected
    assert bits(regressor().fit(FRAME, y.reset_index(drop=True))) == expected
    turned_both = bits(regressor().fit(FRAME[turned], y[turned]))
    assert turned_both == bits(regressor().fit(X[turned], PRICE[turned]))


def test_what_holds_several_arrays_names_them(tmp_path):
    np.savez(tmp_path / "x.npz", u=X, v=PRICE)
    tree = xr.DataTree.from_dict({"/": xr.Dataset({"u": ("t", PRICE)})})
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with np.load(tmp_path / "x.npz") as packed, h5py.File(tmp_path / "x.h5", "w") as file:
        file["u"], file["v"] = X, PRICE
        for given in (packed, file, tree):
            with pytest.raises(InputError, match=naming("x", "u", "x['u']")) as caught:
                regressor().fit(given, PRICE)
            assert "reshape" not in str(caught.value)


def test_data_sets_of_arrow_are_to_be_read_first(tmp_path, expected):
    dataset = pytest.importorskip("pyarrow.dataset", reason="needs the extra 'tables'")
    FRAME.to_parquet(tmp_path / "x.parquet", index=False)
    files = dataset.dataset(tmp_path / "x.parquet")
    for given in (files, files.scanner()):
        with pytest.raises(InputError, match=naming("x", "x.to_table()")):
            expected.predict(given)
    np.testing.assert_array_equal(expected.predict(files.to_table()), expected.predict(X))


def test_a_delayed_object_names_what_makes_an_array_of_it():
    with pytest.raises(InputError, match=naming("x", "delayed", "from_delayed")):
        regressor().fit(delayed(X), PRICE)
    lazy = da.from_delayed(delayed(X), X.shape, X.dtype)
    assert bits(regressor().fit(lazy, PRICE)) == bits(regressor().fit(X, PRICE))


def test_masked_blocks_are_refused_as_masked_arrays_are():
    masked = np.ma.masked_greater(X, X.mean())
    for given in (masked, da.from_array(masked, chunks=(10, -1))):
        for options in ({}, {"missing": "impute"}):
            with pytest.raises(DataError, match=naming("x", "masked", "fill")):
                regressor(**options).fit(given, PRICE)


def test_objects_that_do_not_convert_say_why():
    class Far:
        ndim, shape = 2, X.shape

        def __array__(self, *args, **options):
            raise TypeError("call .cpu() first")

    with pytest.raises(DataError, match=naming("x", "NumPy", ".cpu()")):
        regressor().fit(Far(), PRICE)
