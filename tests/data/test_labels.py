"""Labels: classes found and encoded; what is no label is named."""

import datetime
import decimal
import enum

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadmm.data.labels import as_codes, as_label_column, encode_labels, find_classes
from dadmm.errors import DataError
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
    found = find_classes(y)
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
        (np.array([b"a", b"b"]), ["y", "|S1", "decode"]),
        (np.array([1, 2j]), ["y", "complex128"]),
        (np.array(["2020", "2021"], "M8[Y]"), ["y", "datetime64[Y]"]),
        (np.array([0.5, 1.0]), ["continuous", "0.5", "ADMMRegressor"]),
    ],
)
def test_what_are_no_labels_is_named(y, words):
    with pytest.raises(DataError, match=naming(*words)):
        find_classes(y)


@given(st.lists(st.integers(-5, 5), min_size=1), st.booleans())
def test_codes_lead_back_to_the_labels(labels, text):
    y = np.array([str(label) for label in labels] if text else labels)
    classes = np.unique(y)
    codes = encode_labels(y, classes)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(classes[codes], y)


@pytest.mark.parametrize("label", [7, -7, "7", 0.5])
def test_a_label_that_training_never_saw_is_named(label):
    words = naming("label", repr(label), "row 11", "2 classes", "0, 1")
    with pytest.raises(DataError, match=words):
        encode_labels(np.array([1, label], np.array(label).dtype)[1:], np.array([0, 1]), 11)


def test_a_long_list_of_classes_is_cut_short():
    with pytest.raises(DataError, match=r"\b9, \.\.\.$"):
        encode_labels(np.array([99]), np.arange(50))


BIG = [2**53, 2**53 + 1, 2**63 - 1]
HUGE = [2**63, 2**63 + 1, 2**64 - 1]
TEXT = np.dtypes.StringDType()
MAYBE = np.dtypes.StringDType(na_object=None)
NAN = np.dtypes.StringDType(na_object=np.nan)
COLOURS = enum.Enum("Colours", ["RED", "BLUE"])
NUMBERED = enum.IntEnum("Numbered", ["ONE", "TWO"])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("y", "classes", "dtype"),
    [
        (np.array(BIG), BIG, "i8"),
        (np.array(HUGE, "u8"), HUGE, "u8"),
        (np.array([2**53, 2**53 + 1, -1], object), [-1, 2**53, 2**53 + 1], "i8"),
        (np.array([2**63, 2**63 + 1, 1], object), [1, 2**63, 2**63 + 1], "u8"),
        (np.array(["yes", "no", "a much longer label"], TEXT), ["a much longer label", "no", "yes"],
         "U19"),
        (np.array(["no", "yes"], MAYBE), ["no", "yes"], "U3"),
        (np.array([np.str_("b"), "a"], object), ["a", "b"], "O"),
        (np.array([np.int8(2), np.uint64(1)], object), [1, 2], "i8"),
        (np.array([np.True_, False], object), [False, True], "?"),
        (np.array([1.0, 2], object), [1.0, 2.0], "f8"),
        (np.array([2, 1], np.longdouble), [1.0, 2.0], "f8"),
        (np.array([b"a"], "S1").astype(str).repeat(2) + np.array(["", "b"]), ["a", "ab"], "U2"),
    ],
)  # fmt: skip
def test_labels_are_found_and_encoded_as_they_are(y, classes, dtype, lazy):
    given = da.from_array(y, chunks=1) if lazy else y
    found = find_classes(given)
    assert found.tolist() == classes
    assert [type(label) for label in found.tolist()] == [type(label) for label in classes]
    assert found.dtype == np.dtype(dtype)
    codes = np.asarray(as_codes(given, found))
    assert codes.dtype == np.int32
    assert found[codes[:, 0]].tolist() == y.tolist()


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array(["a", "b", None], MAYBE), ["missing", "row 2"]),
        (np.array(["a", "b", np.nan], NAN), ["missing", "row 2"]),
        (np.array(["a", "b", None], object), ["missing", "row 2"]),
        (np.array(["a", "b", np.nan], object), ["missing", "row 2"]),
        (np.array(["a", "b", pd.NA], object), ["missing", "row 2"]),
        (np.array(["a", "b", pd.NaT], object), ["missing", "row 2"]),
        (np.array([1, 2, np.inf]), ["infinite", "row 2"]),
        (np.array([1, 0, True], object), ["types", "bool", "int"]),
        (np.array(["a", "b", 1], object), ["types", "int", "str"]),
        (np.array([1, 2, 2.5], object), ["continuous", "2.5"]),
        (np.array([2**63, 2**63 + 1, -1], object), ["-1", "uint64", "text"]),
        (np.array([1, 2, 10**30], object), ["uint64", "text"]),
        (np.array([1, 2, 2.0**53]), ["9007199254740992.0", "2**53", "int64"]),
        (np.array([b"a", b"b", b"c"]), ["S1", "decode"]),
        (np.array(["a", "b", np.bytes_(b"c")], object), ["bytes_", "row 2", "decode"]),
        (np.array(["a", "b", decimal.Decimal("1.5")], object), ["Decimal", "row 2", "text"]),
        (np.array(["a", "b", COLOURS.RED], object), ["Colours", "row 2", "values"]),
        (np.array([1, 2, NUMBERED.ONE], object), ["Numbered", "row 2", "values"]),
        (np.array(["a", "b", datetime.date(2020, 1, 1)], object), ["date", "row 2", "text"]),
        (np.array(["a", "b", pd.Timestamp("2020")], object), ["Timestamp", "row 2", "text"]),
        (np.array(["a", "b", pd.Period("2020")], object), ["Period", "row 2", "text"]),
        (np.array(["a", "b", pd.Interval(0, 1)], object), ["Interval", "row 2", "text"]),
        (np.array(["a", "b", np.datetime64("2020")], object), ["datetime64", "row 2", "text"]),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), ["datetime64[Y]", "text"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_label_is_named_with_its_row(y, words, lazy):
    with pytest.raises(DataError, match=naming("y", *words)):
        find_classes(da.from_array(y, chunks=1) if lazy else y)


def test_blocks_of_several_types_are_refused_and_other_widths_are_joined():
    def blocks(*arrays, dtype):
        return da.concatenate([da.from_array(a, chunks=-1).astype(dtype) for a in arrays])

    mixed = da.from_array(np.array(["a", 1], object), chunks=1)
    with pytest.raises(DataError, match=naming("y", "types", "int", "str")):
        find_classes(mixed)
    joined = blocks(np.array(["a"]), np.array(["long"]), dtype="U4")
    assert find_classes(joined).tolist() == ["a", "long"]
    assert find_classes(da.from_array(np.array(["b", "a"], object), chunks=1)).tolist() == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        (np.array([2**53 + 1]), np.array([1, 2**53 + 1], "u8"), [1]),
        (np.array([2**53 + 1], "u8"), np.array([-1, 2**53 + 1]), [1]),
        (np.array([1.0, 2.0]), np.array([1, 2]), [0, 1]),
        (np.array([1, 2], "u1"), np.array([1, 2], "i8"), [0, 1]),
        (np.array(["a", "b"], TEXT), np.array(["a", "b"]), [0, 1]),
        (np.array(["a", "b"], object), np.array(["a", "b"]), [0, 1]),
        (np.array([True, False]), np.array([0, 1]), [1, 0]),
    ],
)
def test_the_same_label_in_another_dtype_is_the_same_class(y, classes, codes):
    assert encode_labels(y, classes).tolist() == codes


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([2**53], "u8"), np.array([-1, 2**53 + 1])),
        (np.array([2**53]), np.array([1, 2**53 + 1], "u8")),
        (np.array([2.0**53]), np.array([1, 2**53 + 1])),
        (np.array(["1"]), np.array([0, 1])),
    ],
)
def test_a_label_that_only_looks_like_a_class_is_named(y, classes):
    with pytest.raises(DataError, match=naming("label", "row 0", "2 classes")):
        encode_labels(y, classes)


def test_lazy_labels_that_training_never_saw_are_named_with_their_row():
    y = da.from_array(np.array([0, 1, 0, 7]), chunks=2)
    with pytest.raises(DataError, match=naming("label", "7", "row 3")):
        as_codes(y, np.array([0, 1])).compute()


@pytest.mark.parametrize(
    ("y", "kept"),
    [
        ([2**63, -1, 2**63 + 1], object),
        ([2**63, 2**63 + 1], "u8"),
        ([1, 2], "i8"),
        (("a", "bc"), "U2"),
        ([[1], [2]], "i8"),
        ([NUMBERED.ONE, NUMBERED.TWO], "i8"),
    ],
)
def test_the_numbers_of_a_list_stay_what_they_are(y, kept):
    column = as_label_column(y, len(y))
    assert column.dtype == np.dtype(kept)
    flat = [each[0] if isinstance(each, list) else each for each in y]
    assert column.tolist() == flat


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a", 1], ["types", "int", "str"]),
        ([1, True], ["types", "bool", "int"]),
        (["a", True], ["types", "bool", "str"]),
        (["a", float("nan")], ["missing", "row 1"]),
        (["a", None], ["missing", "row 1"]),
        ([1, None], ["missing", "row 1"]),
        ([COLOURS.RED, COLOURS.BLUE], ["Colours", "row 0", "values"]),
        ([decimal.Decimal(1), decimal.Decimal(2)], ["Decimal", "row 0", "text"]),
    ],
)
def test_a_list_of_several_types_does_not_become_text(y, words):
    with pytest.raises(DataError, match=naming("y", *words)):
        find_classes(as_label_column(y, len(y)))
