"""The history of a run survives flushes, and drivers that die in one."""

import os

import numpy as np
import pytest

from dadmm.store import FLUSH_EVERY, Run


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_history_goes_on_across_flushes(tmp_path, place):
    run = Run.in_memory({}) if place == "memory" else Run.create(tmp_path / "run", {})
    count = 2 * FLUSH_EVERY + 3
    for k in range(1, count + 1):
        run.commit(
            k, k, {"objective": 1 / k, **({"late": float(k)} if k > FLUSH_EVERY + 1 else {})}
        )
    record = run.committed()
    assert (record["flushed"], len(record["rows"])) == (2 * FLUSH_EVERY, 3)
    history = run.history()
    np.testing.assert_array_equal(history["iteration"], np.arange(1, count + 1))
    np.testing.assert_array_equal(history["objective"], 1 / np.arange(1, count + 1))
    assert np.isnan(history["late"].values).sum() == FLUSH_EVERY + 1
    run.mark("interrupted")
    assert run.committed()["rows"] == []
    assert run.history().identical(history)


def test_a_long_history_is_chunked_and_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("dadmm.store.history.HISTORY_ROWS", 4)
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 3)
    run = Run.create(tmp_path / "run", {})
    for k in range(1, 12):
        run.commit(k, k, {"objective": float(k)})
        np.testing.assert_array_equal(run.history()["objective"], np.arange(1, k + 1))
    assert sorted(os.listdir(tmp_path / "run/history/objective")) == [
        *("c.0", "c.1", "c.2", "zarr.json")
    ]


def test_a_flush_that_dies_anywhere_loses_no_row(tmp_path, monkeypatch):
    """Arrays are rewritten in place: after every rename the old record must still find its rows."""
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 2)
    replace = os.replace
    died = [True]
    for moment in range(100):
        if not died[-1]:
            break
        run = Run.create(tmp_path / str(moment), {})
        for k in range(1, 4):
            run.commit(k, k, {"objective": float(k), "step": 1 / k})
        left = moment

        def die(source, target, **options):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            replace(source, target, **options)

        with monkeypatch.context() as dying:
            dying.setattr(os, "replace", die)
            try:
                run.commit(4, 4, {"objective": 4.0, "step": 1 / 4})
                died.append(False)
            except KeyboardInterrupt:
                died.append(True)
        again = Run.open(tmp_path / str(moment))
        known = again.committed()["iteration"]
        assert known == (3 if died[-1] else 4)
        np.testing.assert_array_equal(again.history()["objective"], np.arange(1, known + 1))
        again.commit(known + 1, known + 1, {"objective": known + 1.0, "step": 0.0})
        np.testing.assert_array_equal(again.history()["objective"], np.arange(1, known + 2))
    assert sum(died) > 6
    assert not died[-1]
