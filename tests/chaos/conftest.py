"""Runs that were stopped or are finished, and the ground of the fuzz tests."""

from pathlib import Path

import pytest

from dadmm import ADMMClassifier, ADMMRegressor
from support.fuzz_ground import LABELS, TARGETS, X, write_data
from support.stopped_runs import made

__all__ = ["made"]


# Seconds of a test that hangs.  How long the others take is for the machine and its load to say.
HANGS = 3600


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(HANGS))


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Return a folder with the data, and a good run of each kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data()
        ADMMClassifier((5,), max_iter=2, random_state=0, run="labels").fit(X, LABELS)
        ADMMRegressor((5,), max_iter=2, random_state=0, solver="relaxed", run="numbers").fit(
            X, TARGETS
        )
    return folder


@pytest.fixture
def on_ground(ground, monkeypatch):
    """Work there; no mutation starts processes, or asks a network for anything."""

    def refuse(*args, **kwargs):
        raise OSError("no processes here")

    monkeypatch.chdir(ground)
    monkeypatch.setattr("distributed.LocalCluster", refuse)
