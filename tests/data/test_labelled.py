"""Weights and variables of xarray that lack a sample dimension are repeated over it."""

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from dadmm.data.labelled import Labelled
from dadmm.errors import DataError, ShapeError
from support.messages import naming
from support.runs import bits
from support.tables import CUBE, CUBE_Y, LABELS, NAMES, PRICE, X, classifier, regressor

DIMS = ("time", "lat", "lon")
FIELDS = CUBE.to_dataset("feature")
WEIGHT = xr.DataArray(
    np.random.default_rng(0).uniform(1, 2, CUBE_Y.shape), CUBE_Y.coords, DIMS, name="area"
)
CONTAINERS = {
    "array": CUBE,
    "lazy array": CUBE.chunk(time=2),
    "data set": FIELDS,
    "lazy data set": FIELDS.chunk(time=2, lat=3),
    "partly lazy": FIELDS.assign(b=FIELDS["b"].chunk(time=2)),
}


def fitted(x=CUBE, y=CUBE_Y, **options):
    return regressor(sample_dims=DIMS).fit(x, y, **options)


@pytest.mark.parametrize("x", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("dims", [("lat",), ("lon", "lat"), ("time",), (), DIMS])
def test_weights_are_repeated_over_the_dimensions_that_they_lack(dims, x):
    weight = WEIGHT.isel({dim: 0 for dim in DIMS if dim not in dims}).transpose(*dims)
    whole = weight.broadcast_like(WEIGHT).transpose(*DIMS).values.ravel()
    plain = regressor().fit(X, PRICE, sample_weight=whole)
    for given in (weight, weight.chunk()):
        model = fitted(x, sample_weight=given)
        assert bits(model) == bits(plain)
    assert model.score(x, CUBE_Y, sample_weight=weight) == pytest.approx(
        plain.score(X, PRICE, sample_weight=whole), rel=1e-12
    )


def test_the_classes_of_a_cube_are_weighted_by_latitude_too():
    labels = CUBE_Y.copy(data=LABELS.reshape(CUBE_Y.shape))
    weight = WEIGHT.isel(time=0, lon=0)
    whole = np.broadcast_to(weight.values[:, None], CUBE_Y.shape).ravel()
    model = classifier().fit(CUBE, labels, sample_weight=weight)
    assert bits(model) == bits(classifier().fit(X, LABELS, sample_weight=whole))
    found = model.score(CUBE, labels, sample_weight=weight)
    assert found == pytest.approx(model.score(X, LABELS, sample_weight=whole))


def world(rows=40_000):
    """Return a lazy data set of so many samples, with variables that are the same everywhere."""
    shape = (rows // 400, 20, 20)
    field = da.ones(shape, chunks=(10, -1, 10))
    fixed = {"phi": ("lat", np.arange(20.0)), "season": ("time", np.arange(shape[0])), "one": 1.0}
    return xr.Dataset({"u": (DIMS, field), **fixed})


def test_what_a_lazy_data_set_repeats_is_in_chunks_of_its_size():
    x = world()
    found = Labelled(x, DIMS)._plain().x
    assert isinstance(found, da.Array)
    assert max(map(max, found.chunks[:1])) <= 4000
    assert len(cloudpickle.dumps(found)) < 100_000  # one column has 320 000 bytes
    expected = [x[name].broadcast_like(x["u"]).transpose(*DIMS) for name in x.data_vars]
    np.testing.assert_array_equal(found, np.stack([a.values.ravel() for a in expected], axis=1))


def test_weights_of_a_lazy_data_set_are_lazy():
    x = world()
    found = Labelled(x, DIMS).align(x["phi"], "sample_weight", repeat=True)
    assert isinstance(found, da.Array)
    assert len(cloudpickle.dumps(found)) < 100_000
    whole = x["phi"].broadcast_like(x["u"]).transpose(*DIMS)
    np.testing.assert_array_equal(found, whole.values.ravel())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda w: w.rename(lat="latitude"), ShapeError, ["'latitude'", "'lat'"]),
        (lambda w: w.expand_dims(member=2), ShapeError, ["'member'"]),
        (lambda w: w.assign_coords(lat=w["lat"] + 1), DataError, ["coordinates", "'lat'"]),
        (lambda w: w.isel(lat=slice(2)).drop_vars("lat"), ShapeError, ["sizes", "'lat': 2"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, error, words):
    weight = change(WEIGHT.isel(time=0, lon=0, drop=True))
    model = fitted()
    for call in (
        lambda: fitted(sample_weight=weight),
        lambda: model.score(CUBE, CUBE_Y, sample_weight=weight),
    ):
        with pytest.raises(error, match=naming("sample_weight", *words)):
            call()


def test_a_target_is_not_repeated():
    with pytest.raises(ShapeError, match=naming("y", "'time'")):
        fitted(y=CUBE_Y.isel(time=0))


def area(x):
    return np.cos(np.deg2rad(x["lat"]))


def test_cells_of_a_mask_are_stacked_and_left_out():
    sea = xr.DataArray([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0]], dims=("lat", "lon")) == 1
    masked = FIELDS.assign(price=CUBE_Y).where(sea).chunk(time=2)
    cells = masked.stack(cell=("lat", "lon")).dropna("cell")
    options = {"sample_dims": ("time", "cell")}
    model = regressor(**options).fit(cells, "price", sample_weight=area(cells))
    kept = np.broadcast_to(sea, CUBE_Y.shape).ravel()
    whole = area(CUBE).broadcast_like(CUBE_Y).transpose(*DIMS).values.ravel()
    plain = regressor().fit(X[kept], PRICE[kept], sample_weight=whole[kept])
    assert bits(model) == bits(plain)
    found = model.predict(cells)
    assert found.chunks is not None  # lazy
    back = found.unstack("cell").reindex_like(CUBE_Y)
    np.testing.assert_array_equal(back.values.ravel()[kept], plain.predict(X[kept]))
    assert np.isnan(back.values.ravel()[~kept]).all()
    assert list(model.feature_names_in_) == NAMES
