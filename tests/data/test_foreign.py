"""Tables of other libraries: names, numbers and categories are those of a pandas frame."""

import datetime as dt
from decimal import Decimal

import dask.array as da
import numpy as np
import pandas as pd
import pytest

from dadmm import NMF
from dadmm.data.columns import kinds
from dadmm.data.foreign import as_pandas
from dadmm.errors import DataError, InputError, ShapeError
from support.messages import naming
from support.runs import bits
from support.tables import (
    ENCODED,
    LABELS,
    NAMES,
    PRICE,
    ROWS,
    X,
    classifier,
    holed,
    indexed,
    regressor,
)

pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")

FRAME = pd.DataFrame(X, columns=NAMES)
OTHER = ["d", "b", "a", "c"]


class Speaks:
    """A table of an unknown library, which hands over its columns in one way."""

    def __init__(self, frame, way):
        def hand_over(*args, **options):
            return getattr(arrow(frame), way)(*args, **options)

        setattr(type(self), way, staticmethod(hand_over))


def arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def polars(frame):
    return pytest.importorskip("polars", reason="needs polars").from_arrow(arrow(frame))


def speaking(way):
    return lambda frame: type("Foreign", (Speaks,), {})(frame, way)


def records(frame):
    return frame.to_records(index=False)


class LikePandas:
    """A frame that works as pandas', such as those of cuDF and Modin."""

    iloc = columns = None

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame


TABLES = {
    "pyarrow": arrow,
    "pyarrow in pieces": lambda frame: pa.concat_tables([arrow(frame[:20]), arrow(frame[20:])]),
    "record batch": lambda frame: arrow(frame).to_batches()[0],
    "stream that is read once": lambda frame: arrow(frame).to_reader(),
    "polars": polars,
    "Arrow stream": speaking("__arrow_c_stream__"),
    "interchange": speaking("__dataframe__"),
    "like pandas": LikePandas,
    "records": records,
    "records in another byte order": lambda frame: records(frame).astype(
        [(name, ">f8") for name in frame.columns]
    ),
    "dict of lists": lambda frame: {str(name): frame[name].tolist() for name in frame},
    "dict of columns": lambda frame: {name: arrow(frame)[name] for name in frame.columns},
}


@pytest.fixture(scope="module")
def plain():
    return regressor().fit(X, PRICE)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_trains_and_predicts_by_name_as_numpy(name, plain):
    make = TABLES[name]
    model = regressor().fit(make(FRAME), PRICE)
    assert bits(model) == bits(plain)
    assert model.feature_names_in_.tolist() == NAMES
    close(model.predict(make(FRAME[OTHER])), plain.predict(X))
    close(regressor().fit(FRAME, PRICE).predict(make(FRAME[OTHER])), plain.predict(X))
    close(plain.predict(make(FRAME)), plain.predict(X))
    for wrong in (FRAME.rename(columns={"b": "z"}), FRAME[["a", "b", "c"]]):
        with pytest.raises(ShapeError, match=naming("feature names", "missing")):
            model.predict(make(wrong))
    table = FRAME.assign(price=PRICE)
    named = regressor().fit(make(table), "price")
    assert bits(named) == bits(plain)
    close(named.predict(make(table)), plain.predict(X))
    assert named.score(make(table), "price") == pytest.approx(plain.score(X, PRICE))


@pytest.mark.parametrize("name", TABLES)
def test_targets_and_weights_come_in_tables_too(name):
    both, weight = np.stack([PRICE, -PRICE], axis=1), np.linspace(1, 2, ROWS)
    expected = regressor().fit(X, both, sample_weight=weight)
    make = TABLES[name]
    y = pd.DataFrame(both, columns=["p", "q"])
    w = pd.DataFrame({"w": weight})
    model = regressor().fit(make(FRAME), make(y), sample_weight=make(w))
    assert bits(model) == bits(expected)
    assert list(model.predict(indexed(FRAME)).columns) == ["p", "q"]
    found = model.score(make(FRAME), make(y[["q", "p"]]), make(w))
    assert found == pytest.approx(expected.score(X, both, weight))


COLUMNS = {
    "pyarrow": lambda values: pa.chunked_array([values[:20], values[20:]]),
    "pyarrow's array": pa.array,
    "polars": lambda values: pytest.importorskip("polars", reason="needs polars").Series(
        "t", values
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_targets_labels_and_weights(name, plain):
    make = COLUMNS[name]
    model = regressor().fit(X, make(PRICE.tolist()), sample_weight=make([1.0] * ROWS))
    assert bits(model) == bits(regressor().fit(X, PRICE, sample_weight=np.ones(ROWS)))
    assert model.predict(indexed(FRAME)).name == ("t" if name == "polars" else None)
    assert model.score(X, make(PRICE.tolist())) == pytest.approx(plain.score(X, PRICE))
    sorter = classifier().fit(X, make(LABELS.tolist()))
    assert bits(sorter) == bits(classifier().fit(X, LABELS))
    assert sorter.classes_.tolist() == ["no", "yes"]
    exact = regressor().fit(X, make([Decimal(f"{p:.3f}") for p in PRICE]))
    assert bits(exact) == bits(regressor().fit(X, PRICE.round(3)))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("which", ["y", "sample_weight"])
def test_gaps_in_columns_are_refused_with_their_row(name, which):
    gap = COLUMNS[name]([*PRICE[:7].tolist(), None, *PRICE[8:].tolist()])
    given = {"y": PRICE, which: gap}
    with pytest.raises(DataError, match=naming(which, "row 7")):
        regressor().fit(X, **given)
    with pytest.raises(DataError, match=naming(which, "row 7")):
        regressor().fit(X, PRICE).score(X, **given)
    words = COLUMNS[name]([*LABELS[:7].tolist(), None, *LABELS[8:].tolist()])
    with pytest.raises(DataError, match=naming("y", "row 7")):
        classifier().fit(X, words)


def test_rows_of_tables_without_an_index_match_by_position(plain):
    turned = pd.Index(np.random.default_rng(0).permutation(ROWS))
    for make in (arrow, polars):
        assert bits(regressor().fit(make(FRAME), pd.Series(PRICE, turned))) == bits(plain)
        y = make(pd.DataFrame({"y": PRICE}))
        assert bits(regressor().fit(FRAME.set_index(turned), y)) == bits(plain)


def test_an_index_that_a_table_carries_is_no_column(plain):
    table = FRAME.set_index(pd.Index([f"r{i}" for i in range(ROWS)], name="id"))
    found = regressor().fit(FRAME, PRICE).predict(pa.Table.from_pandas(table))
    assert type(found) is np.ndarray
    close(found, plain.predict(X))


# ----------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("make", [arrow, polars, speaking("__arrow_c_stream__")])
def test_categories_and_gaps_are_those_of_pandas(make):
    table = holed().drop(columns="price")
    expected = regressor(**ENCODED).fit(table, PRICE)
    table["size"] = table["size"].cat.rename_categories({1: "l", 2: "m", 3: "s"})
    model = regressor(**ENCODED).fit(make(table), PRICE)
    assert bits(model) == bits(expected)
    np.testing.assert_array_equal(model.predict(make(table)), model.predict(table))


@pytest.mark.parametrize("make", [arrow, polars])
def test_numbers_keep_their_dtype_and_are_never_objects(make):
    table = make(
        pd.DataFrame(
            {
                "small": np.arange(3, dtype=np.int8),
                "single": np.arange(3, dtype=np.float32),
                "exact": [Decimal("1.25"), Decimal("2.50"), None],
                "none": [None, None, None],
                "flag": pd.array([True, None, False], "boolean"),
                "count": pd.array([1, None, 3], "Int64"),
            }
        )
    )
    found = as_pandas(table, "x")
    assert list(map(str, found.dtypes))[:4] == ["int8", "float32", "float64", "float64"]
    assert kinds(found.dtypes) == ["number"] * 6
    assert found["exact"].tolist()[:2] == [1.25, 2.5]
    assert found["flag"].astype(float).tolist()[::2] == [1.0, 0.0]
    assert found.isna().sum().tolist() == [0, 0, 1, 3, 1, 1]
    sure = make(pd.DataFrame({"flag": [True, False]}))
    assert as_pandas(sure, "x")["flag"].dtype == bool


ODD = {
    "list": [[1.0, 2.0]] * ROWS,
    "struct": [{"u": 1.0}] * ROWS,
    "bytes": [b"u"] * ROWS,
    "day": [dt.date(2020, 1, 1)] * ROWS,
    "time": [dt.datetime(2020, 1, 1, 5)] * ROWS,
    "hour": [dt.time(5)] * ROWS,
    "span": [dt.timedelta(1)] * ROWS,
}


@pytest.mark.parametrize("options", [{}, ENCODED])
@pytest.mark.parametrize("kind", ODD)
def test_columns_that_are_neither_numbers_nor_categories_are_refused_by_name(kind, options):
    table = FRAME.assign(odd=ODD[kind])
    for given in (table, arrow(table), polars(table)):
        with pytest.raises(DataError, match=naming("x", "odd", "row 0", "convert", "drop")):
            regressor(**options).fit(given, PRICE)


def test_arrow_dtypes_of_pandas_are_told_apart():
    for cells in (ODD["list"], ODD["struct"], ODD["bytes"]):
        table = FRAME.assign(odd=pd.array(cells, pd.ArrowDtype(pa.array(cells).type)))
        with pytest.raises(DataError, match=naming("odd", "row 0", "convert")):
            regressor(**ENCODED).fit(table, PRICE)
    exact = pd.array([Decimal(1), Decimal(2)] * (ROWS // 2), pd.ArrowDtype(pa.decimal128(5, 2)))
    model = regressor().fit(FRAME.assign(exact=exact), PRICE)
    assert bits(model) == bits(regressor().fit(FRAME.assign(exact=[1.0, 2.0] * (ROWS // 2)), PRICE))


@pytest.mark.parametrize("cells", [[Decimal(1)] * ROWS, [1] * ROWS])
def test_numbers_in_a_column_of_objects_are_told_how_to_convert(cells):
    table = FRAME.assign(odd=np.array(cells, object))
    with pytest.raises(DataError, match=naming("odd", "astype(float)")):
        regressor().fit(table, PRICE)
    assert regressor().fit(table.astype({"odd": float}), PRICE).n_features_in_ == 5


# ---------------------------------------------------------------------------------- nearly a table


class LazyTable:
    """What a lazy frame of polars shows of itself."""

    def collect(self): ...

    def collect_schema(self): ...


class StoredRecords:
    """What an array of records in zarr or HDF5 shows of itself."""

    dtype, shape, ndim = records(FRAME).dtype, (ROWS,), 1


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (LazyTable(), ["x", "lazy", "x.collect()"]),
        (FRAME.to_dict("records"), ["x", "dicts", "pd.DataFrame(x)"]),
        ({"a": [1.0, 2.0], "b": [1.0]}, ["x", "table", "length"]),
        ({"a": 1.0, "b": 2.0}, ["x", "table"]),
        ({"a": X}, ["x", "table", "1-dimensional"]),
        (da.from_array(records(FRAME), chunks=20), ["x", "a, b, c, d", "from_dask_array(x)"]),
        (StoredRecords(), ["x", "a, b, c, d", "pd.DataFrame(x[:])"]),
    ],
)
def test_what_is_nearly_a_table_ends_in_one_line(x, words):
    with pytest.raises(InputError, match=naming(*words)) as caught:
        regressor().fit(x, PRICE)
    assert "\n" not in str(caught.value)


class Broken:
    """A query that fails when its rows are asked for."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise RuntimeError("no such column")


@pytest.mark.parametrize("which", ["X", "y", "sample_weight"])
def test_a_table_that_fails_ends_in_one_line(which):
    with pytest.raises(DataError, match=naming("could not be computed", "no such column")):
        regressor().fit(**{"X": X, "y": PRICE, which: Broken()})


def test_columns_may_have_the_names_of_methods(plain):
    methods = ["map_partitions", "to_pandas", "collect", "dtype"]
    table = FRAME.set_axis(methods, axis=1)
    for x in (table, arrow(table), dd.from_pandas(table, npartitions=2)):
        assert bits(regressor().fit(x, PRICE)) == bits(plain)
        assert bits(regressor().fit(x, "dtype")) == bits(regressor().fit(X[:, :3], X[:, 3]))


def test_the_cures_work(plain):
    pl = pytest.importorskip("polars", reason="needs polars")
    lazy = pl.from_arrow(arrow(FRAME)).lazy()
    with pytest.raises(InputError, match=naming("collect()")):
        regressor().fit(lazy, PRICE)
    for x in (
        lazy.collect(),
        pd.DataFrame(FRAME.to_dict("records")),
        dd.from_dask_array(da.from_array(records(FRAME), chunks=20)),
    ):
        assert bits(regressor().fit(x, PRICE)) == bits(plain)


def test_without_pyarrow_the_error_names_it(monkeypatch):
    table = speaking("__arrow_c_stream__")(FRAME)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=naming("x", "Foreign", "dadmm[tables]")):
        regressor().fit(table, PRICE)


def test_a_factorisation_reads_tables():
    x = np.abs(X)
    expected = NMF(2, max_iter=3, random_state=0).fit(x)
    for make in (arrow, polars):
        model = NMF(2, max_iter=3, random_state=0).fit(make(pd.DataFrame(x, columns=NAMES)))
        found = model.transform(make(pd.DataFrame(x, columns=NAMES)[OTHER]))
        close(found, expected.transform(x))
