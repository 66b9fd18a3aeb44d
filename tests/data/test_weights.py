"""Weights of rows: those of weight 0 are as if they were not there, in every container."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
import zarr

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, resume
from dadmm.data.columns import Summary
from dadmm.data.moments import Moments, shares, sum_moments
from dadmm.data.weights import as_weights, heeded
from dadmm.errors import DataError
from support.messages import naming
from support.tables import LABELS, NAMES, PRICE, ROWS, X

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")

RNG = np.random.default_rng(1)
KNOWN = RNG.random(ROWS) > 0.3
WEIGHT = KNOWN.astype(float)
# What stands in rows of weight 0 is far from all else.
ODD = np.where(KNOWN[:, None], X, 1e6)
ODD_PRICE = np.where(KNOWN, PRICE, -9999.0)
STANDARDIZE = ["feature", "global", "scale", "shift", "none"]
SCHEDULES = [("fused", "online"), ("fused", "batch"), ("grid", "online"), ("grid", "batch")]


def stored(x):
    return zarr.create_array("odd.zarr", data=x, chunks=(20, 2), overwrite=True)


CONTAINERS = {
    "numpy": lambda x: x,
    "dask": lambda x: da.from_array(x, chunks=(13, 3)),
    "unknown sizes": lambda x: da.from_array(x, chunks=(13, 4))[da.ones(len(x), chunks=13) > 0],
    "zarr": stored,
    "csr": scipy.sparse.csr_array,
    "pandas": lambda x: pd.DataFrame(x, columns=NAMES),
    "dask frame": lambda x: dd.from_pandas(pd.DataFrame(x, columns=NAMES), npartitions=4),
    "xarray": lambda x: xr.DataArray(x, dims=("row", "feature")),
    "lazy xarray": lambda x: xr.DataArray(x, dims=("row", "feature")).chunk(row=17),
}
each_container = pytest.mark.parametrize("wrap", CONTAINERS.values(), ids=CONTAINERS)
LAZY = {
    "numpy": lambda a: a,
    "dask": lambda a: da.from_array(a, chunks=11),
    "pandas": pd.Series,
    "dask frame": lambda a: dd.from_pandas(pd.Series(a), npartitions=3),
}


def options(**more):
    solver = BlockADMM(batch_size=8)
    return {"max_iter": 3, "random_state": 0, "tol": 0, "solver": solver, **more}


def regressor(**more):
    return ADMMRegressor((5,), **options(**more))


def classifier(**more):
    return ADMMClassifier((5,), **options(**more))


def same(a, b):
    """Compare networks, with their scalings, and histories."""
    for name, array in b.network_.params.items():
        np.testing.assert_array_equal(a.network_.params[name], array, err_msg=name)
    for one, other in ((a.network_.inputs, b.network_.inputs),
                       (a.network_.outputs, b.network_.outputs)):  # fmt: skip
        if other is not None:
            np.testing.assert_array_equal(one.centre, other.centre)
            np.testing.assert_array_equal(one.scale, other.scale)
    for name in ("objective", "train_score"):
        np.testing.assert_allclose(a.history_[name], b.history_[name], rtol=1e-12)
    for name in ("train_score", "forward_loss"):
        assert a.history_.attrs[name] == pytest.approx(b.history_.attrs[name], rel=1e-12)


# ------------------------------------------------------------------- as if they were not there


@each_container
def test_rows_of_weight_0_change_no_bit_of_a_regression(wrap, here):
    found = regressor().fit(wrap(ODD), ODD_PRICE, sample_weight=WEIGHT)
    same(found, regressor().fit(X[KNOWN], PRICE[KNOWN]))


@pytest.mark.parametrize("standardize", STANDARDIZE)
@pytest.mark.parametrize("kind", ["numpy", "zarr"])
def test_no_scaling_looks_at_rows_of_weight_0(standardize, kind, here):
    x = np.where(KNOWN[:, None], X, -1e3)  # the least of all
    found = regressor(standardize=standardize).fit(
        CONTAINERS[kind](x), ODD_PRICE, sample_weight=WEIGHT
    )
    same(found, regressor(standardize=standardize).fit(X[KNOWN], PRICE[KNOWN]))


@pytest.mark.parametrize("wrap", LAZY.values(), ids=LAZY)
@pytest.mark.parametrize("labels", ["text", "numbers", "several"])
def test_a_class_of_rows_of_weight_0_alone_is_none(wrap, labels):
    if labels == "several":
        y = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)
        odd = np.where(KNOWN[:, None], y, 7)
        given = da.from_array(odd, chunks=(9, 1)) if wrap is LAZY["dask"] else odd
    else:
        y = LABELS if labels == "text" else (LABELS == "yes").astype(int)
        odd = np.where(KNOWN, y, "never" if labels == "text" else -1)
        given = wrap(odd)
    found = classifier().fit(X, given, sample_weight=wrap(WEIGHT))
    expected = classifier().fit(X[KNOWN], y[KNOWN])
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    same(found, expected)
    score = found.score(X, given, sample_weight=wrap(WEIGHT))
    assert score == pytest.approx(expected.score(X[KNOWN], y[KNOWN]))


def test_lists_of_labels_heed_weights_too():
    odd = [label if known else 5 for label, known in zip(LABELS.tolist(), KNOWN, strict=True)]
    found = classifier().fit(X.tolist(), odd, sample_weight=WEIGHT.tolist())
    same(found, classifier().fit(X[KNOWN], LABELS[KNOWN]))


def test_one_class_among_the_rows_of_a_weight_is_refused():
    with pytest.raises(DataError, match=naming("one class", "'yes'")):
        classifier().fit(X, LABELS, sample_weight=(LABELS == "yes").astype(float))


@pytest.mark.parametrize(("schedule", "mode"), SCHEDULES)
@pytest.mark.parametrize("consensus", ["average", "admm"])
@pytest.mark.parametrize("stopping", [False, True])
def test_chunks_whose_rows_all_weigh_nothing_change_nothing(schedule, mode, consensus, stopping):
    """One of three chunks, alone in its round."""
    solver = BlockADMM(
        blocks=1 if schedule == "fused" and mode == "online" else 2, batch_size=8, agents=1,
        schedule=schedule, mode=mode, consensus=consensus, early_stopping=stopping,
    )  # fmt: skip
    weight = np.r_[np.ones(20), np.zeros(20), np.ones(20)]
    odd = np.where(weight[:, None] > 0, X, 1e30)
    model = regressor(solver=solver, chunks=20, shuffle=False)
    found = model.fit(odd, np.where(weight > 0, PRICE, 1e30), sample_weight=weight)
    kept = weight > 0
    assert np.isfinite(found.history_["objective"]).all()
    assert found.history_["objective"].values[-1] < 3
    np.testing.assert_allclose(found.network_.inputs.centre, X[kept].mean(axis=0), rtol=1e-12)


def test_a_run_that_is_resumed_goes_on_with_the_weights(tmp_path):
    whole = regressor(max_iter=4).fit(ODD, ODD_PRICE, sample_weight=WEIGHT)
    regressor(max_iter=2, run=tmp_path / "run").fit(ODD, ODD_PRICE, sample_weight=WEIGHT)
    again = resume(tmp_path / "run", max_iter=4)
    assert again.history_.attrs["train_score"] > 0 or whole.history_.attrs["train_score"] < 0
    np.testing.assert_array_equal(again.network_.inputs.scale, whole.network_.inputs.scale)


# ----------------------------------------------------------------------- fills and categories


def holed(known=KNOWN):
    """Return a table with gaps, with odd cells in the rows of weight 0."""
    table = pd.DataFrame(X, columns=NAMES)
    table["colour"] = np.resize(["red", "green", "blue", "green"], ROWS)
    table.loc[::7, "b"] = np.nan
    table.loc[3::9, "colour"] = None
    table.loc[~known, ["a", "b"]] = 1e6
    table.loc[~known, "colour"] = "odd"
    return table


@pytest.mark.parametrize("parts", [0, 1, 4])
def test_fills_and_categories_are_those_of_rows_that_count(parts):
    table = holed()
    x = dd.from_pandas(table, npartitions=parts) if parts else table
    encoded = {"categorical": "one_hot", "missing": "impute"}
    for weight in (WEIGHT, da.from_array(WEIGHT, chunks=9)):
        found = regressor(**encoded).fit(x, ODD_PRICE, sample_weight=weight)
        expected = regressor(**encoded).fit(table[KNOWN], PRICE[KNOWN])
        *numbers, colour = found.network_.form.columns
        assert colour == expected.network_.form.columns[-1]
        assert "odd" not in colour.categories
        fills = [column.fill for column in expected.network_.form.columns[:-1]]
        assert [column.fill for column in numbers] == pytest.approx(fills, rel=1e-12)
    with pytest.raises(DataError, match=naming("colour", "odd")):
        found.predict(table)


@pytest.mark.parametrize("kind", ["numpy", "dask", "unknown sizes", "xarray", "lazy xarray"])
def test_gaps_are_filled_with_the_weighted_mean(kind):
    x, weight = X.copy(), RNG.uniform(0, 3, ROWS)
    x[::3, 1] = np.nan
    weight[10:20] = 0
    found = regressor(missing="impute").fit(CONTAINERS[kind](x), PRICE, sample_weight=weight)
    there = ~np.isnan(x[:, 1])
    mean = np.average(x[there, 1], weights=weight[there])
    assert found.network_.form.columns[1].fill == pytest.approx(mean, rel=1e-12)


def test_the_most_frequent_category_is_by_weight():
    frame = pd.DataFrame({"a": X[:, 0], "colour": ["red"] * 40 + ["blue"] * 19 + [None]})
    weight = np.r_[np.ones(40), np.full(20, 3.0)]
    summary = Summary.of_table(frame, "x", weight)
    assert summary.found[1] == {"red": 40.0, "blue": 57.0}
    halves = [Summary.of_table(frame[s], "x", weight[s]) for s in (slice(25), slice(25, None))]
    assert halves[0].add(halves[1], ["a", "colour"], "x").found == summary.found


# ------------------------------------------------------------------------------------- moments


@pytest.mark.parametrize("chunks", [1, 4, 30])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_moments_of_whole_weights_are_those_of_repeated_rows(chunks, offset):
    x = offset + RNG.normal(size=(60, 3))
    weight = RNG.integers(0, 4, 60).astype(float)
    weight[:10] = 0  # whole chunks
    pairs = zip(np.array_split(x, chunks), np.array_split(weight, chunks), strict=True)
    found = sum_moments([Moments.of(block, each) for block, each in pairs])
    true = Moments.of(np.repeat(x, weight.astype(int), axis=0))
    assert found.count == true.count
    np.testing.assert_allclose(found.mean, true.mean, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(found.squares, true.squares, rtol=1e-6)
    np.testing.assert_array_equal(found.least, true.least)


def test_a_constant_is_constant_under_weights():
    x = np.tile([14.62, 0.1], (5000, 1))
    weight = RNG.uniform(0, 2, 5000)
    x[:100], weight[:100] = 1e9, 0
    found = Moments.of(x, weight)
    np.testing.assert_array_equal(found.scaling("feature").scale, 1)
    np.testing.assert_array_equal(found.mean, [14.62, 0.1])


def test_shares_of_classes_are_weighted():
    codes = np.array([[0], [1], [1], [2]])
    found = shares(codes, 4, np.array([1.0, 0.5, 0.5, 0.0]))
    np.testing.assert_array_equal(found.mean, [0.5, 0.5, 0, 0])
    nothing = shares(codes, 4, np.zeros(4))
    assert (nothing + found).count == 2


# ------------------------------------------------------------------------- weights themselves


def test_the_mean_of_weights_above_0_is_1():
    for lazy in (False, True):
        given = da.from_array([0.0, 1, 3, 0], chunks=3) if lazy else [0, 1, 3, 0]
        (found,) = dask.compute(as_weights(given, np.zeros((4, 1), int)))
        np.testing.assert_array_equal(found, [[0], [0.5], [1.5], [0]])


def test_balanced_classes_are_so_by_the_weights_of_their_rows():
    codes = np.array([0, 0, 0, 1, 1])[:, None]
    found = as_weights(np.array([1.0, 1, 0, 1, 5]), codes, "balanced")
    for code in (0, 1):
        assert found[codes == code].sum() == pytest.approx(2)


def test_targets_stay_as_they_are_where_all_rows_count():
    assert heeded(PRICE, np.ones(ROWS), ROWS) is PRICE
    assert heeded(None, np.ones(ROWS), ROWS) is None
    assert heeded(PRICE, None, ROWS) is PRICE


# ------------------------------------------------------------------------------------ scores


def test_scores_of_training_are_weighted():
    weight = RNG.uniform(0.5, 2, ROWS)
    weight[::4] = 0
    for model, y in ((regressor(), PRICE), (classifier(), LABELS)):
        model.fit(X, y, sample_weight=weight)
        expected = model.score(X, y, sample_weight=weight)
        assert model.history_.attrs["train_score"] == pytest.approx(expected, rel=1e-5)


def test_early_stopping_scores_by_weight():
    """Half of the labels are wrong, and weigh next to nothing."""
    y = np.where(X[:, 0] > 0, "yes", "no")
    wrong = RNG.random(ROWS) < 0.5
    given = np.where(wrong, np.where(y == "yes", "no", "yes"), y)
    weight = np.where(wrong, 1e-3, 1.0)
    solver = BlockADMM(early_stopping=True, validation_fraction=0.4, learning_rate=0.05)
    model = classifier(solver=solver, max_iter=30).fit(X, given, sample_weight=weight)
    assert model.history_["validation_score"].max() > 0.7


def test_rows_of_weight_0_shape_factors():
    """They are rows without a label there, and move the scaling too."""
    x = np.abs(X)
    seen = np.arange(ROWS) % 3 == 0
    model = DeepFacto(3, (4,), max_iter=2, random_state=0)
    found = model.fit(x, np.where(seen, LABELS, "unknown"), sample_weight=seen.astype(float))
    assert list(found.classes_) == ["no", "yes"]
    plain = DeepFacto(3, (4,), max_iter=2, random_state=0).fit(x, LABELS)
    np.testing.assert_array_equal(found.network_.inputs.scale, plain.network_.inputs.scale)
