"""Moments of columns: what hardly varies is not scaled, and what varies a little is."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from dadmm import ADMMClassifier, ADMMRegressor, load, save
from dadmm.data.columns import Summary
from dadmm.data.moments import Moments, difference, sum_moments
from support.networks import needs_onnx, needs_safetensors, runtime

SIZES = [50, 500, 5000, 200_000]
STANDARDIZE = ["feature", "global", "shift"]
PRICES = np.array([14.62, 0.1, 0.07, 99.99, 1234.56, -3.3, 8765.43, 0.01])
RNG = np.random.default_rng(0)


def constant(rows, values=PRICES):
    return np.tile(np.asarray(values), (rows, 1))


def moments(x, chunks):
    return sum_moments([Moments.of(block) for block in np.array_split(x, chunks)])


# ------------------------------------------------------------------------------- constant columns


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("chunks", [1, 7])
def test_constants_have_no_deviation_at_any_number_of_rows(rows, chunks):
    found = moments(constant(rows), chunks)
    np.testing.assert_array_equal(found.mean, PRICES)
    np.testing.assert_array_equal(found.squares, 0)
    np.testing.assert_array_equal(found.scaling("feature").scale, 1)
    np.testing.assert_array_equal(found.scaling("shift").scale, 1)


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("how", STANDARDIZE)
def test_one_constant_in_all_columns_is_not_scaled(rows, how):
    for value in PRICES:
        np.testing.assert_array_equal(moments(constant(rows, [value] * 7), 3).scaling(how).scale, 1)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", "f2", "i8", "i2", "u1", "?"])
def test_constants_of_any_dtype_and_layout_are_not_scaled(order, dtype):
    x = np.asarray(np.abs(constant(5000)) % 100, dtype, order=order)
    np.testing.assert_array_equal(moments(x, 3).scaling("feature").scale, 1)


@pytest.mark.parametrize("rows", SIZES)
def test_numbers_that_differ_by_their_last_digits_are_constant(rows):
    last = RNG.integers(-3, 4, size=(rows, len(PRICES)))
    x = PRICES * (1 + np.finfo(float).eps * last)
    found = moments(x, 5)
    np.testing.assert_array_equal(found.scaling("feature").scale, 1)
    np.testing.assert_array_equal(found.scaling("shift").scale, 1)


def test_a_constant_says_nothing_of_how_chunks_differ():
    steady = RNG.normal(size=(5000, 1)) * (1 - 1e-9)
    alone = [Moments.of(block) for block in np.array_split(steady, 5)]
    both = np.hstack([steady, constant(5000)])
    together = [Moments.of(block) for block in np.array_split(both, 5)]
    assert difference(together) == pytest.approx(difference(alone))


# ---------------------------------------------------------------------------- small real variation


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("chunks", [1, 7])
@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (1e8, 1e-3),
        (1e8, 1e-5),
        (-1e8, 1e-4),
        (1.7e9, 1e-3),
        (1.0, 1e-12),
        (14.62, 1e-10),
        (0, 1e-30),
    ],
)
def test_a_small_deviation_from_a_large_number_is_scaled(rows, chunks, offset, size):
    x = offset + size * RNG.normal(size=(rows, 3))
    found = moments(x, chunks).scaling("feature")
    true = (x - x[0]).std(axis=0)
    np.testing.assert_allclose(found.scale, true, rtol=1e-2)
    if size * rows**0.5 < 1e-6 * abs(offset):
        scaled = found.apply(x, np.float64)
        assert np.abs(scaled.mean(axis=0)).max() < 1e-2
    for how in ("global", "shift"):
        wide = moments(x[:, :1], chunks).scaling(how).scale
        assert (wide < 10 * size).all()


@pytest.mark.parametrize(
    ("dtype", "offset", "step"),
    [("f4", 1e8, 8.0), ("f2", 1000.0, 0.5), ("i8", 2**40, 1), ("u1", 200, 1)],
)
def test_a_step_that_the_dtype_holds_is_scaled(dtype, offset, step):
    x = np.array([offset, offset + step], dtype)[np.arange(6000) % 2][:, None]
    for chunks in (1, 7):
        np.testing.assert_allclose(moments(x, chunks).scaling("feature").scale, step / 2, rtol=1e-5)


def test_usual_columns_keep_the_bits_of_the_sums():
    x = RNG.normal(3.0, 2.0, size=(5000, 20))
    found = Moments.of(x)
    np.testing.assert_array_equal(found.mean, x.mean(axis=0))
    np.testing.assert_array_equal(found.squares, np.square(x - x.mean(axis=0)).sum(axis=0))


# ------------------------------------------------------------------------------------ filled gaps


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
@pytest.mark.parametrize("chunks", [1, 6])
def test_gaps_of_a_constant_column_are_filled_with_the_constant(dtype, chunks):
    x = constant(30_000, PRICES % 100).astype(dtype)
    x[RNG.random(x.shape) < 0.2] = np.nan
    parts = [Summary.of_matrix(block) for block in np.array_split(x, chunks)]
    total = parts[0]
    for part in parts[1:]:
        total = total.add(part, range(x.shape[1]), "x")
    np.testing.assert_array_equal(total.means.astype(dtype), (PRICES % 100).astype(dtype))


def test_a_column_without_a_value_in_a_block_adds_nothing():
    x = constant(100, [0.1, 0.2])
    x[:50, 0] = np.nan
    first, second = Summary.of_matrix(x[:50]), Summary.of_matrix(x[50:])
    np.testing.assert_array_equal(first.add(second, "ab", "x").means, [0.1, 0.2])


# ---------------------------------------------------------------------------- what a model keeps


STILL = np.column_stack([RNG.normal(size=(2000, 3)), np.full(2000, 14.62)])


def held(kind, x):
    """Return numbers in a container of one kind."""
    if kind == "zarr":
        zarr.create_array("still.zarr", data=x, chunks=(20, 2))
        return zarr.open_array("still.zarr", mode="r")
    frame = pd.DataFrame(x, columns=list("abcd"))
    return {
        "numpy": lambda: x,
        "dask": lambda: da.from_array(x, chunks=(300, 2)),
        "pandas": lambda: frame,
        "dask frame": lambda: dd.from_pandas(frame, npartitions=5),
        "xarray": lambda: xr.DataArray(x, dims=("row", "column")),
    }[kind]()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "pandas", "dask frame", "xarray"])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_constant_of_training_that_moves_is_no_catastrophe(kind, dtype, gaps, here):
    x = STILL.astype(dtype)
    if gaps:
        if kind == "zarr":
            pytest.skip("as dask")
        x[::7, 3] = np.nan
    options = {"max_iter": 2, "random_state": 0, "missing": "impute" if gaps else "refuse"}
    model = ADMMRegressor((8,), **options).fit(held(kind, x), STILL[:, 0])
    assert model.network_.inputs.scale[3] == 1
    moved = STILL[:5].copy()
    moved[:, 3] = 15.0
    assert np.abs(model.predict(moved)).max() < 10


@pytest.mark.parametrize("estimator", [ADMMClassifier, ADMMRegressor])
@pytest.mark.parametrize("standardize", STANDARDIZE)
def test_constant_inputs_are_left_at_their_scale(estimator, standardize):
    x = constant(2000, [14.62] * 4)
    model = estimator((4,), max_iter=1, random_state=0, standardize=standardize)
    model.fit(x, np.arange(2000) % 2)
    np.testing.assert_array_equal(model.network_.inputs.scale, 1)


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_a_constant_target_is_not_scaled(kind):
    y = np.column_stack([np.full(5000, 14.62), 1e8 + 1e-3 * RNG.normal(size=5000)])
    x = RNG.normal(size=(5000, 3))
    target = y if kind == "numpy" else da.from_array(y, chunks=(700, 2))
    model = ADMMRegressor((4,), max_iter=2, random_state=0).fit(x, target)
    assert model.network_.outputs.scale[0] == 1
    assert model.network_.outputs.scale[1] == pytest.approx(1e-3, rel=0.05)


def still_model():
    """Return a model of `STILL`, and inputs whose constant column has moved."""
    model = ADMMRegressor((8,), max_iter=2, random_state=0).fit(STILL, STILL[:, 0])
    moved = STILL[:5].astype(np.float32)
    moved[:, 3] = 15.0
    return model, moved


@needs_safetensors
def test_safetensors_carry_the_scale_of_a_constant_on(here):
    model, moved = still_model()
    save(model, "still.safetensors")
    again = load("still.safetensors")
    assert again.network_.inputs.scale[3] == 1
    np.testing.assert_array_equal(again.predict(moved), model.predict(moved))


@needs_onnx
def test_onnx_carries_the_scale_of_a_constant_on(here):
    model, moved = still_model()
    save(model, "still.onnx")
    found = runtime("still.onnx")(moved)["targets"]
    np.testing.assert_allclose(found.ravel(), model.predict(moved), rtol=1e-3, atol=1e-4)
