"""Tables of many columns: their time grows no faster than their columns, and numbers stay right."""

import cProfile
import pstats

import numpy as np
import pandas as pd
import pytest

from dadmm import ADMMRegressor
from dadmm.data.columns import Summary, check_names, encode
from dadmm.data.files import check_columns
from dadmm.data.open import open_path
from dadmm.errors import DataError, InputError
from dadmm.networks.form import Column, Form
from support.messages import naming

pytestmark = pytest.mark.usefixtures("here")

RNG = np.random.default_rng(0)


def wide(columns, rows=3):
    return pd.DataFrame(
        RNG.normal(size=(rows, columns)).round(3), columns=[f"g{i}" for i in range(columns)]
    )


def mixed(columns, rows=3):
    """Return a table of many dtypes, in turn."""
    table = (wide(columns, rows).abs() * 10).round()
    kinds = ["float64", "float32", "int64", "uint8", "bool", "Float64", "Int64"]
    table = pd.concat(
        [table[[name]].astype(kinds[i % len(kinds)]) for i, name in enumerate(table)], axis=1
    )
    return table


def calls(function):
    """Return how many calls of functions a function makes, Python's and those in C."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return pstats.Stats(profile).total_calls


def growth(function, *sizes):
    """Return how many times as many calls a function makes at the second size."""
    few, many = ((lambda n=n: function(n)) for n in sizes)
    few()  # what is imported or compiled once
    return calls(many) / calls(few)


# ------------------------------------------------------------------------------------------ frames


def test_one_row_costs_few_calls_a_column():
    rows = wide(5000, rows=20)
    model = ADMMRegressor((4,), max_iter=1, random_state=0).fit(rows, np.arange(20.0))
    one = rows.iloc[:1]
    model.predict(one)
    # pandas takes hundreds of calls to return a column.
    assert calls(lambda: model.predict(one)) < 30 * 5000


@pytest.mark.parametrize("make", [wide, mixed])
def test_encoding_grows_with_the_columns(make):
    tables = {n: make(n) for n in (300, 3000)}
    form = {n: (Column(),) * n for n in tables}
    assert growth(lambda n: encode(tables[n], form[n], np.float64, "error", "x"), 300, 3000) < 15
    assert growth(lambda n: Summary.of_table(tables[n], "x"), 300, 3000) < 15


def test_numbers_of_many_dtypes_are_encoded_as_one_by_one():
    table = mixed(50, rows=9)
    found = encode(table, (Column(),) * 50, np.float64, "error", "x")
    for i, name in enumerate(table):
        np.testing.assert_array_equal(found[:, i], table[name].to_numpy(np.float64))


def test_numbers_and_categories_in_turn_are_encoded_in_their_places():
    table = pd.DataFrame({"a": [1.0, np.nan], "k": ["u", "v"], "b": [3, 4], "c": [np.nan, 6.0]})
    columns = (Column(None, 9.0), Column(("u", "v")), Column(), Column(None, 8.0))
    found = encode(table, columns, np.float64, "error", "x")
    np.testing.assert_array_equal(found, [[1, 1, 0, 3, 8], [9, 0, 1, 4, 6]])


def test_the_first_column_with_something_wrong_is_named():
    table = wide(30, rows=4)
    table.iloc[2, 20] = table.iloc[1, 25] = np.nan
    with pytest.raises(DataError, match=naming("'g20'", "row 2", "NaN")):
        encode(table, (Column(),) * 30, np.float64, "error", "x")
    table["g11"] = "text"
    with pytest.raises(DataError, match=naming("'g11'", "not numeric")):
        encode(table, (Column(),) * 30, np.float64, "error", "x")


def test_whole_numbers_that_were_promised_are_checked():
    table = wide(4) * 0 + 2
    columns = (Column(),) * 4
    found = encode(table, columns, np.int64, "error", "x")
    assert found.dtype == np.int64
    assert (found == 2).all()
    table["g2"] = 2.5
    with pytest.raises(DataError, match=naming("'g2'", "int64")):
        encode(table, columns, np.int64, "error", "x")


@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_a_summary_is_that_of_each_column(rows, monkeypatch):
    monkeypatch.setattr("dadmm.data.columns.NUMBERS_AT_ONCE", 20_000)
    table = mixed(25, rows)
    table = table.mask(RNG.random(table.shape) < 0.2)
    found = Summary.of_table(table, "x")
    for i, name in enumerate(table):
        cells = table[name].dropna()
        assert found.counts[i] == len(cells)
        if len(cells) and table[name].dtype != object:  # a gap makes objects of booleans
            assert found.means[i] == pytest.approx(cells.astype(float).mean(), rel=1e-6)


def test_a_repeated_name_is_found_in_one_pass():
    names = [*range(20_000), 7]

    def refused():
        with pytest.raises(InputError, match=naming("7", "twice")):
            check_names(names, "x")

    assert calls(refused) < 10 * len(names)


def test_the_order_of_columns_is_put_right_in_linear_time():
    forms = {n: Form(tuple(f"g{i}" for i in range(n))) for n in (300, 3000)}
    assert growth(lambda n: forms[n].order(forms[n].names[::-1], "x"), 300, 3000) < 15


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("text", [False, True])
def test_opening_grows_with_the_columns(kind, text):
    for columns in (300, 3000):
        table = wide(columns)
        if text:
            table = pd.concat([pd.DataFrame({"id": list("abc")}), table], axis=1)
        path = f"{columns}.{kind}"
        table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
        pd.testing.assert_frame_equal(open_path(path), table)
    assert growth(lambda n: open_path(f"{n}.{kind}"), 300, 3000) < 15


def test_names_of_many_files_are_compared_in_linear_time():
    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(f"g{i}") for i in range(3000)]
    check_columns(names[::-1], [f"g{i}" for i in range(3000)], "x")
    assert Name.compared < 20 * len(names)


def test_a_table_keeps_the_dtypes_and_the_order_of_its_columns():
    table = pd.DataFrame(
        {
            "name": ["a ", "b"],
            "x": [1.5, 2.5],
            "count": [1, 2],
            "gap": [1.0, np.nan],
            "note": ["u", None],
            "big": [2.0**60, 1.0],
        }
    )
    table.to_csv("all.csv", index=False)
    found = open_path("all.csv")
    assert list(found.columns) == list(table.columns)
    assert [dtype.kind for dtype in found.dtypes[["x", "count", "gap", "big"]]] == list("fiff")
    assert found["name"].tolist() == ["a", "b"]
    assert found["note"].isna().tolist() == [False, True]
    np.testing.assert_array_equal(found["gap"], table["gap"])
    np.testing.assert_array_equal(found["big"], table["big"])


def test_text_among_numbers_is_named_beside_columns_of_text(monkeypatch):
    from dadmm.data.text import open as csv_files

    monkeypatch.setattr(csv_files, "HEAD", 100)
    rows = [*(f"a,{i},1" for i in range(50)), "b,oops,2"]
    for head, lines in (("k,v,w", rows), ("v,w", [row.split(",", 1)[1] for row in rows])):
        with open("late.csv", "w") as file:
            file.write("\n".join([head, *lines]))
        with pytest.raises(InputError, match=naming("row 50", "v", "'oops'")):
            open_path("late.csv")
