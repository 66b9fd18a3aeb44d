"""Parquet files: their order, index and types, the same whether small or large."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dadmm import NMF, ADMMRegressor
from dadmm.data import open as opening
from dadmm.data.open import open_path
from dadmm.errors import InputError, OptionError
from support.messages import naming
from support.terminal import command

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'tables'")
# Of Dask's writer of Parquet, about pandas 4.
pytestmark = [
    pytest.mark.usefixtures("here"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]

ROWS = 60
RNG = np.random.default_rng(4)
TABLE = pd.DataFrame(RNG.uniform(size=(ROWS, 3)).round(3), columns=list("abc"))
PRICE = TABLE["a"] - 2 * TABLE["b"]


@pytest.fixture(params=[False, True], ids=["small", "large"])
def large(request, monkeypatch):
    """Whether the files are larger than what is read at once."""
    if request.param:
        monkeypatch.setattr(opening, "SMALL", 100)
    return request.param


def opened(path, large, **options):
    found = open_path(path, **options)
    assert isinstance(found, dd.DataFrame) == large
    return found.compute() if large else found


def model(**options):
    return ADMMRegressor((5,), max_iter=2, random_state=0, **options)


def parts(table, count, name="part-{}.parquet", **options):
    for i, rows in enumerate(np.array_split(np.arange(len(table)), count)):
        table.iloc[rows].to_parquet(name.format(i), **options)


# ------------------------------------------------------------------------------------------ order


@pytest.mark.parametrize("path", ["p.parquet", "p.parquet/", "p.parquet/*.parquet", "p.*"])
def test_files_are_read_as_dask_wrote_them(path, large):
    dd.from_pandas(TABLE, npartitions=12).to_parquet("p.parquet", write_index=False)
    Path("p.parquet/_SUCCESS").touch()
    found = opened(path, large)
    pd.testing.assert_frame_equal(found, TABLE)
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), dd.read_parquet("p.parquet").compute().reset_index(drop=True)
    )


def test_every_estimator_and_the_command_line_keep_the_order(large):
    dd.from_pandas(TABLE, npartitions=12).to_parquet("p.parquet", write_index=False)
    fitted = model(run="run").fit("p.parquet", PRICE.to_numpy())
    expected = fitted.predict(TABLE.to_numpy())
    np.testing.assert_allclose(np.asarray(fitted.predict("p.parquet")), expected, rtol=1e-5)
    assert command("predict", "run", "p.parquet", "found.npy").code == 0
    np.testing.assert_allclose(np.load("found.npy"), expected, rtol=1e-5)
    factors = NMF(2, max_iter=2, random_state=0).fit(TABLE)
    np.testing.assert_allclose(
        np.asarray(factors.transform("p.parquet")), factors.transform(TABLE), rtol=1e-4, atol=1e-6
    )


def test_a_folder_without_an_ending_is_a_table(large):
    Path("daily").mkdir()
    parts(TABLE, 12, "daily/day{}.pq", index=False)
    pd.testing.assert_frame_equal(opened("daily", large), TABLE)
    pd.testing.assert_frame_equal(opened("daily/day*", large), TABLE)


def test_a_list_keeps_its_own_order(large):
    parts(TABLE, 3, index=False)
    paths = [Path("part-2.parquet"), "part-0.parquet"]
    found = opened(paths, large)
    np.testing.assert_array_equal(found, [*TABLE.to_numpy()[40:], *TABLE.to_numpy()[:20]])
    fitted = model().fit(paths, "c")
    assert len(fitted.predict(tuple(paths)).index) == 40
    with pytest.raises(InputError, match=naming("none.parquet", "exist")):
        model().fit(["part-0.parquet", "none.parquet"], "c")
    with pytest.raises(InputError, match=naming("list", "CSV", "Parquet")):
        open_path(["part-0.parquet", "x.csv"])


def test_folders_name_columns(large):
    table = TABLE.assign(year=np.repeat([2, 10, 2021], 20), place=np.tile(["a b", "c"], 30))
    table.to_parquet("h.parquet", partition_cols=["year", "place"], index=False)
    expected = table.sort_values(["year", "place"], kind="stable").reset_index(drop=True)
    for path in ("h.parquet", "h.parquet/*/*/*.parquet"):
        found = opened(path, large)
        assert found["year"].dtype == pd.CategoricalDtype([2, 10, 2021])
        assert found["place"].tolist() == expected["place"].tolist()
        np.testing.assert_array_equal(found[["a", "b", "c"]], expected[["a", "b", "c"]])
        assert found["year"].astype(int).tolist() == expected["year"].tolist()
    whole = open_path("h.parquet")
    years = whole["year"].compute() if large else whole["year"]
    assert years.astype(int).tolist() == expected["year"].tolist()


# ------------------------------------------------------------------------------------------ index

INDICES = {
    "named": pd.Index([f"r{i}" for i in range(ROWS)], name="rid"),
    "unnamed": pd.Index([f"r{i}" for i in range(ROWS)]),
    "time": pd.date_range("2020", periods=ROWS, name="time"),
    "filtered": pd.Index(np.arange(ROWS) * 3 + 1),
    "counted": pd.RangeIndex(10, 10 + 2 * ROWS, 2, name="step"),
    "levels": pd.MultiIndex.from_product([list("xyz"), range(ROWS // 3)], names=["s", "i"]),
}


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("count", [1, 12])
def test_the_index_of_the_files_is_kept(kind, count, large):
    table = TABLE.set_axis(INDICES[kind])
    parts(table, count)
    found = opened("part-*.parquet", large)
    pd.testing.assert_frame_equal(found, table, check_freq=False, check_index_type=False)
    predicted = model().fit(TABLE, PRICE).predict("part-*.parquet")
    predicted = predicted.compute() if large else predicted
    assert predicted.index.equals(table.index)
    assert predicted.index.names == table.index.names


def test_rows_without_an_index_are_counted_through(large):
    parts(TABLE.iloc[:30].reset_index(drop=True), 1, "part-0{}.parquet", row_group_size=7)
    parts(TABLE.iloc[30:].reset_index(drop=True), 1, "part-1{}.parquet", row_group_size=7)
    pd.testing.assert_frame_equal(opened("part-*.parquet", large), TABLE)
    pd.testing.assert_frame_equal(opened(["part-00.parquet"], large), TABLE.iloc[:30])
    dd.from_pandas(TABLE, npartitions=4).to_parquet("p.parquet")
    found = opened("p.parquet", large)
    assert found.index.name is None
    pd.testing.assert_frame_equal(found, TABLE, check_index_type=False)


def test_a_large_file_is_cut_at_its_row_groups(monkeypatch):
    monkeypatch.setattr(opening, "SMALL", 1000)
    TABLE.set_axis(INDICES["counted"]).to_parquet("x.parquet", row_group_size=10)
    found = open_path("x.parquet")
    assert 1 < found.npartitions <= 6
    assert found.compute().index.equals(INDICES["counted"])
    assert found["b"].compute().tolist() == TABLE["b"].tolist()
    assert found[["c", "a"]].compute().columns.tolist() == ["c", "a"]


def test_the_index_of_a_config_may_be_that_of_the_file(large):
    TABLE.assign(y=PRICE).set_axis(INDICES["named"]).to_parquet("x.parquet")
    assert opened("x.parquet", large, index="rid").index.equals(INDICES["named"])
    found = opened("x.parquet", large, index="b")
    assert found.index.tolist() == TABLE["b"].tolist()
    assert found.columns.tolist() == ["a", "c", "y"]
    with pytest.raises(OptionError, match=naming("x.parquet", "'ridd'")):
        open_path("x.parquet", index="ridd")
    options = ["--data", "x.parquet", "--target", "y", "--task", "regression", "--run", "run"]
    assert command("fit", *options).code == 0
    for target in ("found.csv", "found.parquet"):
        done = command("predict", "run", "x.parquet", target)
        assert done.code == 0, done.err
    assert pd.read_csv("found.csv")["rid"].tolist() == INDICES["named"].tolist()
    assert opened("found.parquet", False).index.equals(INDICES["named"]) if not large else True


def test_files_of_another_index_are_refused(large):
    TABLE.set_axis(INDICES["named"]).to_parquet("a.parquet")
    TABLE.to_parquet("b.parquet")
    with pytest.raises(InputError, match=naming("b.parquet", "index", "'rid'")):
        open_path("*.parquet")


# ------------------------------------------------------------------------------------------ types


def test_types_are_those_of_pandas(large):
    table = TABLE.assign(
        n=np.arange(ROWS),
        gaps=pd.array([None, *range(1, ROWS)], "Int64"),
        text="u",
        yes=True,
        kind=pd.Categorical(np.resize(list("uvw"), ROWS)),
        when=pd.date_range("2020", periods=ROWS),
    )
    table.to_parquet("x.parquet", row_group_size=20)
    found = opened("x.parquet", large)
    same = ["a", "n", "gaps", "yes", "when"]
    pd.testing.assert_frame_equal(found[same], pd.read_parquet("x.parquet")[same])
    assert found["text"].tolist() == table["text"].tolist()
    assert found["kind"].tolist() == table["kind"].tolist()


def test_whole_numbers_with_gaps_in_one_file_become_floats(large):
    import pyarrow as pa

    pq.write_table(pa.table({"n": [1, 2, 3]}), "part-1.parquet")
    pq.write_table(pa.table({"n": [4, None]}), "part-2.parquet")
    found = open_path("part-*.parquet")
    assert found["n"].dtype == np.float64
    found = found.compute() if large else found
    np.testing.assert_array_equal(found["n"], [1, 2, 3, 4, np.nan])


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "values",
    [
        [1.5, 2.5, 3.5],
        [1, 2, 3],
        ["hut", "house", "hut"],
        pd.Categorical(["hut", "house", "hut"]),
        pd.array([1, 2, 3], dtype="Int64"),
        pd.date_range("2020", periods=3),
        [True, False, True],
    ],
    ids=["floats", "integers", "texts", "categories", "nullable", "dates", "booleans"],
)
def test_a_file_without_any_value_of_a_column_has_the_type_of_the_others(values, first, large):
    files = f"part-{first}.parquet", f"part-{1 - first}.parquet"
    pd.DataFrame({"a": values, "b": 1.0}).to_parquet(files[0])
    pd.DataFrame({"a": [None] * 4, "b": 1.0}).to_parquet(files[1])
    known, unknown = pd.Series(values), pd.Series([None] * 4)
    found = opened("part-*.parquet", large)["a"]
    wider = {"int64": float, "bool": "boolean", "category": str}
    dtype = wider.get(str(known.dtype), known.dtype)
    parts = [known.astype(dtype), unknown.astype(dtype)]
    expected = pd.concat(parts[:: 1 - 2 * first], ignore_index=True)
    if found.dtype in ("category", "string"):  # as dask has text
        found = found.astype(str)
    pd.testing.assert_series_equal(found, expected, check_names=False)


@pytest.mark.parametrize("rows", [3, slice(30, 60)], ids=["one", "a file"])
def test_booleans_may_be_missing(rows, large):
    table = TABLE.assign(good=np.resize([True, True, False], ROWS), price=PRICE)
    table["good"] = table["good"].astype(object)
    table.loc[table.index[rows], "good"] = None
    parts(table, 2)
    x = table.drop(columns="price").astype({"good": "boolean"})
    options = {"categorical": "one_hot", "missing": "impute"}
    expected = model(**options).fit(x, PRICE).predict(x)
    found = model(**options).fit("part-*.parquet", "price")
    assert found.network_.params["w_1"].shape[0] == 4
    np.testing.assert_allclose(found.predict(x), expected, rtol=1e-4)


def test_a_column_without_a_value_in_some_files_is_imputed(large):
    table = TABLE.assign(size=np.resize([10.0, 20.0, 60.0], ROWS), price=PRICE)
    table.iloc[:30].to_parquet("part-0.parquet")
    table.iloc[30:].assign(size=None).to_parquet("part-1.parquet")
    filled = table.assign(size=table["size"].where(table.index < 30, 30.0))
    expected = (
        model().fit(filled.drop(columns="price"), PRICE).predict(filled.drop(columns="price"))
    )
    found = model(missing="impute").fit("part-*.parquet", "price")
    assert found.network_.params["w_1"].shape[0] == 4
    np.testing.assert_allclose(found.predict(table.drop(columns="price"))[:30], expected[:30], 1e-5)


def test_a_column_without_a_value_in_any_file_is_named(large):
    for i in range(2):
        TABLE.assign(size=None).to_parquet(f"part-{i}.parquet")
    with pytest.raises(InputError, match=naming("'size'")):
        model(missing="impute", categorical="one_hot").fit("part-*.parquet", "a")


def test_decimals_are_numbers(large):
    import pyarrow as pa

    whole, broken = pa.decimal128(18, 0), pa.decimal128(30, 2)
    first = {"id": pa.array([10**17 + 1, None], whole), "x": pa.array(["1.25", "2"]).cast(broken)}
    later = {"id": pa.array([3, 4], whole), "x": pa.array([None, "-1.5"]).cast(broken)}
    pq.write_table(pa.table(first), "part-1.parquet")
    pq.write_table(pa.table(later), "part-2.parquet")
    found = opened("part-*.parquet", large)
    np.testing.assert_array_equal(found["id"], [1e17 + 1, np.nan, 3, 4])
    np.testing.assert_array_equal(found["x"], [1.25, 2, np.nan, -1.5])
    fitted = model(missing="impute").fit("part-*.parquet", np.arange(4.0))
    predicted = np.asarray(fitted.predict("part-*.parquet"))
    np.testing.assert_allclose(predicted, fitted.predict(found.astype(float)), rtol=1e-5)
    pq.write_table(pa.table(first), "ids.parquet")
    assert opened("ids.parquet", large)["id"].dropna().tolist() == [1e17]


def test_codes_that_name_folders_keep_their_zeros(large):
    for code in ("01001", "11164"):
        TABLE.assign(code=code).to_parquet("c.parquet", partition_cols=["code"], index=False)
    assert opened("c.parquet", large)["code"].unique().tolist() == ["01001", "11164"]


def test_codes_of_some_folders_are_those_of_training(large):
    for folder, codes in (("all", ["1", "2A"]), ("some", ["1"])):
        for code in codes:
            TABLE.assign(code=code).to_parquet(folder, partition_cols=["code"], index=False)
    fitted = model(categorical="one_hot").fit("all", "c")
    expected = np.asarray(fitted.predict(TABLE.assign(code="1")))
    np.testing.assert_array_equal(np.asarray(fitted.predict("some")), expected)
