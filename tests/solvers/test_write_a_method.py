"""The method that the documentation shows: complete, short, and as safe as dadmm's own."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import dask
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dadmm import ADMMClassifier, ADMMRegressor, load, resume
from dadmm.errors import DadmmError, DivergenceError, OptionError, StoreError
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers import Chunk, HeldOut, Problem
from dadmm.solvers.sums import combine
from support.clusters import processes
from support.messages import naming
from support.written_method import NAME, code, folder, method

SCRIPT = f"""
import os, signal, sys
from sklearn.datasets import load_digits
from dadmm import ADMMClassifier
from {NAME} import Gradient

def kill(iteration, row):
    if iteration == 2:
        os.kill(os.getpid(), signal.SIGKILL)

x, y = load_digits(return_X_y=True)
options = dict(solver=Gradient(), max_iter=4, tol=0, chunks=70, random_state=3, run=sys.argv[1])
ADMMClassifier((12, 12), **options).fit(x[:210], y[:210], callback=kill)
"""


def train(run=None, solver=None, **options):
    x, y = load_digits(return_X_y=True)
    given = {"max_iter": 4, "tol": 0, "chunks": 70, "random_state": 3, "run": run, **options}
    return ADMMClassifier((12, 12), solver=solver or method()(), **given).fit(x[:210], y[:210])


def bits(model):
    return {name: array.tobytes() for name, array in model.network_.params.items()}


@pytest.fixture(scope="module")
def known():
    return bits(train())


def test_it_is_short():
    assert len(code().splitlines()) < 60


def test_it_learns():
    x, y = load_digits(return_X_y=True)
    model = ADMMClassifier((32,), solver=method()(), max_iter=60, random_state=0)
    assert model.fit(x[:1500], y[:1500]).score(x[1500:], y[1500:]) > 0.85
    assert {"objective", "train_score", "step", "size"} <= set(model.history_)
    assert np.diff(model.loss_curve_)[:5].max() < 0
    regressor = ADMMRegressor((16,), solver=method()(rate=0.05), max_iter=60, random_state=0)
    assert regressor.fit(x[:500], x[:500].sum(1)).score(x[:500], x[:500].sum(1)) > 0.9


def test_its_first_step_is_along_the_gradient_of_the_objective():
    """By finite differences of the loss of all rows, with the penalty."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    arch = Architecture.build(4, (5,), 2, "tanh", "dense")
    problem = Problem(arch, "squared", 0.1, 20, dtype="float64", target_variation=1.0)
    solver = method()(rate=1.0, momentum=0.0, dtype="float64")
    params = solver.initial(problem, 0)
    halves = [Chunk(x[rows], y[rows], {}) for rows in (slice(0, 7), slice(7, 20))]
    sums = combine([solver.visit(problem, None, params, half) for half in halves])

    def objective(w):
        out = arch.forward({**params, "w_1": w}, x)
        return get_loss("squared").value(out, y) / 20 + 0.05 * (w**2).sum()

    at, h = params["w_1"], 1e-6
    step = at - solver.update(problem, 1, params, sums)[0]["w_1"]
    for index in np.ndindex(at.shape):
        change = np.zeros_like(at)
        change[index] = h
        slope = (objective(at + change) - objective(at - change)) / (2 * h)
        assert step[index] == pytest.approx(slope, abs=1e-7)


@pytest.mark.processes
def test_same_bits_on_all_schedulers(known, tmp_path):
    with dask.config.set(scheduler="synchronous"):
        assert bits(train(tmp_path / "synchronous")) == known
    assert bits(train(tmp_path / "threads")) == known
    folder()  # on the path of the workers, too
    with processes(2):
        assert bits(train(tmp_path / "processes")) == known


@pytest.mark.processes
def test_killed_and_resumed_it_ends_with_the_same_bits(known, tmp_path):
    run = tmp_path / "run"
    path = os.pathsep.join(filter(None, [folder(), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(run)],
        env={**os.environ, "PYTHONPATH": path},
        timeout=150,
    )
    assert done.returncode == -signal.SIGKILL
    assert load(run, solver=method()()).n_iter_ == 2
    assert bits(resume(run, solver=method()())) == known


class Held(method()):
    """The same, with a quarter of the rows held out."""

    stopping = HeldOut(fraction=0.25, patience=2)

    def visit(self, problem, part, weights, chunk):
        rows, _ = self.stopping.split(problem, chunk)
        seen = replace(chunk, inputs=chunk.inputs[rows], y=chunk.y[rows])
        return super().visit(problem, part, weights, seen)


def held_out(y, c):
    """Return the rows that are held out of a chunk of digits."""
    arch = Architecture.build(64, (12, 12), 10, "relu", "dense")
    problem = Problem(arch, "cross_entropy", 0.0, 210, classes=10)
    return Held.stopping.split(problem, Chunk(None, np.eye(10)[y], {}, (3, 0, c)))[1]


def test_rows_held_out_stop_it_and_choose_the_iteration_that_is_kept():
    model = train(solver=Held(), max_iter=60, tol=1e-4, shuffle=False)
    scores = model.history_["validation_score"].values
    assert model.history_.attrs["status"] == "converged"
    best = int(scores.argmax())
    assert model.n_iter_ == len(scores) == best + 3
    again = train(solver=Held(), max_iter=best + 1, shuffle=False)
    held = {name: array.tobytes() for name, array in again.network_.params.items()}
    assert held == bits(model)
    # The column is the accuracy of that network on these rows.
    x, y = (part[:210] for part in load_digits(return_X_y=True))
    rows = np.concatenate([70 * c + held_out(y[70 * c : 70 * c + 70], c) for c in range(3)])
    assert scores[best] == pytest.approx(model.score(x[rows], y[rows]))


@pytest.mark.filterwarnings("ignore::dadmm.errors.ValidationWarning")
def test_rows_that_cannot_be_held_out_are_told():
    x, y = load_digits(return_X_y=True)
    model = ADMMClassifier((12,), solver=Held(), max_iter=1, chunks=1, run=None)
    with pytest.raises(OptionError, match=naming("early_stopping", "2 rows")):
        model.fit(x[:12], y[:12])


def test_a_run_asks_for_the_solver_that_it_does_not_know(tmp_path):
    train(tmp_path / "run")
    with pytest.raises(StoreError, match=naming(f"{NAME}:Gradient", "solver")):
        load(tmp_path / "run")
    with pytest.raises(DadmmError, match=naming("solver")):
        load(tmp_path / "run", solver=method()(rate=0.1))
    assert bits(load(tmp_path / "run", solver=method()())) == bits(train())


@pytest.mark.parametrize(
    ("options", "named"),
    [({"rate": 0.0}, "rate"), ({"momentum": 1}, "momentum"), ({"dtype": "int8"}, "dtype")],
)
def test_its_options_are_checked(options, named):
    with pytest.raises(OptionError, match=named):
        train(solver=method()(**options))


def test_what_is_no_solver_is_told():
    with pytest.raises(OptionError, match=naming("Gradient()")):
        train(solver=method())
    with pytest.raises(OptionError, match=naming("dadmm.Solver")):
        train(solver=object())


def test_divergence_names_its_hint():
    with pytest.raises(DivergenceError, match=naming("Lower rate")):
        train(solver=method()(rate=1e30), max_iter=30)
