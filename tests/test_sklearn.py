"""The estimators are scikit-learn's: its own checks, its model selection, its callbacks."""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM

SOLVERS = {"block": BlockADMM(batch_size=16, learning_rate=0.02), "relaxed": "relaxed"}
ESTIMATORS = [
    make((8,), solver=solver, max_iter=15, tol=0, random_state=0)
    for make in (ADMMClassifier, ADMMRegressor)
    for solver in SOLVERS.values()
]


def expected_failures(estimator):
    expected = {}
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
            "check_classifiers_one_label_sample_weights": reason,
        }
    else:
        reason = "mini-batches of other rows are drawn where a row is repeated instead of weighted"
        expected |= {
            f"check_sample_weight_equivalence_on_{kind}_data": reason
            for kind in ("dense", "sparse")
        }
    if isinstance(estimator, ADMMRegressor):
        expected["check_regressor_multioutput"] = (
            "it wants float64; predictions have the solver's dtype, float32 unless asked"
        )
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
