"""What CSV says, read in memory and block by block to the same table, or refused with the cure."""

import gzip
import zipfile
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadmm.data import open as opening
from dadmm.data.open import open_path
from dadmm.data.table import Table
from dadmm.data.text.cells import MISSING
from dadmm.errors import DadmmError, InputError, OptionError
from support.messages import naming

pytestmark = pytest.mark.usefixtures("here")
NAN = float("nan")


@pytest.fixture(params=["whole", "in blocks"])
def size(request, monkeypatch):
    """Count everything as small, or what has more than 8 bytes as large."""
    if request.param == "in blocks":
        monkeypatch.setattr(opening, "SMALL", 8)
    return request.param


def write(text, name="x.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding))
    return name


def read(path="x.csv", known=None, **options):
    found = open_path(Table(path, **options), known=known)
    large = sum(file.stat().st_size for file in Path().glob(path)) > opening.SMALL
    assert isinstance(found, dd.DataFrame) == large
    if isinstance(found, dd.DataFrame):
        meta, found = found._meta, found.compute()
        assert list(meta.dtypes) == list(found.dtypes)
    return found


def same(found, wanted):
    """Compare values and kinds of dtypes."""
    assert list(found.columns) == list(wanted)
    for column, values in wanted.items():
        cells = found[column].tolist()
        gone = [cell is None or cell is pd.NA or cell != cell for cell in cells]
        assert gone == [value is None or value != value for value in values], column
        for cell, value, missing in zip(cells, values, gone, strict=True):
            if not missing:
                assert (type(cell), cell) == (type(value), value), column


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("a,b\n1,2\n3,4.5\n", {}, {"a": [1, 3], "b": [2.0, 4.5]}),
        # Ids, codes and labels stay as they were written.
        ("a,b\n1234567890123456789,1\n2,1\n", {}, {"a": [1234567890123456789, 2], "b": [1, 1]}),
        ("a,b\n9007199254740993,1\n,2\n", {}, {"a": [9007199254740993, None], "b": [1, 2]}),
        ("a,b\n18446744073709551615,1\n0,2\n", {}, {"a": [2**64 - 1, 0], "b": [1, 2]}),
        ("a,b\n18446744073709551616,1\n0,2\n", {}, {"a": [str(2**64), "0"], "b": [1, 2]}),
        ("a,b\n007,1\n08,2\n", {}, {"a": ["007", "08"], "b": [1, 2]}),
        ("a,b\n007,1\n08,2\n", {"dtype": {"a": "int64"}}, {"a": [7, 8], "b": [1, 2]}),
        ("a,b\n0x1f,1\n0x20,2\n", {}, {"a": ["0x1f", "0x20"], "b": [1, 2]}),
        ("a,b\n20200131,1\n20200201,2\n", {}, {"a": [20200131, 20200201], "b": [1, 2]}),
        ("a,b\n1_0,1\n2_0,2\n", {}, {"a": ["1_0", "2_0"], "b": [1, 2]}),
        # Missing values: words in numbers, nothing but the empty cell in text.
        ("a,b\n1,NA\n3,EU\n", {}, {"a": [1, 3], "b": ["NA", "EU"]}),
        ("a,b\nNA,None\n3,x\n", {}, {"a": [NAN, 3.0], "b": ["None", "x"]}),
        ("a,b\n1,\n3,x\n", {}, {"a": [1, 3], "b": [None, "x"]}),
        ("a,b\n-,x\n3,-\n", {"na_values": ["-"]}, {"a": [NAN, 3.0], "b": ["x", None]}),
        ("a,b\n NA ,x \n 2, y\n", {}, {"a": [NAN, 2.0], "b": ["x", "y"]}),
        # In files whose names are quoted, as R writes them, text without quotes is none.
        ('"","a","b"\n"1",NA,"x"\n"2",3,NA\n"3",4,"NA"\n', {},
         {"a": [NAN, 3.0, 4.0], "b": ["x", None, "NA"]}),
        # Truth values.
        ("a,b\nTrue,1\nFalse,2\n", {}, {"a": [True, False], "b": [1, 2]}),
        ("a,b\nTRUE,1\n,2\nFALSE,3\n", {}, {"a": [True, None, False], "b": [1, 2, 3]}),
        # Numbers in another dress, as said.
        ("a;b\n1,5;2\n3,25;4\n", {"decimal": ","}, {"a": [1.5, 3.25], "b": [2, 4]}),
        ("a;b\n1.234,5;2\n3,25;4\n", {"decimal": ",", "thousands": "."},
         {"a": [1234.5, 3.25], "b": [2, 4]}),
        ("a;b\n1,234.5;2\n3;4\n", {"thousands": ","}, {"a": [1234.5, 3.0], "b": [2, 4]}),
        ("a;b\n1'234;2\n3;4\n", {"thousands": "'"}, {"a": [1234.0, 3.0], "b": [2, 4]}),
        ("a,b\n12 %,1\n3%,2\n", {"dtype": {"a": "percent"}}, {"a": [0.12, 0.03], "b": [1, 2]}),
        ("a,b\n1 kg,1\n2 kg,2\n", {"dtype": {"a": "str"}}, {"a": ["1 kg", "2 kg"], "b": [1, 2]}),
        # Quotes, newlines and blanks.
        ('a,b\n"x\ny",1\n"z, ""q""\n\n",2\n5" pipe,3\n', {},
         {"a": ["x\ny", 'z, "q"', '5" pipe'], "b": [1, 2, 3]}),
        ('a, b\n"x, y", 1\n "z", 2\n', {}, {"a": ["x, y", "z"], "b": [1, 2]}),
        ("a,b\r\n1,2\r\n\r\n3,4", {}, {"a": [1, 3], "b": [2, 4]}),
        ("a,b\r1,2\r3,4\r", {}, {"a": [1, 3], "b": [2, 4]}),
        ('"1","2"\n"3","4"\n', {}, {0: [1, 3], 1: [2, 4]}),
        # Delimiters and headers, as said.
        ("a b\n1 2\n3 4\n", {"delimiter": " "}, {"a": [1, 3], "b": [2, 4]}),
        ("0,1\n5,6\n", {"header": True}, {"0": [5], "1": [6]}),
        ("0,1\n5,6\n", {"header": False}, {0: [0, 5], 1: [1, 6]}),
        ("a,b\n,\n,\n", {}, {"a": [NAN, NAN], "b": [NAN, NAN]}),
    ],
)  # fmt: skip
def test_cells_are_what_they_say(text, options, wanted, size):
    write(text)
    same(read(**options), wanted)


def test_rows_are_counted_through_and_an_index_is_kept(size):
    write("id,a\n" + "".join(f"r{i},{i}\n" for i in range(20)), "x-1.csv")
    write("id,a\n" + "".join(f"r{i},{i}\n" for i in range(20, 30)), "x-2.csv")
    assert read("x-*.csv").index.tolist() == list(range(30))
    found = read("x-*.csv", index="id")
    assert found.index.tolist() == [f"r{i}" for i in range(30)]
    assert found.index.name == "id"
    assert list(found.columns) == ["a"]


def test_a_first_column_without_a_name_is_the_index_that_pandas_writes(size):
    table = pd.DataFrame({"a": [1.5, 2.5], "b": [3, 4]}, index=["u", "v"])
    table.to_csv("x.csv")
    pd.testing.assert_frame_equal(read(), table, check_index_type=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b\n1,5;2\n3,25;4\n", ["'a'", "'1,5'", "row 0", "decimal=','"]),
        ("a;b\n1,500;2\n3,250;4\n", ["'a'", "decimal=','", "thousands=','"]),
        ("a;b\n1.234,5;2\n3,25;4\n", ["'a'", "decimal=','"]),
        ('a,b\n"1,260.0",2\n3,4\n', ["'a'", "'1,260.0'", "thousands=','"]),
        ("a;b\n1.234.567;2\n1.234;4\n", ["'a'", "thousands='.'", "decimal=','"]),
        ("a,b\n1 234,2\n5 678,4\n", ["'a'", "thousands=' '"]),
        ("a,b\n1,0.126%\n3,12 %\n", ["'b'", "dtype={'b': 'percent'}"]),
        ("a,b\n1,2\n-,4\n3,5\n", ["'a'", "'-'", "row 1", "na_values=['-']"]),
        ("a,b\n1,2\n?,4\n3,5\n.,1\n6,1\n", ["na_values=['?', '.']"]),
        ("a,b\n1,2\nu,4\n3,5\n", ["'a'", "'u'", "dtype={'a': 'str'}"]),
        ("a,b\n10 kg,2\n3 kg,4\n", ["'a'", "'10 kg'", "kg"]),
        ("a,b\n€ 10,2\n€ 3,4\n", ["'a'", "€"]),
    ],
)
def test_numbers_in_another_dress_are_refused_with_the_option_that_reads_them(text, words, size):
    write(text)
    with pytest.raises(InputError, match=naming("x.csv")) as caught:
        read()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_that_option_reads_them(size):
    write("a;b\n1.5;2\n3.25;4\n")
    with pytest.raises(InputError, match=naming("'a'", "decimal='.'")):
        read(decimal=",")
    same(read(decimal="."), {"a": [1.5, 3.25], "b": [2, 4]})


@pytest.mark.parametrize(
    "column", ["1A,2B", "A1,B2", "1st,2nd", "2020-01-01,2021-01-01", "12:30,9:15"]
)
def test_codes_dates_and_times_are_text(column, size):
    cells = column.split(",")
    write("a,b\n" + "".join(f"{cell},1\n" for cell in cells))
    assert read()["a"].tolist() == cells


def test_a_mark_between_thousands_must_be_there(size):
    write("a;b\n1,23,4;2\n5;6\n")
    with pytest.raises(InputError, match=naming("'a'", "'1,23,4'")):
        read(thousands=",")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings(encoding, size):
    write("näme,b\nÄrger,1\nÖl,2\n" * 1, encoding=encoding)
    marked = encoding in ("utf-16", "utf-8-sig")
    if not marked:
        with pytest.raises(InputError, match=naming("x.csv", "encoding")):
            read()
    same(read(**({} if marked else {"encoding": encoding})), {"näme": ["Ärger", "Öl"], "b": [1, 2]})


def test_compression_that_no_ending_tells(size):
    Path("x.data").write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n"))
    same(read("x.data", compression="gzip"), {"a": [1, 3], "b": [2, 4]})
    write("a,b\n1,2\n", "x.csv.gz")
    same(read("x.csv.gz", compression="none"), {"a": [1], "b": [2]})


def test_text_of_any_name_is_read_if_something_is_said_of_it(size):
    write("a;b\n1;2\n", "x.txt")
    same(read("x.txt", delimiter=";"), {"a": [1], "b": [2]})


def test_the_last_cell_decides_what_a_column_is(size):
    for last, kind in (("x", "str"), ("0.5", "float64"), ("", "float64"), ("7", "int64")):
        write("a,b\n" + ",1\n" * 40 + f"{last},1\n")
        assert str(read()["a"].dtype).removesuffix("ing") == ("float64" if last == "7" else kind)
        write("a,b\n" + "3,1\n" * 40 + f"{last},1\n")
        if last != "x":
            assert str(read()["a"].dtype) == kind


def test_training_says_what_columns_are(size):
    write("a,b,c,d\n1,1,True,5\n2,2,False,6\n")
    known = {"a": "str", "b": "float64", "c": "float64"}
    same(
        read(known=known),
        {"a": ["1", "2"], "b": [1.0, 2.0], "c": [1.0, 0.0], "d": [5, 6]},
    )
    write('a,b\n1,1.5\n2,"1,5"\n')
    with pytest.raises(InputError, match=naming("row 1", "'b'", "'1,5'", "decimal")):
        read(known={"a": "str", "b": "float64"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": "yes"}, ["header"]),
        ({"delimiter": "ab"}, ["delimiter", "'ab'", "character"]),
        ({"decimal": ";"}, ["decimal", "';'"]),
        ({"thousands": "x"}, ["thousands"]),
        ({"encoding": "utf-9"}, ["encoding", "'utf-9'", "latin-1"]),
        ({"na_values": 3}, ["na_values"]),
        ({"dtype": {"a": "int"}}, ["'a'", "'int'", "int64"]),
        ({"dtype": {"q": "str"}}, ["'q'", "dtype"]),
        ({"compression": "rar"}, ["compression"]),
        ({"decimal": ",", "thousands": ","}, ["decimal", "thousands"]),
        ({"index": "q"}, ["'q'", "x.csv"]),
    ],
)
def test_bad_options_are_named(options, words):
    write("a,b\n1,2\n")
    with pytest.raises(OptionError, match=naming(*words)) as caught:
        open_path(Table("x.csv", **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dtype", "words"),
    [
        ("a\n1\nx\n", "float64", ["row 1", "'a'", "'x'"]),
        ("a\n1.5\n2\n", "int64", ["row 0", "'a'", "'1.5'", "whole"]),
        ("a,b\n1,1\n,2\n", "int64", ["row 1", "'a'", "float64"]),
        ("a\nTrue\nmaybe\n", "bool", ["row 1", "'maybe'"]),
    ],
)
def test_a_cell_that_its_type_cannot_hold_is_named(text, dtype, words, size):
    write(text)
    with pytest.raises(DadmmError, match=naming(*words)):
        read(dtype={"a": dtype})


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64) | st.integers(-(2**53), 2**53)
COLUMN = st.one_of(
    st.lists(NUMBERS | st.none(), min_size=5, max_size=5),
    st.lists(st.sampled_from(["a", "b c", 'q"x', "NA", "é\nf", "None"]), min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=5),
)
WRITERS = {
    "pandas": lambda t: t.to_csv("w.csv", index=False),
    "pandas, its index": lambda t: t.to_csv("w.csv"),
    "pandas, all quoted": lambda t: t.to_csv("w.csv", index=False, quoting=1),
    "pandas, text quoted": lambda t: t.to_csv("w.csv", index=False, quoting=2),
    "pandas, tabs": lambda t: t.to_csv("w.tsv", index=False, sep="\t"),
    "pandas, comma": lambda t: t.to_csv("w.csv", index=False, sep=";", decimal=","),
    "dask": lambda t: dd.from_pandas(t, npartitions=2).to_csv("w-*.csv", index=False),
    "pyarrow": lambda t: _arrow(t),
    "polars": lambda t: _polars(t),
    "R": lambda t: _r(t),
}


def _arrow(table):
    pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    from pyarrow import csv

    csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), "w.csv")


def _polars(table):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    polars.from_pandas(table).write_csv("w.csv")


def _r(table):
    """Write as R's write.csv does: text and names in quotes, NA, TRUE and FALSE without."""

    def cell(value):
        if value is None or value is pd.NA or value != value:
            return "NA"
        if isinstance(value, str):
            return '"' + value.replace('"', '""') + '"'
        return str(value).upper() if isinstance(value, (bool, np.bool_)) else repr(value)

    lines = [",".join(cell(name) for name in ["", *table.columns])]
    for i, row in enumerate(zip(*(table[c].tolist() for c in table), strict=True)):
        lines.append(",".join([cell(str(i + 1)), *map(cell, row)]))
    write("\n".join(lines) + "\n", "w.csv")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", WRITERS)
@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(COLUMN, min_size=2, max_size=4))
def test_what_other_programs_write_is_read_to_the_same_cells(writer, columns):
    for old in Path().glob("w*"):
        old.unlink()
    table = pd.DataFrame({f"c{i}": pd.Series(cells) for i, cells in enumerate(columns)})
    if table.isna().all(axis=1).any() or table.isin(list(MISSING)).all().any():
        return  # these say nothing, or words that may mean nothing
    WRITERS[writer](table)
    options = {"decimal": ","} if writer == "pandas, comma" else {}
    for small in (2**26, 8):
        opening.SMALL = small
        try:
            found = read("w*.?sv", **options)
        finally:
            opening.SMALL = 2**26
        for column in table:
            a, b = found[column], table[column]
            assert a.isna().tolist() == b.isna().tolist()
            for x, y in zip(a.dropna().tolist(), b.dropna().tolist(), strict=True):
                assert x == y or float(x) == float(y), (column, x, y)


# ------------------------------------------------------------------------- what is nearly no table


def test_points_between_thousands_mean_a_decimal_comma(size):
    write("a;b\n1.234;0,5\n2.345;1\n")
    same(read(thousands="."), {"a": [1234.0, 2345.0], "b": [0.5, 1.0]})
    with pytest.raises(OptionError, match=naming("decimal", "thousands", "'.'")):
        read(decimal=".", thousands=".")


@pytest.mark.parametrize(
    "text", ["a\n1\n\n3\n", "a\r\n1\r\n  \r\n3\r\n", "a\n1\n3\n\n", "a\r1\r\r3"]
)
def test_a_blank_line_in_a_single_column_is_asked_about(text, size):
    write(text)
    with pytest.raises(InputError, match=naming("x.csv", "row", "blank line", '""')) as caught:
        read()
    assert "\n" not in str(caught.value)
    write(text.replace("\r\n  \r\n", '\r\n""\r\n').replace("1\n\n3", '1\n""\n3'))
    if '""' in Path("x.csv").read_text():
        same(read(), {"a": [1.0, NAN, 3.0]})


def test_blank_lines_elsewhere_mean_nothing(size):
    write("\r\n\r\na\r\n1\r\n3\r\n")
    same(read(), {"a": [1, 3]})
    write("a,b\n1,2\n\n3,4\n\n")
    same(read(), {"a": [1, 3], "b": [2, 4]})


@pytest.mark.parametrize("end", [",", ", "])
@pytest.mark.parametrize("header", [True, False])
def test_a_delimiter_at_the_end_of_all_rows_is_no_column(header, end, size):
    rows = [f"1,2{end}", f"3,4{end}"]
    write("\n".join([f"a,b{end}", *rows] if header else rows))
    same(read(), {"a": [1, 3], "b": [2, 4]} if header else {0: [1, 3], 1: [2, 4]})
    write("a,b,\n1,2,\n3,4,5\n")
    same(read(), {"a": [1, 3], "b": [2, 4], "": [NAN, 5.0]})


def test_files_that_have_a_header_only_have_no_rows(size):
    write("a,b\n", "x-0.csv")
    write("a,b\n1,2\n3,4\n", "x-1.csv")
    write("b,a\n", "x-2.csv")
    same(read("x-*.csv"), {"a": [1, 3], "b": [2, 4]})
    with pytest.raises(InputError, match=naming("x-0.csv", "no rows")):
        open_path("x-0.csv")


def test_folders_name_columns(size):
    for year, place in ((2, "b"), (2, "a b"), (10, "c")):
        folder = Path(f"t/year={year}/place={place}")
        folder.mkdir(parents=True)
        (folder / "x.csv").write_text(f"a\n{year}\n{year + 1}\n")
    for path in ("t", "t/*/*/*.csv"):
        found = open_path(path)
        lazy = isinstance(found, dd.DataFrame)
        assert lazy == (size == "in blocks")
        assert found["year"].dtype == pd.CategoricalDtype([2, 10])
        if lazy:
            assert found["place"].compute().tolist() == ["a b", "a b", "b", "b", "c", "c"]
            assert found["a"].compute().tolist() == [2, 3, 2, 3, 10, 11]
            found = found.compute()
        assert found["year"].tolist() == [2, 2, 2, 2, 10, 10]
        assert found["a"].tolist() == [2, 3, 2, 3, 10, 11]
        assert list(found.columns) == ["a", "year", "place"]


@pytest.mark.parametrize("packed", ["gzip", "bz2", "xz", "zip", "zstd"])
def test_compressed_text_is_told_by_its_first_bytes(packed):
    if packed == "zstd":
        with pytest.importorskip("pyarrow").CompressedOutputStream("x.csv", packed) as file:
            file.write(b"a\n1\n3\n")
    else:
        pd.DataFrame({"a": [1, 3]}).to_csv("x.csv", index=False, compression=packed)
    with pytest.raises(InputError, match=naming("x.csv", f"compression={packed!r}")):
        open_path("x.csv")
    same(open_path(Table("x.csv", compression=packed)), {"a": [1, 3]})


def test_an_archive_of_several_files_is_refused():
    with zipfile.ZipFile("x.csv.zip", "w") as archive:
        archive.writestr("x/", "")
        archive.writestr("__MACOSX/._x.csv", "notes")
        archive.writestr("x/1.csv", "a\n1\n3\n")
    same(open_path("x.csv.zip"), {"a": [1, 3]})
    with zipfile.ZipFile("x.csv.zip", "a") as archive:
        archive.writestr("x/2.csv", "a\n5\n")
    with pytest.raises(InputError, match=naming("x.csv.zip", "2 files", "x/1.csv", "unpack")):
        open_path("x.csv.zip")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n".encode("utf-16-le"), ["encoding='utf-16'"]),
        (b"sep=;\na;b\n1;2\n", ["Excel", "sep=;", "remove"]),
        (b"PAR1....PAR1", ["Parquet", ".parquet"]),
    ],
)
def test_what_is_no_plain_text_is_told_by_its_first_bytes(content, words):
    Path("x.csv").write_bytes(content)
    with pytest.raises(InputError, match=naming("x.csv", *words)) as caught:
        open_path("x.csv")
    assert "\n" not in str(caught.value)


def test_utf_16_without_a_mark_is_read_as_said(size):
    write("a,b\n1,2\n", encoding="utf-16-le")
    same(read(encoding="utf-16"), {"a": [1], "b": [2]})
