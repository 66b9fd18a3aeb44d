"""Labels of any kind come back, one per row or several."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning

import dadmm
from dadmm.errors import DataError, ShapeError
from support.messages import naming
from support.supervised import (
    CODES,
    X,
    classifier,
    only_block,
    refuse,
    same_network,
)

pytestmark = pytest.mark.usefixtures("solver")


# ------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    "names",
    [
        np.array(["cat", "dog", "elephant"]),
        np.array(["cat", "dog", "elephant"], object),
        np.array([-5, 7, 1000]),
        np.array([0.0, 1.0, 2.0]),
        np.array([1, 2, 3], np.int8),
    ],
    ids=["text", "objects", "integers", "floats", "bytes"],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_labels_of_any_kind_come_back(clf, names, lazy):
    y = names[CODES]
    named = classifier(max_iter=12).fit(X, da.from_array(y, chunks=50) if lazy else y)
    np.testing.assert_array_equal(named.classes_, names)
    assert named.classes_.dtype == names.dtype
    same_network(named, clf)
    np.testing.assert_array_equal(named.predict(X), names[clf.predict(X)])
    assert named.predict(X).dtype == names.dtype
    assert named.score(X, y) == clf.score(X, CODES)


def test_two_classes_may_be_true_and_false():
    y = CODES == 1
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        clf = classifier().fit(X, y[:, None])
    assert clf.classes_.tolist() == [False, True]
    assert clf.predict(X).dtype == bool
    assert clf.predict_proba(X).shape == (120, 2)
    assert clf.score(X, y) > 0.7


# -------------------------------------------------------------------------- several labels per row


LABELS = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] * X[:, 1] > 0], axis=1)


@pytest.fixture(scope="module")
def several(solver):
    return classifier(max_iter=30).fit(X, LABELS)


def test_several_labels_per_row_are_learnt_each_by_itself(several):
    predicted, proba = several.predict(X), several.predict_proba(X)
    assert predicted.shape == proba.shape == (120, 3)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, proba > 0.5)
    assert several.classes_.tolist() == [0, 1, 2]
    assert (predicted == LABELS).mean() > 0.9
    assert not np.allclose(proba.sum(axis=1), 1)
    right = (predicted == LABELS).all(axis=1)
    assert several.score(X, LABELS) == several.history_.attrs["train_score"] == right.mean() > 0.7
    assert several.score(X, LABELS, sample_weight=right) == 1.0


@pytest.mark.parametrize("kind", [np.int8, float, bool, object, list, "dask"])
def test_several_labels_may_come_as_any_0_and_1(several, kind):
    y = LABELS.astype(kind) if isinstance(kind, type) and kind is not list else LABELS.tolist()
    y = da.from_array(LABELS, chunks=(50, 2)) if kind == "dask" else y
    same_network(classifier(max_iter=30).fit(X, y), several)
    assert several.score(X, y) == several.score(X, LABELS)


def test_several_labels_are_predicted_lazily(several):
    lazy = da.from_array(X, chunks=(50, 2))
    with dask.config.set(scheduler=refuse):
        found, proba = several.predict(lazy), several.predict_proba(lazy)
    assert found.dtype == np.int64
    assert found.shape == proba.shape == (120, 3)
    np.testing.assert_array_equal(found.compute(), several.predict(X))
    assert several.score(lazy, da.from_array(LABELS, chunks=50)) == several.score(X, LABELS)


def test_several_labels_are_stored_and_resumed(several, tmp_path):
    classifier(max_iter=10, run=tmp_path / "run").fit(X, LABELS)
    half = dadmm.load(tmp_path / "run")
    assert half.predict(X).shape == (120, 3)
    again = pickle.loads(pickle.dumps(half))
    np.testing.assert_array_equal(again.predict_proba(X), half.predict_proba(X))
    longer = dadmm.resume(tmp_path / "run", max_iter=12)
    assert longer.n_iter_ == 12
    assert longer.score(X, LABELS) == longer.history_.attrs["train_score"]


@only_block
def test_several_labels_are_learnt_from_pieces(several):
    clf = classifier().partial_fit(X[:60], LABELS[:60], classes=range(3))
    for _ in range(30):
        for rows in (slice(60), slice(60, None)):
            clf.partial_fit(X[rows], LABELS[rows])
    assert (clf.predict(X) == LABELS).mean() > 0.9
    with pytest.raises(ShapeError, match=naming("(120, 2)", "3")):
        clf.partial_fit(X, LABELS[:, :2])
    with pytest.raises(ShapeError, match=naming("(120,)", "3")):
        clf.score(X, LABELS[:, 0])
    with pytest.raises(ShapeError, match=naming("last fit")):
        clf.partial_fit(X, CODES)
    with pytest.raises(ShapeError, match=naming("last fit")):
        classifier().partial_fit(X, CODES).partial_fit(X, LABELS)


def test_what_is_no_label_is_named_in_lazy_labels_too(several):
    y = LABELS.astype(float)
    y[51, 2] = np.nan
    lazy = da.from_array(y, chunks=(50, 3))
    for wrong, use in ((y, classifier().fit), (lazy, classifier().fit), (lazy, several.score)):
        with pytest.raises(DataError, match=naming("y", "nan", "row 51", "column 2")):
            use(X, wrong)
