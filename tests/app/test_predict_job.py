"""Jobs predict part by part, and go on after whatever stopped them."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dadmm import NMF, ADMMClassifier, ADMMRegressor, load
from dadmm.data import write as writing
from dadmm.store import ZarrBlocks
from dadmm.store.lock import Lock
from support.jobs import (
    LABELS,
    X,
    configure,
    digest,
    everything,
    interrupt,
    predicting,
    read_predictions,
    write,
)
from support.messages import names
from support.terminal import ok

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("target", ["found.npy", "found.csv", "found.zarr"])
@pytest.mark.parametrize("proba", ["true", "false"])
def test_predictions_are_made_part_by_part(job, target, proba):
    job("train", configure())
    code, log, err = job("predict", predicting(target, f"rows = 30\nproba = {proba}"))
    assert (code, err) == (0, "")
    parts = [(line["first"], line["last"]) for line in log if line["event"] == "part"]
    assert parts == [(0, 30), (30, 60), (60, 80)]
    model = load("run")
    if proba == "true":
        np.testing.assert_allclose(read_predictions(target), model.predict_proba(X), rtol=1e-6)
    else:
        np.testing.assert_array_equal(read_predictions(target), model.predict(X))
    about = json.loads(Path(f"{target}.json").read_text())
    assert about["columns"] == (["cat", "dog"] if proba == "true" else None)
    assert about["parameters"] == digest("run")
    assert not Path(f"{target}.parts").exists()
    before = everything(".")
    code, log, _ = job("predict", "predict.toml")
    assert (code, [line["event"] for line in log]) == (0, ["done"])
    assert everything(".") == before


def test_a_regression_predicts_numbers(job):
    job("train", configure(task="regression"))
    assert job("predict", predicting())[0] == 0
    np.testing.assert_allclose(np.load("found.npy"), load("run").predict(X), rtol=1e-5)


@pytest.mark.parametrize("target", ["csv", "parquet"])
@pytest.mark.parametrize("task", ["classification", "probabilities", "regression", "factors"])
def test_a_table_is_written_as_the_command_writes_it(job, task, target):
    """With its index and the name of the target, from parts."""
    pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    table = pd.DataFrame(abs(X), pd.date_range("2020", periods=80, freq="D", name="day"))
    table = table.rename(columns=str)
    table.to_parquet("new.parquet")
    if task == "factors":
        NMF(2, max_iter=3, run="run").fit("new.parquet")
    elif task == "regression":
        ADMMRegressor((4,), max_iter=2, run="run").fit(table, pd.Series(X[:, 1], name="size"))
    else:
        ADMMClassifier((4,), max_iter=2, run="run").fit(table, pd.Series(LABELS, name="kind"))
    proba = task == "probabilities"
    config = Path(predicting(f"found.{target}", f"rows = 30\nproba = {str(proba).lower()}"))
    config.write_text(config.read_text().replace("new.npy", "new.parquet"))
    code, _, err = job("predict", str(config))
    assert (code, err) == (0, "")
    ok("predict", "run", "new.parquet", f"all.{target}", *(["--proba"] if proba else []))
    read = pd.read_parquet if target == "parquet" else pd.read_csv
    found, whole = read(f"found.{target}"), read(f"all.{target}")
    pd.testing.assert_frame_equal(found, whole, rtol=1e-5)
    assert "day" in found.reset_index()


def test_labels_of_any_length_fit_into_all_parts(job):
    labels = np.array(["a", "a longer name"], dtype=object)[(X[:, 0] > 0).astype(int)]
    ADMMClassifier((8,), max_iter=20, random_state=0, run="run").fit(X, labels)
    assert job("predict", predicting(more="rows = 1"))[0] == 0
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X).astype(str))
    assert len(set(np.load("found.npy"))) == 2


def test_predicting_goes_on_after_a_stop_with_what_is_left(job, monkeypatch):
    job("train", configure())
    save, saved = writing.np.save, []

    def stop(file, values, **options):
        saved.append(len(values))
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(file, values, **options)

    config = predicting()
    with monkeypatch.context() as patch:
        patch.setattr(writing.np, "save", stop)
        code, _, _ = job("predict", config)
    assert code == 130
    assert not Path("found.npy").exists()
    code, log, _ = job("predict", config)
    assert code == 0
    assert [line["first"] for line in log if line["event"] == "part"] == [30, 60]
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X))


@pytest.mark.parametrize("step", ["record", "output", "removal"])
def test_an_output_that_was_not_quite_done_is_done_again(job, monkeypatch, step):
    """Whatever of the last steps a kill hits; where an older output is to be replaced."""
    job("train", configure())
    config = predicting(more="overwrite = true")
    write("found.npy", "old")
    replace, rmtree = writing.replace_file, writing.shutil.rmtree
    with monkeypatch.context() as patch:
        if step == "record":

            def save(target, content):
                replace(target, content)
                if Path(target).name == "found.npy.json":
                    raise KeyboardInterrupt

            patch.setattr(writing, "replace_file", save)
        elif step == "output":
            patch.setattr(writing, "write", lambda *given: interrupt())
        else:

            def remove(path, **options):
                if not options:
                    Path(path, "job.json").unlink()
                    interrupt()
                rmtree(path, **options)

            patch.setattr(writing.shutil, "rmtree", remove)
        assert job("predict", config)[0] == 130
    code, log, _ = job("predict", config)
    assert code == 0
    assert "note" not in log[-1]
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X))
    assert not Path("found.npy.parts").exists()


def test_predictions_of_other_rows_or_networks_are_replaced_only_when_told_to(job):
    job("train", configure())
    job("predict", predicting())
    before = Path("found.npy").read_bytes()
    config = predicting()
    np.save("new.npy", X[:50])
    code, _, err = job("predict", config)
    assert code == 2
    assert names(err, "found.npy", "files", "[predict]", "overwrite = true")
    assert Path("found.npy").read_bytes() == before
    config = predicting(more="overwrite = true")
    np.save("new.npy", X[:50])
    assert job("predict", config)[0] == 0
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X[:50]))


def test_parts_of_another_network_are_not_used(job):
    job("train", configure())
    Path("found.npy.parts").mkdir()
    np.save("found.npy.parts/0-30.npy", np.full(30, "cow"))
    write("found.npy.parts/job.json", '{"parameters": "of another"}')
    assert job("predict", predicting())[0] == 0
    assert "cow" not in np.load("found.npy")


def test_what_a_kill_left_of_another_job_is_not_taken_for_whole(job, monkeypatch):
    """The output is of job A, the record already of B; then C begins, and is killed as well."""
    job("train", configure())
    config = predicting(more="overwrite = true")
    write("found.npy", "of A")
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write", lambda *given: interrupt())
        assert job("predict", config)[0] == 130
    monkeypatch.setenv("DADMM__PREDICT__PROBA", "true")
    with monkeypatch.context() as patch:
        patch.setattr(writing, "replace_file", lambda *given: interrupt())
        assert job("predict", config)[0] == 130
    monkeypatch.delenv("DADMM__PREDICT__PROBA")
    assert job("predict", config)[0] == 0
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X))


def test_another_process_at_the_output_means_try_later(job):
    job("train", configure())
    Path("found.npy.parts").mkdir()
    lock = Lock(ZarrBlocks("found.npy.parts"))
    code, _, err = job("predict", predicting())
    lock.release()
    assert code == 75
    assert names(err, "found.npy.parts", str(os.getpid()))
    assert "--force" not in err
    assert job("predict", "predict.toml")[0] == 0
    assert not Path("found.npy.parts").exists()


@pytest.mark.parametrize("target", ["found.npy", "found.csv"])
def test_predictions_on_a_full_disk_fail_and_leave_no_half(job, monkeypatch, target):
    job("train", configure())

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assemble = writing.write
    with monkeypatch.context() as patch:

        def fill(whole, *place):
            patch.setattr(os, "fsync", full)
            assemble(whole, *place)

        patch.setattr(writing, "write", fill)
        code, _, err = job("predict", predicting(target))
    assert code == 1
    assert names(err, "failed", target, "No space left on device")
    assert err.count("\n") == 1
    assert not Path(target).exists()
    assert {path.suffix for path in Path(f"{target}.parts").iterdir()} == {".npy", ".json"}
    assert "whole" not in {path.stem for path in Path(f"{target}.parts").iterdir()}


@pytest.mark.parametrize(
    ("target", "more", "words"),
    [
        ("found.txt", "", ["found.txt", ".npy", ".csv", ".parquet", ".zarr"]),
        ("memory://found.zarr", "", ["memory://found.zarr", "local"]),
        ("no/found.npy", "", ["folder", "no"]),
        ("new.npy", "", ["new.npy", "overwrite"]),
        ("new.npy", "overwrite = true", ["new.npy", "read"]),
    ],
)
def test_predictions_need_a_place(job, target, more, words):
    job("train", configure())
    code, _, err = job("predict", predicting(target, more))
    assert code == 2
    assert names(err, *words)
    np.testing.assert_array_equal(np.load("new.npy"), X)


def test_rows_that_cannot_be_predicted_are_named(job):
    job("train", configure())
    config = predicting()
    bad = X.copy()
    bad[70, 1] = np.nan
    np.save("new.npy", bad)
    code, _, err = job("predict", config)
    assert code == 2
    assert names(err, "rows from 60", "row 10", "column 1")
    assert not Path("found.npy").exists()
    bad[0, 0] = np.nan
    np.save("new.npy", bad)
    assert job("predict", config)[0] == 2
    assert not Path("found.npy.parts").exists()  # there is nothing to go on with


def test_a_single_number_is_no_rows(job):
    job("train", configure())
    config = predicting()
    np.save("new.npy", np.float64(1.0))
    code, _, err = job("predict", config)
    assert code == 2
    assert names(err, "new.npy", "one number")
    assert err.count("\n") == 1


def test_a_regression_has_no_probabilities(job):
    job("train", configure(task="regression"))
    code, _, err = job("predict", predicting(more="proba = true"))
    assert code == 2
    assert names(err, "probabilities", "proba")
