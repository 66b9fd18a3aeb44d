"""Sparse matrices in zarr groups give what SciPy's give, read block by block, or are refused."""

from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import sparse

from dadmm import NMF, ADMMClassifier, load
from dadmm.data import arrays
from dadmm.data.open import open_path
from dadmm.errors import InputError
from support.clusters import processes
from support.messages import naming
from support.runs import bits
from support.sparse_groups import write_sparse
from support.terminal import ok

pytestmark = pytest.mark.usefixtures("here")

ROWS, COLUMNS = 300, 12
COUNTS = sparse.random_array((ROWS, COLUMNS), density=0.2, rng=0, format="csr")
COUNTS.data = np.random.default_rng(0).integers(1, 9, COUNTS.nnz).astype(np.float32)
COUNTS.data[COUNTS.indptr[40] : COUNTS.indptr[50]] = 0
COUNTS.eliminate_zeros()  # some rows are empty
LABELS = np.where(COUNTS[:, [0]].toarray().ravel() > 0, "T cell", "B cell")
OPTIONS = {"max_iter": 2, "random_state": 0, "chunks": 100, "tol": 0}


@pytest.fixture
def few_at_once(monkeypatch):
    """Make seven rows dense at once."""
    monkeypatch.setattr(arrays, "NUMBERS_AT_ONCE", 7 * COLUMNS)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "u2", "i8", "u8", "bool"])
def test_a_group_holds_the_numbers_of_the_matrix(dtype, zarr_format, few_at_once):
    numbers = COUNTS.data.astype(dtype)
    group = write_sparse("cells.zarr", COUNTS, zarr_format=zarr_format, data=numbers)
    for given in (group, open_path("cells.zarr/X")):
        found = arrays.as_matrix(given)
        assert found.numblocks == (43, 1)
        assert found.dtype == (np.float32 if dtype == "f2" else np.dtype(dtype).newbyteorder("="))
        np.testing.assert_array_equal(found.compute(), COUNTS.toarray().astype(dtype))


@pytest.mark.parametrize("dtype", ["i4", "i8", "u4", "u8"])
def test_places_have_any_integers_in_any_order_and_repeat(dtype, few_at_once):
    edges = [0, 3, 3, 5]
    places = np.array([2, 0, 2, 1, 1], dtype)
    numbers = np.array([1.0, 2, 4, 8, 16])
    matrix = sparse.csr_array((numbers, places.astype(int), edges), shape=(3, 3))
    group = write_sparse(
        "x.zarr", matrix, data=numbers, indices=places, indptr=np.array(edges, dtype)
    )
    np.testing.assert_array_equal(arrays.as_matrix(group), [[2, 0, 5], [0, 0, 0], [0, 24, 0]])


def test_rows_and_columns_are_picked_in_any_order(few_at_once):
    found = arrays.as_matrix(write_sparse("cells.zarr", COUNTS))
    np.testing.assert_array_equal(found[[250, 3, 8]], COUNTS.toarray()[[250, 3, 8]])
    np.testing.assert_array_equal(found[:, [5, 2]], COUNTS.toarray()[:, [5, 2]])
    np.testing.assert_array_equal(found[5:90][3], COUNTS.toarray()[8])


def test_training_and_predictions_are_those_of_scipys_matrix(few_at_once):
    group = write_sparse("cells.zarr", COUNTS)
    plain = ADMMClassifier((5,), **OPTIONS).fit(COUNTS, LABELS)
    stored = ADMMClassifier((5,), **OPTIONS).fit("cells.zarr/X", LABELS)
    assert bits(stored) == bits(plain)
    found = stored.predict(group)
    assert isinstance(found, da.Array)  # lazy
    np.testing.assert_array_equal(found, plain.predict(COUNTS))
    assert stored.score("cells.zarr/X", LABELS) == plain.score(COUNTS, LABELS)


def test_factors_are_those_of_scipys_matrix(few_at_once):
    write_sparse("cells.zarr", COUNTS)
    plain = NMF(3, max_iter=3).fit(COUNTS)
    stored = NMF(3, max_iter=3).fit("cells.zarr/X")
    np.testing.assert_array_equal(stored.components_, plain.components_)
    np.testing.assert_array_equal(stored.transform("cells.zarr/X"), plain.transform(COUNTS))


@pytest.mark.processes
def test_workers_open_the_group_themselves():
    group = write_sparse("cells.zarr", COUNTS)
    plain = ADMMClassifier((5,), **OPTIONS).fit(COUNTS, LABELS)
    with processes(1):
        stored = ADMMClassifier((5,), **OPTIONS).fit(group, LABELS)
        np.testing.assert_array_equal(stored.predict("cells.zarr/X"), plain.predict(COUNTS))
    assert bits(stored) == bits(plain)


def test_a_graph_holds_none_of_the_numbers():
    rng = np.random.default_rng(0)
    large = sparse.random_array((20_000, 20), density=0.5, rng=rng, format="csr")
    found = arrays.as_matrix(write_sparse("cells.zarr", large))
    assert len(cloudpickle.dumps(found)) < 20_000


def test_the_command_line_predicts_from_a_group():
    write_sparse("cells.zarr", COUNTS)
    np.save("labels.npy", LABELS)
    Path("cells.toml").write_text(
        '[data]\nx = "cells.zarr/X"\ny = "labels.npy"\n'
        '[model]\ntask = "classification"\nhidden_layer_sizes = [5]\nmax_iter = 2\n'
    )
    ok("fit", "cells.toml", "--run", "run")
    ok("predict", "run", "cells.zarr/X", "found.npy")
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(COUNTS))


EDGES, PLACES = COUNTS.indptr, COUNTS.indices


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"encoding": "csc_matrix"}, ["by columns", "csc_matrix", "tocsr"]),
        ({"indptr": None}, ["'indptr'"]),
        ({"data": None}, ["'data'"]),
        ({"indices": PLACES[:, None]}, ["'indices'", "one dimension"]),
        ({"indices": PLACES.astype(float)}, ["float64", "places"]),
        ({"data": COUNTS.data.astype(complex)}, ["numbers", "complex128"]),
        ({"indices": PLACES[:-1]}, [str(COUNTS.nnz), str(COUNTS.nnz - 1)]),
        ({"indptr": EDGES[:-1]}, ["300", "rows"]),
        ({"shape": [ROWS]}, ["shape", "[300]"]),
        ({"shape": "300 x 12"}, ["shape", "'300 x 12'"]),
        ({"shape": [ROWS, -1]}, ["shape", "-1"]),
        ({"shape": None}, ["shape", "None"]),
    ],
)
def test_a_group_that_is_no_matrix_by_rows_is_refused(parts, words):
    group = write_sparse("cells.zarr", COUNTS, **parts)
    for call in (
        lambda: open_path("cells.zarr/X"),
        lambda: NMF(2, max_iter=2).fit(group),
    ):
        with pytest.raises(InputError, match=naming("cells.zarr/X", *words)) as caught:
            call()
        assert "\n" not in str(caught.value)


def replaced(array, place, value):
    found = array.copy()
    found[place] = value
    return found


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"indptr": replaced(EDGES, 100, EDGES[90])}, ["rows 98 to 104", "indptr"]),
        ({"indptr": replaced(EDGES, 100, -1)}, ["rows 98 to 104", "indptr"]),
        ({"indptr": replaced(EDGES, 100, COUNTS.nnz + 5)}, ["rows 98 to 104", "indptr"]),
        ({"indptr": replaced(EDGES, 0, 2)}, ["rows 0 to 6", "indptr"]),
        ({"indptr": replaced(EDGES, -1, COUNTS.nnz - 1)}, ["rows 294 to 299", "indptr"]),
        ({"indices": replaced(PLACES, -1, COLUMNS)}, ["rows 294 to 299", "indices", "12"]),
        ({"indices": replaced(PLACES, 0, -1)}, ["rows 0 to 6", "indices", "-1"]),
    ],
)
def test_numbers_that_do_not_fit_are_named_by_their_rows(parts, words, few_at_once):
    write_sparse("cells.zarr", COUNTS, **parts)
    with pytest.raises(InputError, match=naming("cells.zarr/X", *words)) as caught:
        ADMMClassifier((5,), **OPTIONS).fit("cells.zarr/X", LABELS)
    assert "\n" not in str(caught.value)


def test_a_store_of_several_parts_names_them():
    group = write_sparse("cells.zarr", COUNTS)
    zarr.open_group("cells.zarr").create_group("obs")
    with pytest.raises(InputError, match=naming("cells.zarr", "group", "X")):
        open_path("cells.zarr")
    assert arrays.as_matrix(group).shape == (ROWS, COLUMNS)
