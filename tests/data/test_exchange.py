"""Blocks handed over to the chunks that their rows are dealt to, in memory and through files."""

import numpy as np
import pytest

from dadmm.data.deal import Deal
from dadmm.data.exchange import exchange
from dadmm.errors import DamageError
from dadmm.store import Run

DEAL = Deal(103, 20, 4)
X = np.random.default_rng(0).normal(size=(103, 3)).astype(np.float32)


def make(kind, tmp_path):
    run = Run.in_memory({}) if kind == "memory" else Run.create(tmp_path / "run", {})
    return exchange(run, "x", 3, np.float32, DEAL)


def blocks():
    return [(b, X[b * 20 : b * 20 + DEAL.size(b)]) for b in range(DEAL.count)]


@pytest.mark.parametrize("kind", ["memory", "files", "url"])
@pytest.mark.parametrize("order", [1, -1])
def test_chunks_get_the_rows_that_they_are_dealt(kind, order, tmp_path):
    if kind == "url":
        run = Run.create("memory://exchange", {}, overwrite=True)
        between = exchange(run, "x", 3, np.float32, DEAL)
    else:
        between = make(kind, tmp_path)
    for block, rows in blocks()[::order]:
        between.put(block, rows)
    for chunk in range(DEAL.count):
        np.testing.assert_array_equal(
            between.take(chunk), X[np.split(DEAL.order(), range(20, 103, 20))[chunk]]
        )
    between.close()


def test_blocks_that_are_there_are_known_and_gone_at_the_end(tmp_path):
    between = make("files", tmp_path)
    assert between.blocks_there() == []
    for block, rows in blocks()[:3]:
        between.put(block, rows)
    again = make_again(tmp_path)
    assert again.blocks_there() == [0, 1, 2]
    for block in range(3):
        np.testing.assert_array_equal(again.first_row(block), X[20 * block])
    path = tmp_path / "run" / "shuffle" / "x" / "1"
    path.write_bytes(path.read_bytes()[:-1])  # as a loss of power may leave it
    assert again.first_row(1) is None
    assert again.blocks_there() == [0, 2]
    between.close()
    assert between.blocks_there() == []
    assert not (tmp_path / "run" / "shuffle" / "x").exists()


def make_again(tmp_path):
    return exchange(Run.open(tmp_path / "run"), "x", 3, np.float32, DEAL)


@pytest.mark.parametrize("damage", ["bit", "short", "gone"])
def test_damage_is_found(damage, tmp_path):
    between = make("files", tmp_path)
    for block, rows in blocks():
        between.put(block, rows)
    path = tmp_path / "run" / "shuffle" / "x" / "2"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    if damage == "bit":
        path.write_bytes(raw)
    elif damage == "short":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        path.unlink()
    with pytest.raises(DamageError, match="shuffle/x/2"):
        [between.take(chunk) for chunk in range(DEAL.count)]
