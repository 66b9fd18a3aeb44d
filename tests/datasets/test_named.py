"""Named data sets and files come back as arrays; files that hold none are named."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.model_selection import train_test_split

from dadmm.data.open import open_path
from dadmm.datasets import load_data, load_dataset
from dadmm.errors import DataError, InputError, OptionError
from support.messages import naming

pytestmark = pytest.mark.usefixtures("here")

X = np.random.default_rng(0).normal(size=(20, 3)).round(3)
Y = (X[:, 0] > 0).astype(int)


def write(name, text):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def table(x, y, header="", delimiter=","):
    lines = [delimiter.join(map(str, [*row, label])) for row, label in zip(x, y, strict=True)]
    return "\n".join([header, *lines] if header else lines) + "\n"


# ---------------------------------------------------------------------------------- named sets


def test_digits_are_there():
    x, y = load_dataset("digits")
    assert x.shape == (1797, 64)
    assert set(y) == set(range(10))


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("colour", ["white", "red"])
def test_wine_is_read_from_the_folder_that_the_variable_names(here, monkeypatch, colour, delimiter):
    monkeypatch.setenv("DADMM_DATA", str(here))
    header = "" if delimiter == "," else '"fixed acidity";"pH";"alcohol";"quality"'
    write(f"winequality-{colour}.csv", table(X, Y, header, delimiter))
    x, y = load_dataset(f"wine-{colour}")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert y.dtype == np.float64


def openml(table):
    return lambda *args, **kwargs: SimpleNamespace(frame=pd.DataFrame(table))


def wine_table():
    cells = np.random.default_rng(0).normal(size=(6497, 12))
    cells[0, 0], cells[1599, 0] = 7.4, 7.0
    return cells


@pytest.mark.parametrize(("colour", "rows"), [("red", slice(1599)), ("white", slice(1599, None))])
def test_wine_is_downloaded_without_the_variable(monkeypatch, colour, rows):
    monkeypatch.delenv("DADMM_DATA", raising=False)
    cells = wine_table()
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml(cells))
    x, y = load_dataset(f"wine-{colour}")
    np.testing.assert_array_equal(x, cells[rows, :-1])
    np.testing.assert_array_equal(y, cells[rows, -1])


def test_wine_is_downloaded_where_the_folder_does_not_have_it(here, monkeypatch):
    monkeypatch.setenv("DADMM_DATA", str(here))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml(wine_table()))
    assert len(load_dataset("wine-red")[0]) == 1599


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError

    monkeypatch.delenv("DADMM_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    words = naming("ConnectionError", "winequality-white.csv", "DADMM_DATA")
    with pytest.raises(InputError, match=words):
        load_dataset("wine-white")


def test_another_table_of_that_name_is_refused(monkeypatch):
    monkeypatch.delenv("DADMM_DATA", raising=False)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml(wine_table()[::-1]))
    with pytest.raises(InputError, match=naming("2009", "winequality-red.csv")):
        load_dataset("wine-red")


def test_a_set_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(OptionError, match=naming("'digit'", "'digits'")):
        load_dataset("digit")


# --------------------------------------------------------------------------------------- files


def test_npy_csv_and_zarr_hold_the_same_array():
    np.save("x.npy", X)
    np.savetxt("x.csv", X, delimiter=",")
    da.from_array(X, chunks=(7, 3)).to_zarr("x.zarr")
    np.testing.assert_array_equal(open_path("x.npy"), X)
    np.testing.assert_array_equal(open_path("x.csv"), X)
    lazy = open_path("x.zarr")
    assert isinstance(lazy, zarr.Array)
    assert lazy.chunks == (7, 3)
    np.testing.assert_array_equal(lazy[:], X)


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4\n",
        '"a, with comma","b"\n"1","2"\n3, 4\n',
        "a;b\n1;2\n3;4\n",
        "\ufeffa,b\n1,2\n\n3,4",
        "1,2\r\n3,4\r\n",
    ],
    ids=["plain", "header", "quotes", "semicolons", "mark and blank line", "windows"],
)
def test_a_csv_is_read_however_it_was_written(text):
    np.testing.assert_array_equal(open_path(write("x.csv", text)), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["x.csv", "rows"]),
        ("a,b\n", ["x.csv", "rows"]),
        ("1,2\n3\n", ["x.csv", "row 1", "1 columns", "2"]),
        ("1,2\n3,4,5\n", ["x.csv", "row 1", "3 columns", "2"]),
        ('"a","b"\n"1","2"\n3\n', ["x.csv", "row 1", "1 columns", "2"]),
        ("a,a\n1,2\n", ["x.csv", "'a'", "twice"]),
    ],
)
def test_the_first_bad_place_of_a_csv_is_named(text, words):
    with pytest.raises(InputError, match=naming(*words)):
        open_path(write("x.csv", text))


def test_files_that_hold_no_array_are_named(here):
    np.save("objects.npy", np.array([[1, "a"]], object))
    write("empty.npy", "")
    (here / "folder.npy").mkdir()
    (here / "binary.csv").write_bytes(b"\xff\xfe\x00")
    write("text.txt", "1")
    for name, words in {
        "none.npy": ["exist"],
        "objects.npy": [".npy", "Python objects"],
        "empty.npy": [".npy"],
        "folder.npy": [".npy"],
        "binary.csv": ["text"],
        "text.txt": [".npy", ".csv", ".parquet", "zarr"],
    }.items():
        with pytest.raises(InputError, match=naming("inputs", name, *words)):
            open_path(name, "inputs")


# --------------------------------------------------------------------------- a config's [data]


def test_the_split_is_scikit_learns():
    np.save("x.npy", X)
    np.save("y.npy", Y)
    given = {"x": "x.npy", "y": "y.npy", "test_fraction": 0.25, "seed": 3}
    expected = train_test_split(X, Y, test_size=0.25, random_state=3)
    x, y, x_test, y_test = load_data(given)
    for found, wanted in zip((x, x_test, y, y_test), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_without_a_fraction_nothing_is_held_out():
    np.save("x.npy", X)
    np.save("y.npy", Y)
    x, _, x_test, y_test = load_data({"x": "x.npy", "y": "y.npy"})
    assert len(x) == 20
    assert x_test is y_test is None


@pytest.mark.parametrize("target", [None, "kind"])
@pytest.mark.parametrize("header", ["a,b,c,kind", ""])
def test_a_table_holds_inputs_and_targets_even_text(header, target):
    if target and not header:
        target = "3"
    labels = np.array(["cat", "dog"])[Y]
    write("t.csv", table(X, labels, header))
    x, y, *_ = load_data({"x": "t.csv", **({"y": target} if target else {})})
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, labels)


def test_targets_may_have_a_file_of_their_own():
    write("x.csv", table(X[:, :2], X[:, 2]))
    write("y.csv", "label\n" + "\n".join(map(str, Y)))
    x, y, *_ = load_data({"x": "x.csv", "y": "y.csv"})
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_zarr_stays_lazy():
    da.from_array(X, chunks=(7, 3)).to_zarr("x.zarr")
    da.from_array(Y, chunks=9).to_zarr("y.zarr")
    x, y, *_ = load_data({"x": "x.zarr", "y": "y.zarr"})
    assert isinstance(x, zarr.Array)
    assert isinstance(y, zarr.Array)
    with pytest.raises(InputError, match=naming("zarr", "tables")):
        load_data({"x": "x.zarr", "y": "y.zarr", "test_fraction": 0.5})


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"x": "x.npy"}, InputError, ["x", "y", "targets"]),
        ({"x": "t.csv", "y": "kin"}, OptionError, ["t.csv", "'kin'", "'kind'"]),
        ({"x": "x.npy", "y": "short.npy"}, InputError, ["y", "5 rows", "x", "20"]),
        ({"x": "nan.npy", "y": "y.npy"}, DataError, ["x", "NaN", "row 4", "column 1"]),
        ({"x": "x.npy", "y": "nan.npy"}, DataError, ["y", "NaN", "row 4", "column 1"]),
        ({"x": "x.npy", "y": "y.npy", "test_fraction": 0.99}, InputError, ["test_fraction=0.99"]),
    ],
)
def test_data_that_cannot_be_split_is_named(given, error, words):
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("short.npy", Y[:5])
    bad = X.copy()
    bad[4, 1] = np.nan
    np.save("nan.npy", bad)
    write("t.csv", table(X, Y, "a,b,c,kind"))
    with pytest.raises(error, match=naming(*words)):
        load_data({"test_fraction": 0.5, **given})
