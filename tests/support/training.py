"""One small training, by estimator or config, for every place that trains."""

import numpy as np

from dadmm import ADMMClassifier, RelaxedADMM
from dadmm.app.build import parameter_digest

X = np.random.default_rng(0).normal(size=(240, 6))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
ITERATIONS = 6


def estimator(run, hidden=(8, 8), **options):
    """Return one that has six chunks to visit in each of its iterations."""
    given = {"solver": RelaxedADMM(), "max_iter": ITERATIONS, "tol": 0, "chunks": 40}
    return ADMMClassifier(hidden, random_state=0, run=str(run), **{**given, **options})


CONFIG = """[data]
x = "{place}/x.npy"
y = "{place}/y.npy"
[model]
hidden_layer_sizes = {hidden}
max_iter = 6
tol = 0
chunks = {chunks}
random_state = 0
[solver]
name = "relaxed"
[run]
path = "{place}/run"
"""


def train(run, callback=None, **options):
    """Train where the current client says; return the digest of the parameters."""
    return parameter_digest(estimator(run, **options).fit(X, Y, callback=callback))


def write_config(folder, place=None, hidden=(8, 8), chunks=40):
    """Write a config that trains what `train` does, and its data."""
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    (folder / "train.toml").write_text(
        CONFIG.format(place=place or folder, hidden=list(hidden), chunks=chunks)
    )
