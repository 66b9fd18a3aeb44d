"""The estimators are scikit-learn's: its own checks, its model selection, its callbacks."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from dadmm import NMF, ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, resume

SOLVERS = {"block": BlockADMM(batch_size=16, learning_rate=0.02), "relaxed": "relaxed"}
ESTIMATORS = [
    make((8,), solver=solver, max_iter=15, tol=0, random_state=0)
    for make in (ADMMClassifier, ADMMRegressor)
    for solver in SOLVERS.values()
] + [
    NMF(2, max_iter=20, shift=True),
    DeepFacto(3, (8,), solver=SOLVERS["block"], max_iter=15, tol=0, random_state=0),
]


def expected_failures(estimator):
    expected = {}
    if isinstance(estimator, NMF):
        return expected
    if estimator.solver == "relaxed":
        reason = "relaxed ADMM refuses weights of samples"
        expected |= {
            f"check_sample_weights_{what}": reason
            for what in ("pandas_series", "not_an_array", "list", "shape", "not_overwritten")
        }
        expected |= {
            "check_sample_weight_equivalence_on_dense_data": reason,
            "check_sample_weight_equivalence_on_sparse_data": reason,
            "check_class_weight_classifiers": reason,
        }
    else:
        reason = "mini-batches of other rows are drawn where a row is repeated instead of weighted"
        expected |= {
            f"check_sample_weight_equivalence_on_{kind}_data": reason
            for kind in ("dense", "sparse")
        }
    return expected


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


def test_a_grid_is_searched_over_a_pipeline():
    x, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), ADMMClassifier((8,), max_iter=40, random_state=0))
    slow, quick = BlockADMM(learning_rate=1e-6), BlockADMM(learning_rate=0.02, batch_size=16)
    grid = {"admmclassifier__solver": [slow, quick], "admmclassifier__alpha": [0.0, 1e-3]}
    search = GridSearchCV(pipe, grid, scoring=["accuracy", "neg_log_loss"], refit="accuracy", cv=3)
    search.fit(x, y)
    assert search.best_params_["admmclassifier__solver"] is quick
    assert search.best_score_ > 0.9
    assert np.isfinite(search.cv_results_["mean_test_neg_log_loss"]).all()
    assert search.predict_proba(x).shape == (150, 3)
    assert search.n_features_in_ == 4


def test_a_regression_of_two_targets_is_cross_validated():
    petals = load_iris().data
    petals = petals[np.random.default_rng(0).permutation(len(petals))]
    x, y = petals[:, :2], petals[:, 2:]
    found = cross_validate(
        ADMMRegressor((8,), solver=SOLVERS["block"], max_iter=20, random_state=0),
        x,
        y,
        scoring=["r2", "neg_mean_absolute_error"],
        cv=3,
        error_score="raise",
    )
    assert (found["test_r2"] > 0.6).all()
    assert (found["test_neg_mean_absolute_error"] > -1).all()


# ------------------------------------------------------------------------------ sklearn.callback


@pytest.fixture
def callback():
    return pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """A callback of scikit-learn's protocol, which notes what it is told."""

    def __init__(self, stop_at=None):
        self.told, self.scores, self.stop_at = [], [], stop_at

    def setup(self, estimator, context):
        self.told.append(("setup", context.task_name, context.max_subtasks))

    def teardown(self, estimator, context):
        self.told.append(("teardown", context.task_name, context.max_subtasks))

    def on_fit_task_begin(self, estimator, context, *, metadata=None):
        self.told.append(("begin", context.task_name, context.task_id))
        self.metadata = metadata

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.told.append(("end", context.task_name, context.task_id))
        if context.task_name == "iteration":
            self.scores.append(fitted_estimator.score(X, y))
            return context.task_id + 1 == self.stop_at


IRIS, KINDS = load_iris(return_X_y=True)


def told_of(iterations, most):
    steps = [(what, "iteration", i) for i in range(iterations) for what in ("begin", "end")]
    fit = [("setup", "fit", most), ("begin", "fit", 0)]
    return [*fit, *steps, ("end", "fit", 0), ("teardown", "fit", most)]


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_callback_sees_each_iteration_and_the_network_that_it_leaves(callback, solver):
    seen = Recorder()
    clf = ADMMClassifier((8,), solver=solver, max_iter=3, random_state=0, tol=0)
    weight = np.ones(150) if solver != "relaxed" else None
    clf.set_callbacks(seen).fit(IRIS, KINDS, sample_weight=weight)
    assert seen.told == told_of(3, 3)
    assert ("sample_weight" in seen.metadata) == (weight is not None)
    alone = clone(clf).set_callbacks().fit(IRIS, KINDS, weight)
    np.testing.assert_array_equal(alone.predict_proba(IRIS), clf.predict_proba(IRIS))
    assert len(set(seen.scores)) > 1


def test_a_callback_may_stop_a_fit_which_can_be_resumed(callback, tmp_path):
    seen = Recorder(stop_at=2)
    options = {"max_iter": 6, "random_state": 0, "tol": 0}
    clf = ADMMClassifier((8,), run=tmp_path / "run", **options).set_callbacks(seen)
    clf.fit(IRIS, KINDS)
    assert seen.told == told_of(2, 6)
    assert clf.n_iter_ == 2
    assert clf.history_.attrs["status"] == "stopped"
    assert clf.score(IRIS, KINDS) == seen.scores[-1]
    whole = ADMMClassifier((8,), **options).fit(IRIS, KINDS)
    again = resume(tmp_path / "run")
    assert again.n_iter_ == 6
    np.testing.assert_array_equal(again.predict_proba(IRIS), whole.predict_proba(IRIS))


def test_any_callback_may_stop_a_fit():
    def stop(iteration, row):
        if iteration == 2:
            raise StopIteration

    clf = ADMMClassifier((8,), max_iter=6, random_state=0).fit(IRIS, KINDS, callback=stop)
    assert (clf.n_iter_, clf.history_.attrs["status"]) == (2, "stopped")


def test_a_callback_is_torn_down_where_a_fit_fails(callback):
    seen = Recorder()
    clf = ADMMClassifier((8,), max_iter=2).set_callbacks(seen)

    def fail(iteration, row):
        raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"):
        clf.fit(IRIS, KINDS, callback=fail)
    assert seen.told[-1] == ("teardown", "fit", 2)


def test_scikit_learns_own_monitor_scores_each_iteration_of_a_pipeline(callback):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = ADMMClassifier((8,), max_iter=3, random_state=0).set_callbacks(monitor)
    pipe = make_pipeline(StandardScaler(), clf).fit(IRIS, KINDS)
    found = monitor.get_logs(select="most_recent").data
    scores = [row["accuracy"] for row in found if row["task_name"] == "iteration"]
    (whole,) = (row["accuracy"] for row in found if row["task_name"] == "fit")
    assert len(scores) == 3
    assert scores[-1] == whole == pipe.score(IRIS, KINDS)


def test_an_older_scikit_learn_has_no_callbacks_and_fits():
    code = """
import sys
sys.modules["sklearn.callback"] = None  # importing it fails
from dadmm import ADMMClassifier
clf = ADMMClassifier((4,), max_iter=2, random_state=0).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
assert clf.n_iter_ == 2
assert not hasattr(clf, "set_callbacks")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
