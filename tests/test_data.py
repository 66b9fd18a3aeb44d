"""Arrays become matrices, labels and moments; what cannot be trained on is named."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.data import arrays, ingest, targets
from dadmm.data.ingest import Moments
from dadmm.errors import DataError, ShapeError
from dadmm.store import Run

X = np.random.default_rng(0).normal(size=(20, 3))


def with_unknown_sizes(array, rows=7):
    lazy = da.from_array(array, chunks=(rows, *array.shape[1:]))
    return lazy[da.ones(len(array), chunks=rows, dtype=bool)]


# ------------------------------------------------------------------------------------ matrices


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        X.astype(object),
        pd.DataFrame(X),
        np.asfortranarray(X),
        X.astype(np.longdouble),
        np.ma.masked_array(X),
    ],
    ids=["array", "list", "objects", "frame", "fortran", "longdouble", "masked"],
)
def test_what_holds_numbers_becomes_a_matrix(given):
    found = arrays.as_matrix(given)
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64, np.bool_, ">f8"])
def test_a_matrix_keeps_its_dtype(dtype):
    assert arrays.as_matrix(np.ones((3, 2), dtype)).dtype == dtype


def test_a_dask_array_stays_one():
    assert arrays.is_dask(arrays.as_matrix(da.from_array(X, chunks=7)))


def test_unknown_chunk_sizes_are_found_out_but_not_in_the_callers_array():
    lazy = with_unknown_sizes(X)
    assert arrays.as_matrix(lazy).shape == X.shape
    assert targets.as_column(lazy[:, 0], 20).shape == (20,)
    assert np.isnan(lazy.shape[0])


def test_a_lazy_look_computes_nothing():
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        assert arrays.as_matrix(with_unknown_sizes(X), lazy=True).shape[1] == 3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (X[:, 0], ShapeError, r"x has 1 dimension.*x.reshape\(-1, 1\)"),
        (X[None], ShapeError, "x has 3 dimension"),
        (5, ShapeError, "x is a int, not an array of rows"),
        ({"a": 1}, ShapeError, "x is a dict"),
        ([[1, 2], [3]], ShapeError, "rows of different lengths"),
        (None, DataError, "x is missing"),
        (X[:0], DataError, r"x is empty: 0 sample\(s\) \(shape=\(0, 3\)\)"),
        (X[:, :0], DataError, r"x is empty: 0 feature\(s\) \(shape=\(20, 0\)\)"),
        (X + 0j, DataError, "x has dtype complex128"),
        (X.astype("M8[s]"), DataError, "row 0, column 0 holds '1970-"),
        ([[1.0, "two"]], DataError, "row 0, column 0 holds '1.0'"),
        (np.array([[1, 2], [3, "four"]], object), DataError, "row 1, column 1 holds 'four'"),
        (np.array([[1, 2], [None, 4]], object), DataError, "row 1, column 0 holds 'None'"),
        (pd.DataFrame({"a": pd.array([1, None])}), DataError, "row 1, column 0"),
        (np.ma.masked_array(X, X > 0), DataError, "masked values"),
        (da.from_array(X.astype(str)), DataError, "x has dtype <U32, which is not numeric"),
        (da.from_array(X[:, 0]), ShapeError, "x has 1 dimension"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_named(given, error, words):
    with pytest.raises(error, match=words):
        arrays.as_matrix(given)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("row", [0, 19, arrays.ROWS_AT_ONCE + 3])
def test_the_first_value_that_is_not_finite_is_named(value, what, row):
    x = np.zeros((max(20, row + 1), 2))
    x[row, 1] = value
    with pytest.raises(DataError, match=f"z contains {what} in row {row + 5}, column 1"):
        arrays.check_finite(x, "z", 5)


# -------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([3, -1, 3]), [-1, 3]),
        (np.array([True, False]), [False, True]),
        (np.array(["b", "a"]), ["a", "b"]),
        (np.array(["b", "a"], object), ["a", "b"]),
        (np.array([2.0, 1.0]), [1.0, 2.0]),
        (da.from_array(np.array(["b", "a", "b"]), chunks=2), ["a", "b"]),
    ],
)
def test_classes_are_the_sorted_labels(y, classes):
    found = targets.find_classes(y)
    assert found.tolist() == classes
    assert found.dtype == y.dtype


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array([1, 1]), "y has one class, 1"),
        (np.array(["a", "a"]), "y has one class, 'a'"),
        (np.array([1.0, np.nan]), "missing or infinite label in row 1"),
        (da.from_array(np.array([1.0, 2.0, np.inf]), chunks=1), "infinite label in row 2"),
        (np.array(["a", None], object), "missing label in row 1"),
        (np.array(["a", np.nan], object), "missing label in row 1"),
        (np.array(["a", 1], object), "different types"),
        (np.array([b"a", b"b"], object), "y has a bytes in row 0"),
        (np.array([b"a", b"b"]), "y has dtype |S1"),
        (np.array([1, 2j]), "y has dtype complex128"),
        (np.array(["2020", "2021"], "M8[Y]"), "y has dtype datetime64"),
        (np.array([0.5, 1.0]), "continuous values such as 0.5.*use ADMMRegressor"),
    ],
)
def test_what_are_no_labels_is_named(y, words):
    with pytest.raises(DataError, match=words.replace("|", r"\|")):
        targets.find_classes(y)


@given(st.lists(st.integers(-5, 5), min_size=1), st.booleans())
def test_codes_lead_back_to_the_labels(labels, text):
    y = np.array([str(label) for label in labels] if text else labels)
    classes = np.unique(y)
    codes = targets.encode_labels(y, classes)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(classes[codes], y)


@pytest.mark.parametrize("label", [7, -7, "7", 0.5])
def test_a_label_that_training_never_saw_is_named(label):
    words = rf"label {label!r} in row 11, which is not among the 2 classes of training: 0, 1"
    with pytest.raises(DataError, match=words):
        targets.encode_labels(np.array([1, label], np.array(label).dtype)[1:], np.array([0, 1]), 11)


def test_a_long_list_of_classes_is_cut_short():
    with pytest.raises(DataError, match=r"8, 9, \.\.\.$"):
        targets.encode_labels(np.array([99]), np.arange(50))


def test_targets_have_as_many_rows_as_inputs():
    assert targets.as_targets([1, 2], 2).shape == (2, 1)
    assert targets.as_targets(da.ones((4, 2)), 4).shape == (4, 2)
    assert targets.as_column(np.ones((4, 1)), 4).shape == (4,)
    with pytest.raises(ShapeError, match="y has 3 rows, x has 4"):
        targets.as_targets(np.ones(3), 4)
    with pytest.raises(ShapeError, match="y has 3 dimensions"):
        targets.as_targets(np.ones((4, 1, 1)), 4)
    with pytest.raises(DataError, match="y contains NaN in row 1, column 0"):
        targets.as_targets([0.0, np.nan], 2)
    with pytest.raises(DataError, match="y is missing"):
        targets.as_column(None, 4)


# ------------------------------------------------------------------------------------- scaling


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e6]),
)
def test_moments_add_up_over_chunks(seed, chunks, centre):
    x = centre + np.random.default_rng(seed).normal(size=(sum(chunks), 2))
    parts = np.split(x, np.cumsum(chunks)[:-1])
    total = ingest.sum_moments([Moments.of(part) for part in parts])
    assert total.count == len(x)
    np.testing.assert_allclose(total.mean, x.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.squares, x.var(axis=0) * len(x), rtol=1e-6, atol=1e-8)


def test_scaling_is_per_feature_or_one_for_all_or_none():
    x = X * [1.0, 10.0, 0.0] + 5.0
    moments = Moments.of(x)
    by_feature = moments.scaling("feature")
    np.testing.assert_allclose(by_feature.centre, x.mean(axis=0))
    np.testing.assert_allclose(by_feature.scale, [x[:, 0].std(), x[:, 1].std(), 1.0])
    np.testing.assert_allclose(moments.scaling("global").scale, x.std())
    np.testing.assert_array_equal(moments.scaling("none").scale, 1.0)
    np.testing.assert_array_equal(moments.scaling("none").centre, 0.0)


# --------------------------------------------------------------------------------- into the run


@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("chunks", [(20,), (8, 8, 4)])
def test_data_is_stored_in_the_runs_chunks(kind, chunks):
    y = np.arange(20, dtype=np.int32)[:, None]
    x = X if kind == "numpy" else da.from_array(X, chunks=(7, 2))
    y_given = y if kind == "numpy" else da.from_array(y, chunks=9)
    run = Run.in_memory({})
    with dask.config.set(scheduler="threads"):
        x_moments, y_moments = ingest.store(run, x, y_given, chunks)
    for name, array in (("x", X), ("y", y)):
        stored = [run.blocks.read(f"data/{name}", c) for c in range(len(chunks))]
        assert tuple(len(block) for block in stored) == chunks
        assert stored[0].dtype == array.dtype
        np.testing.assert_array_equal(np.concatenate(stored), array)
    np.testing.assert_allclose(x_moments.mean, X.mean(axis=0))
    np.testing.assert_allclose(y_moments.squares, y.var() * 20)


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_a_bad_row_is_counted_over_all_chunks(kind):
    x = X.copy()
    x[17, 2] = np.nan
    x = x if kind == "numpy" else da.from_array(x, chunks=(6, 2))
    with (
        dask.config.set(scheduler="threads"),
        pytest.raises(DataError, match="x contains NaN in row 17, column 2"),
    ):
        ingest.store(Run.in_memory({}), x, X[:, :1], (8, 8, 4))


def test_values_too_large_to_scale_are_refused():
    with pytest.raises(DataError, match="y has values whose squares overflow"):
        ingest.store(Run.in_memory({}), X, X * 1e300, (20,))
