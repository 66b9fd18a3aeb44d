"""Factorisations from configs: the command line and batch jobs, from tables without targets."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.datasets import load_digits

from dadmm import NMF, DeepFacto, load
from dadmm.app.build import make_estimator
from dadmm.app.config import check_config
from dadmm.app.jobs import run_job
from dadmm.errors import OptionError
from support.jobs import lines
from support.messages import names, naming
from support.terminal import command

DIGITS, LABELS = load_digits(return_X_y=True)

ALONE = """
[data]
x = "pixels.csv"
test_fraction = 0.25
[model]
task = "factorization"
n_components = 5
max_iter = 6
tol = 0
chunks = 80
[run]
path = "run"
[evaluate]
output = "scores.json"
[predict]
input = "pixels.csv"
output = "codes.csv"
"""
INSIDE = """
[data]
dataset = "digits"
test_fraction = 0.25
[model]
n_components = 12
hidden_layer_sizes = [32]
head_layer_sizes = [16]
max_iter = 6
standardize = "scale"
random_state = 0
[run]
path = "run"
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(DIGITS[:300]).add_prefix("p").to_csv("pixels.csv", index=False)


def ok(*arguments):
    done = command(*arguments)
    assert done.code == 0, done
    return done


def test_a_table_without_targets_is_factorised_told_of_and_coded():
    Path("nmf.toml").write_text(ALONE)
    done = ok("fit", "nmf.toml", "--run", "run")
    assert "train explained 0." in done.out
    assert "test explained 0." in done.out
    model = load("run")
    assert isinstance(model, NMF)
    assert model.components_.shape == (5, 64)
    ok("predict", "run", "pixels.csv", "codes.csv")
    codes = pd.read_csv("codes.csv")
    assert list(codes) == [f"nmf{k}" for k in range(5)]
    np.testing.assert_allclose(codes, model.transform(pd.read_csv("pixels.csv")), rtol=1e-5)
    assert "explained" in ok("resume", "run").out
    shown = ok("show", "run", "--html", "report.html", "--plot", "curves.png").out
    assert "64 - 5" in shown
    assert "a factorisation has no targets" in Path("report.html").read_text()
    assert ok("check", "run").out.endswith("damaged    nothing\n")
    refused = command("predict", "run", "pixels.csv", "other.csv", "--proba")
    assert refused.code == 2
    assert names(refused.err, "probabilities")


def test_the_jobs_factorise_evaluate_and_code(capsys):
    Path("nmf.toml").write_text(ALONE)
    for job in ("train", "train", "evaluate", "predict"):
        assert run_job(job, "nmf.toml") == 0, capsys.readouterr()
    told = lines(capsys.readouterr().out)
    assert [line["event"] for line in told if line["job"] == "train"].count("done") == 2
    scores = json.loads(Path("scores.json").read_text())
    assert 0.5 < scores["metrics"]["explained"] < 1
    assert scores["held_out"]
    assert pd.read_csv("codes.csv", header=None).shape[1] == 5


def test_zarr_without_targets_is_evaluated(capsys):
    zarr.create_array("pixels.zarr", data=DIGITS[:300], chunks=(80, 64))
    text = ALONE.replace("pixels.csv", "pixels.zarr").replace("test_fraction = 0.25", "")
    Path("nmf.toml").write_text(text)
    for job in ("train", "evaluate"):
        assert run_job(job, "nmf.toml") == 0, capsys.readouterr()
    assert json.loads(Path("scores.json").read_text())["rows"] == 300


def test_a_network_with_factors_gives_labels_and_codes():
    Path("deep.toml").write_text(INSIDE)
    ok("fit", "deep.toml", "--run", "run", "--quiet")
    model = load("run")
    assert isinstance(model, DeepFacto)
    np.save("new.npy", DIGITS[:20])
    ok("predict", "run", "new.npy", "labels.npy")
    ok("predict", "run", "new.npy", "codes.npy", "--codes")
    np.testing.assert_array_equal(np.load("labels.npy"), model.predict(DIGITS[:20]))
    np.testing.assert_array_equal(np.load("codes.npy"), model.transform(DIGITS[:20]))
    assert "reconstruction" in ok("show", "run", "--html", "report.html").out
    assert "reconstruction" in Path("report.html").read_text()
    both = command("predict", "run", "new.npy", "x.npy", "--codes", "--proba")
    assert both.code == 2
    assert names(both.err, "codes")


def test_a_plain_network_has_no_codes():
    text = INSIDE.replace("n_components = 12\n", "").replace("head_layer_sizes = [16]\n", "")
    Path("plain.toml").write_text(text)
    ok("fit", "plain.toml", "--run", "run", "--quiet")
    np.save("new.npy", DIGITS[:20])
    done = command("predict", "run", "new.npy", "codes.npy", "--codes")
    assert done.code == 2
    assert names(done.err, "run", "factors")


@pytest.mark.parametrize(
    ("model", "solver", "words"),
    [
        ({"task": "regression", "n_components": 4}, {}, ["task='factorization'", "n_components"]),
        ({"task": "factorization", "alpha": 0.1}, {}, ["alpha", "task='factorization'"]),
        ({"shift": True}, {}, ["shift", "task='factorization'"]),
        ({"task": "factorization"}, {"name": "block"}, ["[solver]", "networks"]),
        ({"task": "factorisation"}, {}, ["'factorisation'", "'factorization'"]),
    ],
)
def test_keys_of_other_tasks_are_refused(model, solver, words):
    config = {"data": {"dataset": "digits"}, "model": model, "solver": solver}

    def make():
        check_config(config, "a.toml")
        return make_estimator(config, "run")

    with pytest.raises(OptionError, match=naming(*words)):
        make()
