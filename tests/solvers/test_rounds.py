"""Which chunks meet in which round: each once, and the scattered ones all over the data."""

import numpy as np
import pytest

from dadmm.solvers.block.rounds import rounds, scattered
from dadmm.solvers.counts import counts_of
from support.block import block, go, problem


@pytest.mark.parametrize("chunks", [1, 2, 3, 6, 10, 97, 1000])
def test_every_chunk_is_visited_once(chunks):
    assert sorted(scattered(chunks)) == list(range(chunks))


@pytest.mark.parametrize("chunks", [10, 60, 987, 1000])
@pytest.mark.parametrize("window", [2, 3, 5, 10])
def test_visits_that_follow_each_other_lie_all_over_the_data(chunks, window):
    """The widest stretch without one of them is never far above its share of the data."""
    order = np.array(scattered(chunks))
    for first in range(chunks - window):
        seen = np.sort(order[first : first + window])
        gaps = np.diff([*seen, seen[0] + chunks])
        assert gaps.max() <= 1.7 * chunks / window + 2
        assert gaps.min() >= 0.4 * chunks / window - 2


@pytest.mark.parametrize("schedule", ["fused", "grid"])
def test_the_option_decides_the_rounds_and_nothing_else(schedule):
    p, options = problem(n=70), {"agents": 2, "blocks": 3, "batch_size": 8, "schedule": schedule}
    stored, far = (block(chunk_order=order, **options) for order in ("stored", "scattered"))
    assert [each.chunks for each in far.passes(p, 7).iteration] == rounds(7, 2, "scattered")
    assert [each.chunks for each in stored.passes(p, 7).iteration] == rounds(7, 2)
    one, other = (go(solver, p, passes=2, chunks=7)[0] for solver in (stored, far))
    assert any((one[name] != other[name]).any() for name in one)
    one, other = (go(solver, p, passes=2, chunks=2)[0] for solver in (stored, far))
    assert all((one[name] == other[name]).all() for name in one)


def test_scattered_order_asks_for_many_chunks_and_no_other_does():
    wanted = {
        order: counts_of(solver).granularity(solver, problem()).fewest
        for order in ("stored", "scattered")
        for solver in [block(chunk_order=order, agents=2)]
    }
    assert wanted == {"stored": 2, "scattered": 128}
