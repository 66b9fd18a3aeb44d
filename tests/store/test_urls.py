"""Runs in a store that is no folder."""

import numpy as np
import pytest

from dadmm import resume
from dadmm.errors import StoreError
from dadmm.store import FLUSH_EVERY, Run, ZarrBlocks
from support.messages import naming
from support.stores import CHUNK, ROWS, SIZES, block, data, small


@pytest.fixture
def url():
    """A store that is no folder; fsspec's memory stands in for an object store."""
    fsspec = pytest.importorskip("fsspec")
    filesystem = fsspec.filesystem("memory")
    yield "memory://dadmm/run"
    if filesystem.exists("/dadmm"):
        filesystem.rm("/dadmm", recursive=True)


def test_a_store_by_url_creates_opens_commits_and_keeps_history(url):
    run = Run.create(url, {"config": {}})
    assert run.committed() is None
    for k in range(FLUSH_EVERY + 2):
        run.commit(k, k, {"objective": float(k)} if k else None)
    again = Run.open(url)
    assert again.committed() == run.committed()
    np.testing.assert_array_equal(again.history()["objective"], np.arange(1, FLUSH_EVERY + 2))
    with pytest.raises(StoreError, match=naming(url, "overwrite")):
        Run.create(url, {})
    assert Run.create(url, {}, overwrite=True).committed() is None


def test_a_store_by_url_is_swept_and_finds_missing_and_damaged_chunks(url):
    import fsspec

    filesystem = fsspec.filesystem("memory")
    run = Run.create(url, {})
    for k in range(5):
        run.begin(k, ROWS, CHUNK, {"v_1": 3}, "float32")
        run.save_params(f"params/{k}", {"w_1": np.eye(2)})
    for chunk, rows in enumerate(SIZES):
        run.blocks.write("state/3/v_1", chunk, block(chunk, rows))
    run.sweep([2, 3], [1, 2, 3])
    assert run.blocks.names("state") == ["2", "3"]
    assert run.blocks.names("params") == ["1", "2", "3"]
    np.testing.assert_array_equal(run.blocks.read("state/3/v_1", 2), block(2, 2))
    filesystem.rm("/dadmm/run/state/3/v_1/c.2.0")
    with pytest.raises(StoreError, match=naming("chunk 2", "state/3/v_1", "missing")):
        run.blocks.read("state/3/v_1", 2)
    chunk = "/dadmm/run/state/3/v_1/c.1.0"
    content = bytearray(filesystem.cat_file(chunk))
    content[5] ^= 1
    filesystem.pipe_file(chunk, bytes(content))
    with pytest.raises(StoreError, match=naming("chunk 1", "state/3/v_1", "damaged")):
        run.blocks.read("state/3/v_1", 1)


def test_what_is_no_run_at_a_url_is_never_touched(url):
    import fsspec

    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/dadmm/run/thesis.tex", b"dear")
    for overwrite in (False, True):
        with pytest.raises(StoreError):
            Run.create(url, {}, overwrite=overwrite)
    assert filesystem.cat_file("/dadmm/run/thesis.tex") == b"dear"


def test_training_in_a_store_by_url_gives_the_same_bits_and_resumes(url, fitted):
    small(max_iter=2, run=url).fit(*data())
    resumed = resume(url, max_iter=3)
    for name, array in fitted.network_.params.items():
        assert resumed.network_.params[name].tobytes() == array.tobytes()
    # A session that resumes skips a number.
    assert ZarrBlocks(url).names("state") == ["2", "4"]
