"""One function says what a run needs, whoever asks: a fit, a plan, or one who looks."""

import dask.array as da
import numpy as np
import pytest

from dadmm import NMF, ADMMClassifier, ADMMRegressor, DeepFacto
from dadmm.errors import OptionError
from dadmm.estimators.problem import Scale, pose
from dadmm.store import Run
from support.messages import naming

X = np.abs(np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
Y = np.array(["a", "b", "c"])[np.arange(60) % 3]
OPTIONS = {"random_state": 3, "chunks": 25, "max_iter": 1}
ESTIMATORS = {
    "classifier": (ADMMClassifier((5,), class_weight="balanced", **OPTIONS), Y),
    "regressor": (ADMMRegressor((5,), solver="relaxed", **OPTIONS), X[:, :2]),
    "factors": (NMF(2, init=X[:2], **OPTIONS), None),
    "deep": (DeepFacto(3, (5,), **OPTIONS), Y),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_posed_is_what_a_fit_stores(name, tmp_path):
    estimator, y = ESTIMATORS[name]
    posed = pose(estimator, X, y)
    estimator.set_params(run=tmp_path / "run").fit(X, *([] if y is None else [y]))
    stored = Run.open(tmp_path / "run").attributes
    estimator.set_params(run=None)
    assert posed.chunks == (25, 25, 10) == tuple(stored["chunks"])
    assert posed.seed == 3 == stored["seed"]
    for key in ("config", "inputs", "classes", "flat", "input_bytes", "pipeline"):
        assert posed.attributes[key] == stored[key], key
    known = {"architecture", "target_variation"}  # the second only the stored data tell
    for key in posed.attributes["problem"].keys() - known:
        assert posed.attributes["problem"][key] == stored["problem"][key], key
    assert posed.problem.weighted == (name == "classifier")
    assert (posed.y is None) == (y is None)
    assert (posed.initial is None) == (name != "factors")


def test_a_plan_is_for_more_rows_than_there_are():
    estimator = ADMMClassifier((5,), random_state=0)
    posed = pose(estimator, X, Y, scale=Scale("1GiB", rows=10**6))
    assert posed.problem.rows == sum(posed.chunks) == 10**6
    with pytest.raises(OptionError, match=naming("memory_limit='1MiB'", "MiB")):
        pose(estimator, X, Y, scale=Scale("1MiB"))


def test_to_pose_computes_nothing_of_the_inputs():
    def fail(block):
        raise AssertionError("computed")

    lazy = da.from_array(X, chunks=20).map_blocks(fail, dtype=X.dtype, meta=X[:0])
    assert pose(ADMMClassifier((5,), **OPTIONS), lazy, Y).problem.rows == 60


def test_a_fit_that_goes_on_starts_where_the_last_one_stopped():
    estimator = ADMMClassifier((5,), **OPTIONS).fit(X, Y)
    assert pose(estimator, X, Y).initial is None
    again = pose(estimator, X, Y, continues=True)
    assert again.units["x"] is estimator.network_.inputs
    assert "y" not in again.units
    assert again.seed != 3
    assert again.initial.keys() == pose(estimator, X, Y).solver.initial(again.problem, 0).keys()
