"""Jobs train, resume and score, say so in JSON lines, and end with a code that says how."""

import json
import os
import re
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.model_selection import train_test_split

from dadmm import ADMMClassifier, load
from dadmm.app import jobs, scores
from dadmm.app.jobs import run_job
from dadmm.errors import RecoveryWarning
from dadmm.store import Run
from support.jobs import (
    LABELS,
    X,
    configure,
    digest,
    everything,
    interrupt,
    lines,
    predicting,
    read_predictions,
    write,
)
from support.messages import names

pytestmark = pytest.mark.usefixtures("here")


ALWAYS = ["time", "level", "event", "job", "run"]


def stop_at(monkeypatch, iteration, how):
    """Let `how` happen when the log is told of an iteration."""
    tell = jobs.Log.iteration

    def told(log, k, row):
        tell(log, k, row)
        if k == iteration:
            how()

    monkeypatch.setattr(jobs.Log, "iteration", told)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


# ------------------------------------------------------------------------------------------- train


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
    assert err.startswith("stopped: ")
    assert err.count("\n") == 1
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
        ("max_iter = 4", "max_iter = 5", ["max_iter", "4", "5"]),
        ("batch_size = 8", "batch_size = 9", ["batch_size", "8", "9"]),
        ("test_fraction = 0.25", "test_fraction = 0.5", ["test_fraction", "0.25", "0.5"]),
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
    assert names(log[-1]["message"], "run", *words)
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
    assert names(log[-1]["message"], "run")
    assert Path("run", "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["train", "resume"])
def test_another_driver_means_try_later(job, monkeypatch, name):
    with monkeypatch.context() as patch:
        stop_at(patch, 2, interrupt)
        job("train", configure())
    with Run.open("run").locked():
        code, log, err = job(name, "train.toml")
    assert code == 75
    assert names(err, "run", str(os.getpid()))
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
    assert names(err, "run", "another driver")
    assert job("train", config)[1][-1]["note"] == "there was nothing left to do"


def test_the_environment_stands_for_keys(job, monkeypatch):
    monkeypatch.setenv("DADMM__MODEL__MAX_ITER", "2")
    monkeypatch.setenv("DADMM__RUN__PATH", "elsewhere")
    code, log, _ = job("train", configure())
    assert (code, len(log), log[0]["run"]) == (0, 4, "elsewhere")
    assert load("elsewhere").n_iter_ == 2


# ------------------------------------------------------------------------------------------ resume


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
    assert err.startswith("failed: ")
    assert names(err, "run", "folder")
    assert err.count("\n") == 1


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
    np.testing.assert_array_equal(read_predictions("found.csv"), predicted)


def test_a_run_of_the_library_is_scored_on_what_data_says(job):
    ADMMClassifier((8,), max_iter=2, random_state=0, run="run").fit(X, LABELS)
    code, _, err = job("evaluate", write("evaluate.toml", EVALUATE))
    assert (code, err.count("\n")) == (2, 1)
    assert names(err, "run", "[data]")
    assert not Path("scores.json").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("none/scores.json", ["folder", "none"]),
        ("folder", ["folder"]),
    ],
)
def test_scores_need_a_place(job, target, words):
    Path("folder").mkdir()
    job("train", configure())
    write("evaluate.toml", EVALUATE.replace("scores.json", target))
    code, _, err = job("evaluate", "evaluate.toml")
    assert code == 2
    assert names(err, *words)


# --------------------------------------------------------------------------------------------- log


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
    assert names(err, "[log]", "no/log.jsonl", "No such file or directory")
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
        ("train", '[run]\npath = "run"\n', ["[data]", "dataset", "x", "y"]),
        ("train", '[data]\ndataset = "digits"\n', ["[run]", "path"]),
        ("resume", "", ["[run]", "path"]),
        ("evaluate", '[run]\npath = "run"\n', ["[evaluate]", "output"]),
        ("resume", "[resume]\nmax_itr = 5\n", ["'max_itr'", "'max_iter'"]),
    ],
)
def test_a_config_without_what_the_job_needs_is_refused(job, name, text, words):
    code, log, err = job(name, write("a.toml", text))
    assert (code, log[0]["event"]) == (2, "failed")
    assert names(err, *words)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), ["No space left on device"]),
        (ZeroDivisionError("by\nzero"), ["ZeroDivisionError: by zero", "DADMM_DEBUG=1"]),
        (MemoryError("8 TiB"), ["memory", "8 TiB"]),
    ],
)
def test_a_job_that_fails_says_why_in_one_line(job, monkeypatch, error, words):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(jobs, "load_data", fail)
    code, log, err = job("train", configure())
    assert (code, log[-1]["exit_code"]) == (1, 1)
    assert names(log[-1]["message"], *words)
    assert err == f"failed: {log[-1]['message']}\n"
