"""Paths, globs and URLs: opened as what they hold, lazily where they are large, or named."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dask
import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from dadmm import NMF, ADMMClassifier, ADMMRegressor, DeepFacto, load
from dadmm.data import open as opening
from dadmm.data.arrays import unwrap
from dadmm.data.open import open_path
from dadmm.data.text import open as csv_files
from dadmm.datasets import load_data
from dadmm.errors import DadmmError, DataError, InputError, OptionError
from support.messages import names, naming
from support.runs import bits
from support.terminal import command

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")
# Of Dask's readers and writers of Parquet, about pandas 4.
pytestmark = [
    pytest.mark.usefixtures("here"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]

ROWS = 60
RNG = np.random.default_rng(2)
TABLE = pd.DataFrame(RNG.normal(size=(ROWS, 3)), columns=list("abc"))
TABLE["price"] = TABLE["a"] - TABLE["b"] ** 2
TABLE.insert(0, "id", [f"row-{i}" for i in range(ROWS)])
TABLE["kind"] = np.resize(["hut", "house", "hall"], ROWS)
NUMBERS = TABLE[["a", "b", "c"]].to_numpy()
OPTIONS = {"max_iter": 2, "random_state": 0, "chunks": 25, "tol": 0}


def regressor(**options):
    return ADMMRegressor((5, 5), **{**OPTIONS, **options})


@pytest.fixture
def small_blocks(monkeypatch):
    """Count as large what has more than a kilobyte."""
    monkeypatch.setattr(opening, "SMALL", 1000)
    monkeypatch.setattr(csv_files, "HEAD", 500)


def save(table=TABLE, kind="csv", parts=1):
    for i, rows in enumerate(np.array_split(np.arange(len(table)), parts)):
        part, path = table.iloc[rows], f"houses-{i}.{kind}"
        part.to_csv(path, index=False) if kind == "csv" else part.to_parquet(path, index=False)
    return f"houses-*.{kind}" if parts > 1 else path


# ----------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_table_is_read_whole_or_block_by_block_to_the_same_bits(kind, parts, request):
    plain = regressor().fit(NUMBERS, TABLE["price"].to_numpy())
    path = save(TABLE[["a", "b", "c", "price"]], kind, parts)
    small = regressor().fit(path, "price")
    assert bits(small) == bits(plain)
    predicted = small.predict(path)
    assert isinstance(predicted, pd.Series)
    request.getfixturevalue("small_blocks")
    assert hasattr(open_path(path), "partitions")
    large = regressor().fit(path, "price")
    assert bits(large) == bits(plain)
    lazy = large.predict(path)
    assert isinstance(lazy, dd.Series)
    np.testing.assert_allclose(lazy.compute().to_numpy(), predicted.to_numpy(), rtol=1e-5)
    assert large.score(path, "price") == pytest.approx(small.score(path, "price"))


def test_a_large_csv_is_read_a_block_at_a_time(small_blocks, monkeypatch):
    path, read = save(), []
    real = csv_files.raw
    monkeypatch.setattr(csv_files, "raw", lambda *a: (read.append(real(*a)), read[-1])[1])
    with dask.config.set(scheduler="sync"):
        table = open_path(path)
        assert table.npartitions > 3
        pd.testing.assert_frame_equal(
            table.compute().reset_index(drop=True), TABLE, check_dtype=False
        )
    assert max(map(len, read)) < 1200


@pytest.mark.parametrize("lazy", [False, True])
def test_text_and_empty_cells_of_a_csv_are_encoded_and_imputed(lazy, request):
    table = TABLE.drop(columns="id")
    table.loc[[3, 50], "b"] = np.nan
    path = save(table)
    options = {"categorical": "one_hot", "missing": "impute"}
    expected = regressor(**options).fit(table, "price")
    if lazy:
        request.getfixturevalue("small_blocks")
    model = regressor(**options).fit(path, "price")
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "kind"]
    np.testing.assert_allclose(
        np.asarray(model.predict(path)), expected.predict(table), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "content", ["a;b\r\n1;2\r\n3;4\r\n", '\ufeffa,b\n"1","2"\n\n3, 4\n', "a,b\n1,2\n3,4"]
)
def test_blocks_cut_a_csv_at_its_lines(content, monkeypatch):
    Path("x.csv").write_bytes(content.encode())
    monkeypatch.setattr(opening, "SMALL", 6)
    found = open_path("x.csv").compute()
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])
    assert list(found.columns) == ["a", "b"]


# ------------------------------------------------------------------------------------------- URLs


@pytest.fixture
def server(here):
    """A web server of this machine alone."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(here)))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join(10)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_urls_are_opened_like_paths(server, kind):
    np.save("x.npy", NUMBERS)
    name = "x.npy" if kind == "npy" else save(kind=kind)
    with fsspec.open(f"memory://there/{name}", "wb") as file:
        file.write(Path(name).read_bytes())
    for url in (f"memory://there/{name}", f"{server}/{name}", f"file://{Path(name).absolute()}"):
        found = open_path(url)
        wanted = open_path(name)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_a_data_set_in_zarr_is_lazy_and_its_target_a_variable():
    cube = xr.Dataset({n: (("t", "x"), TABLE[n].to_numpy().reshape(12, 5)) for n in "abc"})
    cube["price"] = ("t", "x"), TABLE["price"].to_numpy().reshape(12, 5)
    cube.chunk({"t": 4}).to_zarr("set.zarr", consolidated=False)
    model = regressor().fit("set.zarr", "price")
    assert bits(model) == bits(regressor().fit(NUMBERS, TABLE["price"].to_numpy()))
    predicted = model.predict("set.zarr")
    assert predicted.dims == ("t", "x")
    assert predicted.chunks is not None
    x, y, *_ = load_data({"x": "set.zarr", "y": "price"})
    assert bits(regressor().fit(x, y)) == bits(model)


# ----------------------------------------------------------------------------------- command line


def run(*arguments):
    done = command(*arguments)
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("target", ["found.csv", "found.parquet"])
def test_a_table_is_trained_on_and_predicted_from_the_command_line(lazy, target, request):
    path = save(TABLE, parts=2)
    Path("houses.toml").write_text(
        f'[data]\nx = "{path}"\ny = "price"\nindex = "id"\n[model]\ntask = "regression"\n'
        'max_iter = 2\nchunks = 25\ncategorical = "one_hot"\nhidden_layer_sizes = [5]\n'
    )
    if lazy:
        request.getfixturevalue("small_blocks")
    assert "R2" in run("fit", "houses.toml", "--run", "run")
    run("predict", "run", path, target)
    found = pd.read_csv(target) if target.endswith("csv") else pd.read_parquet(target).reset_index()
    assert found["id"].tolist() == TABLE["id"].tolist()
    expected = load("run").predict(TABLE.drop(columns=["id", "price"]))
    np.testing.assert_allclose(found["price"], expected, rtol=1e-4, atol=1e-5)


def test_no_config_is_needed():
    path = save(TABLE.drop(columns="id"))
    options = ["--data", path, "--target", "price", "--task", "regression", "--run", "run"]
    done = command("fit", *options)
    assert done.code == 2
    assert names(done.err, "kind", "row 0", "'hut'", "categorical")
    assert "train R2" in run("fit", *options, "--categorical", "one_hot")
    assert "train accuracy" in run("fit", "--data", path, "--run", "c", "--categorical", "one_hot")
    assert load("c").classes_.tolist() == ["hall", "house", "hut"]
    for target in ("found.npy", "found.zarr", "found.csv"):
        run("predict", "c", path, target)
    assert np.load("found.npy").tolist() == zarr.open_array("found.zarr")[:].tolist()


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n" + "3,4\n" * 300 + "5\n", ["row", "1 columns", "2"]),
        ("a,b\n" + "3,4\n" * 300 + "5,6,7\n", ["row", "3 columns", "2"]),
        (
            "a,b\n" + "3,4\n" * 300 + "many,5\n",
            ["a", "'many'"],
        ),
        ("a,b\n" + "3,4\n" * 300 + "5,\n", ["NaN"]),
        ("a,a\n" + "3,4\n" * 300, ["x.csv", "'a'", "twice"]),
        ("a,c\n" + "3,4\n" * 300, ["column", "x", "'b'", "a, c"]),
        ("", ["x.csv", "rows"]),
        ("a,b\n", ["x.csv", "rows"]),
    ],
)
def test_a_bad_csv_ends_in_one_line(content, words, lazy, request):
    if lazy:
        request.getfixturevalue("small_blocks")
    Path("x.csv").write_text(content)
    with pytest.raises(DadmmError, match=naming(*words)) as caught:
        regressor().fit("x.csv", "b")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_named(server):
    Path("text.parquet").write_text("no parquet")
    Path("latin.csv").write_bytes(b"a,b\n1,\xe9\n")
    zarr.create_group("empty.zarr")
    array = zarr.create_array("codec.zarr", data=NUMBERS, chunks=(10, 3))
    root = Path("codec.zarr/zarr.json")
    root.write_text(root.read_text().replace('"zstd"', '"zzzz"'))
    save(TABLE)
    for path, words in (
        ("none.csv", ["x", "none.csv"]),
        ("none-*.csv", ["x", "none-*.csv"]),
        ("none.parquet", ["x", "none.parquet"]),
        ("none.npy", ["x", "none.npy"]),
        ("memory://none.csv", ["x", "memory://none.csv"]),
        (f"{server}/none.csv", [f"{server}/none.csv"]),
        ("http://127.0.0.1:9/x.csv", ["x", "http://127.0.0.1:9/x.csv"]),
        ("nowhere://x.csv", ["nowhere://x.csv", "Protocol not known"]),
        ("text.parquet", ["text.parquet", "opened"]),
        ("latin.csv", ["latin.csv", "UTF-8"]),
        ("empty.zarr", ["empty.zarr", "group", "arrays"]),
        ("codec.zarr", ["codec.zarr", "zzzz"]),
    ):
        with pytest.raises(InputError, match=naming(*words)) as caught:
            regressor().fit(path, "price")
        assert "\n" not in str(caught.value)
    assert array.shape == NUMBERS.shape
    with pytest.raises(OptionError, match=naming("houses-0.csv", "'idd'", "'id'")):
        open_path("houses-0.csv", index="idd")


def test_a_chunk_that_cannot_be_decoded_is_named():
    zarr.create_array("x.zarr", data=NUMBERS, chunks=(10, 3))
    chunk = Path("x.zarr/c/2/0")
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(DadmmError, match=naming("x.zarr", "read")):
        ADMMClassifier((5,), **OPTIONS, shuffle=False).fit("x.zarr", NUMBERS[:, 0] > 0)


def test_data_held_out_must_be_in_memory(small_blocks):
    path = save(TABLE[["a", "b", "price"]])
    with pytest.raises(InputError, match=naming("zarr", "tables")):
        load_data({"x": path, "y": "price", "test_fraction": 0.2})


def test_a_table_is_split_with_its_names_and_index():
    x, y, x_test, _ = load_data(
        {"x": save(), "y": ["price", "c"], "index": "id", "test_fraction": 0.25, "seed": 1}
    )
    assert list(x.columns) == ["a", "b", "kind"]
    assert list(y.columns) == ["price", "c"]
    assert sorted([*x.index, *x_test.index]) == sorted(TABLE["id"])
    with pytest.raises(DataError, match=naming("numeric", "kind")):
        regressor().fit(x, y)


def test_whole_labels_of_a_csv_file_stay_whole(tmp_path):
    path = tmp_path / "points.csv"
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{b},{int(a > 0)}" for a, b in zip(rng.normal(size=60), range(60), strict=True)
    ]
    path.write_text("\n".join(["a,b,kind", *rows]))
    made = ADMMClassifier((4,), max_iter=2, random_state=0).fit(path, "kind")
    assert made.classes_.tolist() == [0, 1]
    assert made.predict(path).dtype == np.int64


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_whose_columns_are_in_another_order_are_put_in_one(kind, lazy, request):
    save(kind=kind, parts=2)
    turned = TABLE.iloc[30:][["kind", "c", "price", "b", "a", "id"]]
    save_as = {"csv": turned.to_csv, "parquet": turned.to_parquet}[kind]
    save_as(f"houses-1.{kind}", index=False)
    if lazy:
        request.getfixturevalue("small_blocks")
    found = open_path(f"houses-*.{kind}")
    assert isinstance(found, dd.DataFrame) == lazy
    found = found.compute() if lazy else found
    np.testing.assert_array_equal(found[["a", "b", "c"]], NUMBERS)
    assert found["id"].tolist() == TABLE["id"].tolist()


def test_files_of_other_columns_are_refused():
    for name, text, words in (
        ("no-header", "5,6\n7,8\n", ["z.csv", "'a'"]),
        ("more", "a,b,c\n5,6,7\n", ["z.csv", "'c'"]),
        ("twice", "a,b,a\n5,6,7\n", ["z.csv", "twice"]),
    ):
        Path(name).mkdir()
        Path(name, "a.csv").write_text("a,b\n1,2\n")
        Path(name, "z.csv").write_text(text)
        with pytest.raises(InputError, match=naming(*words)):
            open_path(f"{name}/*.csv")
    TABLE.to_parquet("houses-0.parquet")
    TABLE.drop(columns="c").to_parquet("houses-1.parquet")
    with pytest.raises(InputError, match=naming("houses-1.parquet", "'c'")):
        open_path("houses-*.parquet")


def test_delimiters_in_quoted_names_and_blank_first_lines():
    Path("quoted.csv").write_text('\ufeff\n\r\n"a;b",c\n1,2\n3,4\n')
    assert open_path("quoted.csv").to_dict("list") == {"a;b": [1, 3], "c": [2, 4]}


# ------------------------------------------------------------------------------------------- zarr

CUBE = xr.Dataset(
    {"u": (("s", "f"), NUMBERS), "v": (("s",), NUMBERS[:, 0])}, {"s": np.arange(ROWS) * 2}
)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_a_consolidated_store_opens_without_listing(version, server, monkeypatch):
    def forbid(self, path):
        self.send_error(403)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "list_directory", forbid)
    CUBE.to_zarr("set.zarr", zarr_format=version, consolidated=True)
    found = open_path(f"{server}/set.zarr")
    assert found.load().equals(CUBE)
    near, far = (regressor().fit(f"{at}set.zarr", "v") for at in ("", f"{server}/"))
    assert bits(near) == bits(far)
    np.testing.assert_array_equal(open_path(f"{server}/set.zarr/u"), NUMBERS)
    CUBE.to_zarr("bare.zarr", zarr_format=version, consolidated=False)
    with pytest.raises(InputError, match=naming("bare.zarr/NAME", "zarr.consolidate_metadata")):
        open_path(f"{server}/bare.zarr")
    np.testing.assert_array_equal(open_path(f"{server}/bare.zarr/u"), NUMBERS)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "encoding",
    [
        {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -999},
        {"dtype": "u1", "scale_factor": 0.5, "_FillValue": 255},
        {"dtype": "f4", "_FillValue": -999.0},
        {"dtype": "i4", "scale_factor": 0.5, "_FillValue": 0},
    ],
)
def test_a_packed_array_is_decoded_by_its_own_path(encoding, version):
    values = np.arange(ROWS * 3).reshape(ROWS, 3) // 2 * 0.5 + 1
    values[5, 1] = np.nan
    data = xr.Dataset({"u": (("s", "f"), values), "v": (("s",), values[:, 0])})
    data.to_zarr("p.zarr", zarr_format=version, consolidated=False, encoding={"u": encoding})
    for found in (open_path("p.zarr/u"), unwrap(zarr.open_array("p.zarr/u", mode="r"))):
        np.testing.assert_array_equal(np.asarray(found), values)
    fit = regressor(missing="impute").fit
    decoded = xr.open_zarr("p.zarr", chunks={}, consolidated=False)["u"].data
    expected = bits(fit(decoded, values[:, 0]))
    for x in ("p.zarr/u", zarr.open_array("p.zarr/u", mode="r")):
        assert bits(fit(x, values[:, 0])) == expected
    with pytest.raises(DataError, match=naming("NaN")):
        regressor().fit("p.zarr/u", values[:, 0])


def test_attributes_that_change_nothing_leave_an_array_in_place():
    array = zarr.create_array("x.zarr", data=NUMBERS, chunks=(10, 3))
    for attributes in ({}, {"units": "m"}, {"scale_factor": 1.0, "add_offset": 0}):
        array.attrs.put(attributes)
        assert isinstance(open_path("x.zarr"), zarr.Array)
    array.attrs.put({"_FillValue": float("nan")})
    assert isinstance(open_path("x.zarr"), zarr.Array)
    array.attrs.put({"scale_factor": "many"})
    with pytest.raises(InputError, match=naming("x.zarr", "scale_factor", "many")):
        open_path("x.zarr")


def test_a_group_where_an_array_is_needed_names_its_arrays():
    group = zarr.open_group("group.zarr", mode="w")
    group.create_array("deep/x", data=NUMBERS)
    with pytest.raises(InputError, match=naming("group.zarr", "group", "deep")):
        regressor().fit("group.zarr", NUMBERS[:, 0])
    group.create_array("x", data=NUMBERS)
    y = NUMBERS[:, 0]
    model = regressor().fit(NUMBERS, y)
    for call in (
        lambda: regressor().fit(group, y),
        lambda: regressor().fit("group.zarr", y),
        lambda: regressor().fit(NUMBERS, group),
        lambda: regressor().fit(NUMBERS, y, sample_weight=group),
        lambda: model.predict(group),
        lambda: model.predict("group.zarr"),
        lambda: NMF(2, max_iter=2).fit(group),
        lambda: DeepFacto(2, (4,), max_iter=2).fit(group, y),
    ):
        with pytest.raises(InputError, match=naming("group", "array", "x")) as caught:
            call()
        assert "reshape" not in str(caught.value)


# ---------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    "name", ["x.CSV", "x.csv.gz", "x.csv.bz2", "x.csv.xz", "x.csv.zip", "x.csv.zst", "X.TSV",
             "x.tsv.gz", "x.PARQUET", "x.pq", "x.NPY"]
)  # fmt: skip
@pytest.mark.parametrize("lazy", [False, True])
def test_endings_of_tables_as_people_write_them(name, lazy, request):
    numbers = TABLE[["a", "b", "c"]]
    if name.lower().endswith((".parquet", ".pq")):
        numbers.to_parquet(name)
    elif name == "x.NPY":
        with open(name, "wb") as file:
            np.save(file, NUMBERS)
    elif name.endswith("zst"):
        pa = pytest.importorskip("pyarrow")
        with pa.CompressedOutputStream(name, "zstd") as file:
            file.write(numbers.to_csv(index=False).encode())
    else:
        numbers.to_csv(name, index=False, sep="\t" if "tsv" in name.lower() else ",")
    if lazy:
        request.getfixturevalue("small_blocks")
    found = open_path(name)
    assert hasattr(found, "partitions") == (lazy and name != "x.NPY")
    np.testing.assert_array_equal(np.asarray(found), NUMBERS)


def test_the_home_folder_and_lists_of_paths(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    save(parts=3)
    np.save("x.npy", NUMBERS)
    np.testing.assert_array_equal(open_path("~/x.npy"), NUMBERS)
    assert open_path("~/houses-*.csv")["id"].tolist() == TABLE["id"].tolist()
    found = open_path([Path("houses-1.csv"), "~/houses-0.csv"])
    assert found["id"].tolist() == [*TABLE["id"][20:40], *TABLE["id"][:20]]
    x = ["houses-0.csv", "houses-1.csv"]
    fitted = regressor(categorical="one_hot", handle_unknown="ignore").fit(x, "price")
    assert len(fitted.predict(["houses-2.csv"])) == 20
    regressor(run="run").fit("~/x.npy", NUMBERS[:, 0])
    assert "60 rows" in run("predict", "run", "~/x.npy", "found.npy")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.npz", ["x.npz", "numpy.save"]),
        ("x.XLSX", ["x.XLSX", "to_parquet"]),
        ("x.nc", ["x.nc", "netCDF", "dadmm[netcdf]"]),
        ("x.feather", ["x.feather", "pandas.read_feather"]),
        ("x.txt", ["x.txt", "delimiter"]),
        ("x.csv.gz", ["x.csv.gz", "opened"]),
        ("x.csv.lz4", ["x.csv.lz4", ".csv"]),
    ],
)
def test_files_of_other_kinds_are_refused_with_what_helps(name, words):
    Path(name).write_bytes(b"no table \x00")
    with pytest.raises(InputError, match=naming(*words)) as caught:
        open_path(name)
    assert "\n" not in str(caught.value)
