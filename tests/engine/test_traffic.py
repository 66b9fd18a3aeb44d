"""Layers side by side on several workers: what goes over the network is what the formula says."""

import numpy as np
import pytest

from dadmm import ADMMClassifier, RelaxedADMM
from dadmm.cluster import connection
from support.traffic import Sizes, computed, most_bytes, sent

CHUNKS, WIDTHS = 8, (20, 24, 24, 1)
ITERATIONS = 4


@pytest.fixture(scope="module")
def client():
    with connection.connect("local", workers=2, dashboard=-1) as client:
        client.wait_for_workers(2, timeout=60)
        client.register_plugin(Sizes())
        yield client


@pytest.mark.processes
@pytest.mark.parametrize("rows", [400, 1600])
@pytest.mark.parametrize("regions", [1, 3])
def test_workers_send_what_the_formula_says_whatever_the_rows(client, tmp_path, rows, regions):
    before, known = sent(client), computed(client)
    x = np.random.default_rng(0).normal(size=(rows, WIDTHS[0])).astype(np.float32)
    y = np.where(x[:, 0] > 0, "a", "b")
    ADMMClassifier(
        WIDTHS[1:-1],
        solver=RelaxedADMM(regions=regions),
        loss="hinge",
        max_iter=ITERATIONS,
        tol=0,
        random_state=0,
        chunks=rows // CHUNKS,
        run=str(tmp_path / "run"),
    ).fit(x, y)
    new = sent(client) - before
    moved = [size * times for (key, size), times in new.items() if "-iterate-" in key]
    most = most_bytes(WIDTHS, CHUNKS, 2, regions)
    assert 0 < sum(moved) / ITERATIONS <= most
    ran = [keys - known[worker] for worker, keys in computed(client).items()]
    for lo in range(1, regions + 1):  # each region, on both workers
        name = "visit-chunk" if regions == 1 else f"visit-region-{lo}-{lo}"
        assert all(any(key.startswith(name) for key in keys) for keys in ran)


def test_the_formula_by_hand():
    """Widths 2, 3, 1: the weights and the sums written out, two workers, eight chunks."""
    weights = (2 + 1) * 3 + (3 + 1) * 1 + 3 * 3 + (3 + 1) * 1
    sums = (2 + 1) * 3 + (3 + 1) * (3 + 1 + 1) + (3 + 1) * (3 + 1 + 1)
    assert most_bytes((2, 3, 1), 8, 2) == 4 * (weights + (8 + 1) * sums)
    # Two regions are four parts: 32 sums, added up in 4 + 2 + 1.
    assert most_bytes((2, 3, 1), 8, 2, regions=2) == 4 * (weights + (8 + 7) * sums)
