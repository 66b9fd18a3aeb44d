"""The estimators train, predict, score, pickle and clone as users of scikit-learn expect."""

import pickle

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dadmm
from dadmm import ADMMClassifier, BlockADMM, Dense, RelaxedADMM
from dadmm.errors import DataError, DivergenceError, OptionError, ShapeError
from support.messages import naming
from support.supervised import (
    CODES,
    TARGETS,
    X,
    classifier,
    only_block,
    only_relaxed,
    refuse,
    regressor,
    same_network,
    unknown_sizes,
)

pytestmark = pytest.mark.usefixtures("solver")


# --------------------------------------------------------------------------------- what fit leaves


def test_fit_returns_the_estimator_with_its_attributes_set():
    clf = classifier()
    assert clf.fit(X, CODES) is clf
    np.testing.assert_array_equal(clf.classes_, [0, 1, 2])
    assert (clf.n_features_in_, clf.n_outputs_, clf.n_layers_, clf.n_iter_) == (5, 3, 4, 4)
    assert clf.network_.architecture.widths == (5, 8, 8, 3)
    assert len(clf.loss_curve_) == 4
    assert clf.run_ is None


COLUMNS = {
    "relaxed": "objective forward_loss train_score primal_residual stationarity step seconds",
    "block": "objective train_score step seconds",
}


def test_history_is_a_dataset_over_the_iterations(clf, solver):
    history = clf.history_
    assert isinstance(history, xr.Dataset)
    np.testing.assert_array_equal(history["iteration"], np.arange(1, 13))
    for name in COLUMNS[solver].split():
        assert history[name].dims == ("iteration",)
        assert np.isfinite(history[name]).all()
    assert history["objective"].values.tolist() == clf.loss_curve_
    assert history["objective"][-1] < history["objective"][0]
    assert (history["seconds"] > 0).all()
    assert history.attrs["status"] == "finished"
    assert history.attrs["train_score"] == pytest.approx(clf.score(X, CODES))


@only_block
def test_history_tells_of_blocks_and_of_rows_held_out():
    solver = BlockADMM(batch_size=8, blocks=2, mode="batch", early_stopping=True)
    history = classifier(solver=solver).fit(X, CODES).history_
    for name in ("primal_residual", "validation_loss", "validation_score"):
        assert np.isfinite(history[name]).all()


@only_relaxed
def test_the_convergence_rate_is_fitted_to_enough_iterations(clf):
    assert 0 < clf.history_.attrs["rate"] < 1
    assert clf.history_.attrs["rate_r2"] <= 1
    assert np.isnan(classifier().fit(X, CODES).history_.attrs["rate"])


def test_training_stops_at_the_tolerance():
    clf = classifier(tol=0.9, max_iter=50).fit(X, CODES)
    assert clf.n_iter_ < 50
    assert clf.history_.attrs["status"] == "converged"


def test_a_callback_sees_every_iteration():
    seen = []
    clf = classifier().fit(X, CODES, callback=lambda k, row: seen.append((k, row["objective"])))
    assert seen == list(enumerate(clf.loss_curve_, start=1))


def test_progress_goes_to_the_standard_error_and_only_if_asked_for(capsys):
    classifier().fit(X, CODES)
    assert capsys.readouterr() == ("", "")
    classifier(verbose=True).fit(X, CODES)
    out, err = capsys.readouterr()
    assert out == ""
    assert "iteration 4/4" in err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_leaves_the_last_good_iteration():
    clf = classifier(solver=RelaxedADMM(mu=1e-30, beta=1e-30))
    with pytest.raises(DivergenceError, match=naming("iteration 1", "diverged", "iteration 0")):
        clf.fit(X, CODES)
    assert clf.n_iter_ == 0
    assert clf.history_.attrs["status"] == "diverged"
    assert np.isfinite(clf.predict_proba(X)).all()


# -------------------------------------------------------------------------------------- prediction


def test_numpy_in_is_numpy_out(clf):
    labels, proba = clf.predict(X), clf.predict_proba(X)
    assert type(labels) is type(proba) is np.ndarray
    assert labels.shape == (120,)
    assert proba.shape == (120, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert (proba >= 0).all()
    np.testing.assert_array_equal(clf.classes_[proba.argmax(axis=1)], labels)
    assert clf.score(X, CODES) == np.mean(labels == CODES) > 0.8


def test_frames_and_lists_are_as_good_as_arrays(clf):
    np.testing.assert_array_equal(clf.predict(pd.DataFrame(X)), clf.predict(X))
    np.testing.assert_array_equal(clf.predict(X.tolist()), clf.predict(X))
    same_network(classifier(max_iter=12).fit(pd.DataFrame(X), pd.Series(CODES)), clf)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("chunks", [(120, 5), (50, 5), (31, 2), "unknown"])
def test_dask_in_is_lazy_dask_out(clf, method, chunks):
    lazy = unknown_sizes(X, 50) if chunks == "unknown" else da.from_array(X, chunks=chunks)
    with dask.config.set(scheduler=refuse):
        found = getattr(clf, method)(lazy)
    assert isinstance(found, da.Array)
    expected = getattr(clf, method)(X)
    assert found.dtype == expected.dtype
    assert found.ndim == expected.ndim
    assert found.shape[1:] == expected.shape[1:]
    # The products of a smaller chunk may be rounded otherwise.
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_scores_of_dask_arrays_are_those_of_numpy_arrays(clf, known):
    make = (lambda a, rows: da.from_array(a, chunks=rows)) if known else unknown_sizes
    assert clf.score(make(X, 50), make(CODES, 50)) == clf.score(X, CODES)
    reg = regressor().fit(X, TARGETS)
    lazy = reg.score(make(X, 50), make(TARGETS, 50))
    assert lazy == pytest.approx(reg.score(X, TARGETS), rel=1e-5)


def test_weights_weigh_in_the_score(clf):
    right = clf.predict(X) == CODES
    assert clf.score(X, CODES, sample_weight=right) == 1.0


@pytest.mark.parametrize("loss", ["hinge", "squared"])
def test_losses_without_probabilities_say_so(loss):
    clf = classifier(loss=loss).fit(X, CODES)
    assert clf.score(X, CODES) > 0.6
    with pytest.raises(
        OptionError, match=naming(f"loss={loss!r}", "probabilities", "'cross_entropy'")
    ):
        clf.predict_proba(X)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
def test_an_estimator_that_is_not_fitted_says_so(method):
    arguments = (X, CODES) if method == "score" else (X,)
    with pytest.raises(NotFittedError, match=naming("fitted")):
        getattr(classifier(), method)(*arguments)
    if method != "predict_proba":
        with pytest.raises(NotFittedError, match=naming("fitted")):
            getattr(regressor(), method)(*arguments)


def test_a_bad_value_in_dask_input_is_named_when_it_is_computed(clf):
    x = X.copy()
    x[51, 2] = np.nan
    found = clf.predict(da.from_array(x, chunks=(50, 5)))
    with pytest.raises(DataError, match=naming("chunk (1,)", "NaN", "row 1", "column 2")):
        found.compute(scheduler="sync")


# --------------------------------------------------------------------------------------- dask data


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (da.from_array(X, chunks=(31, 2)), da.from_array(CODES, chunks=50)),
        (unknown_sizes(X, 31), unknown_sizes(CODES, 31)),
        (da.from_array(X, chunks=(40, 5)), CODES),
        (X, da.from_array(CODES, chunks=50)),
    ],
    ids=["misaligned", "unknown sizes", "only x", "only y"],
)
def test_training_on_dask_arrays_is_training_on_numpy_arrays(x, y):
    fitted = classifier(max_iter=12, chunks=50).fit(x, y)
    same_network(fitted, classifier(max_iter=12, chunks=50).fit(X, CODES))


def test_chunks_may_be_listed_and_the_same_chunks_give_the_same_bits():
    listed = classifier(chunks=(50, 50, 20)).fit(X, CODES)
    same_network(listed, classifier(chunks=50).fit(X, CODES))
    with dask.config.set(scheduler="sync"):
        same_network(listed, classifier(chunks=50).fit(X, CODES))


# -------------------------------------------------------------------------------------- regression


@pytest.mark.parametrize("columns", [None, 1, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_predictions_have_the_shape_of_the_targets(columns, lazy):
    y = TARGETS[:, 0] if columns is None else TARGETS[:, :columns]
    reg = regressor(max_iter=30).fit(X, da.from_array(y, chunks=50) if lazy else y)
    predicted = reg.predict(X)
    assert predicted.shape == y.shape
    assert reg.n_outputs_ == (columns or 1)
    assert reg.score(X, y) > 0.5
    with dask.config.set(scheduler=refuse):
        found = reg.predict(da.from_array(X, chunks=(50, 2)))
    assert found.shape == y.shape
    np.testing.assert_allclose(found.compute(), predicted, rtol=1e-4, atol=1e-5)


def test_targets_may_be_of_any_size():
    plain = regressor(max_iter=30).fit(X, TARGETS)
    large = regressor(max_iter=30).fit(X, 1e6 * TARGETS + 5e6)
    np.testing.assert_allclose((large.predict(X) - 5e6) / 1e6, plain.predict(X), atol=1e-3)
    assert large.score(X, 1e6 * TARGETS + 5e6) == pytest.approx(plain.score(X, TARGETS), abs=1e-4)


@only_relaxed
def test_a_constant_target_is_predicted():
    np.testing.assert_allclose(regressor().fit(X, np.full(120, 3.0)).predict(X), 3.0, atol=1e-4)


def test_a_regression_scores_only_what_has_its_shape():
    reg = regressor().fit(X, TARGETS)
    assert reg.history_.attrs["train_score"] == pytest.approx(reg.score(X, TARGETS), abs=1e-5)
    with pytest.raises(ShapeError, match=naming("y", "1 targets", "2")):
        reg.score(X, TARGETS[:, 0])
    with pytest.raises(ShapeError, match=naming("y", "119 rows", "x", "120")):
        reg.score(X, TARGETS[:-1])
    assert not hasattr(reg, "classes_")
    assert not hasattr(reg, "predict_proba")


# ------------------------------------------------------------------------------------ reproduction


def test_the_seed_decides_the_network(clf):
    same_network(classifier(max_iter=12).fit(X, CODES), clf)
    other = classifier(max_iter=12, random_state=1).fit(X, CODES)
    assert not np.array_equal(other.network_.params["w_1"], clf.network_.params["w_1"])
    first, second = (classifier(random_state=None).fit(X, CODES) for _ in range(2))
    assert not np.array_equal(first.network_.params["w_1"], second.network_.params["w_1"])


@pytest.mark.parametrize("make", [classifier, regressor])
def test_parameters_are_got_set_and_cloned(make):
    estimator = make(solver=RelaxedADMM(tau=0.5), alpha=0.1, chunks=50)
    params = estimator.get_params()
    assert params["alpha"] == 0.1
    assert params["solver"] == RelaxedADMM(tau=0.5)
    copy = clone(estimator)
    assert copy is not estimator
    assert copy.get_params() == params
    assert estimator.set_params(alpha=0.2, activation="tanh").get_params()["alpha"] == 0.2
    assert copy.alpha == 0.1


def test_a_fitted_estimator_pickles(clf):
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    xr.testing.assert_identical(again.history_, clf.history_)
    reg = regressor().fit(X, TARGETS[:, :1])
    again = pickle.loads(pickle.dumps(reg))
    np.testing.assert_array_equal(again.predict(X), reg.predict(X))


@only_relaxed
def test_a_solver_is_an_object_a_name_or_a_table():
    by_name = classifier(solver="relaxed").fit(X, CODES)
    same_network(classifier(solver=RelaxedADMM()).fit(X, CODES), by_name)
    same_network(classifier(solver={"name": "relaxed"}).fit(X, CODES), by_name)
    other = classifier(solver={"name": "relaxed", "splitting": 2, "tau": 0.1}).fit(X, CODES)
    same_network(classifier(solver=RelaxedADMM(splitting=2, tau=0.1)).fit(X, CODES), other)


@only_block
def test_the_solver_is_block_admm_unless_told():
    given = ADMMClassifier((8,), solver=BlockADMM(), max_iter=2, random_state=0).fit(X, CODES)
    by_default = ADMMClassifier((8,), max_iter=2, random_state=0).fit(X, CODES)
    same_network(by_default, given)
    table = classifier(solver={"batch_size": 16, "blocks": 2}).fit(X, CODES)
    same_network(classifier(solver=BlockADMM(batch_size=16, blocks=2)).fit(X, CODES), table)


@pytest.mark.parametrize("standardize", ["feature", "global", "none"])
def test_inputs_are_standardized_as_asked(standardize):
    clf = classifier(standardize=standardize).fit(X * [1, 1, 1, 1, 0] + 2.0, CODES)
    scaling = clf.network_.inputs
    assert (len(set(scaling.scale)) == 1) == (standardize != "feature")
    assert (scaling.centre == 0).all() == (standardize == "none")
    assert np.isfinite(clf.predict_proba(X)).all()


def test_an_identity_stem_makes_every_hidden_layer_residual():
    clf = classifier(hidden_layer_sizes=(5, 5), stem="identity").fit(X, CODES)
    assert clf.network_.architecture.skips == (True, True, False)


@only_block
def test_blocks_of_ones_own_stand_for_the_hidden_layers(tmp_path):
    solver = BlockADMM(blocks=[Dense(7, "tanh"), Dense(6)], constraints="non_negative")
    clf = classifier(solver=solver, run=tmp_path / "run").fit(X, CODES)
    assert clf.network_.architecture.widths == (5, 7, 6, 3)
    assert clf.n_layers_ == 4
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    same_network(dadmm.load(tmp_path / "run"), clf)


def test_scikit_learns_tools_take_the_estimators():
    pipe = make_pipeline(StandardScaler(), classifier(standardize="none"))
    assert cross_val_score(pipe, X, CODES, cv=2).mean() > 0.6
    assert cross_val_score(regressor(max_iter=30), X, TARGETS, cv=2).mean() > 0
    assert pipe.fit(X, CODES).predict(X).shape == (120,)
