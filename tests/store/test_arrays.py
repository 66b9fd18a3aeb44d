"""Arrays of a run, on disk and in memory: chunks come back as written, damage is named."""

import os
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from sklearn.datasets import load_digits

from dadmm import ADMMClassifier, BlockADMM
from dadmm.errors import StoreError
from dadmm.store import MemoryBlocks, Run, ZarrBlocks, files
from support.damage import flip
from support.messages import naming
from support.stores import CHUNK, SIZES, block, data, small

# ------------------------------------------------------------------------------------------ blocks


def test_chunks_come_back_as_written_and_the_last_is_smaller(run):
    for chunk, rows in enumerate(SIZES):
        np.testing.assert_array_equal(run.blocks.read("state/0/v_1", chunk), block(chunk, rows))


def test_part_of_a_chunk_is_never_written(run):
    for chunk, rows in ((0, CHUNK - 1), (0, CHUNK + 1), (2, CHUNK), (2, 1)):
        with pytest.raises(
            StoreError, match=naming("state/0/v_1", f"chunk {chunk}", f"{rows} rows")
        ):
            run.blocks.write("state/0/v_1", chunk, block(chunk, rows))
    np.testing.assert_array_equal(run.blocks.read("state/0/v_1", 0), block(0))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", ">i8", "i4", "u1", "f2", "bool"])
def test_data_of_any_numeric_dtype_comes_back(tmp_path, dtype):
    run = Run.create(tmp_path / "run", {})
    run.create_data("x", 2, 3, 2, np.dtype(dtype))
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    run.blocks.write("data/x", 0, values[:2])
    run.blocks.write("data/x", 1, values[2:])
    np.testing.assert_array_equal(run.blocks.read("data/x", 0), values[:2])
    np.testing.assert_array_equal(run.blocks.read("data/x", 1), values[2:])
    np.testing.assert_array_equal(zarr.open_array(run.url, path="data/x")[...], values)


def test_zeros_are_stored_like_any_other_value(run):
    run.blocks.write("state/0/v_1", 1, np.zeros((CHUNK, 3), np.float32))
    run.blocks.write("state/0/v_1", 0, np.full((CHUNK, 3), np.nan, np.float32))
    assert not run.blocks.read("state/0/v_1", 1).any()
    assert np.isnan(run.blocks.read("state/0/v_1", 0)).all()


@pytest.mark.parametrize("values", [np.float64(3.5), np.arange(5.0), np.ones((2, 3, 4))])
def test_whole_arrays_come_back_whatever_their_dimensions(run, values):
    run.blocks.put("constants/a", values)
    np.testing.assert_array_equal(run.blocks.get("constants/a"), values)
    np.testing.assert_array_equal(zarr.open_array(run.url, path="constants/a")[...], values)


def test_names_and_deletion(run):
    assert run.blocks.names("state") == ["0"]
    assert run.blocks.names("params/0") == ["b_1", "w_1"]
    assert run.blocks.names("nothing") == []
    run.blocks.delete("params/0/b_1")
    run.blocks.delete("params/0/b_1")
    assert run.blocks.names("params/0") == ["w_1"]
    with pytest.raises(StoreError, match=naming("params/0/b_1", "missing")):
        run.load_params(0, ["b_1"])


def test_state_read_from_memory_is_a_copy_and_data_is_read_only():
    arrays = MemoryBlocks()
    for name in ("state/0/v_1", "data/x"):
        arrays.create(name, (4, 3), 4, "f4", None)
        arrays.write(name, 0, block(0))
    read = arrays.read("state/0/v_1", 0)
    read += 1
    np.testing.assert_array_equal(arrays.read("state/0/v_1", 0), block(0))
    with pytest.raises(ValueError, match="read-only"):
        arrays.read("data/x", 0)[...] = 0
    assert arrays.read("data/x", 0).base is not None  # no copy


def test_memory_of_deleted_generations_is_used_again():
    arrays = MemoryBlocks()
    for generation in range(2):
        arrays.create(f"state/{generation}/v_1", (4, 3), 4, "f4", None)
        arrays.write(f"state/{generation}/v_1", 0, block(generation))
    old = arrays._arrays["state/0/v_1"][0]
    arrays.delete("state/0")
    first, second = (arrays.read("state/1/v_1", 0) for _ in range(2))
    assert first is old
    assert second is not old
    np.testing.assert_array_equal(first, block(1))
    np.testing.assert_array_equal(second, block(1))
    assert arrays.names("state") == ["1"]


def test_buffers_of_another_shape_or_dtype_are_not_mixed_up():
    arrays = MemoryBlocks()
    arrays.create("state/0/v_1", (6, 3), 4, "f4", None)
    arrays.write("state/0/v_1", 0, block(0))
    arrays.write("state/0/v_1", 1, block(1, 2))
    arrays.create("state/1/v_1", (4, 3), 4, "f8", None)
    arrays.write("state/1/v_1", 0, block(2).astype(float))
    arrays.delete("state/0")
    read = arrays.read("state/1/v_1", 0)
    assert (read.dtype, read.shape) == (np.float64, (4, 3))


@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_the_order_of_the_data_in_memory_does_not_change_a_bit(tmp_path, solver):
    x, y = data()
    plain = small(solver=solver).fit(x, y).network_.params
    for other in (
        small(solver=solver).fit(np.asfortranarray(x), y),
        small(solver=solver).fit(np.concatenate([x, x], axis=1)[:, :5], y),
        small(solver=solver).fit(x.astype(">f4"), y),
        small(solver=solver, run=tmp_path / "run").fit(np.asfortranarray(x.astype(">f4")), y),
    ):
        for name, array in other.network_.params.items():
            assert array.tobytes() == plain[name].tobytes()


# ------------------------------------------------------------------------------------------ damage


DAMAGES = {
    "bit in the data": flip,
    "bit in the checksum": lambda path: flip(path, -1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"0000"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_chunk_is_an_error_that_names_it(run, damage):
    root = Path(run.url)
    damage(root / "state/0/v_1/c.1.0")
    with pytest.raises(StoreError, match=naming("chunk 1", "state/0/v_1", "damaged")):
        run.blocks.read("state/0/v_1", 1)
    np.testing.assert_array_equal(run.blocks.read("state/0/v_1", 0), block(0))
    damage(root / "params/0/w_1/c.0.0")
    with pytest.raises(StoreError, match=naming("chunk 0", "params/0/w_1", "damaged")):
        run.load_params(0, ["w_1"])


def test_a_missing_chunk_is_an_error_that_names_it_not_a_fill_value(run):
    root = Path(run.url)
    (root / "state/0/v_1/c.2.0").unlink()
    with pytest.raises(StoreError, match=naming("chunk 2", "state/0/v_1", "missing")):
        run.blocks.read("state/0/v_1", 2)
    (root / "params/0/b_1/c.0").unlink()
    with pytest.raises(StoreError, match=naming("chunk 0", "params/0/b_1", "missing")):
        run.load_params(0, ["w_1", "b_1"])


@pytest.mark.parametrize("text", ["", "{", "{}", "3", '{"node_type": "array", "zarr_format": 3}'])
def test_damaged_metadata_is_an_error_that_names_the_array(run, text):
    (Path(run.url) / "params/0/w_1/zarr.json").write_text(text)
    with pytest.raises(StoreError, match=naming("params/0/w_1/zarr.json")):
        run.load_params(0, ["w_1"])


# -------------------------------------------------------------------------------- commit and sweep


def test_a_chunk_that_is_expected_is_read_ahead_whole(run, monkeypatch):
    asked = []

    def note(handle, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED:
            asked.append((Path(os.readlink(f"/proc/self/fd/{handle}")).name, offset, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    run.blocks.expect("state/0/v_1", 1)
    assert asked == []  # nobody has said that all who read are on this system
    run.blocks.sync_late()
    monkeypatch.setattr(files, "AHEAD", 30)
    run.blocks.expect("state/0/v_1", 1)
    assert asked == [("c.1.0", 0, 30), ("c.1.0", 30, 30)]  # of 52 bytes


def test_what_is_expected_and_not_there_is_no_error_before_it_is_read(run, tmp_path):
    run.blocks.sync_late()
    chunk = Path(run.url) / "state/0/v_1/c.1.0"
    chunk.unlink()
    run.blocks.expect("state/0/v_1", 1)
    chunk.symlink_to(tmp_path / "elsewhere")
    run.blocks.expect("state/0/v_1", 1)
    with pytest.raises(StoreError, match=naming(str(chunk), "link")):
        run.blocks.read("state/0/v_1", 1)


def test_a_round_expects_the_chunks_of_the_next(tmp_path, monkeypatch):
    seen = []
    real = ZarrBlocks.expect
    monkeypatch.setattr(
        ZarrBlocks, "expect", lambda self, *what: (seen.append(what), real(self, *what))
    )
    solver = BlockADMM(batch_size=8, agents=2, mode="batch", blocks=2)
    x, y = load_digits(return_X_y=True)
    with dask.config.set(scheduler="sync"):
        made = ADMMClassifier((8, 8), solver=solver, max_iter=1, chunks=20, run=tmp_path / "run")
        made.fit(x[:100], y[:100])  # rounds (0, 1), (2, 3), (4)
    kept = [f"state/0/{kind}" for kind in ("z_1", "u_1")]
    assert sorted(seen) == sorted(
        (name, chunk) for name in ["data/x", "data/y", *kept] for chunk in (2, 3, 4)
    )
