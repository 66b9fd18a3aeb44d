"""Targets with a large offset keep their digits, in every file of the network too."""

import numpy as np
import pytest

from dadmm import ADMMRegressor, load, save
from dadmm.networks.scaling import Scaling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 3))
SHAPE = 2 * X[:, 0] + np.sin(X[:, 1])


@pytest.mark.parametrize(
    ("centre", "scale", "wide"),
    [
        (0.0, 1.0, False),
        (100.0, 1.0, False),
        (1e4, 1.0, True),
        (1.7e9, 60.0, True),
        (5.3e6, 0.4, True),
        (1.7e9, 1e7, False),
        (0.0, 1e-30, False),
        (1e300, 1.0, True),
    ],
)
def test_float64_takes_over_where_float32_is_too_coarse(centre, scale, wide):
    scaling = Scaling(np.array([0.0, centre]), np.array([1.0, scale]))
    assert scaling.wide_enough(np.float32) == (np.float64 if wide else np.float32)
    assert scaling.wide_enough(np.float64) == np.float64
    z = RNG.normal(size=(50, 2)).astype(np.float32)
    found = scaling.undo(z)
    assert found.dtype == scaling.wide_enough(np.float32)
    exact = z.astype(np.float64) * scaling.scale + scaling.centre
    assert (abs(found - exact) <= 1e-3 * scaling.scale + 1e-15 * abs(centre)).all()


@pytest.mark.parametrize(("centre", "scale"), [(1.7e9, 60.0), (5.3e6, 0.4), (1e8, 1.0), (0.0, 1.0)])
def test_predictions_have_the_resolution_of_their_targets(centre, scale, tmp_path):
    plain = ADMMRegressor((8,), max_iter=20, random_state=0).fit(X, SHAPE)
    y = centre + scale * SHAPE
    model = ADMMRegressor((8,), max_iter=20, random_state=0).fit(X, y)
    found = model.predict(X)
    assert found.dtype == (np.float64 if centre else np.float32)
    assert len(np.unique(found)) == len(X)
    np.testing.assert_allclose((found - centre) / scale, plain.predict(X), atol=2e-3)
    assert model.score(X, y) == pytest.approx(plain.score(X, SHAPE), abs=1e-3)
    save(model.network_, tmp_path / "n.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "n.safetensors").predict(X), found)
    da = pytest.importorskip("dask.array")
    lazy = model.predict(da.from_array(X, chunks=(100, 3)))
    assert lazy.dtype == found.dtype
    np.testing.assert_array_equal(lazy.compute(), found)


@pytest.mark.parametrize(("centre", "scale"), [(1.7e9, 60.0), (5.3e6, 0.4), (0.0, 1.0)])
def test_onnx_keeps_them_too(centre, scale, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    y = np.stack([centre + scale * SHAPE, SHAPE], axis=1)
    model = ADMMRegressor((8,), max_iter=5, random_state=0).fit(X, y)
    save(model.network_, tmp_path / "n.onnx")
    session = runtime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["targets"], {"x": X.astype(np.float32)})
    own = model.predict(X)
    assert found.dtype == model.network_.output_dtype
    np.testing.assert_allclose(found[:, 0], own[:, 0], rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(found[:, 1], own[:, 1], rtol=1e-4, atol=1e-5)
