"""Trained networks are as good as they should be on real data, and deep ones train at all."""

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM
from dadmm.datasets import load_data, load_dataset

needs_wine = pytest.mark.skipif(
    "DADMM_DATA" not in os.environ,
    reason="set DADMM_DATA to a folder with winequality-white.csv to test on it",
)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, test_size=0.25, random_state=0)


@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_digits_are_read_as_well_as_by_an_mlp(digits, solver):
    x_train, x_test, y_train, y_test = digits
    clf = ADMMClassifier(
        (256, 256), solver=solver, standardize="global", max_iter=30, random_state=0
    )
    clf.fit(x_train, y_train)
    assert clf.score(x_test, y_test) >= 0.965


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_thirty_residual_layers_train(digits, activation):
    x_train, x_test, y_train, y_test = digits
    clf = ADMMClassifier(
        (32,) * 31, activation, solver="relaxed", standardize="global", max_iter=10,
        random_state=0, chunks=1000,
    )  # fmt: skip
    clf.fit(x_train, y_train)
    assert sum(clf.network_.architecture.skips) == 30
    history = clf.history_
    assert all(np.isfinite(history[name]).all() for name in history)
    assert (np.diff(history["objective"]) < 0).all()
    assert history["forward_loss"][-1] < 0.3 * history["forward_loss"][0]
    assert clf.score(x_test, y_test) > 0.8  # chance is 0.1


@needs_wine
@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_white_wine_is_rated_better_than_by_ridge(solver):
    x, y = load_dataset("wine-white")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
    reg = ADMMRegressor((128, 128), solver=solver, max_iter=20, random_state=0).fit(
        x_train, y_train
    )
    score = reg.score(x_test, y_test)
    assert score >= 0.31
    assert score > Ridge().fit(x_train, y_train).score(x_test, y_test) + 0.05


needs_mnist = pytest.mark.skipif(
    "DADMM_DATA" not in os.environ, reason="set DADMM_DATA to a folder with mnist.npz to test on it"
)


@pytest.fixture(scope="module")
def mnist():
    return load_data({"dataset": "mnist"})


def on_mnist(mnist, hidden=(256, 256, 256), seed=0, rows=60_000, **options):
    x_train, y_train, x_test, y_test = mnist
    clf = ADMMClassifier(hidden, standardize="global", random_state=seed, tol=0, **options)
    return clf.fit(x_train[:rows], y_train[:rows]).score(x_test, y_test)


@needs_wine
def test_early_stopping_rates_wine_better_still():
    x, y = load_dataset("wine-white")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
    reg = ADMMRegressor((128, 128), solver=BlockADMM(early_stopping=True), random_state=0)
    assert reg.fit(x_train, y_train).score(x_test, y_test) >= 0.36


def test_digits_are_read_by_the_defaults(digits):
    x_train, x_test, y_train, y_test = digits
    clf = ADMMClassifier(random_state=0).fit(x_train, y_train)
    assert clf.score(x_test, y_test) >= 0.97


@needs_mnist
def test_ten_passes_with_the_defaults_read_mnist(mnist):
    assert np.median([on_mnist(mnist, seed=seed, max_iter=10) for seed in range(3)]) >= 0.983


@needs_mnist
@pytest.mark.parametrize(("options", "rows"), [({}, 60_000), ({"z_steps": 5}, 20_000)])
def test_three_blocks_learn_at_the_pace_of_one(mnist, options, rows):
    scores = [
        [
            on_mnist(mnist, seed=seed, rows=rows, max_iter=3, solver=solver)
            for solver in (BlockADMM(), BlockADMM(blocks=3, **options))
        ]
        for seed in range(3)
    ]
    one, three = np.median(scores, axis=0)
    assert abs(one - three) <= 0.007


@needs_mnist
def test_twenty_residual_layers_train_without_tuning(mnist):
    assert on_mnist(mnist, hidden=(64,) * 21, max_iter=4) >= 0.97
