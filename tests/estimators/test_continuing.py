"""Weights of samples and classes, early stopping, warm starts, and one pass at a time."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, resume
from dadmm.engine import loop
from dadmm.errors import DataError, DivergenceError, OptionError, ShapeError
from support.messages import naming

X, XT, Y, YT = train_test_split(*load_digits(return_X_y=True), random_state=0)


def classifier(**options):
    defaults = {"standardize": "global", "random_state": 0, "tol": 0, "max_iter": 3}
    return ADMMClassifier((32,), **{**defaults, **options})


def test_partial_fit_learns_from_pieces_as_they_come():
    clf = classifier(solver=BlockADMM(agents=1, learning_rate=3e-3))
    for _ in range(8):
        for rows in np.array_split(np.arange(len(X)), 4):
            clf.partial_fit(X[rows], Y[rows], classes=range(10))
    assert clf.score(XT, YT) > 0.93
    assert clf.n_iter_ == 1


def test_the_first_piece_need_not_have_all_classes_if_they_are_named():
    clf = classifier().partial_fit(X[Y < 5], Y[Y < 5], classes=range(10))
    assert clf.classes_.tolist() == list(range(10))
    clf.partial_fit(X[Y >= 5], Y[Y >= 5])
    other = classifier().partial_fit(X[Y < 5], Y[Y < 5])
    with pytest.raises(DataError, match=r"label [5-9]"):
        other.partial_fit(X[Y >= 5], Y[Y >= 5])


def test_pieces_are_scaled_as_the_first_one_was():
    clf = classifier().partial_fit(X, Y)
    before = clf.network_.inputs
    clf.partial_fit(X * 3 + 1, Y)
    np.testing.assert_array_equal(clf.network_.inputs.centre, before.centre)
    np.testing.assert_array_equal(clf.network_.inputs.scale, before.scale)


def test_every_call_goes_through_the_rows_in_another_order():
    """Two calls on the same rows differ from the first call done twice from the same start."""
    once = classifier().partial_fit(X, Y)
    kept, seeds = once._parameters, []
    for _ in range(2):
        clf = classifier()
        clf.partial_fit(X, Y)
        clf._parameters = {**kept, "count_1": np.array(float(len(seeds)))}
        clf.partial_fit(X, Y)
        seeds.append(clf.network_.params["w_1"])
    assert not np.array_equal(*seeds)


def test_regression_goes_on_too():
    x, y = X, X @ np.linspace(-1, 1, X.shape[1])
    reg = ADMMRegressor((16,), random_state=0)
    for _ in range(20):
        reg.partial_fit(x, y)
    assert reg.score(x, y) > 0.8


def test_partial_fit_keeps_nothing_in_a_store(tmp_path):
    with pytest.raises(OptionError, match=naming("run=None")):
        classifier(run=tmp_path / "run").partial_fit(X, Y)


@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_a_warm_start_goes_on_where_the_last_fit_stopped(solver):
    clf = classifier(solver=solver, warm_start=True)
    first = clf.fit(X, Y).history_.attrs["forward_loss"]
    assert clf.fit(X, Y).history_.attrs["forward_loss"] < first
    cold = classifier(solver=solver)
    again = [cold.fit(X, Y).history_.attrs["forward_loss"] for _ in range(2)]
    assert again == [first, first]


@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_a_warm_start_that_is_killed_before_its_first_commit_still_starts_warm(
    solver, tmp_path, monkeypatch
):
    clf = classifier(solver=solver, warm_start=True).fit(X, Y)
    clf.set_params(run=tmp_path / "run")
    with monkeypatch.context() as killed:
        killed.setattr(loop, "_start", lambda plan: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            clf.fit(X, Y)
    resumed = resume(tmp_path / "run")
    assert not (tmp_path / "run" / "initial").exists()
    warm = classifier(solver=solver, warm_start=True).fit(X, Y).fit(X, Y)
    for name, array in warm.network_.params.items():
        np.testing.assert_array_equal(resumed.network_.params[name], array)


@pytest.mark.parametrize(
    "change",
    [{"hidden_layer_sizes": (16,)}, {"activation": "tanh"}, {"solver": "relaxed"}],
    ids=["widths", "activation", "solver"],
)
def test_a_warm_start_of_another_network_is_refused(change):
    clf = classifier(warm_start=True).fit(X, Y)
    with pytest.raises(ShapeError, match=naming("last fit")):
        clf.set_params(**change).fit(X, Y)


def test_samples_that_weigh_nothing_are_not_learnt():
    weight = np.where(Y == 3, 0.0, 1.0)
    predicted = classifier(max_iter=20).fit(X, Y, sample_weight=weight).predict(XT)
    assert (predicted[YT == 3] == 3).mean() < 0.2
    assert (predicted[YT != 3] == YT[YT != 3]).mean() > 0.9


def test_only_ratios_of_weights_matter():
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(Y))
    a, b = (classifier().fit(X, Y, sample_weight=w).network_.params for w in (weight, 4 * weight))
    np.testing.assert_array_equal(a["w_1"], b["w_1"])


def test_balanced_classes_find_what_is_rare():
    keep = (Y != 8) | (np.cumsum(Y == 8) <= 5)
    found = []
    for weight in (None, "balanced"):
        clf = classifier(class_weight=weight, max_iter=15).fit(X[keep], Y[keep])
        found.append((clf.predict(XT)[YT == 8] == 8).mean())
    assert found[1] > found[0]


def test_a_dict_of_class_weights_is_sample_weights():
    by_class = classifier(class_weight={1: 3.0}).fit(X, Y)
    by_sample = classifier().fit(X, Y, sample_weight=np.where(Y == 1, 3.0, 1.0))
    np.testing.assert_array_equal(by_class.network_.params["w_1"], by_sample.network_.params["w_1"])


def test_early_stopping_returns_the_best_network():
    clf = classifier(
        solver=BlockADMM(early_stopping=True, n_iter_no_change=3, learning_rate=0.02),
        max_iter=40, tol=1e-4,
    ).fit(X, Y)  # fmt: skip
    scores = clf.history_["validation_score"].values
    assert clf.n_iter_ == len(scores) < 40
    assert clf.history_.attrs["status"] == "converged"
    best = int(scores.argmax()) + 1
    assert best < clf.n_iter_
    again = classifier(
        solver=BlockADMM(early_stopping=True, n_iter_no_change=3, learning_rate=0.02),
        max_iter=40, tol=1e-4,
    )  # fmt: skip
    seen = {}

    def keep(iteration, row):
        seen[iteration] = row["validation_score"]

    again.fit(X, Y, callback=keep)
    assert max(seen, key=seen.get) == best
    np.testing.assert_array_equal(again.network_.params["w_1"], clf.network_.params["w_1"])


def test_divergence_leaves_the_best_network_so_far(tmp_path):
    """The parameters of the best pass outlive the sweep that clears a diverged one away."""
    from dadmm import load

    solver = BlockADMM(early_stopping=True, n_iter_no_change=50, agents=1)
    clf = classifier(solver=solver, max_iter=8, run=tmp_path / "run")

    def poison(iteration, row):
        if iteration == 6:  # what the next step starts from, but not the network
            chunk = tmp_path / "run" / "params" / "6" / "m_1"
            from dadmm.store import Run

            run = Run.open(tmp_path / "run")
            moments = run.load_params(6, ["m_1"])["m_1"]
            assert chunk.exists()
            run.save_params("params/6", {"m_1": np.full_like(moments, np.nan)})

    with pytest.raises(DivergenceError):
        clf.fit(X, Y, callback=poison)
    scores = clf.history_["validation_score"].values
    assert len(scores) == 6
    assert load(tmp_path / "run").score(XT, YT) == clf.score(XT, YT)


@pytest.mark.parametrize("dtype", [np.float16, np.bool_, np.int64, np.uint8, ">f4"])
def test_inputs_of_any_dtype_are_learnt_from(dtype):
    x = (X > 8).astype(dtype)
    clf = classifier().fit(x, Y)
    same = classifier().fit((X > 8).astype(np.float32), Y)
    np.testing.assert_allclose(clf.network_.params["w_1"], same.network_.params["w_1"], atol=1e-5)
