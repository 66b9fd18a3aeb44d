"""The command line refuses what cannot work in one line, and nothing is lost."""

import json
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

import dadmm
from dadmm import ADMMClassifier, ADMMRegressor
from dadmm.errors import (
    RunError,
)
from support.messages import names
from support.refusals import BAD_NAN, SMALL, X, Y, refused, snapshot
from support.terminal import command

pytestmark = pytest.mark.usefixtures("here")


CONFIG = """
[data]
x = "x.npy"
y = "y.npy"
[model]
hidden_layer_sizes = [4]
max_iter = 2
random_state = 0
"""


def write_config(*changes, name="config.toml"):
    """Write the data and a config, with some of its lines replaced."""
    np.save("x.npy", X)
    np.save("y.npy", Y)
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(name).write_text(text)


def complains(code, words, *arguments):
    """Check that ``dadmm ARGUMENTS`` fails with one line that has `words` in it."""
    done = command(*arguments)
    assert done.code == code, done
    assert "Traceback" not in done.out + done.err
    line = [line for line in done.err.splitlines() if line][-1]
    assert names(line, *words), done.err
    if not line.startswith("Error: "):  # a usage error shows the usage before it
        assert done.err == f"{line}\n"
        assert line.startswith("error: " if code == 2 else "failed: ")
    return done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fitt"], ["'fitt'", "'fit'"]),
        (["fit", "config.toml"], ["--run"]),
        (["fit", "--run", "run"], ["CONFIG", "--data"]),
        (["fit", "config.toml", "--run", "run", "--wrokers", "2"], ["--workers"]),
        (["fit", "config.toml", "--run", "run", "--workers", "-1"], ["--workers", "-1"]),
        (["fit", "config.toml", "--run", "run", "--workers", "x"], ["--workers", "'x'"]),
        (["fit", ".", "--run", "run"], ["'.'", "directory"]),
        (["fit", "none.toml", "--run", "run"], ["none.toml", "path"]),
        (["fit", "x.npy", "--run", "run"], ["x.npy", "TOML"]),
        (["fit", "config.toml", "--run", "/proc/run"], ["/proc/run", "written"]),
        (["fit", "config.toml", "--run", "x.npy/run"], ["x.npy/run"]),
        (["fit", "config.toml", "--run", "x.npy", "--overwrite"], ["x.npy", "run"]),
        (["fit", "config.toml", "--run", "nope://run"], ["nope"]),
        (["resume"], ["'RUN'"]),
        (["resume", "nowhere"], ["nowhere", "folder"]),
        (["resume", "run", "--max-iter", "0"], ["--max-iter", "0"]),
        (["show", "nowhere"], ["nowhere"]),
        (["show", "x.npy"], ["x.npy", "run"]),
        (["predict", "nowhere", "x.npy", "out.npy"], ["nowhere"]),
        (["predict", "nowhere", "x.npy"], ["'OUTPUT'"]),
        (["demo", "--workers", "-1"], ["--workers", "-1"]),
    ],
)
def test_wrong_usage_is_explained(arguments, words):
    write_config()
    complains(2, words, *arguments)
    assert not snapshot("run")


def claims_more():
    """Write files that say they hold more than they do, and one whose chunk is damaged."""
    np.save("claims.npy", X)
    content = Path("claims.npy").read_bytes()
    claim = b"(3000000000, 3), }"
    Path("claims.npy").write_bytes(content.replace(b"(30, 3), }        ", claim))
    for name, shape, chunk in (
        ("damaged", [30, 3], [30, 3]),
        ("chunks", [10**9, 3], [1, 3]),
        ("chunk", [10**15, 3], [10**15, 3]),
    ):
        stored = zarr.create_array(f"{name}.zarr", shape=(30, 3), dtype=float, fill_value=0.0)
        stored[:] = X
        path = Path(f"{name}.zarr", "zarr.json")
        document = json.loads(path.read_text())
        document["shape"] = shape
        document["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        path.write_text(json.dumps(document))
    Path("damaged.zarr", "c", "0", "0").write_bytes(b"none of this")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[model]", "[modl]", ["config.toml", "[modl]", "'model'"]),
        ("max_iter", "max_itr", ["[model]", "'max_itr'", "'max_iter'"]),
        ("max_iter = 2", "max_iter = 'many'", ["[model]", "max_iter='many'", "whole number"]),
        ("max_iter = 2", "max_iter = 0", ["max_iter=0", "1"]),
        ("max_iter = 2", "alpha = -1", ["alpha=-1", "0"]),
        ("max_iter = 2", "activation = 'rlu'", ["activation", "'rlu'", "'relu'"]),
        ("max_iter = 2", "loss = 'hing'", ["loss", "'hing'", "'hinge'"]),
        ("max_iter = 2", "stem = 'dens'", ["stem", "'dens'", "'dense'"]),
        ("max_iter = 2", "standardize = 'globl'", ["standardize", "'globl'", "'global'"]),
        ("max_iter = 2", "chunks = 0", ["chunks=0", "1 row"]),
        ("max_iter = 2", "chunks = [3, 4]", ["chunks=(3, 4)", "7 rows", "30"]),
        ("random_state = 0", "[solver]\nname = 'relaxd'", ["solver", "'relaxd'", "'relaxed'"]),
        ("random_state = 0", "[solver]\ntauu = 1", ["'tauu'", "'tau'"]),
        ("random_state = 0", "[solver]\ntau = 1", ["'tau'", "'relaxed'"]),
        ("random_state = 0", "random_state = -1", ["random_state=-1", "0"]),
        ("random_state = 0", "[cluster]\nmemory_limit = '1MiB'", ["'1MiB'"]),
        ("random_state = 0", "[cluster]\nmemory_limit = 'lots'", ["memory_limit='lots'"]),
        ("[4]", "4", ["hidden_layer_sizes=4", "list"]),
        ("[4]", "[0]", ["hidden_layer_sizes=(0,)"]),
        ("x.npy", "none.npy", ["x", "none.npy"]),
        ("x.npy", "nan.npy", ["x", "NaN", "row 7", "column 1", "impute"]),
        ("y.npy", "nan.npy", ["y", "row 0", "column 0"]),
        ("x.npy", "objects.npy", ["x", "objects.npy"]),
        ("x.npy", "complex.npy", ["x", "complex128"]),
        (
            "x.npy",
            "claims.npy",
            ["x", "claims.npy", "size"],
        ),
        ("x.npy", "x" * 300, ["x", "x" * 300]),
        ('"x.npy"', '"long.csv"', ["long.csv", "field larger"]),
        ('"x.npy"', '"damaged.zarr"', ["damaged.zarr", "read"]),
        (
            '"x.npy"',
            '"chunks.zarr"',
            ["x", "chunks.zarr", "1000000000 chunks"],
        ),
        ('"x.npy"', '"chunk.zarr"', ["x", "chunk.zarr", "PiB"]),
        ('x = "x.npy"', "", ["[data]", "y", "x", "inputs"]),
        (
            "max_iter = 2",
            "chunks = " + "[" * 9999,
            ["config.toml", "TOML", "brackets"],
        ),
        ("max_iter = 2", "max_iter = " + "9" * 5000, ["config.toml", "TOML", "digits"]),
        (
            "max_iter = 2",
            "loss = '" + "x" * 9999 + "'",
            ["loss", "...", "'auto'"],
        ),
        (
            "max_iter = 2",
            'loss = "a\\nb\\u001b[31m"',
            [r"loss='a\nb\x1b[31m'"],
        ),
        ("x.npy", "empty.npy", ["x", "0 sample", "shape=(0, 3)"]),
        ("y.npy", "one.npy", ["y", "one class", "0"]),
        ("y.npy", "short.npy", ["y", "29 rows", "x", "30"]),
        ('"x.npy"', '"cell.csv"', ["'b'", "row 1", "'u'", "na_values"]),
        ('y = "y.npy"', "", ["[data]", "x", "y", "targets"]),
        ('"y.npy"', '"y.npy"\ntest_fraction = 2', ["test_fraction=2", "below 1"]),
        ('"x.npy"', '"x.npy"\ndataset = "digits"', ["[data]", "dataset", "x", "y"]),
    ],
)
def test_a_config_that_cannot_be_fitted_is_explained(old, new, words):
    np.save("nan.npy", BAD_NAN)
    np.save("objects.npy", X.astype(object))
    np.save("complex.npy", X + 0j)
    np.save("empty.npy", X[:0])
    np.save("one.npy", 0 * Y)
    np.save("short.npy", Y[:-1])
    Path("cell.csv").write_text("a,b\n1,2\n3,u\n")
    Path("long.csv").write_text("1," + "1" * 200_000 + "\n")
    claims_more()
    write_config((old, new))
    complains(2, words, "fit", "config.toml", "--run", "run")
    assert not snapshot("run")


def test_a_diverged_run_failed_and_keeps_what_was_good():
    write_config(("random_state = 0", "[solver]\nname = 'relaxed'\nmu = 1e-30\nbeta = 1e-30"))
    words = ["iteration 1", "diverged", "iteration 0", "beta"]
    complains(1, words, "fit", "config.toml", "--run", "run")
    assert "diverged, 0 iterations" in command("show", "run").out
    complains(2, ["iteration", "draw"], "show", "run", "--plot", "a.png")
    complains(1, words, "resume", "run")


def test_a_run_in_the_way_is_named_with_the_keys_that_differ():
    write_config()
    assert command("fit", "config.toml", "--run", "run").code == 0
    before = snapshot("run")
    words = ["run", "dadmm resume run", "--overwrite"]
    complains(2, words, "fit", "config.toml", "--run", "run")
    write_config(("max_iter = 2", "max_iter = 3"), ("[4]", "[5]"))
    words = ["run", "hidden_layer_sizes", "[4]", "[5]", "max_iter", "2", "3", "--overwrite"]
    complains(2, words, "fit", "config.toml", "--run", "run")
    assert snapshot("run") == before
    assert command("fit", "config.toml", "--run", "run", "--overwrite").code == 0
    assert dadmm.load("run").n_iter_ == 3


@pytest.mark.parametrize("arguments", [["show"], ["resume"], ["predict"]])
def test_a_store_of_another_version_is_named_by_every_command(foreign_run, arguments):
    files = ["x.npy", "out.npy"] if arguments == ["predict"] else []
    complains(2, ["run", "format 99"], *arguments, "run", *files)
    write_config()
    complains(2, ["run", "--overwrite"], "fit", "config.toml", "--run", "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["two.npy", "out.npy"],
            ["2 features", "3 features"],
        ),
        (["two.csv", "out.npy"], ["2 features", "3 features"]),
        (["two.zarr", "out.zarr"], ["2 features", "3 features"]),
        (["damaged.zarr", "out.zarr"], ["damaged.zarr", "read"]),
        (["damaged.zarr", "out.npy"], ["damaged.zarr", "read"]),
        (["nan.npy", "out.npy"], ["x", "NaN", "row 7", "column 1"]),
        (["cell.csv", "out.npy"], ["cell.csv", "1,u,3", "header"]),
        (["none.npy", "out.npy"], ["x", "none.npy"]),
        (["run", "out.npy"], ["x", "run", ".npy", ".csv", ".parquet"]),
        (["x.npy", "x.npy"], ["x.npy", "--overwrite"]),
        (["x.npy", "x.npy", "--overwrite"], ["x.npy", "read"]),
        (["x.npy", "out.txt"], ["out.txt", ".npy", ".csv", ".parquet", ".zarr"]),
        (["x.npy", "none/out.npy"], ["folder", "none"]),
        (["x.npy", "folder.npy", "--overwrite"], ["folder.npy", "folder"]),
        (["x.npy", "folder.zarr", "--overwrite"], ["folder.zarr", "zarr array"]),
        (["x.npy", "x" * 300 + ".npy"], ["x" * 300 + ".npy", "File name too long"]),
        (["x.npy", "x" * 300 + ".zarr"], ["x" * 300 + ".zarr", "File name too long"]),
        (["x.npy", "nope://out.zarr"], ["nope://out.zarr", "written"]),
    ],
)
def test_a_prediction_that_cannot_be_is_explained(kept_run, arguments, words):
    np.save("x.npy", X)
    np.save("two.npy", X[:, :2])
    np.savetxt("two.csv", X[:, :2], delimiter=",")
    da.from_array(X[:, :2]).to_zarr("two.zarr")
    np.save("nan.npy", BAD_NAN)
    Path("cell.csv").write_text("1,u,3\n")
    claims_more()
    for name in ("folder.npy", "folder.zarr"):
        Path(name).mkdir()
        Path(name, "thesis.txt").write_text("three years")
    before = snapshot(".")
    complains(2, words, "predict", "run", *arguments)
    assert snapshot(".") == before


def test_probabilities_that_do_not_exist_are_not_predicted():
    np.save("x.npy", X)
    ADMMRegressor(**SMALL, run="run").fit(X, X[:, 0])
    complains(
        2, ["run", "regression", "probabilities"], "predict", "run", "x.npy", "o.npy", "--proba"
    )
    ADMMClassifier(**SMALL, run="hinge", loss="hinge").fit(X, Y)
    words = ["loss='hinge'", "probabilities", "'cross_entropy'"]
    complains(2, words, "predict", "hinge", "x.npy", "o.npy", "--proba")


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("none/a.png", ["none/a.png", "No such file or directory"]),
        ("a", ["a", ".png", ".pdf", ".svg"]),
        ("a.foo", ["a.foo", "'foo'"]),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_explained(kept_run, picture, words):
    complains(2, words, "show", "run", "--plot", picture)


def test_a_damaged_commit_record_is_named(finished_run):
    shutil.copytree(finished_run, "run")
    path = Path("run", "commit.json")
    path.write_text(path.read_text()[:-20])
    complains(2, ["run", "commit.json"], "show", "run")
    again = command("resume", "run")
    assert again.code == 0
    assert again.err.startswith("warning: ")
    assert names(again.err, "run", "commit.json")


def test_memory_that_is_not_there_is_named(monkeypatch):
    def grab(*args, **options):
        raise MemoryError("Unable to allocate 9 EiB")

    monkeypatch.setattr("dadmm.engine.loop._start", grab)
    words = ["memory", "Unable to allocate 9 EiB"]
    refused(RunError, words, ADMMClassifier(**SMALL).fit, X, Y)
    monkeypatch.setattr("dadmm.app.fit.load_data", grab)
    write_config()
    complains(1, ["memory", "Unable to allocate 9 EiB"], "fit", "config.toml", "--run", "run")
