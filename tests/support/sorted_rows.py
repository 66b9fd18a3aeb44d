"""Digits sorted by class, and models that deal their rows to ten chunks."""

import numpy as np
import zarr
from sklearn.datasets import load_digits

from dadmm import ADMMClassifier, BlockADMM

DIGITS, LABELS = load_digits(return_X_y=True)
_RANDOM = np.random.default_rng(0).permutation(len(LABELS))
NEW, NEW_LABELS = DIGITS[_RANDOM[:297]], LABELS[_RANDOM[:297]]
# Sorted by class.
ROWS = _RANDOM[297:][np.argsort(LABELS[_RANDOM[297:]], kind="stable")]
X, Y = DIGITS[ROWS].astype(np.uint8), LABELS[ROWS]


def model(kind=ADMMClassifier, **options):
    options = {"max_iter": 3, "tol": 0, "random_state": 0, "chunks": 150, **options}
    return kind((16, 16), **options)


def small(**options):
    """Return a model for `save(5)`: its chunks have room for 30 stored ones."""
    return model(solver=BlockADMM(batch_size=16), **options)


def save(folder, rows, name="x.zarr", **options):
    zarr.create_array(str(folder / name), data=X, chunks=(rows, 40), **options)
    return zarr.open_array(str(folder / name), mode="r")
