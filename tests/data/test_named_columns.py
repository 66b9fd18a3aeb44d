"""Columns whose names are numbers, dates or tuples: taken by name, as those of text are."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dadmm import load
from dadmm.data.write import write
from dadmm.errors import InputError, OptionError, ShapeError
from support.messages import naming
from support.runs import bits
from support.tables import ENCODED, INDEX, PRICE, ROWS, X, holed, indexed, regressor

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")

COLUMNS = {
    "positions": [0, 1, 2, 3],
    "years": [2000, 2001, 2002, 2003],
    "decimals": [0.5, 1.0, 1.5, 2.0],
    "days": pd.date_range("2020-01-01", periods=4),
    "hours": pd.date_range("2020-01-01", periods=4, freq="h", tz="Europe/Berlin"),
    "dates": [dt.date(2020, 1, day) for day in (1, 2, 3, 4)],
    "levels": pd.MultiIndex.from_product([["a", "b"], [1, 2]]),
    "months": pd.period_range("2020-01", periods=4, freq="M"),
    "digits": ["0", "1", "2", "3"],
}
OTHER = [3, 1, 0, 2]


def frame(kind):
    return pd.DataFrame(X, columns=COLUMNS[kind], index=INDEX)


def holding(table, lazy):
    return dd.from_pandas(table, npartitions=3) if lazy else table


@pytest.fixture(scope="module")
def plain():
    return regressor().fit(X, PRICE)


def close(found, plain):
    np.testing.assert_allclose(np.asarray(found), plain.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", COLUMNS)
def test_another_order_is_put_right_and_other_names_are_refused(kind, lazy, plain, tmp_path):
    table = frame(kind)
    trained = regressor(run=tmp_path / "run").fit(holding(table, lazy), PRICE)
    assert bits(trained) == bits(plain)
    again = load(tmp_path / "run")
    assert again._form == trained._form
    missing = table.drop(columns=table.columns[1])
    for model in (trained, again):
        assert hasattr(model, "feature_names_in_") == (kind in ("digits", "months"))
        close(model.predict(holding(table.iloc[:, OTHER], lazy)), plain)
        close(model.predict(table.iloc[:, OTHER].iloc[:, ::-1]), plain)
        close(model.predict(X), plain)  # arrays have no names
        for wrong in (missing.set_axis([77, 78, 79], axis=1), missing):
            with pytest.raises(ShapeError, match=naming("feature")):
                model.predict(holding(wrong, lazy))
    close(plain.predict(holding(table, lazy)), plain)


@pytest.mark.parametrize("kind", ["years", "decimals", "days", "dates", "months"])
def test_names_that_a_file_turned_into_text_are_the_same_names(kind, plain):
    table = frame(kind)
    model = regressor().fit(table, PRICE)
    texts = table.iloc[:, OTHER].set_axis(map(str, table.columns[OTHER]), axis=1)
    close(model.predict(texts), plain)
    turned = regressor().fit(X[:, OTHER], PRICE).predict(X[:, OTHER])
    found = regressor().fit(texts, PRICE).predict(table)
    np.testing.assert_allclose(found, turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["years", "days", "levels"])
def test_other_names_of_the_kind_are_refused(kind):
    table = frame(kind)
    model = regressor().fit(table, PRICE)
    other = table.set_axis([*table.columns[:3], table.columns[1]], axis=1)
    with pytest.raises(InputError, match=naming("twice")):
        model.predict(other)
    for names in ([1, 2, 3, 4], list("abcd"), pd.date_range("2021", periods=4)):
        with pytest.raises(ShapeError, match=naming("feature names", "unseen", "missing")):
            model.predict(table.set_axis(names, axis=1))


def test_a_frame_made_of_an_array_has_no_names_but_its_own(plain):
    unnamed = pd.DataFrame(X)
    model = regressor().fit(unnamed, PRICE)
    close(model.predict(unnamed[[2, 0, 3, 1]]), plain)
    close(model.predict(pd.DataFrame(X, columns=list("wxyz"))), plain)
    close(regressor().fit(pd.DataFrame(X, columns=list("wxyz")), PRICE).predict(unnamed), plain)
    close(plain.predict(unnamed), plain)
    with pytest.raises(ShapeError, match=naming("unseen", "4", "missing", "0")):
        model.predict(pd.DataFrame(X, columns=[1, 2, 3, 4]))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", COLUMNS)
def test_targets_are_named_by_what_their_columns_are_called(kind, lazy):
    table = frame(kind)
    names = list(table.columns)
    one, two = regressor().fit(X[:, 1:], X[:, 0]), regressor().fit(X[:, [0, 2]], X[:, [3, 1]])
    x = holding(table, lazy)
    model = regressor().fit(x, names[0])
    assert bits(model) == bits(one)
    # The target's own column may stay, and is left out.
    for given in (x, x.iloc[:, [3, 2, 1]]):
        found = model.predict(given if lazy else indexed(given))
        np.testing.assert_allclose(np.asarray(found), one.predict(X[:, 1:]), rtol=1e-4, atol=1e-5)
    assert str(found.name) == str(names[0])
    assert model.score(x, names[0]) == pytest.approx(one.score(X[:, 1:], X[:, 0]))
    both = regressor().fit(x, [names[3], names[1]])
    assert bits(both) == bits(two)
    assert both.score(x, [names[1], names[3]]) == pytest.approx(both.score(x, [names[3], names[1]]))
    columns = list(both.predict(x if lazy else indexed(x)).columns)
    assert len(columns) == 2
    if kind not in ("digits", "months"):
        assert columns == [names[3], names[1]]


def test_repeated_names_of_targets_name_nothing(tmp_path):
    y = pd.DataFrame(np.stack([PRICE, -PRICE], axis=1), columns=["p", "p"])
    model = regressor(run=tmp_path / "run").fit(X, y)
    found = load(tmp_path / "run").predict(indexed(pd.DataFrame(X)))
    assert list(found.columns) == [0, 1]
    np.testing.assert_array_equal(found.to_numpy(), model.predict(X))


def test_a_target_that_is_no_column_is_named():
    for y in (7, 7.5, dt.date(2020, 1, 1), np.int64(7)):
        with pytest.raises(OptionError, match=naming("column", "x", "2000")):
            regressor().fit(frame("years"), y)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_list_with_a_number_for_each_row_holds_targets(lazy):
    few = pd.DataFrame(X[:4])
    y = [3, 1, 0, 2]
    model = regressor().fit(holding(few, lazy), y)
    assert bits(model) == bits(regressor().fit(X[:4], y))


def test_categories_of_numbered_columns_are_encoded_by_name():
    table = holed().drop(columns="price")
    named = regressor(**ENCODED).fit(table, PRICE)
    years = table.set_axis(range(2000, 2007), axis=1)
    model = regressor(**ENCODED).fit(years, PRICE)
    assert bits(model) == bits(named)
    np.testing.assert_array_equal(model.predict(years.iloc[:, ::-1]), named.predict(table))
    with pytest.raises(InputError, match=naming("names", "2000, 2001")):
        model.predict(X)


def test_coordinates_of_one_dimension_are_names_of_columns(plain):
    cube = xr.DataArray(X, dims=("row", "year"), coords={"year": COLUMNS["years"]})
    table = frame("years")
    close(regressor().fit(cube, PRICE).predict(table.iloc[:, OTHER]), plain)
    close(regressor().fit(table, PRICE).predict(cube[:, OTHER]), plain)
    with pytest.raises(ShapeError, match=naming("unseen", "missing", "2000")):
        regressor().fit(table, PRICE).predict(cube.assign_coords(year=[1, 2, 3, 4]))
    repeated = cube.assign_coords(year=[1, 1, 2, 2])  # tells no columns apart
    close(regressor().fit(repeated, PRICE).predict(repeated), plain)


def test_targets_of_several_levels_name_outputs_of_xarray():
    levels = pd.MultiIndex.from_product([["p"], [1, 2]])
    y = pd.DataFrame(np.stack([PRICE, -PRICE], axis=1), columns=levels)
    x = xr.DataArray(X, dims=("row", "column"))
    found = regressor().fit(x, y).predict(x)
    assert found.dims == ("row", "output")
    assert found["output"].values.tolist() == ["('p', '1')", "('p', '2')"]
    assert found.shape == (ROWS, 2)
    table = regressor().fit(pd.DataFrame(X), y).predict(indexed(pd.DataFrame(X)))
    assert table.columns.equals(levels)


@pytest.mark.parametrize("lazy", [False, True])
def test_training_goes_on_by_name(lazy):
    table = frame("years")
    turned = table.iloc[:, OTHER]
    straight, other = (regressor().partial_fit(holding(table, lazy), PRICE) for _ in range(2))
    straight.partial_fit(holding(table, lazy), PRICE)
    assert bits(other.partial_fit(holding(turned, lazy), PRICE)) == bits(straight)
    with pytest.raises(ShapeError, match=naming("unseen", "missing")):
        other.partial_fit(holding(table.set_axis([1, 2, 3, 4], axis=1), lazy), PRICE)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("lazy", [False, True])
def test_outputs_of_such_names_are_written_under_one_line_of_names(lazy, suffix, tmp_path):
    x = holding(pd.DataFrame(X), lazy)
    for names in ([("p", 1), ("p", 2)], [5, 7]):
        y = pd.DataFrame(np.stack([PRICE, -PRICE], axis=1), columns=pd.Index(names))
        for target, width in ((y, 2), (y.iloc[:, 0], 1)):
            found = regressor().fit(X, target).predict(x if lazy else indexed(x))
            path = tmp_path / f"{width}{names[0]}{suffix}"
            write(found, str(path))
            read = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
            assert read.columns.tolist() == list(map(str, names[:width]))
            np.testing.assert_allclose(
                read.to_numpy().reshape(-1), np.asarray(found).reshape(-1), rtol=1e-5
            )
