"""Runs that earlier versions stored are loaded, resumed and found sound; see fixtures/README.md."""

import shutil

import numpy as np
import pytest

from dadmm import load, resume
from support.places import ROOT
from support.terminal import command

RUNS = sorted((ROOT / "tests" / "fixtures").glob("run-*/*.zip"))
LAST, MOST = 2, 4


@pytest.fixture(params=RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def stored(request, tmp_path):
    """Give a stored run, and what it predicted when it was stored."""
    shutil.unpack_archive(request.param, tmp_path / "run")
    with np.load(request.param.with_suffix(".npz")) as found:
        return tmp_path / "run", dict(found)


def assert_predicts(estimator, expected, tolerance, prefix=""):
    names = [name for name in expected if name.startswith("resumed_") == bool(prefix)]
    for name in names:
        if name != "x":
            found = getattr(estimator, name.removeprefix(prefix))(expected["x"])
            np.testing.assert_allclose(found, expected[name], rtol=tolerance, atol=tolerance)


def test_there_are_some():
    assert {path.stem for path in RUNS} >= {"block", "batch", "relaxed", "nmf"}


def test_is_loaded(stored):
    path, expected = stored
    estimator = load(path)
    assert estimator.n_iter_ == LAST
    assert estimator.history_.sizes["iteration"] == LAST
    assert_predicts(estimator, expected, 1e-5)


def test_is_resumed(stored):
    path, expected = stored
    estimator = resume(path)
    assert estimator.n_iter_ == MOST
    assert estimator.history_.attrs["status"] == "finished"
    # What was rounded otherwise has been trained on.
    assert_predicts(estimator, expected, 1e-3, "resumed_")
    assert command("check", path).code == 0


def test_is_sound(stored):
    path, _ = stored
    done = command("check", path)
    assert done.code == 0
    assert "left over" not in done.out
    assert done.out.split()[-1] == "nothing"
