"""``dadmm predict``: from any kind of file to any, and never half."""

import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from dadmm import ADMMClassifier, load
from support.configs import LABELS, X, configure
from support.messages import names
from support.terminal import command, ok

pytestmark = pytest.mark.usefixtures("here")


def write_input(kind):
    name = f"new.{kind}"
    if kind == "npy":
        np.save(name, X)
    elif kind == "csv":
        np.savetxt(name, X, delimiter=",", header="a,b,c", comments="")
    else:
        da.from_array(X, chunks=(15, 2)).to_zarr(name)
    return name


def read_output(name):
    if name.endswith(".npy"):
        return np.load(name)
    if name.endswith(".zarr"):
        return da.from_zarr(name).compute()
    cells = [line.split(",") for line in Path(name).read_text().splitlines()]
    return np.array(cells if len(cells[0]) > 1 else [row[0] for row in cells])


@pytest.mark.parametrize("source", ["npy", "csv", "zarr"])
@pytest.mark.parametrize("target", ["npy", "csv", "zarr"])
@pytest.mark.parametrize("proba", [False, True])
def test_predictions_go_from_any_kind_of_file_to_any(run, source, target, proba):
    output = f"found.{target}"
    options = ["--proba"] if proba else []
    done = ok("predict", run, write_input(source), output, *options)
    assert done.out.endswith(f"written    40 rows -> {output}\n")
    assert done.err == ""
    assert ("columns    cat, dog\n" in done.out) == proba
    found = read_output(output)
    if source == target == "csv":  # names of columns, as the input has
        assert np.ravel(found[:1]).tolist() == (["cat", "dog"] if proba else ["kind"])
        found = found[1:]
    if proba:
        expected = load(run).predict_proba(X)
        np.testing.assert_allclose(found.astype(float), expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, load(run).predict(X))


def test_a_regression_predicts_numbers(tmp_path):
    ok("fit", configure(tmp_path, task="regression"), "--run", "run")
    ok("predict", "run", write_input("npy"), "found.csv")
    np.testing.assert_allclose(read_output("found.csv").astype(float), load("run").predict(X))


def test_labels_from_pandas_can_be_written():
    labels = LABELS.astype(object)
    labels[labels == "dog"] = 'dog, "big"'
    ADMMClassifier((8,), max_iter=2, random_state=0, run="run").fit(X, labels)
    for output in ("found.npy", "found.zarr"):
        ok("predict", "run", write_input("npy"), output)
        assert set(read_output(output)) == set(labels)
    ok("predict", "run", "new.npy", "found.csv")
    assert set(Path("found.csv").read_text().splitlines()) == {"cat", '"dog, ""big"""'}


@pytest.mark.parametrize("target", ["npy", "csv", "zarr"])
def test_an_output_is_replaced_only_when_told_to(run, target):
    output = f"found.{target}"
    ok("predict", run, write_input("npy"), output, "--proba")
    done = command("predict", run, "new.npy", output)
    assert done.code == 2
    assert names(done.err, output, "--overwrite")
    assert read_output(output).shape == (40, 2)
    ok("predict", run, "new.npy", output, "--overwrite")
    assert read_output(output).shape == (40,)


def test_a_prediction_that_fails_leaves_the_old_output_and_no_other(run):
    ok("predict", run, write_input("npy"), "found.zarr")
    bad = X.copy()
    bad[39, 0] = np.nan
    da.from_array(bad, chunks=(15, 3)).to_zarr("bad.zarr")
    before = read_output("found.zarr")
    done = command("predict", run, "bad.zarr", "found.zarr", "--overwrite")
    assert done.code == 2
    assert names(done.err, "NaN", "row 9", "column 0")
    np.testing.assert_array_equal(read_output("found.zarr"), before)
    assert sorted(os.listdir()) == ["bad.zarr", "found.zarr", "new.npy"]
