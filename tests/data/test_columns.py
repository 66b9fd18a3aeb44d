"""Columns of tables: categories, missing values, and what they are known by."""

import json

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from dadmm import load, resume
from dadmm.errors import DataError, InputError, StoreError
from dadmm.networks.form import Column, Form
from dadmm.store import Run, metadata
from support.messages import naming
from support.runs import bits
from support.tables import (
    CUBE,
    CUBE_Y,
    ENCODED,
    FRAME,
    NAMES,
    PRICE,
    ROWS,
    X,
    by_hand,
    holed,
    regressor,
)

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")


# ------------------------------------------------------------------- categories and missing values


@pytest.mark.parametrize("lazy", [False, True])
def test_categories_are_one_hot_and_missing_values_filled(lazy, tmp_path):
    table = holed()
    plain = regressor().fit(by_hand(table), PRICE)
    x = dd.from_pandas(table, npartitions=4) if lazy else table
    model = regressor(**ENCODED, run=tmp_path / "run").fit(x, "price")
    np.testing.assert_allclose(
        np.asarray(model.predict(x)), plain.predict(by_hand(table)), rtol=1e-4, atol=1e-5
    )
    assert model.feature_names_in_.tolist() == [*NAMES, "colour", "size", "good"]
    assert model.n_features_in_ == 7
    assert model.network_.architecture.widths[0] == 11
    again = load(tmp_path / "run")
    assert again._form == model._form
    row = table.iloc[[7]]
    np.testing.assert_allclose(again.predict(row), np.asarray(model.predict(x))[[7]])
    more = resume(tmp_path / "run", max_iter=3)
    assert more.n_iter_ == 3
    assert more.predict(row).shape == (1,)


def test_arrays_are_imputed_by_the_means_of_training():
    x = X.copy()
    x[3, 1] = x[50, 2] = np.nan
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    plain = regressor().fit(filled, PRICE)
    cube = CUBE.copy(data=x.reshape(CUBE.shape))
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=x, chunks=(10, 3))
    for given in (x, da.from_array(x, chunks=(13, 3)), cube, cube.chunk({"time": 2}), stored):
        y = CUBE_Y if isinstance(given, xr.DataArray) else PRICE
        model = regressor(missing="impute").fit(given, y)
        found = np.asarray(model.predict(given)).reshape(-1)
        np.testing.assert_allclose(found, plain.predict(filled), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model._form.fills, np.nanmean(x, axis=0))
    with pytest.raises(DataError, match=naming("x", "infinity", "row 3", "column 1")):
        model.predict(np.where(np.isnan(x), np.inf, x))


def test_a_category_that_training_never_saw_is_an_error_or_zeros():
    table = holed()
    model = regressor(**ENCODED).fit(table, "price")
    new = table.assign(colour=["mauve", *table["colour"][1:]])
    words = naming("'mauve'", "'colour'", "row 0")
    with pytest.raises(DataError, match=words):
        model.predict(new)
    lazy = model.predict(dd.from_pandas(new, npartitions=3))
    with pytest.raises(DataError, match=words):
        lazy.compute()
    model.set_params(handle_unknown="ignore")
    zeros = by_hand(new)
    zeros[0, 4:7] = 0
    np.testing.assert_allclose(
        model.predict(new), model.network_.forward(zeros)[:, 0], rtol=1e-5, atol=1e-6
    )


def test_partial_fit_keeps_the_categories_of_the_first_call():
    table = holed()
    model = regressor(**ENCODED).partial_fit(table, "price")
    first = model._form
    model.partial_fit(table.iloc[:20], "price")  # means and categories of its own
    assert model._form == first


# --------------------------------------------------------------------------------------- bad input


def test_columns_are_taken_by_name_or_named():
    model = regressor(**ENCODED).fit(holed(), "price")
    table = holed().drop(columns="price")
    for x, words in (
        (table.drop(columns=["a", "good"]), ["missing", "a", "good"]),
        (table.assign(zz=1), ["unseen", "zz"]),
        (table.to_numpy(), ["x", "column names"]),
        (table.assign(a="text"), ["'a'", "numbers"]),
        (table.assign(colour=5), ["'colour'", "int", "str"]),
    ):
        with pytest.raises(InputError, match=naming(*words)):
            model.predict(x)
    plain = regressor().fit(FRAME, PRICE)
    with pytest.raises(DataError, match=naming("x", "NaN", "'b'", "row 13")):
        plain.predict(FRAME.assign(b=[1.0, np.nan, *X[2:, 1]]))
    with pytest.raises(DataError, match=naming("numeric", "a")):
        plain.predict(FRAME.assign(a="u"))
    np.testing.assert_array_equal(plain.predict(X), plain.predict(FRAME))


@pytest.mark.parametrize(
    "forged",
    [
        None,
        {},
        {"names": "ab"},
        {"names": [None]},
        {"names": [["a"]]},
        {"names": [float("inf")]},
        {"names": [{"date": "soon"}]},
        {"names": [{"tuple": "ab"}]},
        {"names": [{"tuple": [{}]}]},
        {"names": [{"text": "a"}]},
        {"names": ["a", "a"]},
        {"columns": [1]},
        {"columns": [{"categories": None, "fill": float("inf")}]},
        {"columns": [{"categories": None, "fill": True}]},
        {"columns": [{"categories": [], "fill": None}]},
        {"columns": [{"categories": [[]], "fill": None}]},
        {"columns": [{"categories": ["u"], "fill": "v"}]},
        {"names": ["a"], "columns": [{"categories": None, "fill": None}] * 2},
        {"dims": None},
        {"dims": [1]},
        {"features": [["lat", 5]]},
        {"features": [[1, None]]},
        {"features": [["lat", [[]]]]},
        {"targets": {"a": 1}},
    ],
)
def test_forged_forms_are_refused(forged):
    good = {"names": None, "columns": [], "targets": None, "dims": [], "features": []}
    with pytest.raises(InputError, match=naming("inputs")):
        Form.from_json(forged if not forged else good | forged)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("columns", [{"categories": None, "fill": None}] * 7, ["columns", "network"]),
        ("names", ["a"], ["columns", "names"]),
        ("targets", 5, ["5", "list"]),
    ],
)
def test_a_run_with_a_forged_form_is_refused(tmp_path, key, value, words):
    regressor(**ENCODED, run=tmp_path / "run").fit(holed(), "price")
    stored = Run.open(tmp_path / "run").attributes
    stored["inputs"][key] = value
    (tmp_path / "run" / "zarr.json").write_bytes(metadata.group_document({"dadmm": stored}))
    with pytest.raises(StoreError, match=naming(str(tmp_path / "run"), *words)):
        load(tmp_path / "run")


def test_a_form_survives_json():
    form = Form(
        ("a", "b", "c"),
        (Column(None, 0.5), Column(("u", "v"), "v"), Column((1, 2))),
        ("p",),
        ("time", "lat"),
        {"lon": [0.1, 2.0], "band": ["u", "v"], "z": None},
    )
    assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form


def test_warm_start_keeps_columns_and_categories():
    frame = FRAME.assign(kind=np.resize(["u", "v", "w"], ROWS))
    options = {"warm_start": True, "categorical": "one_hot"}
    again, turned = (regressor(**options).fit(frame, PRICE) for _ in range(2))
    again.fit(frame, PRICE)
    turned.fit(frame[["kind", "d", "c", "b", "a"]], PRICE)
    assert bits(again) == bits(turned)
    with pytest.raises(DataError, match=naming("'z'", "'kind'")):
        again.fit(frame.replace({"kind": {"w": "z"}}), PRICE)


def test_categories_of_another_type_are_no_unknown_ones():
    frame = FRAME.assign(kind=np.resize(["1", "2"], ROWS))
    model = regressor(categorical="one_hot", handle_unknown="ignore").fit(frame, PRICE)
    for kind in ("1", 1, 1.0, np.int8(1)):
        same = model.predict(frame.assign(kind=kind))
        np.testing.assert_array_equal(same, model.predict(frame.assign(kind="1")))
    for kind in (3, 1.5, True):
        with pytest.raises(DataError, match=naming("'kind'", type(kind).__name__, "str")):
            model.predict(frame.assign(kind=kind))
