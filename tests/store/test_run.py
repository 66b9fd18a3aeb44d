"""The life of a run: created, opened, refused, committed, swept."""

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from dadmm import load, resume
from dadmm.engine.result import save_scaling
from dadmm.errors import StoreError
from dadmm.networks.scaling import Scaling
from dadmm.store import FORMAT, Run, arrays, files
from support.damage import flip
from support.messages import naming
from support.stores import CHUNK, ROWS, block, data, small

# ----------------------------------------------------------------------------------- life of a run


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
    with pytest.raises(StoreError, match=naming(run.url, "overwrite")):
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
        with pytest.raises(StoreError, match=naming(str(tmp_path / "file"))):
            Run.create(tmp_path / "file", {}, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "dear"


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(tmp_path, {}).committed() is None


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=naming(f"{tmp_path}/file/run", "Not a directory")):
        Run.create(tmp_path / "file" / "run", {})

    def denied(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as unwritable:
        unwritable.setattr(files.Path, "open", denied)
        with pytest.raises(
            StoreError, match=naming(f"{tmp_path}/run", "written", "Permission denied")
        ):
            Run.create(tmp_path / "run", {})
    monkeypatch.setattr(files, "_open", denied)
    with pytest.raises(StoreError, match=naming(f"{tmp_path}/run", "read", "Permission denied")):
        Run.open(tmp_path / "run")


def test_what_is_not_there_or_no_run_cannot_be_opened(tmp_path):
    with pytest.raises(StoreError, match=naming(f"{tmp_path}/nothing")):
        Run.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=naming(f"{tmp_path}/file", "folder")):
        Run.open(tmp_path / "file")
    with pytest.raises(StoreError, match=naming(f"{tmp_path}/file/below")):
        Run.open(tmp_path / "file" / "below")
    with pytest.raises(StoreError, match=naming(str(tmp_path), "folder")):
        Run.open(tmp_path)
    with pytest.raises(StoreError, match=naming("nowhere://at/all", "Protocol")):
        Run.open("nowhere://at/all")
    with pytest.raises(StoreError, match=naming("nowhere://at/all", "Protocol")):
        Run.create("nowhere://at/all", {})


def test_another_format_version_is_refused_with_the_version_that_reads_it(run):
    group = zarr.open_group(run.url, mode="r+")
    group.attrs["dadmm"] = {**run.attributes, "format": 99, "versions": {"dadmm": "7.1"}}
    with pytest.raises(StoreError, match=naming("format 99", str(FORMAT), "dadmm 7.1")):
        Run.open(run.url)
    with pytest.raises(StoreError, match=naming("format 99")):
        resume(run.url)


def test_a_file_url_is_a_folder_with_all_its_guarantees(tmp_path):
    made = Run.create(f"file://{tmp_path}/run", {})
    assert made.blocks.local == tmp_path / "run"
    assert Run.open(tmp_path / "run").attributes == made.attributes


# ------------------------------------------------------------------------------------------ blocks


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


def test_a_record_read_from_memory_is_a_copy():
    run = Run.in_memory({})
    run.commit(0, 0)
    run.committed()["iteration"] = 7
    assert run.committed()["iteration"] == 0
    assert (run.url, run.durable) == (None, False)


# ------------------------------------------------------------------------------------------ damage


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
    with pytest.raises(StoreError, match=naming(f"chunk {chunk[0]}", name)):
        resume(copied, max_iter=5)
    after = Run.open(copied).committed()
    assert after.pop("next") > committed.pop("next")  # numbers that the session has claimed
    assert after == committed


def test_a_damaged_network_is_never_predicted_with(copied):
    flip(copied / "network/4/w_1/c.0.0")
    with pytest.raises(StoreError, match=naming("chunk 0", "network/4/w_1", "damaged")):
        load(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1, 2]", b"3", b"\xff\xfe", b"null"])
def test_a_damaged_commit_record_is_an_error(copied, content):
    (copied / "commit.json").write_bytes(content)
    with pytest.raises(StoreError, match=naming("commit.json", "damaged")):
        load(copied)
    (copied / "commit.previous.json").write_bytes(content)
    with pytest.raises(StoreError, match=naming("commit.json", "damaged")):
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


# -------------------------------------------------------------------------------- commit and sweep


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


# -------------------------------------------------------------------------------- what others read


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
