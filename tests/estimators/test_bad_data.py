"""Data that cannot be trained on or predicted for is refused in one line that names it."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from dadmm import ADMMClassifier, ADMMRegressor
from dadmm.errors import DataError, InputError, OptionError, ShapeError
from support.messages import names, naming
from support.refusals import BAD_INF, BAD_NAN, LAZY, SMALL, X, Y, fails, refused, snapshot

pytestmark = pytest.mark.usefixtures("here")


HUGE = X.astype(object)


HUGE[7, 1] = 10**400


# ----------------------------------------------------------------------------- data that is fitted


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (X, Y[:-1], ShapeError, ["y", "29 rows", "x", "30"]),
        (X[:, 0], Y, ShapeError, ["x", "1 dimension", "x.reshape(-1, 1)"]),
        (X[None], Y, ShapeError, ["x", "3 dimension", "(rows, columns)"]),
        (
            X,
            np.stack([2 * Y, Y], 1),
            DataError,
            ["y", "2", "column 0"],
        ),
        (X, Y[None, None], ShapeError, ["y", "3 dimensions"]),
        ([[1, 2], [3]], [0, 1], ShapeError, ["x", "lengths"]),
        ("abc", Y, InputError, ["x", "abc"]),
        (None, Y, DataError, ["x", "missing"]),
        (X, None, DataError, ["y", "missing"]),
        (BAD_NAN, Y, DataError, ["x", "NaN", "row 7", "column 1", "impute"]),
        (BAD_INF, Y, DataError, ["x", "infinity", "row 29", "column 2", "impute"]),
        (da.from_array(BAD_NAN, chunks=5), Y, DataError, ["x", "NaN", "row 7", "column 1"]),
        (da.from_array(BAD_INF, chunks=4), Y, DataError, ["x", "infinity", "row 29", "column 2"]),
        (X, np.where(Y, 1.0, np.nan), DataError, ["y", "missing", "row"]),
        (X[:0], Y[:0], DataError, ["x", "0 sample", "shape=(0, 3)"]),
        (X[:, :0], Y, DataError, ["x", "0 feature", "shape=(30, 0)"]),
        (X, 0 * Y, DataError, ["y", "one class", "0", "two"]),
        (X, np.full(30, "a"), DataError, ["y", "one class", "'a'"]),
        (X, X[:, 0], DataError, ["y", "continuous", "ADMMRegressor"]),
        (X, np.array(["a", None] * 15, object), DataError, ["y", "missing", "row 1"]),
        (X, np.array(["a", 1] * 15, object), DataError, ["y", "types"]),
        (X.astype(str), Y, DataError, ["x", "row 0", "column 0", "'0.126'", "astype(float)"]),
        (np.where(X > 2, "big", X.astype(object)), Y, DataError, ["x", "row", "column", "'big'"]),
        (
            pd.DataFrame({"a": Y, "b": "u"}),
            Y,
            DataError,
            ["b", "row 0", "'u'", "categorical='one_hot'"],
        ),
        (X + 0j, Y, DataError, ["x", "complex128"]),
        (
            X.astype("i8").astype("m8[s]"),
            Y,
            DataError,
            ["x", "timedelta64[s]"],
        ),
        (HUGE, Y, DataError, ["x", "too large", "row 7", "column 1"]),
        (
            LAZY.map_blocks(fails, dtype=float),
            Y,
            DataError,
            ["x", "computed", "ZeroDivisionError: 0 a block"],
        ),
        (
            X,
            LAZY[:, 0].map_blocks(fails, dtype=int),
            DataError,
            ["y", "computed", "ZeroDivisionError"],
        ),
        (
            LAZY[LAZY[:, 0].map_blocks(fails, dtype=float) > 0],
            Y,
            DataError,
            ["x", "computed", "ZeroDivisionError"],
        ),
        (
            LAZY.map_blocks(lambda b: b[:2], dtype=float),
            Y,
            ShapeError,
            ["(6, 3)", "row 0"],
        ),
        (
            LAZY.map_blocks(lambda b: b.astype(str), dtype=float),
            Y,
            DataError,
            ["<U32", "row"],
        ),
        (da.ma.masked_greater(LAZY, 0), Y, DataError, ["x", "masked", "fill"]),
    ],
)
def test_a_classifier_refuses_bad_data(x, y, error, words):
    refused(error, words, ADMMClassifier(**SMALL, run="run").fit, x, y)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (BAD_NAN, DataError, ["y", "NaN", "row 7", "column 1"]),
        (BAD_INF[:, 2], DataError, ["y", "infinity", "row 29", "column 0"]),
        (da.from_array(BAD_NAN, chunks=4), DataError, ["y", "NaN", "row 7", "column 1"]),
        (np.array(["a"] * 30), DataError, ["y", "row 0", "column 0", "'a'"]),
        (X[:, 0] + 0j, DataError, ["y", "complex128"]),
        (X[:, :0], DataError, ["y", "0 feature", "shape=(30, 0)"]),
        (X[:-1], ShapeError, ["y", "29 rows", "x", "30"]),
        (X[:, 0] * 1e300, DataError, ["y", "squares", "scale"]),
    ],
)
def test_a_regressor_refuses_bad_targets(y, error, words):
    refused(error, words, ADMMRegressor(**SMALL, run="run").fit, X, y)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (np.ones(29), ShapeError, ["sample_weight", "29 rows", "x", "30"]),
        (
            np.ones((30, 2)),
            ShapeError,
            ["sample_weight", "(30, 2)"],
        ),
        (np.array(["a"] * 30), DataError, ["sample_weight", "<U1"]),
        (-Y, DataError, ["sample_weight", "negative, missing or infinite"]),
        (BAD_NAN[:, 1], DataError, ["sample_weight", "negative, missing or infinite"]),
        (0 * Y, DataError, ["sample_weight", "zero"]),
    ],
)
def test_weights_that_cannot_be_are_named(weight, error, words):
    refused(error, words, ADMMClassifier(**SMALL, run="run").fit, X, Y, weight)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("balancd", ["class_weight='balancd'", "'balanced'", "dict"]),
        (3, ["class_weight=3", "'balanced'", "dict"]),
        ({5: 1.0}, ["class_weight", "5", "0, 1"]),
        ({0: -1}, ["class_weight[0]=-1", "0"]),
        ({0: "x"}, ["class_weight[0]='x'", "0"]),
        ({0: 10**400}, ["class_weight", "401 digits"]),
    ],
)
def test_weights_of_classes_that_cannot_be_are_named(weights, words):
    refused(OptionError, words, ADMMClassifier(**SMALL, class_weight=weights).fit, X, Y)


def test_the_relaxed_solver_refuses_what_only_block_admm_can():
    clf = ADMMClassifier(**SMALL, solver="relaxed")
    words = ["sample_weight", "class_weight", "solver='block'"]
    refused(OptionError, words, clf.fit, X, Y, np.ones(30))
    assert not hasattr(clf, "partial_fit")
    with pytest.raises(AttributeError, match=naming("'partial_fit'")) as caught:
        clf.partial_fit(X, Y)
    cause = str(caught.value.__cause__)
    assert names(cause, "partial_fit", "solver='block'", "'relaxed'")
    clf.set_params(solver="relaxd")
    refused(OptionError, ["solver", "'relaxd'", "'relaxed'"], clf.partial_fit, X, Y)


# ---------------------------------------------------------------------- data that is predicted for


@pytest.fixture(scope="module")
def clf():
    return ADMMClassifier(**SMALL).fit(X, Y)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (X[:, :2], ShapeError, ["2 features", "3 features"]),
        (X[:, 0], ShapeError, ["x", "1 dimension"]),
        (X[None], ShapeError, ["x", "3 dimension"]),
        (X[:0], DataError, ["x", "0 sample", "shape=(0, 3)"]),
        (X + 0j, DataError, ["x", "complex128"]),
        (X.astype(str), DataError, ["x", "numeric"]),
    ],
)
def test_predictions_need_data_like_that_of_training(clf, x, error, words, lazy):
    x = da.from_array(x) if lazy else x
    refused(error, words, clf.predict, x)
    refused(error, words, clf.predict_proba, x)


def test_predictions_need_finite_data(clf):
    refused(DataError, ["x", "NaN", "row 7", "column 1"], clf.predict, BAD_NAN)
    lazy = clf.predict(da.from_array(BAD_NAN, chunks=5))
    refused(DataError, ["chunk (1,)", "NaN", "row 2"], lazy.compute, scheduler="sync")
    refused(DataError, ["x", "NaN"], clf.predict, scipy.sparse.csr_array(BAD_NAN))


def test_what_is_predicted_is_finite(clf):
    far = X.copy()
    far[7, 1] = 1e300
    words = ["x", "row 7", "float32"]
    refused(DataError, words, clf.predict, far)
    lazy = clf.predict_proba(da.from_array(far, chunks=5))
    refused(DataError, ["chunk (1, 0)", "row 2"], lazy.compute)


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (np.ones(29), ShapeError, ["sample_weight", "29 rows", "x", "30"]),
        (0 * Y, DataError, ["sample_weight", "zero"]),
        (["a"] * 30, DataError, ["sample_weight", "<U1"]),
    ],
)
def test_a_score_checks_its_weights(clf, weight, error, words):
    refused(error, words, clf.score, X, Y, weight)
    reg = ADMMRegressor(**SMALL).fit(X, X[:, 0])
    refused(error, words, reg.score, X, X[:, 0], weight)
    weight = (np.arange(30) % 3)[:, None]
    assert clf.score(X, Y, weight) == clf.score(
        X[weight[:, 0] > 0], Y[weight[:, 0] > 0], weight[weight > 0]
    )


def test_a_score_says_that_the_graph_it_was_given_fails(clf):
    refused(
        DataError,
        ["X", "computed", "ZeroDivisionError"],
        clf.score,
        LAZY.map_blocks(fails, dtype=float),
        Y,
    )


@pytest.mark.parametrize("label", [2, "1"])
def test_a_score_names_a_label_that_training_never_saw(clf, label):
    y = Y.astype(object if isinstance(label, str) else int)
    y[4] = label
    y = y.astype(str) if isinstance(label, str) else y
    where = 0 if isinstance(label, str) else 4
    words = ["label", f"row {where}", "2 classes", "0, 1"]
    refused(DataError, words, clf.score, X, y)
    refused(ShapeError, ["y", "29 rows", "x", "30"], clf.score, X, Y[:-1])
