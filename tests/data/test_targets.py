"""Targets: columns of numbers, one row for each row of inputs."""

import dask.array as da
import numpy as np
import pytest

from dadmm.data import targets
from dadmm.errors import DataError, ShapeError
from support.messages import naming


def test_targets_have_as_many_rows_as_inputs():
    assert targets.as_targets([1, 2], 2).shape == (2, 1)
    assert targets.as_targets(da.ones((4, 2)), 4).shape == (4, 2)
    assert targets.as_column(np.ones((4, 1)), 4).shape == (4,)
    with pytest.raises(ShapeError, match=naming("y", "3 rows", "x", "4")):
        targets.as_targets(np.ones(3), 4)
    with pytest.raises(ShapeError, match=naming("y", "3 dimensions")):
        targets.as_targets(np.ones((4, 1, 1)), 4)
    with pytest.raises(DataError, match=naming("y", "NaN", "row 1", "column 0")):
        targets.as_targets([0.0, np.nan], 2)
    with pytest.raises(DataError, match=naming("y", "missing")):
        targets.as_column(None, 4)
