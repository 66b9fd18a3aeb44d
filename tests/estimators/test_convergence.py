"""A fit that `max_iter` ends too early says so."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from dadmm import NMF, ADMMClassifier, ADMMRegressor, BlockADMM
from dadmm.solvers.stopping import still_better
from support.messages import naming

X = np.random.default_rng(0).normal(size=(200, 4))
Y = X[:, 0] + np.sin(2 * X[:, 1])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_loss_that_still_falls_is_told(early_stopping):
    solver = BlockADMM(early_stopping=early_stopping)
    model = ADMMRegressor((8,), max_iter=3, random_state=0, solver=solver)
    with pytest.warns(ConvergenceWarning, match=naming("max_iter=3", "ADMMRegressor")) as told:
        model.fit(X, Y)
    (warning,) = told
    assert warning.filename == __file__
    assert "\n" not in str(warning.message)


def test_a_factorisation_tells_it_too():
    with pytest.warns(ConvergenceWarning, match=naming("max_iter=2", "NMF")):
        NMF(2, max_iter=2, init="random", random_state=0).fit(np.abs(X))


@pytest.mark.parametrize(
    "options", [{"max_iter": 50}, {"tol": 0}, {"warm_start": True}, {"max_iter": 1}]
)
def test_nothing_is_told_where_it_is_no_news(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ADMMClassifier((8,), **{"max_iter": 3, "random_state": 0, **options})
        model.fit(X, Y > 0)
        model.partial_fit(X, Y > 0)


def test_a_hundredth_of_the_whole_fall_counts():
    steady = [{"objective": v} for v in [10.0, *np.linspace(1.0, 0.95, 12)]]
    assert not still_better(steady, 1e-4)
    assert still_better(steady[:9], 1e-4)
    assert not still_better(steady[:9], 20.0)
    assert not still_better([{}, {}], 1e-4)
    assert not still_better([], 1e-4)
