"""Rows dealt to chunks: all of them, once, with some from everywhere in each chunk."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.data.deal import DEAL, Deal, _strata

SIZES = st.integers(1, 400)


def chunk_of(deal):
    """Return the chunk of each of the caller's rows, from the order alone."""
    found = np.empty(deal.rows, int)
    sizes = [deal.size(chunk) for chunk in range(deal.count)]
    found[deal.order()] = np.repeat(np.arange(deal.count), sizes)
    return found


def rows_of(deal, chunk):
    """Return the rows of a chunk from what the blocks say."""
    owners = np.concatenate([deal.owners(block) for block in range(deal.count)])
    return np.flatnonzero(owners == chunk)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(1, 90), st.integers(0, 40), st.integers(0, 2**32))
def test_every_row_goes_to_one_place(rows, chunk, unit, seed):
    chunk = min(chunk, rows)
    deal = Deal(rows, chunk, seed, min(unit, chunk))
    order = deal.order()
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    edges = np.minimum(np.arange(deal.count + 1) * chunk, rows)
    for c in range(deal.count):
        own = order[edges[c] : edges[c + 1]]
        assert (np.diff(own) > 0).all()  # read forwards
        np.testing.assert_array_equal(own, rows_of(deal, c))


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(1, 60), st.integers(0, 2**32))
def test_blocks_and_chunks_agree_on_what_is_handed_over(rows, chunk, seed):
    deal = Deal(rows, min(chunk, rows), seed)
    blocks = [np.argsort(deal.owners(b), kind="stable") for b in range(deal.count)]
    for c in range(deal.count):
        found = []
        for span in deal.spans(c):
            owners = deal.owners(span.block)
            assert span.at == sum(map(len, found))
            assert span.segments == len(np.unique(owners[owners < c]))
            own = blocks[span.block][span.first : span.first + span.rows]
            found.append(span.block * deal.chunk + own)
        np.testing.assert_array_equal(np.concatenate(found), rows_of(deal, c))


@pytest.mark.parametrize("unit", [1, 7, 25])
def test_units_stay_whole_where_chunks_are_made_of_them(unit):
    deal = Deal(100 * unit + unit // 2, 20 * unit, 3, unit)
    owners = chunk_of(deal)
    for first in range(0, deal.rows, unit):
        assert len(set(owners[first : first + unit])) == 1
    for c in range(deal.count):
        ranges = deal.ranges(c)
        assert (ranges[1:, 0] > ranges[:-1, 1]).all()  # neighbours are joined
        assert (np.diff(ranges, axis=1) > 0).all()
        assert np.diff(ranges, axis=1).sum() == deal.size(c)


def test_a_unit_is_cut_only_where_a_chunk_ends():
    deal = Deal(1000, 95, 0, 10)
    owners = chunk_of(deal).reshape(100, 10)
    cut = [len(set(unit)) > 1 for unit in owners]
    assert 0 < sum(cut) <= deal.count - 1


@pytest.mark.parametrize("deal", [Deal(20_000, 2500, 1), Deal(20_000, 2500, 1, 50)])
def test_every_chunk_has_its_share_of_every_part_of_the_data(deal):
    tenths = chunk_of(deal).reshape(10, -1)
    for c in range(deal.count):
        shares = (tenths == c).mean(axis=1)
        assert abs(shares - 1 / 8).max() < 0.03


def test_a_small_last_chunk_has_some_from_everywhere_too():
    deal = Deal(10_100, 1000, 5)
    *_, last = np.split(deal.order(), np.arange(1000, 10_100, 1000))
    assert len(last) == 100
    counts = np.bincount(last // 1010, minlength=10)
    assert counts.min() >= 5


def test_data_that_comes_round_and_round_is_dealt_evenly():
    """Chunks do not fall in step with a period of the data, of few or of many blocks."""
    for rows, chunk, period in ((60_000, 60, 10), (24_000, 1000, 4)):
        season = np.arange(rows) // chunk % period == 0
        share = np.bincount(chunk_of(Deal(rows, chunk, 2)), season) / chunk
        assert abs(share - 1 / period).max() < 0.16
        assert share.std() < 0.05


def test_more_chunks_take_rows_from_fewer_blocks():
    few, many = Deal(100 * 200, 200, 0), Deal(3000 * 400, 400, 0)
    assert len(list(few.spans(3))) == few.count
    assert 200 < len(list(many.spans(3))) <= 256
    _, owner = _strata(Deal(30_000 * 100, 100, 0), np.random.default_rng([0, DEAL, 0]))
    assert np.bincount(owner).max() == 64


def test_a_seed_decides_and_one_chunk_stays_in_order():
    assert (Deal(500, 100, 1).order() == Deal(500, 100, 1).order()).all()
    assert (Deal(500, 100, 1).order() != Deal(500, 100, 2).order()).any()
    np.testing.assert_array_equal(Deal(500, 500, 1).order(), np.arange(500))


def test_tasks_carry_the_deal_without_its_pieces():
    deal = Deal(10**6, 1000, 1)
    assert len(deal.pieces[0]) > 10**5
    assert len(pickle.dumps(deal)) < 300
