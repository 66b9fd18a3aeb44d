"""The files that a path names, and their order."""

from pathlib import Path

import fsspec
import pytest

from dadmm.data.files import are_paths, compression, table_files, table_kind

pytestmark = pytest.mark.usefixtures("here")


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("x.csv", "csv"),
        ("X.CSV", "csv"),
        ("x.tsv.GZ", "csv"),
        ("s3://here/x.Parquet", "parquet"),
        ("x.parquet/", "parquet"),
        ("x.pq", "parquet"),
        ("x.parquet.gz", None),
        ("x.npy", None),
        ("x.zarr", None),
        ("csv", None),
        (["a.csv", "b.csv"], "csv"),
        (["a.csv", "b.parquet"], None),
    ],
)
def test_names_tell_tables(path, kind):
    assert table_kind(path) == kind


def test_folders_and_globs_are_looked_into():
    touch("daily/1.csv", "daily/.hidden", "daily/_SUCCESS", "mixed/1.csv", "mixed/1.pq", "z/1.csv")
    touch("z/zarr.json")
    found = {path: table_kind(path) for path in ("daily", "daily/*", "mixed", "z", "none", "*.d")}
    assert found == {
        "daily": "csv", "daily/*": "csv", "mixed": None, "z": None, "none": None, "*.d": None
    }  # fmt: skip


def test_lists_of_paths_are_told_from_labels():
    assert are_paths(["a.csv", Path("b.csv")])
    assert not any(map(are_paths, (["yes", "no"], [], [[1.0]], "a.csv", ["a.csv", "b.pq", "no"])))


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("path", ["p.csv/*.csv", "p.csv", "p.csv/"])
def test_the_order_is_natural(path, far):
    names = [f"p.csv/part.{i}.csv" for i in range(12)]
    touch(*names)
    filesystem = fsspec.filesystem("memory")
    for name in names:
        filesystem.touch(f"/order/{name}")
    root = "memory://order/" if far else ""
    found = [file.url.removeprefix("memory://").lstrip("/") for file in
             table_files(f"{root}{path}", "csv")]  # fmt: skip
    assert [name[-len(names[i]) :] for i, name in enumerate(found)] == names


def test_dask_names_its_csv_files_so():
    touch("out.csv/0.part", "out.csv/10.part", "out.csv/2.part")
    assert [Path(file.url).name for file in table_files("out.csv", "csv")] == [
        "0.part", "2.part", "10.part"
    ]  # fmt: skip


def test_folders_tell_keys_only_below_the_path():
    touch("run=3/t.parquet/year=2024/place=a%20b/0.parquet")
    keys = (("year", "2024"), ("place", "a b"))
    for path in ("run=3/t.parquet", "run=3/t.parquet/*/*/*.parquet"):
        assert [file.keys for file in table_files(path, "parquet")] == [keys]
    whole = "run=3/t.parquet/year=2024/place=a%20b/0.parquet"
    assert [file.keys for file in table_files(whole, "parquet")] == [()]


def test_endings_tell_the_compression():
    assert compression("x.csv.GZ") == "gzip"
    assert compression("x.tsv.zst") == "zstd"
    assert compression("x.csv") is None
