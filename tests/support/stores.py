"""What runs in the tests of the store hold."""

import numpy as np

from dadmm import ADMMClassifier

ROWS, CHUNK = 10, 4
SIZES = (4, 4, 2)


def data(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def small(**options):
    defaults = {"solver": "relaxed", "max_iter": 3, "tol": 0, "chunks": 40, "random_state": 0}
    return ADMMClassifier((6, 6), **{**defaults, **options})


def block(chunk, rows=CHUNK):
    return np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + 100 * chunk
