"""Small runs for the chaos tests: made once, copied, disturbed, resumed, compared."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dadmm import ADMMClassifier, BlockADMM, Dense, NMFBlock, RelaxedADMM
from support.runs import all_bits, stop_at

ITERATIONS = 4
SOLVERS = {
    "relaxed": RelaxedADMM(),
    "online": BlockADMM(blocks=2, batch_size=8, early_stopping=True),
    "batch": BlockADMM(mode="batch", blocks=2, batch_size=8, consensus="admm"),
    "factors": BlockADMM(mode="batch", blocks=[Dense(6), NMFBlock(3)], batch_size=8),
}


def data(rows=90):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def model(solver, run=None, **options):
    same = {"max_iter": ITERATIONS, "tol": 0, "chunks": 40, "random_state": 0}
    return ADMMClassifier((6, 6), solver=SOLVERS[solver], run=run, **{**same, **options})


class Made:
    """A run that was stopped after two iterations, another that is finished, and its bits."""

    def __init__(self, solver, folder):
        self.solver = solver
        self.finished = folder / "finished"
        self.stopped = folder / "stopped"
        self.bits = all_bits(model(solver, self.finished).fit(*data()))

        with pytest.raises(KeyboardInterrupt):
            model(solver, self.stopped).fit(*data(), callback=stop_at(2))

    def copy(self, which, place):
        if Path(place).exists():
            shutil.rmtree(place)  # no task of an earlier session may write there
        return shutil.copytree(getattr(self, which), place)


@pytest.fixture(scope="session", params=SOLVERS)
def made(request, tmp_path_factory):
    return Made(request.param, tmp_path_factory.mktemp("made"))
