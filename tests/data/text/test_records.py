"""Records end at newlines outside quotes, wherever a file is cut."""

import csv
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.data.text.records import cuts, digits, ends

CELLS = st.text('ab",\n 01', max_size=4)
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6)


def written(rows, end):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue().encode()


def pieces(text, size):
    parts = [text[i : i + size] for i in range(0, max(len(text), 1), size)]
    places = cuts([ends(part, ",", False) for part in parts])
    starts = [i * size + place for i, place in enumerate(places) if place is not None]
    assert starts == sorted(starts)
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


@settings(deadline=None)
@given(TABLES, st.sampled_from(["\n", "\r\n"]), st.integers(1, 12))
def test_a_file_is_cut_between_its_records(rows, end, size):
    text = written(rows, end)
    parts = pieces(text, size)
    assert b"".join(parts) == text
    read = [row for part in parts for row in csv.reader(io.StringIO(part.decode(), newline=""))]
    assert [row for row in read if row] == rows
    counts = [digits(part, ",", False, 3)[:2] for part in parts]
    assert (sum(count for count, _ in counts), {wrong for _, wrong in counts}) == (len(rows), {-1})


@settings(deadline=None)
@given(st.text('a1,"\n\r 0', max_size=40), st.integers(1, 10))
def test_any_bytes_give_the_same_records_whole_and_in_parts(text, size):
    whole = text.encode()
    parts = pieces(whole, size)
    assert b"".join(parts) == whole
    assert sum(digits(part, ",", False, 3)[0] for part in parts) == digits(whole, ",", False, 3)[0]


def test_a_quote_inside_a_cell_opens_nothing():
    assert digits(b'5" pipe,1\n6" pipe,2\n', ",", False, 2)[:2] == (2, -1)


def test_a_row_of_another_length_is_found():
    assert digits(b'1,2\n\n"3,4"\n5,6,7\n', ",", False, 2)[:3] == (3, 1, 1)


def test_digits_that_numbers_lose_are_seen():
    text = b'007,1234567890123456,0.5,"+01"\n0,0,00,1e5\n'
    *_, padded, long = digits(text, ",", False, 4)
    np.testing.assert_array_equal(padded, [True, False, True, True])
    np.testing.assert_array_equal(long, [False, True, False, False])


def test_quotes_after_spaces_open_where_that_is_said():
    text = b'a, "b, c"\n'
    assert digits(text, ",", True, 2)[:2] == (1, -1)
    assert digits(text, ",", False, 2)[:2] == (1, 0)
