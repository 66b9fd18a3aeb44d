"""Small runs for the chaos tests: made once, copied, disturbed, resumed, compared."""

import shutil

import numpy as np
import pytest

from dadmm import ADMMClassifier, BlockADMM, Dense, NMFBlock, RelaxedADMM

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


def bits(estimator):
    """Everything that training computed, but the clock."""
    params = {name: array.tobytes() for name, array in estimator.network_.params.items()}
    history = estimator.history_.drop_vars("seconds", errors="ignore")
    rows = {str(name): column.values.tobytes() for name, column in history.items()}
    return params, rows


class Made:
    """A run that was stopped after two iterations, another that is finished, and its bits."""

    def __init__(self, solver, folder):
        self.solver = solver
        self.finished = folder / "finished"
        self.stopped = folder / "stopped"
        self.bits = bits(model(solver, self.finished).fit(*data()))

        def stop(iteration, row):
            if iteration == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model(solver, self.stopped).fit(*data(), callback=stop)

    def copy(self, which, place):
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(getattr(self, which), place)


@pytest.fixture(scope="session", params=SOLVERS)
def made(request, tmp_path_factory):
    return Made(request.param, tmp_path_factory.mktemp("made"))
