"""Tasks that still run when their graph has failed write nothing into what comes next."""

import shutil
import threading

import dask
import numpy as np
import pytest

from dadmm import ADMMRegressor
from dadmm.engine import layout
from dadmm.errors import RunError
from dadmm.store import arrays

X = np.random.default_rng(0).standard_normal((40, 3))


def model(run, **options):
    return ADMMRegressor(
        (4,), solver="relaxed", chunks=20, max_iter=2, random_state=0, run=run, **options
    )


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def late(monkeypatch):
    """Return how to fail in the visit of chunk 0, while chunk 1 is about to be written; and on."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    visit, write = layout.visit, arrays.write_chunk

    def fails(plan, part, step, chunk, *rest):
        if chunk == 0:
            begun.wait()
            raise ValueError("chunk 0")
        return visit(plan, part, step, chunk, *rest)

    def waits(files, name, *rest):
        if not name.startswith("state/1/") or ended.is_set():
            return write(files, name, *rest)
        begun.set()
        go_on.wait()
        try:
            return write(files, name, *rest)
        finally:
            ended.set()

    def fit(path):
        with monkeypatch.context() as patch, dask.config.set(scheduler="threads", num_workers=2):
            patch.setattr(layout, "visit", fails)
            patch.setattr(arrays, "write_chunk", waits)
            with pytest.raises(RunError, match="chunk 0"):
                model(path).fit(X, X[:, 0])

    def finish():
        go_on.set()
        assert ended.wait(60)

    yield fit, finish
    go_on.set()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_task_left_over_writes_nothing_into_the_run_that_follows(late, overwrite, tmp_path):
    (fit, finish), path = late, tmp_path / "run"
    fit(path)
    if not overwrite:
        shutil.rmtree(path)
    model(path, overwrite=overwrite).fit(X, X[:, 1])
    before = contents(path)
    finish()
    assert contents(path) == before


def test_a_task_left_over_does_not_bring_back_a_run_that_was_deleted(late, tmp_path):
    (fit, finish), path = late, tmp_path / "run"
    fit(path)
    shutil.rmtree(path)
    finish()
    assert not path.exists()
