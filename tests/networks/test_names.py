"""Names of columns: what they are compared by, and what JSON holds of them."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from dadmm.networks.form import Form
from dadmm.networks.names import are_positions, by_name, from_json, plain_name, text_of, to_json

NAMES = {
    "text": ("a", "2020", "2020-01-01 00:00:00"),
    "numbers": (3, -1, 0.5, 2.0, 2**70),
    "booleans": (True, False),
    "days": (date(2020, 1, 1), date(2021, 5, 6)),
    "times": (datetime(2020, 1, 1, 5), datetime(2020, 1, 1, tzinfo=UTC)),
    "levels": (("a", 1), ("a", ("b", date(2020, 1, 1)))),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_are_equal_after_json_and_keep_their_types(names):
    form = Form(names=names, targets=names[:1])
    found = Form.from_json(json.loads(json.dumps(form.to_json())))
    assert found == form
    assert [type(name) for name in found.names] == [type(name) for name in names]


def test_forms_of_earlier_versions_are_read():
    table = {"columns": [], "dims": [], "features": []}
    assert Form.from_json({**table, "names": None, "targets": None}) == Form()
    old = Form.from_json({**table, "names": ["a", "b"], "targets": ["y"]})
    assert old == Form(names=("a", "b"), targets=("y",))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (np.str_("a"), "a"),
        (np.int32(3), 3),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (float("nan"), "nan"),
        (pd.Timestamp("2020-01-01 05:00"), datetime(2020, 1, 1, 5)),
        (pd.Timestamp(1), "1970-01-01 00:00:00.000000001"),
        (pd.NaT, "NaT"),
        (pd.Period("2020-01"), "2020-01"),
        (pd.Interval(0, 1), "(0, 1]"),
        (("a", np.int64(1)), ("a", 1)),
        (None, "None"),
    ],
)
def test_labels_of_pandas_become_plain_names(label, name):
    found = plain_name(label)
    assert found == name
    assert type(found) in (type(name), np.str_)
    assert from_json(to_json(found)) == name


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((2020, 2020.0, "2020", "2020.0"), "2020"),
        ((0.5, "0.5"), "0.5"),
        ((-1, -1.0, "-1.0"), "-1"),
        (
            (datetime(2020, 1, 1), date(2020, 1, 1), "2020-01-01 00:00:00", "2020-01-01"),
            "2020-01-01",
        ),
        ((("a", 1), ("a", "1"), "('a', '1')"), "('a', '1')"),
        (("a.0",), "a.0"),
    ],
)
def test_names_compare_with_the_text_that_files_hold(names, text):
    assert {text_of(name) for name in names} == {text}


@pytest.mark.parametrize(
    ("wanted", "names", "named"),
    [
        (("a", "b"), ("b", "a"), True),
        (("a", "b"), (0, 1), False),  # a frame made of an array
        ((0, 1), ("a", "b"), False),
        ((0, 1), (1, 0), True),
        ((0, 1), ("1", "0"), True),
        ((0, 1), (1, 2), True),
        ((1, 2), (0, 1), True),
        ((0.5, 1.5), (0, 1), False),
        (("a", "b"), (2, 1), True),
        (None, ("a", "b"), False),
        (("a", "b"), None, False),
    ],
)
def test_columns_are_taken_by_name_where_both_have_names(wanted, names, named):
    assert by_name(wanted, names) == named


def test_positions_are_whole_numbers_in_order():
    assert are_positions((0, 1, 2))
    assert not are_positions((0, 2, 1))
    assert not are_positions((False, True))
    assert not are_positions(("0", "1"))
