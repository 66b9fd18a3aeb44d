"""Jobs do what is left to do, say so in JSON lines, and end with a code that says how."""

import errno
import json
import os
import re
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from sklearn import metrics as sk
from sklearn.model_selection import train_test_split

from dadmm import ADMMClassifier, load
from dadmm.app import jobs, scores
from dadmm.app.jobs import run_job
from dadmm.data import write as predictions
from dadmm.errors import RecoveryWarning
from dadmm.store import Run, ZarrBlocks
from dadmm.store.lock import Lock
from support.jobs import LABELS, X, configure, digest, lines

pytestmark = pytest.mark.usefixtures("here")

ALWAYS = ["time", "level", "event", "job", "run"]


@pytest.fixture
def job(capsys):
    """Run a job; return its exit code, its log, and what it printed as an error."""

    def go(name, config):
        code = run_job(name, str(config))
        out, err = capsys.readouterr()
        return code, lines(out), err

    return go


def write(name, text):
    Path(name).write_text(text)
    return name


def stop_at(monkeypatch, iteration, how):
    """Let `how` happen when the log is told of an iteration."""
    tell = jobs.Log.iteration

    def told(log, k, row):
        tell(log, k, row)
        if k == iteration:
            how()

    monkeypatch.setattr(jobs.Log, "iteration", told)


def interrupt():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def everything(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------------- train


def test_training_is_told_line_by_line(job):
    code, log, err = job("train", configure())
    assert (code, err) == (0, "")
    assert [line["event"] for line in log] == ["started", *["iteration"] * 4, "done"]
    for line in log:
        assert list(line)[:5] == ALWAYS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert (line["level"], line["job"], line["run"]) == ("info", "train", "run")
    history = load("run").history_
    assert [line["iteration"] for line in log[1:-1]] == [1, 2, 3, 4]
    assert [line["objective"] for line in log[1:-1]] == history["objective"].values.tolist()
    assert log[-1]["status"] == "finished"
    assert log[-1]["train_score"] == history.attrs["train_score"]


def test_what_is_not_finite_is_null(capsys):
    log = jobs.Log("train", "run", jobs.sys.stdout)
    log("iteration", a=np.float32("nan"), b=-np.inf, c=[np.nan, 1], d={"e": np.int64(3)}, f=None)
    (line,) = lines(capsys.readouterr().out)
    assert [line[name] for name in "abcdf"] == [None, None, [None, 1], {"e": 3}, None]


def test_training_again_does_nothing(job):
    job("train", configure())
    before = everything("run")
    code, log, _ = job("train", "train.toml")
    assert code == 0
    assert [line["event"] for line in log] == ["done"]
    assert log[0]["note"] == "there was nothing left to do"
    assert everything("run") == before


@pytest.mark.parametrize(("how", "code"), [(interrupt, 130), (terminate, 143)])
def test_training_that_was_stopped_goes_on_to_the_same_network(job, monkeypatch, how, code):
    job("train", configure("straight.toml", run="straight"))
    with monkeypatch.context() as patch:
        stop_at(patch, 2, how)
        found, log, err = job("train", configure())
    assert found == code
    assert (log[-1]["event"], log[-1]["level"], log[-1]["exit_code"]) == (
        "stopped",
        "warning",
        code,
    )
    assert err == "stopped: stopped; start it again to go on\n"
    assert load("run").history_.attrs["status"] == "interrupted"
    code, log, _ = job("train", "train.toml")
    assert code == 0
    assert next(line["iteration"] for line in log if line["event"] == "iteration") >= 3
    assert digest("run") == digest("straight")


def test_the_signal_is_handled_as_before_once_a_job_is_done(job):
    before = signal.getsignal(signal.SIGTERM)
    job("train", configure(max_iter=1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_training_that_was_killed_before_its_data_was_stored_begins_anew(job):
    job("train", configure())
    expected = digest("run")
    for path in sorted(Path("run").iterdir()):
        if path.name != "zarr.json":
            remove(path)
    code, log, _ = job("train", "train.toml")
    assert code == 0
    assert len(log) == 6
    assert digest("run") == expected


def remove(path):
    if path.is_dir():
        for each in path.iterdir():
            remove(each)
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_iter = 4", "max_iter = 5", "params.max_iter is 4 there, 5 here"),
        ("batch_size = 8", "batch_size = 9", "solver.batch_size is 8 there, 9 here"),
        ("test_fraction = 0.25", "test_fraction = 0.5", "data.test_fraction is 0.25 there, 0.5"),
    ],
)
def test_a_run_of_another_config_is_refused(job, old, new, words):
    config = Path(configure())
    job("train", config)
    before = everything("run")
    config.write_text(config.read_text().replace(old, new))
    code, log, err = job("train", config)
    assert code == 2
    assert (log[-1]["event"], log[-1]["level"], log[-1]["error"]) == (
        "failed",
        "error",
        "StoreError",
    )
    assert words in log[-1]["message"]
    assert err == f"failed: {log[-1]['message']}\n"
    assert everything("run") == before


def test_where_it_computes_is_no_part_of_the_config(job):
    config = Path(configure())
    job("train", config)
    config.write_text(config.read_text().replace("workers = 0", "workers = 1"))
    assert job("train", config)[0] == 0


def test_what_is_no_run_is_not_replaced(job):
    Path("run").mkdir()
    Path("run", "thesis.txt").write_text("precious")
    code, log, _ = job("train", configure())
    assert code == 2
    assert "run exists" in log[-1]["message"]
    assert Path("run", "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["train", "resume"])
def test_another_driver_means_try_later(job, monkeypatch, name):
    with monkeypatch.context() as patch:
        stop_at(patch, 2, interrupt)
        job("train", configure())
    with Run.open("run").locked():
        code, log, err = job(name, "train.toml")
    assert code == 75
    assert f"run is in use by process {os.getpid()}" in err
    assert log[-1]["error"] == "LockedError"
    assert job(name, "train.toml")[0] == 0


def test_who_loses_a_race_for_a_place_is_to_try_later(job, monkeypatch):
    config, load_data = configure(), jobs.load_data

    def slow(table, **options):
        """Load, while another job starts and ends."""
        monkeypatch.setattr(jobs, "load_data", load_data)
        assert run_job("train", config) == 0
        return load_data(table, **options)

    monkeypatch.setattr(jobs, "load_data", slow)
    code, _, err = job("train", config)
    assert code == 75
    assert "run was started by another driver just now" in err
    assert job("train", config)[1][-1]["note"] == "there was nothing left to do"


def test_the_environment_stands_for_keys(job, monkeypatch):
    monkeypatch.setenv("DADMM__MODEL__MAX_ITER", "2")
    monkeypatch.setenv("DADMM__RUN__PATH", "elsewhere")
    code, log, _ = job("train", configure())
    assert (code, len(log), log[0]["run"]) == (0, 4, "elsewhere")
    assert load("elsewhere").n_iter_ == 2


# ------------------------------------------------------------------------------------------- resume


def test_resuming_goes_on_to_a_new_limit_without_config_or_data(job):
    job("train", configure(max_iter=6, run="straight"))
    job("train", configure())
    Path("table.csv").unlink()
    Path("train.toml").unlink()
    write("resume.toml", '[run]\npath = "run"\n[resume]\nmax_iter = 6\n')
    code, log, _ = job("resume", "resume.toml")
    assert code == 0
    assert [line["iteration"] for line in log[1:-1]] == [5, 6]
    assert digest("run") == digest("straight")
    before = everything("run")
    code, log, _ = job("resume", "resume.toml")
    assert (code, [line["event"] for line in log]) == (0, ["started", "done"])
    assert everything("run") == before


def test_resuming_nothing_is_an_error(job):
    code, _, err = job("resume", write("resume.toml", '[run]\npath = "run"\n'))
    assert code == 2
    assert err == "failed: run does not exist: give the folder that a fit was started with\n"


# ---------------------------------------------------------------------------------------- evaluate

EVALUATE = '[run]\npath = "run"\n[evaluate]\noutput = "scores.json"\n'


def test_scores_are_those_of_scikit_learn_on_the_rows_held_out(job):
    job("train", configure())
    code, log, err = job("evaluate", write("evaluate.toml", EVALUATE))
    assert (code, err) == (0, "")
    found = json.loads(Path("scores.json").read_text())
    _, x, _, y = train_test_split(X, LABELS, test_size=0.25, random_state=0)
    predicted = load("run").predict(x)
    assert found["metrics"] == {
        "accuracy": pytest.approx(sk.accuracy_score(y, predicted)),
        "balanced_accuracy": pytest.approx(sk.balanced_accuracy_score(y, predicted)),
        "f1_macro": pytest.approx(sk.f1_score(y, predicted, average="macro")),
        "classes": ["cat", "dog"],
        "confusion": sk.confusion_matrix(y, predicted).tolist(),
    }
    assert (found["rows"], found["held_out"], found["iterations"]) == (20, True, 4)
    assert found["parameters"] == digest("run")
    assert log[-1]["accuracy"] == found["metrics"]["accuracy"]
    before = Path("scores.json").read_bytes()
    assert job("evaluate", "evaluate.toml")[0] == 0
    assert Path("scores.json").read_bytes() == before


def test_several_labels_are_scored_row_by_row_and_label_by_label():
    y = X[:, :3] > 0
    made = ADMMClassifier((8,), max_iter=3, random_state=0).fit(X, y)
    found, predicted = scores.metrics(made, X, y), made.predict(X)
    assert found["accuracy"] == made.score(X, y)
    assert found["hamming_loss"] == pytest.approx((predicted != y).mean())
    assert np.sum(found["confusion"]) == y.size


def test_a_regression_is_scored_on_data_of_its_own(job):
    job("train", configure(task="regression"))
    write("evaluate.toml", EVALUATE + '[data]\nx = "table.csv"\ny = "kind"\n')
    assert job("evaluate", "evaluate.toml")[0] == 0
    found = json.loads(Path("scores.json").read_text())
    predicted = load("run").predict(X)
    assert found["metrics"] == {
        "r2": pytest.approx(sk.r2_score(X[:, 1], predicted)),
        "rmse": pytest.approx(sk.root_mean_squared_error(X[:, 1], predicted)),
        "mae": pytest.approx(sk.mean_absolute_error(X[:, 1], predicted)),
    }
    assert (found["rows"], found["held_out"]) == (80, False)


def test_several_labels_per_row_are_scored_and_predicted(job):
    labels = (X[:, :2] > 0).astype(int)
    np.save("new.npy", X)
    np.save("labels.npy", labels)
    ADMMClassifier((8,), max_iter=20, random_state=0, run="run").fit(X, labels)
    write("evaluate.toml", EVALUATE + '[data]\nx = "new.npy"\ny = "labels.npy"\n')
    code, _, err = job("evaluate", "evaluate.toml")
    assert (code, err) == (0, "")
    predicted = load("run").predict(X)
    assert json.loads(Path("scores.json").read_text())["metrics"] == {
        "accuracy": pytest.approx(sk.accuracy_score(labels, predicted)),
        "hamming_loss": pytest.approx(sk.hamming_loss(labels, predicted)),
        "f1_macro": pytest.approx(sk.f1_score(labels, predicted, average="macro")),
        "classes": [0, 1],
        "confusion": sk.multilabel_confusion_matrix(labels, predicted).tolist(),
    }
    assert job("predict", predicting("found.csv"))[0] == 0
    np.testing.assert_array_equal(read_output("found.csv"), predicted)


def test_a_run_of_the_library_is_scored_on_what_data_says(job):
    ADMMClassifier((8,), max_iter=2, random_state=0, run="run").fit(X, LABELS)
    code, _, err = job("evaluate", write("evaluate.toml", EVALUATE))
    assert (code, err.count("\n")) == (2, 1)
    assert "run was trained without a config: say what to score on in [data]" in err
    assert not Path("scores.json").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("none/scores.json", "there is no folder none; make it first"),
        ("folder", "folder is a folder: choose another name"),
    ],
)
def test_scores_need_a_place(job, target, words):
    Path("folder").mkdir()
    job("train", configure())
    write("evaluate.toml", EVALUATE.replace("scores.json", target))
    code, _, err = job("evaluate", "evaluate.toml")
    assert code == 2
    assert words in err


# ------------------------------------------------------------------------------------------ predict


def predicting(target="found.npy", more="rows = 30"):
    """Write a config that predicts for the rows of new.npy; return its path."""
    np.save("new.npy", X)
    text = f'[run]\npath = "run"\n[predict]\ninput = "new.npy"\noutput = "{target}"\n{more}\n'
    return write("predict.toml", text)


def read_output(name):
    if name.endswith(".npy"):
        return np.load(name, allow_pickle=False)
    if name.endswith(".zarr"):
        return zarr.open_array(name)[:]
    return np.genfromtxt(name, delimiter=",", dtype=None, encoding="utf-8")


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
        np.testing.assert_allclose(read_output(target), model.predict_proba(X), rtol=1e-6)
    else:
        np.testing.assert_array_equal(read_output(target), model.predict(X))
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


def test_labels_of_any_length_fit_into_all_parts(job):
    labels = np.array(["a", "a longer name"], dtype=object)[(X[:, 0] > 0).astype(int)]
    ADMMClassifier((8,), max_iter=20, random_state=0, run="run").fit(X, labels)
    assert job("predict", predicting(more="rows = 1"))[0] == 0
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(X).astype(str))
    assert len(set(np.load("found.npy"))) == 2


def test_predicting_goes_on_after_a_stop_with_what_is_left(job, monkeypatch):
    job("train", configure())
    save, saved = predictions.np.save, []

    def stop(file, values, **options):
        saved.append(len(values))
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(file, values, **options)

    config = predicting()
    with monkeypatch.context() as patch:
        patch.setattr(predictions.np, "save", stop)
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
    replace, rmtree = predictions.replace_file, predictions.shutil.rmtree
    with monkeypatch.context() as patch:
        if step == "record":

            def save(target, content):
                replace(target, content)
                if str(target) == "found.npy.json":
                    raise KeyboardInterrupt

            patch.setattr(predictions, "replace_file", save)
        elif step == "output":
            patch.setattr(predictions, "write", lambda *given: interrupt())
        else:

            def remove(path, **options):
                if not options:
                    Path(path, "job.json").unlink()
                    interrupt()
                rmtree(path, **options)

            patch.setattr(predictions.shutil, "rmtree", remove)
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
    assert "found.npy holds predictions for something else (files is [1, " in err
    assert "or set [predict] overwrite = true" in err
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
        patch.setattr(predictions, "write", lambda *given: interrupt())
        assert job("predict", config)[0] == 130
    monkeypatch.setenv("DADMM__PREDICT__PROBA", "true")
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "replace_file", lambda *given: interrupt())
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
    assert f"in use by process {os.getpid()}" in err
    assert "--force" not in err
    assert job("predict", "predict.toml")[0] == 0
    assert not Path("found.npy.parts").exists()


@pytest.mark.parametrize("target", ["found.npy", "found.csv"])
def test_predictions_on_a_full_disk_fail_and_leave_no_half(job, monkeypatch, target):
    job("train", configure())

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assemble = predictions.write
    with monkeypatch.context() as patch:

        def fill(whole, *place):
            patch.setattr(os, "fsync", full)
            assemble(whole, *place)

        patch.setattr(predictions, "write", fill)
        code, _, err = job("predict", predicting(target))
    assert (code, err) == (1, f"failed: {target} cannot be written: No space left on device\n")
    assert not Path(target).exists()
    assert {path.suffix for path in Path(f"{target}.parts").iterdir()} == {".npy", ".json"}
    assert "whole" not in {path.stem for path in Path(f"{target}.parts").iterdir()}


@pytest.mark.parametrize(
    ("target", "more", "words"),
    [
        ("found.txt", "", "found.txt: end the output's name in .npy, .csv, .parquet or .zarr"),
        ("memory://found.zarr", "", "a job writes to a local path"),
        ("no/found.npy", "", "there is no folder"),
        ("new.npy", "", "new.npy holds something else: choose another output, or set"),
        ("new.npy", "overwrite = true", "new.npy is read by this very command"),
    ],
)
def test_predictions_need_a_place(job, target, more, words):
    job("train", configure())
    code, _, err = job("predict", predicting(target, more))
    assert code == 2
    assert words in err
    np.testing.assert_array_equal(np.load("new.npy"), X)


def test_rows_that_cannot_be_predicted_are_named(job):
    job("train", configure())
    config = predicting()
    bad = X.copy()
    bad[70, 1] = np.nan
    np.save("new.npy", bad)
    code, _, err = job("predict", config)
    assert code == 2
    assert "in the rows from 60 on: " in err
    assert "row 10, column 1" in err
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
    assert (code, err) == (2, "failed: new.npy holds one number, not rows of features\n")


def test_a_regression_has_no_probabilities(job):
    job("train", configure(task="regression"))
    code, _, err = job("predict", predicting(more="proba = true"))
    assert code == 2
    assert "it has no probabilities; leave out proba" in err


# ---------------------------------------------------------------------------------------------- log


def test_a_log_file_is_added_to(job):
    config = configure()
    Path(config).write_text(Path(config).read_text() + '[log]\nfile = "log.jsonl"\n')
    assert job("train", config) == (0, [], "")
    assert job("train", config) == (0, [], "")
    events = [line["event"] for line in lines(Path("log.jsonl").read_text())]
    assert events == ["started", *["iteration"] * 4, "done", "done"]


def test_a_log_that_cannot_be_written_is_named(job):
    config = configure()
    Path(config).write_text(Path(config).read_text() + '[log]\nfile = "no/log.jsonl"\n')
    code, _, err = job("train", config)
    assert code == 2
    assert "[log] no/log.jsonl cannot be written: No such file or directory" in err
    assert not Path("run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_is_one_line(job):
    config = configure()
    Path(config).write_text(Path(config).read_text() + '[log]\nfile = "/dev/full"\n')
    code, _, err = job("train", config)
    assert code == 1
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_warnings_of_the_project_are_lines(job, monkeypatch):
    def warn(config, log):
        warnings.warn("iteration 3 is damaged", RecoveryWarning, stacklevel=1)

    monkeypatch.setitem(jobs.JOBS, "train", (warn, ()))
    code, log, err = job("train", configure())
    assert (code, err, log[0]["level"]) == (0, "", "warning")
    assert log[0]["message"] == "iteration 3 is damaged"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train", '[run]\npath = "run"\n', "[data] needs either dataset, or x and y"),
        ("train", '[data]\ndataset = "digits"\n', "[run] path is missing: where the run is kept"),
        ("resume", "", "[run] path is missing"),
        ("evaluate", '[run]\npath = "run"\n', "[evaluate] output is missing: where the scores go"),
        ("resume", "[resume]\nmax_itr = 5\n", "did you mean 'max_iter'?"),
    ],
)
def test_a_config_without_what_the_job_needs_is_refused(job, name, text, words):
    code, log, err = job(name, write("a.toml", text))
    assert (code, log[0]["event"]) == (2, "failed")
    assert words in err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by zero (DADMM_DEBUG=1 shows where)"),
        (MemoryError("8 TiB"), "there is not enough memory: 8 TiB"),
    ],
)
def test_a_job_that_fails_says_why_in_one_line(job, monkeypatch, error, message):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(jobs, "load_data", fail)
    code, log, err = job("train", configure())
    assert (code, log[-1]["exit_code"], log[-1]["message"]) == (1, 1, message)
    assert err == f"failed: {message}\n"
