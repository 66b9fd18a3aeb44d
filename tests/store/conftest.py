"""Runs for the tests of the store."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dadmm.store import Run
from support.stores import CHUNK, ROWS, SIZES, block, data, small


@pytest.fixture
def run(tmp_path):
    """A run with one variable of generation 0, its parameters, and a commit."""
    made = Run.create(tmp_path / "run", {"config": {"a": 1}})
    made.begin(0, ROWS, CHUNK, {"v_1": 3}, "float32")
    for chunk, rows in enumerate(SIZES):
        made.blocks.write("state/0/v_1", chunk, block(chunk, rows))
    made.save_params("params/0", {"w_1": np.arange(6.0).reshape(2, 3), "b_1": np.arange(3.0)})
    made.commit(0, 0)
    return made


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """A finished run on disk, never to be changed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    return small(run=path).fit(*data())


@pytest.fixture
def copied(fitted, tmp_path):
    """The finished run's folder, to be damaged, its commit record still that of training."""
    return Path(shutil.copytree(fitted.run_, tmp_path / "copy"))
