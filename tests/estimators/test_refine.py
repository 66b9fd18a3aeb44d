"""Batches whose scaling the first of them does not know: a day on which nothing was sold."""

import dask.array as da
import numpy as np
import pytest

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM
from dadmm.data.moments import Moments
from dadmm.estimators.refine import refined
from dadmm.networks.blocks import Dense, Residual

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
SOLD = 1e4 * np.maximum(X[:, 0], 0)
SOLD[:20] = 0
LATE = X.copy()
LATE[:, 1] *= 1e5
LATE[:20, 1] = 7.0  # a sensor that was switched on later
STANDARDIZE = ["feature", "global", "scale", "shift"]


def model(rate=0.01, **options):
    solver = BlockADMM(**{"learning_rate": rate, "batch_size": 20, **options.pop("solver", {})})
    return ADMMRegressor((16,), solver=solver, random_state=0, **options)


def stream(x, y, made, starts=range(0, 400, 20), rows=20, passes=8):
    for _ in range(passes):
        for i in starts:
            made.partial_fit(x[i : i + rows], y[i : i + rows])
    return made


# ------------------------------------------------------------------------------- what is learnt


def test_a_first_batch_of_constant_targets_is_no_harm():
    for starts in (range(0, 400, 20), range(380, -1, -20)):
        assert stream(X, SOLD, model(), starts).score(X[20:], SOLD[20:]) > 0.95


@pytest.mark.parametrize("standardize", STANDARDIZE)
def test_a_column_that_varies_later_is_scaled(standardize):
    made = model(standardize=standardize)
    still = 0.0 if standardize == "scale" else 7.0  # 7 has a size
    x = LATE
    if standardize != "feature":
        x = np.where(np.arange(400)[:, None] < 20, still, 1e5 * X)
    assert stream(x, X[:, 0] + X[:, 1], made).score(x[20:], X[20:, 0] + X[20:, 1]) > 0.9
    assert 1e4 < made.network_.inputs.scale[1] < 1e6


def test_rows_one_by_one_are_as_good_as_batches():
    y = 1e3 + 50 * X[:, 0]
    made = stream(1e4 * X, y, model(), range(400), rows=1, passes=2)
    assert made.score(1e4 * X, y) > 0.9
    assert 5e3 < made.network_.inputs.scale.min() < made.network_.inputs.scale.max() < 2e4


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
@pytest.mark.parametrize("then", ["warm", "partial_fit"])
def test_what_was_constant_in_a_fit_is_scaled_later(first, then):
    made = model(max_iter=2, warm_start=then == "warm")
    getattr(made, first)(LATE[:20], SOLD[:20])
    np.testing.assert_array_equal(made.network_.outputs.scale, 1)
    inputs = made.network_.inputs
    getattr(made, "fit" if then == "warm" else then)(LATE[20:], SOLD[20:])
    assert made.network_.outputs.scale[0] > 1e3
    assert made.network_.inputs.scale[1] > 1e4
    for column in (0, 2):
        assert made.network_.inputs.scale[column] == inputs.scale[column]
        assert made.network_.inputs.centre[column] == inputs.centre[column]


def test_a_classifier_scales_inputs_that_vary_later():
    y = (X[:, 1] > 0).astype(int)
    solver = BlockADMM(learning_rate=0.01, batch_size=20)
    made = ADMMClassifier((16,), solver=solver, random_state=0)
    for _ in range(8):
        for i in range(0, 400, 20):
            made.partial_fit(LATE[i : i + 20], y[i : i + 20], classes=[0, 1])
    assert made.score(LATE[20:], y[20:]) > 0.9


# ------------------------------------------------------------------------- what stays as it was


def test_a_scaling_that_is_known_stays():
    made = model().partial_fit(X[:20], X[:20])
    inputs, outputs = made.network_.inputs, made.network_.outputs
    made.partial_fit(100 * X[20:], 100 * X[20:])
    for now, before in ((made.network_.inputs, inputs), (made.network_.outputs, outputs)):
        np.testing.assert_array_equal(now.centre, before.centre)
        np.testing.assert_array_equal(now.scale, before.scale)


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("blocks", [1, 2])
def test_predictions_do_not_jump(rows, blocks):
    """A step of no length leaves the function on what was seen."""
    y = np.column_stack([SOLD, X[:, 1]])
    made = model(solver={"blocks": blocks, "dtype": "float64"})
    made.partial_fit(LATE[:rows], y[:rows])
    before = made.predict(LATE[:rows])
    made.set_params(solver=BlockADMM(learning_rate=1e-300, blocks=blocks, dtype="float64"))
    made.partial_fit(LATE[20:40], y[20:40])
    assert made.network_.outputs.scale[0] > 1e3
    np.testing.assert_allclose(made.predict(LATE[:rows]), before, rtol=1e-6, atol=1e-9)


def test_targets_that_vary_little_leave_no_large_outputs():
    y = 5 + np.where(np.arange(400) < 20, 0, 1e-3 * X[:, 0])
    assert stream(X, y, model(), passes=8).score(X, y) > 0.9


@pytest.mark.parametrize("chunks", [7, 20])
def test_lazy_batches_are_refined_alike(chunks):
    plain, lazy = model(), model()
    for i in (0, 20):
        x, y = LATE[i : i + 20], SOLD[i : i + 20]
        plain.partial_fit(x, y)
        lazy.partial_fit(da.from_array(x, chunks=(chunks, 2)), da.from_array(y, chunks=chunks))
    for which in ("inputs", "outputs"):
        a, b = (getattr(each.network_, which) for each in (plain, lazy))
        np.testing.assert_allclose(a.centre, b.centre, rtol=1e-12)
        np.testing.assert_allclose(a.scale, b.scale, rtol=1e-12)


def test_a_row_of_weight_0_gives_no_scale():
    made = model().partial_fit(LATE[:20], SOLD[:20])
    x, y = LATE[:20].copy(), SOLD[:20].copy()
    x[0, 1], y[0] = 1e9, 1e9
    made.partial_fit(x, y, sample_weight=np.r_[0.0, np.ones(19)])
    assert made.network_.inputs.scale[1] == made.network_.outputs.scale[0] == 1


def test_layers_that_cannot_follow_keep_their_weights():
    solver = {"blocks": [Residual(), Dense(8), Dense(1, "tanh")]}
    assert np.isfinite(stream(LATE, SOLD, model(solver=solver), passes=1).predict(LATE)).all()


# ------------------------------------------------------------------------------------ the rule


@pytest.mark.parametrize("how", [*STANDARDIZE, "none"])
def test_ten_rows_fix_what_varies(how):
    blocks = [np.full((5, 2), 3.0), RNG.normal(3, 1, (5, 2)), RNG.normal(9, 5, (50, 2))]
    first, second, third = map(Moments.of, blocks)
    start = first.scaling(how)
    once = refined(start, first, first + second, how, centred=False)
    total = first + second
    again = refined(once, total, total + third, how, centred=False)
    np.testing.assert_array_equal(again.scale, once.scale)
    if how in ("feature", "global", "shift"):
        np.testing.assert_array_equal(once.centre, start.centre)  # where inputs are 0 so far
        assert (once.scale != 1).all()
    young = Moments.of(blocks[1])
    more = refined(young.scaling(how), young, young + third, how, centred=False)
    np.testing.assert_array_equal(more.scale, (young + third).scaling(how).scale)
