"""The first rows tell how CSV is written, or one line asks."""

import pytest

from dadmm.data.table import Table
from dadmm.data.text.dialect import dialect_of
from dadmm.errors import InputError
from support.messages import naming

YES, NO, ASKS = "header", "data", "asks"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n1,2\n", YES),
        ("label,0,1\n3,4,5\n", YES),
        ("id,2000,2001\n7,1.5,2\n", YES),
        ("1e5,nan,b\n1,2,3\n", YES),
        ("2020_01,2020_02\n1,2\n", ASKS),
        ("a,b\nx,y\n", YES),
        ('"a","b"\n1,2\n', YES),
        ("1,2\n3,4\n", NO),
        ("1.5,2.5\n3,4\n", NO),
        ("5,1,4\n2,8,3\n", NO),
        ("red,1\nblue,2\nred,3\n", NO),
        ("red,big\nblue,big\nred,small\n", NO),
        ("nan,2.5\n1.5,3\n", NO),
        ("1,2\n", NO),
        # What pandas writes where columns have no names.
        ("0,1,2,3\n.5,1.5,2.5,.1\n", ASKS),
        ("0,1,2,3\n5,3,0,2\n", ASKS),
        ("0,1\n5,3\n", ASKS),
        ("0\n1\n0\n", ASKS),
        ("0\n.5\n", ASKS),
        # Years and samples.
        ("2000,2001,2002\n5,3,0\n", ASKS),
        ("1001,1042,1017\n.5,1.5,2.5\n", ASKS),
        ("country,2000,2001\nFR,1.5,2.5\nDE,3.5,1\n", ASKS),
        # No name has no letter.
        ("?,2\n3,4\n", ASKS),
        ("1,5;2,5\n3,5;4\n", ASKS),
    ],
)
def test_the_first_row_is_a_header_or_data_or_asked_about(text, found):
    if found == ASKS:
        with pytest.raises(InputError, match=naming("x.csv", "first row", "header")) as caught:
            dialect_of(text, "x: x.csv", Table("x.csv"))
        assert "\n" not in str(caught.value)
    else:
        assert dialect_of(text, "x: x.csv", Table("x.csv")).header == (found == YES)
    for header in (True, False):
        said = dialect_of(text + "9,9,9\n", "x", Table("x.csv", header=header))
        assert said.header == header


def test_a_header_that_training_knew_is_one():
    found = dialect_of("2000,2001,2002\n5,3,0\n", "x", Table("x.csv"), ["2001", "2000", "2002"])
    assert found.header
    assert found.names == ("2000", "2001", "2002")


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2\n", ";"),
        ("a;b\n1;2\n", ";"),
        ("a\tb\n1\t2\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ("a,b\n1;3,2\n4,5\n", ","),
        ('"a;b",c\n1,2\n', ","),
        ("a\n1\n", ","),
    ],
)
def test_the_delimiter_is_the_one_that_all_rows_have(text, delimiter):
    assert dialect_of(text, "x", Table("x.csv")).delimiter == delimiter


def test_r_leaves_the_name_of_row_names_out():
    found = dialect_of('"a","b"\n"r1",1,2\n"r2",3,4\n', "x", Table("x.csv"))
    assert found.names == ("", "a", "b")
    assert found.quoted
