"""``dadmm export``: networks taken elsewhere, and files that predict."""

import os
from pathlib import Path

import numpy as np
import pytest

import dadmm
from dadmm import NMF, ADMMClassifier
from dadmm.errors import StoreError
from support.messages import names
from support.networks import (
    PARTS,
    SMALL,
    X,
    Y,
    needs_onnx,
    needs_safetensors,
    runtime,
    same,
    tolerance,
)
from support.terminal import command

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished run."""
    path = tmp_path_factory.mktemp("run") / "run"
    ADMMClassifier(**SMALL, run=path).fit(X, Y)
    return path


@needs_onnx
@needs_safetensors
def test_a_run_is_exported_by_command(run):
    done = command("export", run, "model.onnx")
    assert done.code == 0, done.err
    assert "-> model.onnx" in done.out
    assert "256 random rows in ONNX Runtime: outputs differ by at most" in done.out
    done = command("export", run, "model.safetensors")
    assert done.code == 0, done.err
    same(dadmm.load(run).network_, dadmm.load("model.safetensors").network_)
    first = Path("model.onnx").read_bytes()
    done = command("export", "model.safetensors", "model.onnx")
    assert (done.code, done.out) == (2, "")
    assert names(done.err, "model.onnx", "--overwrite")
    assert command("export", "model.safetensors", "model.onnx", "--overwrite").code == 0
    assert Path("model.onnx").read_bytes() == first


@needs_safetensors
def test_a_file_predicts_by_command_and_shows_no_history(run):
    assert command("export", run, "model.safetensors").code == 0
    np.save("x.npy", X)
    done = command("predict", "model.safetensors", "x.npy", "y.npy")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.load("y.npy"), dadmm.load(run).predict(X))
    for words in (("show", "model.safetensors"), ("resume", "model.safetensors")):
        done = command(*words)
        assert done.code == 2
        assert done.err.count("\n") == 1
    with pytest.raises(StoreError):
        dadmm.resume("model.safetensors")


@needs_onnx
@needs_safetensors
def test_a_factorisation_is_exported_by_command():
    np.save("x.npy", PARTS)
    fitted = NMF(3, max_iter=3, run="run").fit(PARTS)
    for source in ("run", "model.safetensors"):
        for target in ("model.safetensors", "model.onnx"):
            done = command("export", source, target, "--overwrite")
            assert done.code == 0, done.err
        assert "256 random rows in ONNX Runtime" in done.out
        found = runtime("model.onnx")(PARTS.astype(np.float32))["codes"]
        np.testing.assert_allclose(found, fitted.transform(PARTS), **tolerance(np.float32))
        done = command("predict", source, "x.npy", "codes.npy", "--overwrite")
        assert done.code == 0, done.err
        np.testing.assert_array_equal(np.load("codes.npy"), fitted.transform(PARTS))


@pytest.mark.parametrize("name", ["model.pt", "model.txt"])
def test_a_bad_ending_is_refused_by_command(run, name):
    done = command("export", run, name)
    assert done.code == 2
    assert done.err.startswith("error: model.")
    assert done.err.count("\n") == 1
    assert not os.listdir()
