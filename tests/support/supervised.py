"""Small estimators, made with whichever solver the tests are at."""

import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import make_classification

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, RelaxedADMM

X, CODES = make_classification(
    120, 5, n_informative=4, n_redundant=0, n_classes=3, class_sep=2.0, random_state=0
)
TARGETS = np.stack([np.tanh(X[:, 0]) + X[:, 1], X[:, 2] * X[:, 3]], axis=1)

SOLVERS = {"relaxed": RelaxedADMM(), "block": BlockADMM(batch_size=8, learning_rate=0.02)}
SMALL = {"hidden_layer_sizes": (8, 8), "max_iter": 4, "random_state": 0}


only_relaxed = pytest.mark.parametrize("solver", ["relaxed"], indirect=True)
only_block = pytest.mark.parametrize("solver", ["block"], indirect=True)


def classifier(**options):
    return ADMMClassifier(**{**SMALL, **options})


def regressor(**options):
    return ADMMRegressor(**{**SMALL, **options})


def refuse(*args, **kwargs):
    raise AssertionError("something was computed")


def unknown_sizes(array, rows):
    """Return a dask array that does not know how many rows it has."""
    lazy = da.from_array(array, chunks=(rows, *array.shape[1:]))
    return lazy[da.ones(len(array), chunks=rows, dtype=bool)]


def same_network(a, b):
    assert a.network_.params.keys() == b.network_.params.keys()
    for name, array in a.network_.params.items():
        np.testing.assert_array_equal(array, b.network_.params[name], err_msg=name)
