"""Small configs for the tests of jobs, and what they log."""

import json
from pathlib import Path

import numpy as np
import zarr

from dadmm import load
from dadmm.app.build import parameter_digest

X = np.random.default_rng(0).normal(size=(80, 3)).round(3)
LABELS = np.array(["cat", "dog"])[(X[:, 0] > 0).astype(int)]

CONFIG = """
[data]
x = "table.csv"
y = "kind"
test_fraction = 0.25
[model]
task = "{task}"
hidden_layer_sizes = [8]
max_iter = {max_iter}
tol = 0
random_state = 0
chunks = 20
[solver]
batch_size = 8
learning_rate_schedule = "constant"
[cluster]
workers = {workers}
[run]
path = "{run}"
"""


def configure(name="train.toml", task="classification", max_iter=4, run="run", workers=0):
    """Write a config and its data into the current folder; return the config's path."""
    target = LABELS if task == "classification" else X[:, 1]
    rows = [",".join(map(str, [*x, y])) for x, y in zip(X, target, strict=True)]
    Path("table.csv").write_text("\n".join(["a,b,c,kind", *rows]))
    text = CONFIG.format(task=task, max_iter=max_iter, run=run, workers=workers)
    Path(name).write_text(text)
    return name


def digest(run):
    return parameter_digest(load(run))


def lines(text):
    """Return the records of a log, which has nothing but JSON lines."""
    return [json.loads(line, parse_constant=_no_constant) for line in text.splitlines()]


def _no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def write(name, text):
    Path(name).write_text(text)
    return name


def predicting(target="found.npy", more="rows = 30"):
    """Write a config that predicts for the rows of new.npy; return its path."""
    np.save("new.npy", X)
    text = f'[run]\npath = "run"\n[predict]\ninput = "new.npy"\noutput = "{target}"\n{more}\n'
    return write("predict.toml", text)


def read_predictions(name):
    if name.endswith(".npy"):
        return np.load(name, allow_pickle=False)
    if name.endswith(".zarr"):
        return zarr.open_array(name)[:]
    return np.genfromtxt(name, delimiter=",", dtype=None, encoding="utf-8")


def everything(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def interrupt():
    raise KeyboardInterrupt
