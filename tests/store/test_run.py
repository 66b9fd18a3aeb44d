"""The run store: what lies where, what is refused, what damage looks like, what a commit means."""

import errno
import json
import os
import pickle
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from sklearn.datasets import load_digits

from dadmm import (
    ADMMClassifier,
    ADMMRegressor,
    BlockADMM,
    Dense,
    RelaxedADMM,
    Residual,
    load,
    resume,
)
from dadmm.engine.result import save_scaling
from dadmm.errors import StoreError
from dadmm.estimators.load import open_plan
from dadmm.networks.scaling import Scaling
from dadmm.store import FLUSH_EVERY, FORMAT, MemoryBlocks, Run, ZarrBlocks, arrays, files
from dadmm.store import run as store
from support.damage import flip

ROWS, CHUNK = 10, 4
SIZES = (4, 4, 2)


def data(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def small(**options):
    defaults = {"solver": "relaxed", "max_iter": 3, "tol": 0, "chunks": 40, "random_state": 0}
    return ADMMClassifier((6, 6), **{**defaults, **options})


@pytest.fixture
def run(tmp_path):
    """A run with one variable of generation 0, its parameters, and a commit."""
    made = Run.create(tmp_path / "run", {"config": {"a": 1}})
    made.begin(0, ROWS, CHUNK, {"v_1": 3}, "float32")
    for chunk, rows in enumerate(SIZES):
        made.blocks.write("state/0/v_1", chunk, block(chunk, rows))
    made.save_params("params/0", {"w_1": np.arange(6.0).reshape(2, 3), "b_1": np.arange(3.0)})
    made.commit(0, 0)
    return made


def block(chunk, rows=CHUNK):
    return np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + 100 * chunk


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A finished run on disk, never to be changed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    return small(run=path).fit(*data())


@pytest.fixture
def copied(fitted, tmp_path):
    """The finished run's folder, to be damaged, its commit record still that of training."""
    import shutil

    return Path(shutil.copytree(fitted.run_, tmp_path / "copy"))


# ------------------------------------------------------------------------------- life of a run


def test_a_run_is_found_again_with_its_attributes(run):
    again = Run.open(run.url)
    assert again.attributes == run.attributes
    assert again.attributes["format"] == FORMAT
    assert again.committed() == run.committed()
    assert (again.url, again.durable) == (run.url, True)
    np.testing.assert_array_equal(again.blocks.read("state/0/v_1", 1), block(1))


def test_attributes_can_be_added(run):
    run.update(problem={"rows": 3})
    assert Run.open(run.url).attributes == {**run.attributes, "problem": {"rows": 3}}


def test_an_existing_run_is_refused(run):
    with pytest.raises(StoreError, match="exists: resume it, choose another path, or overwrite"):
        Run.create(run.url, {})
    assert Run.open(run.url).committed() == run.committed()


def test_a_run_is_overwritten_when_asked_and_nothing_of_it_stays(run):
    new = Run.create(run.url, {"config": {"b": 2}}, overwrite=True)
    assert os.listdir(run.url) == ["zarr.json"]
    assert Run.open(run.url).attributes == new.attributes
    assert new.attributes["id"] != run.attributes["id"]
    assert new.committed() is None


def test_a_run_behind_a_link_is_overwritten_through_the_link(run, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(run.url)
    Run.create(link, {}, overwrite=True)
    assert link.is_symlink()
    assert Run.open(run.url).committed() is None


def test_an_overwrite_that_is_killed_leaves_a_run_that_can_be_overwritten(run, monkeypatch):
    removed = []

    def die(path, **options):
        removed.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        Run.create(run.url, {}, overwrite=True)
    assert removed
    assert Run.open(run.url).committed() is None  # what could be resumed went first
    monkeypatch.undo()
    Run.create(run.url, {}, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(StoreError):
        Run.create(tmp_path, {}, overwrite=overwrite)
    zarr.create_group(tmp_path / "other", attributes={"mine": 1})
    with pytest.raises(StoreError):
        Run.create(tmp_path / "other", {}, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "dear"
    assert zarr.open_group(tmp_path / "other").attrs["mine"] == 1


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"file (exists|is not a dadmm run)"):
            Run.create(tmp_path / "file", {}, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "dear"


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(tmp_path, {}).committed() is None


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written: Not a directory$"):
        Run.create(tmp_path / "file" / "run", {})

    def denied(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as unwritable:
        unwritable.setattr(files.Path, "open", denied)
        with pytest.raises(StoreError, match=r"run cannot be written: Permission denied$"):
            Run.create(tmp_path / "run", {})
    monkeypatch.setattr(files, "_open", denied)
    with pytest.raises(StoreError, match=r"run cannot be read: Permission denied$"):
        Run.open(tmp_path / "run")


def test_what_is_not_there_or_no_run_cannot_be_opened(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        Run.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file is not a dadmm run"):
        Run.open(tmp_path / "file")
    with pytest.raises(StoreError, match="does not exist"):
        Run.open(tmp_path / "file" / "below")
    with pytest.raises(StoreError, match="is not a dadmm run"):
        Run.open(tmp_path)
    with pytest.raises(StoreError, match="Protocol not known"):
        Run.open("nowhere://at/all")
    with pytest.raises(StoreError, match="Protocol not known"):
        Run.create("nowhere://at/all", {})


def test_another_format_version_is_refused_with_the_version_that_reads_it(run):
    group = zarr.open_group(run.url, mode="r+")
    group.attrs["dadmm"] = {**run.attributes, "format": 99, "versions": {"dadmm": "7.1"}}
    with pytest.raises(
        StoreError, match=rf"store format 99, this dadmm reads {FORMAT}: use dadmm 7\.1"
    ):
        Run.open(run.url)
    with pytest.raises(StoreError, match="store format 99"):
        resume(run.url)


def test_a_file_url_is_a_folder_with_all_its_guarantees(tmp_path):
    made = Run.create(f"file://{tmp_path}/run", {})
    assert made.blocks.local == tmp_path / "run"
    assert Run.open(tmp_path / "run").attributes == made.attributes


# ------------------------------------------------------------------------------------- blocks


def test_chunks_come_back_as_written_and_the_last_is_smaller(run):
    for chunk, rows in enumerate(SIZES):
        np.testing.assert_array_equal(run.blocks.read("state/0/v_1", chunk), block(chunk, rows))


def test_part_of_a_chunk_is_never_written(run):
    for chunk, rows in ((0, CHUNK - 1), (0, CHUNK + 1), (2, CHUNK), (2, 1)):
        with pytest.raises(StoreError, match=f"chunk {chunk} was given {rows} rows"):
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
    with pytest.raises(StoreError, match="params/0/b_1 is missing"):
        run.load_params(0, ["b_1"])


def test_a_run_pickles_to_its_address(run):
    made = Run.create(run.url, {"config": ["long"] * 10_000}, overwrite=True)
    text = pickle.dumps(made)
    assert len(text) < 500
    again = pickle.loads(text)
    assert (again.url, again.durable) == (made.url, True)
    assert again.attributes == {"id": made.attributes["id"]}


def test_a_run_in_memory_stays_in_its_process():
    with pytest.raises(TypeError):
        pickle.dumps(Run.in_memory({}))


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


def test_a_record_read_from_memory_is_a_copy():
    run = Run.in_memory({})
    run.commit(0, 0)
    run.committed()["iteration"] = 7
    assert run.committed()["iteration"] == 0
    assert (run.url, run.durable) == (None, False)


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


# ------------------------------------------------------------------------------------- damage


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
    with pytest.raises(StoreError, match=r"chunk 1 of state/0/v_1 is damaged"):
        run.blocks.read("state/0/v_1", 1)
    np.testing.assert_array_equal(run.blocks.read("state/0/v_1", 0), block(0))
    damage(root / "params/0/w_1/c.0.0")
    with pytest.raises(StoreError, match=r"chunk 0 of params/0/w_1 is damaged"):
        run.load_params(0, ["w_1"])


def test_a_missing_chunk_is_an_error_that_names_it_not_a_fill_value(run):
    root = Path(run.url)
    (root / "state/0/v_1/c.2.0").unlink()
    with pytest.raises(StoreError, match=r"chunk 2 of state/0/v_1 is missing"):
        run.blocks.read("state/0/v_1", 2)
    (root / "params/0/b_1/c.0").unlink()
    with pytest.raises(StoreError, match=r"chunk 0 of params/0/b_1 is missing"):
        run.load_params(0, ["w_1", "b_1"])


@pytest.mark.parametrize("text", ["", "{", "{}", "3", '{"node_type": "array", "zarr_format": 3}'])
def test_damaged_metadata_is_an_error_that_names_the_array(run, text):
    (Path(run.url) / "params/0/w_1/zarr.json").write_text(text)
    with pytest.raises(StoreError, match="params/0/w_1"):
        run.load_params(0, ["w_1"])


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        ("data/x", "1.0"),
        ("data/y", "2.0"),
        ("scaling/x_centre", "0"),
    ],
)
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["damaged", "missing"])
def test_damaged_bytes_are_never_trained_on(copied, name, chunk, damage):
    committed = Run.open(copied).committed()
    damage(copied / name / f"c.{chunk}")
    with pytest.raises(StoreError, match=f"chunk {chunk[0]} of {name} is (damaged|missing)"):
        resume(copied, max_iter=5)
    after = Run.open(copied).committed()
    assert after.pop("next") > committed.pop("next")  # numbers that the session has claimed
    assert after == committed


def test_a_damaged_network_is_never_predicted_with(copied):
    flip(copied / "network/4/w_1/c.0.0")
    with pytest.raises(StoreError, match=r"chunk 0 of network/4/w_1 is damaged"):
        load(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1, 2]", b"3", b"\xff\xfe", b"null"])
def test_a_damaged_commit_record_is_an_error(copied, content):
    (copied / "commit.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"commit\.json is damaged"):
        load(copied)
    (copied / "commit.previous.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"commit\.json is damaged"):
        resume(copied)


def test_any_flipped_bit_of_a_commit_record_is_found(run):
    record = Path(run.url) / "commit.json"
    run.commit(1, 1, {"objective": 0.1, "step": 1e-300})
    committed, good = run.committed(), record.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            record.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            try:
                found = run.committed()
            except StoreError:
                continue
            assert found == committed  # white space, or the same number in other letters


# ------------------------------------------------------------------------------ commit and sweep


def test_the_record_counts_and_keeps_the_rows(run):
    assert run.committed()["iteration"] == 0
    run.commit(1, 1, {"objective": 2.0})
    run.commit(2, 2, {"objective": 1.0, "late": 5.0})
    record = run.committed()
    assert (record["iteration"], record["generation"], record["status"]) == (2, 2, "running")
    history = run.history()
    np.testing.assert_array_equal(history["iteration"], [1, 2])
    np.testing.assert_array_equal(history["objective"], [2, 1])
    np.testing.assert_array_equal(history["late"], [np.nan, 5])


def test_a_commit_that_fails_before_the_rename_leaves_the_old_record(run, monkeypatch):
    before = run.committed()
    real = os.replace

    def fail(source, target, **options):
        if Path(target).name == "commit.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target, **options)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        run.commit(1, 1, {"objective": 1.0})
    assert run.committed() == before
    assert Run.open(run.url).committed() == before
    monkeypatch.undo()
    assert not list(Path(run.url).rglob("*.partial"))
    assert Run.open(run.url).committed() == before


@pytest.mark.parametrize("late", [True, False])
def test_a_commit_is_synced_before_it_is_renamed_and_everything_else_before_it(
    late, tmp_path, monkeypatch
):
    """What the record says is on the disk: each file that it vouches for was synced before."""
    synced, renamed = set(), []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle):
        synced.add(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def note_replace(source, target, **options):
        if Path(target).name == "commit.json":
            root = Path(target).parent
            files = {p for p in root.glob("*/**/*") if p.is_file()}
            unsynced = {str(p.relative_to(root)) for p in files if str(p) not in durable | synced}
            renamed.append((unsynced, str(source) in synced))
        if str(source) in synced:
            durable.add(str(target))
        replace(source, target, **options)

    durable = set()
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    if not late:  # a system that nothing tells from others
        monkeypatch.setattr(arrays, "_system", lambda: None)
    small(max_iter=2, run=tmp_path / "run").fit(*data())
    assert len(renamed) == 4
    assert renamed == [(set(), True)] * 4


def test_a_run_that_need_not_outlive_its_process_is_not_synced(tmp_path, monkeypatch):
    made = Run.create(tmp_path / "run", {}, durable=False)
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("synced"))
    made.begin(0, ROWS, CHUNK, {"v_1": 3}, "float32")
    made.blocks.write("state/0/v_1", 0, block(0))
    made.save_params("params/0", {"w_1": np.eye(2)})


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
    with pytest.raises(StoreError, match="is a link"):
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


def test_sweep_keeps_what_it_is_told_to(run):
    for k in range(7):
        run.begin(k, ROWS, CHUNK, {"v_1": 3}, "float32")
        run.save_params(f"params/{k}", {"w_1": np.eye(2)})
    run.sweep([4, 5], [1, 4, 5])  # 6 was begun, and nobody said that it is whole
    assert run.blocks.names("state") == ["4", "5"]
    assert run.blocks.names("params") == ["1", "4", "5"]


def test_sweep_removes_what_a_killed_process_left(run):
    root = Path(run.url)
    run.commit(1, 1, {"objective": 1.0})
    run.mark("interrupted")
    run.blocks.delete("state/0")
    grave = root / ".deleted-state-7-1234"
    (grave / "v_1").mkdir(parents=True)
    (grave / "v_1" / "0").write_text("x")
    for name in (
        ".commit.json.12-34.partial",
        "zarr.0123.partial",
        "history/objective/c.0.partial",
    ):
        (root / name).write_text("half")
    (root / "state/2/v_1").mkdir(parents=True)
    (root / "state/2/v_1/.c.0.0.12-34.partial").write_text("half")
    run.sweep([1], [1])
    run.tidy()
    left = {p.name for p in root.rglob("*")}
    assert not [name for name in left if "partial" in name or "deleted" in name]
    assert run.blocks.names("state") == []
    np.testing.assert_array_equal(run.history()["objective"], [1])


def test_in_memory_only_the_committed_generation_is_kept():
    run = Run.in_memory({})
    for k in range(4):
        run.begin(k, ROWS, CHUNK, {"v_1": 3}, "float32")
        run.blocks.write(f"state/{k}/v_1", 0, block(k))
    run.sweep([2], [])
    assert run.blocks.names("state") == ["2"]


# ------------------------------------------------------------------------------------- history


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
    monkeypatch.setattr(store, "HISTORY_ROWS", 4)
    monkeypatch.setattr(store, "FLUSH_EVERY", 3)
    run = Run.create(tmp_path / "run", {})
    for k in range(1, 12):
        run.commit(k, k, {"objective": float(k)})
        np.testing.assert_array_equal(run.history()["objective"], np.arange(1, k + 1))
    assert sorted(os.listdir(tmp_path / "run/history/objective")) == [
        *("c.0", "c.1", "c.2", "zarr.json")
    ]


def test_a_flush_that_dies_anywhere_loses_no_row(tmp_path, monkeypatch):
    """Arrays are rewritten in place: after every rename the old record must still find its rows."""
    monkeypatch.setattr(store, "FLUSH_EVERY", 2)
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


# ------------------------------------------------------------------------------ what others read


def test_xarray_opens_state_history_and_data_with_named_dimensions(fitted):
    def group(name):
        return xr.open_zarr(fitted.run_, group=name, consolidated=False)

    state = group("state/3")
    assert state["v_1"].dims == ("sample", "v_1_unit")
    assert state["u_2"].dims == ("sample", "u_2_unit")
    assert state.sizes["sample"] == 90
    assert state["v_1"].dtype == np.float32
    assert state["v_1"].data.chunksize == (40, 6)
    assert np.isfinite(state["v_1"]).all()
    assert group("data")["x"].dims == ("sample", "feature")
    np.testing.assert_array_equal(group("data")["x"], data()[0])
    assert group("data")["y"].dims == ("sample", "target")
    assert group("params/3")["w_2"].dims == ("in_2", "out_2")
    assert group("params/3")["b_2"].dims == ("out_2",)
    np.testing.assert_array_equal(group("network/4")["w_1"], fitted.network_.params["w_1"])
    history = group("history")
    assert history["objective"].dims == ("iteration",)
    np.testing.assert_array_equal(history["iteration"], [1, 2, 3])
    np.testing.assert_array_equal(history["objective"], fitted.history_["objective"])


def test_xarray_opens_what_block_admm_keeps_per_sample_and_per_chunk(tmp_path):
    solver = BlockADMM(blocks=2, mode="batch", consensus="admm", batch_size=16)
    fitted = small(solver=solver, run=tmp_path / "run").fit(*data())

    def group(name):
        return xr.open_zarr(tmp_path / "run", group=name, consolidated=False)

    state, params = group("state/3"), group("params/3")
    assert set(state) == {"z_1", "u_1", "pi_1", "sent_1", "pi_2", "sent_2"}
    assert state["z_1"].dims == ("sample", "z_1_unit")
    assert state["pi_1"].dims == ("chunk", "pi_1_unit")
    assert dict(state.sizes) | {"sample": 90, "chunk": 3} == dict(state.sizes)
    assert params["theta_1"].dims == params["m_1"].dims == ("parameter_1",)
    assert params["count_1"].dims == ()
    # In each of 3 passes: 3 mini-batches of the chunks of 40 rows, then 1 of the chunk of 10.
    assert int(params["count_1"]) == 3 * (3 + 1)
    assert group("network/4")["w_2"].dims == ("in_2", "out_2")
    np.testing.assert_array_equal(group("network/4")["w_1"], fitted.network_.params["w_1"])


@pytest.mark.filterwarnings("ignore:Object at commit")
def test_zarr_finds_the_whole_tree_from_the_root(fitted):
    found = dict(zarr.open_group(fitted.run_, mode="r").members(max_depth=None))
    assert {"data/x", "state/3/v_1", "params/3/w_1", "history/objective", "network/4/w_1"} <= set(
        found
    )


def test_nothing_in_a_store_is_a_pickle_and_every_chunk_has_a_checksum(fitted):
    """All files are JSON or chunks, and a chunk is its numbers and four bytes of CRC-32C."""
    root = Path(fitted.run_)
    chunk_bytes = {}
    for path in root.rglob("zarr.json"):
        described = json.loads(path.read_text())
        if described["node_type"] == "array":
            assert [codec["name"] for codec in described["codecs"]] == ["bytes", "crc32c"]
            dtype = np.dtype(described["data_type"])
            assert dtype.kind in "biuf"
            shape = described["chunk_grid"]["configuration"]["chunk_shape"]
            chunk_bytes[path.parent] = dtype.itemsize * int(np.prod(shape)) + 4
    assert len(chunk_bytes) > 30
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".json":
            array = next(parent for parent in path.parents if parent in chunk_bytes)
            assert path.name.startswith("c.")
            assert path.stat().st_size == chunk_bytes[array]


def test_the_config_is_readable_json(fitted):
    attributes = json.loads((Path(fitted.run_) / "zarr.json").read_text())["attributes"]["dadmm"]
    assert attributes["config"]["params"]["hidden_layer_sizes"] == [6, 6]
    assert attributes["config"]["solver"]["splitting"] == 3
    assert attributes["versions"]["dadmm"]
    assert attributes["machine"]["blas"]


def test_a_finished_run_leaves_the_documented_layout_and_nothing_else(fitted):
    root = Path(fitted.run_)
    top = {"zarr.json", "commit.json", "commit.previous.json"} | {
        "data", "scaling", "constants", "state", "params", "network", "history"
    }  # fmt: skip
    assert set(os.listdir(root)) == top
    assert Run.open(root).blocks.names("state") == ["2", "3"]
    assert Run.open(root).blocks.names("params") == ["1", "2", "3"]


def test_online_block_admm_leaves_nothing_per_sample(tmp_path):
    small(solver=BlockADMM(blocks=2), run=tmp_path / "run").fit(*data())
    assert not {"state", "constants"} & set(os.listdir(tmp_path / "run"))


@pytest.mark.parametrize(
    "solver",
    [
        BlockADMM(blocks=[2, 3], constraints=["simplex", ""]),
        BlockADMM(blocks=[Dense(5, "tanh"), Residual("relu")], constraints="non_negative"),
        BlockADMM(mode="batch", blocks=2, agents=np.int64(1), rho=np.float32(0.5)),
    ],
    ids=["layers", "blocks", "numpy"],
)
def test_a_stored_block_solver_is_the_one_that_was_stored(tmp_path, solver):
    fitted = small(solver=solver, run=tmp_path / "run").fit(*data())
    assert open_plan(Run.open(tmp_path / "run")).solver == solver
    found = load(tmp_path / "run")
    np.testing.assert_array_equal(found.predict_proba(data()[0]), fitted.predict_proba(data()[0]))
    assert resume(tmp_path / "run", max_iter=4).n_iter_ == 4


def test_a_stored_plan_is_the_plan_that_was_stored(tmp_path):
    x, _ = data()
    solver = RelaxedADMM(splitting=2, inner_steps=3, mu=0.5)
    made = ADMMRegressor(
        (4, 5), "tanh", solver=solver, max_iter=1, chunks=(50, 40), run=tmp_path / "run"
    ).fit(x, x[:, :2])
    plan = open_plan(Run.open(tmp_path / "run"))
    assert plan.solver == solver
    assert plan.chunks == (50, 40)
    assert plan.problem.architecture == made.network_.architecture
    assert plan.problem.target_variation == pytest.approx(2 * 90, rel=1e-3)
    assert resume(tmp_path / "run", max_iter=2).n_iter_ == 2


def test_has_data_only_when_data_and_scaling_are_whole(run):
    (Path(run.url) / "commit.json").unlink()
    assert not run.has_data
    identity = Scaling.identity(2)
    save_scaling(run, {"x": identity})
    assert not run.has_data
    save_scaling(run, {"x": identity, "y": identity})
    assert run.has_data
    (Path(run.url) / "scaling/y_scale/c.0").unlink()  # described, but killed before it was written
    assert not run.has_data


# ---------------------------------------------------------------------------- stores by URL


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
    with pytest.raises(StoreError, match="exists"):
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
    with pytest.raises(StoreError, match=r"chunk 2 of state/3/v_1 is missing"):
        run.blocks.read("state/3/v_1", 2)
    chunk = "/dadmm/run/state/3/v_1/c.1.0"
    content = bytearray(filesystem.cat_file(chunk))
    content[5] ^= 1
    filesystem.pipe_file(chunk, bytes(content))
    with pytest.raises(StoreError, match=r"chunk 1 of state/3/v_1 is damaged"):
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
