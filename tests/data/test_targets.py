"""Targets and labels: classes found and encoded; what is no label is named."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.data import targets
from dadmm.errors import DataError, ShapeError
from support.messages import naming


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([3, -1, 3]), [-1, 3]),
        (np.array([True, False]), [False, True]),
        (np.array(["b", "a"]), ["a", "b"]),
        (np.array(["b", "a"], object), ["a", "b"]),
        (np.array([2.0, 1.0]), [1.0, 2.0]),
        (da.from_array(np.array(["b", "a", "b"]), chunks=2), ["a", "b"]),
    ],
)
def test_classes_are_the_sorted_labels(y, classes):
    found = targets.find_classes(y)
    assert found.tolist() == classes
    assert found.dtype == y.dtype


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array([1, 1]), ["y", "one class", "1"]),
        (np.array(["a", "a"]), ["y", "one class", "'a'"]),
        (np.array([1.0, np.nan]), ["y", "row 1"]),
        (da.from_array(np.array([1.0, 2.0, np.inf]), chunks=1), ["y", "row 2"]),
        (np.array(["a", None], object), ["y", "missing", "row 1"]),
        (np.array(["a", np.nan], object), ["y", "missing", "row 1"]),
        (np.array(["a", 1], object), ["y", "types"]),
        (np.array([b"a", b"b"], object), ["y", "bytes", "row 0"]),
        (np.array([b"a", b"b"]), ["y", "|S1"]),
        (np.array([1, 2j]), ["y", "complex128"]),
        (np.array(["2020", "2021"], "M8[Y]"), ["y", "datetime64[Y]"]),
        (np.array([0.5, 1.0]), ["continuous", "0.5", "ADMMRegressor"]),
    ],
)
def test_what_are_no_labels_is_named(y, words):
    with pytest.raises(DataError, match=naming(*words)):
        targets.find_classes(y)


@given(st.lists(st.integers(-5, 5), min_size=1), st.booleans())
def test_codes_lead_back_to_the_labels(labels, text):
    y = np.array([str(label) for label in labels] if text else labels)
    classes = np.unique(y)
    codes = targets.encode_labels(y, classes)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(classes[codes], y)


@pytest.mark.parametrize("label", [7, -7, "7", 0.5])
def test_a_label_that_training_never_saw_is_named(label):
    words = naming("label", repr(label), "row 11", "2 classes", "0, 1")
    with pytest.raises(DataError, match=words):
        targets.encode_labels(np.array([1, label], np.array(label).dtype)[1:], np.array([0, 1]), 11)


def test_a_long_list_of_classes_is_cut_short():
    with pytest.raises(DataError, match=r"\b9, \.\.\.$"):
        targets.encode_labels(np.array([99]), np.arange(50))


def test_targets_have_as_many_rows_as_inputs():
    assert targets.as_targets([1, 2], 2).shape == (2, 1)
    assert targets.as_targets(da.ones((4, 2)), 4).shape == (4, 2)
    assert targets.as_column(np.ones((4, 1)), 4).shape == (4,)
    with pytest.raises(ShapeError, match=naming("y", "3 rows", "x", "4")):
        targets.as_targets(np.ones(3), 4)
    with pytest.raises(ShapeError, match=naming("y", "3 dimensions")):
        targets.as_targets(np.ones((4, 1, 1)), 4)
    with pytest.raises(DataError, match=naming("y", "NaN", "row 1", "column 0")):
        targets.as_targets([0.0, np.nan], 2)
    with pytest.raises(DataError, match=naming("y", "missing")):
        targets.as_column(None, 4)
