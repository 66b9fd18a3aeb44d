"""Data that cannot be trained on, and what it means to be refused."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from dadmm.errors import DadmmError
from support.messages import naming

X = np.random.default_rng(0).normal(size=(30, 3)).round(3)
Y = (X[:, 0] > 0).astype(int)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}

LAZY = da.from_array(X, chunks=(10, 3))


def fails(block):
    if block.size:  # dask tries it on nothing
        raise ZeroDivisionError("0\na block")
    return block


BAD_NAN, BAD_INF = X.copy(), X.copy()
BAD_NAN[7, 1] = np.nan
BAD_INF[29, 2] = -np.inf


def refused(error, words, function, *arguments, **options):
    """Check that a call raises one line of `error` that names all `words`."""
    with pytest.raises(error, match=naming(*words)) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, DadmmError)
    assert "\n" not in str(caught.value)


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
