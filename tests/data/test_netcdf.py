"""NetCDF files are data sets, lazy and decoded."""

import numpy as np
import pytest
import xarray as xr

from dadmm import ADMMRegressor
from dadmm.data.open import open_path
from dadmm.errors import InputError
from support.messages import naming
from support.terminal import command

pytestmark = pytest.mark.usefixtures("here")
RNG = np.random.default_rng(0)
CUBE = xr.Dataset(
    {name: (("time", "cell"), RNG.integers(-90, 90, (12, 6)) * 0.5) for name in ("t2m", "wind")},
    {"time": xr.date_range("2020", periods=12, freq="MS"), "cell": np.arange(6.0)},
)
CUBE["rain"] = CUBE["t2m"] - 2 * CUBE["wind"]
PACKED = {
    name: {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -32768}
    for name in CUBE.data_vars
}


def net(**options):
    return ADMMRegressor((5,), max_iter=2, random_state=0, chunks=20, **options)


@pytest.fixture(params=["scipy", "h5netcdf"])
def engine(request):
    pytest.importorskip(
        "h5py" if request.param == "h5netcdf" else "scipy", reason="needs the extra 'netcdf'"
    )
    return request.param


def test_a_file_is_a_lazy_data_set(engine):
    CUBE.to_netcdf("cube.nc", engine=engine, encoding=PACKED)
    found = open_path("cube.nc")
    assert found["rain"].chunks is not None
    xr.testing.assert_allclose(found.compute(), CUBE)
    model = net(sample_dims=("time", "cell"), run="run").fit("cube.nc", "rain")
    plain = net().fit(CUBE[["t2m", "wind"]].to_array().values.reshape(2, -1).T,
                      CUBE["rain"].values.ravel())  # fmt: skip
    predicted = model.predict("cube.nc")
    assert predicted.dims == ("time", "cell")
    flat = np.stack([CUBE["t2m"].values.ravel(), CUBE["wind"].values.ravel()], axis=1)
    np.testing.assert_allclose(predicted.values.ravel(), plain.predict(flat), rtol=1e-4, atol=1e-4)
    assert command("predict", "run", "cube.nc", "found.zarr").code == 0
    np.testing.assert_allclose(xr.open_zarr("found.zarr", consolidated=False)["rain"], predicted)


def test_several_files_are_one_data_set(engine):
    CUBE.isel(time=slice(6)).to_netcdf("cube-1.nc", engine=engine)
    CUBE.isel(time=slice(6, 12)).to_netcdf("cube-2.nc", engine=engine)
    xr.testing.assert_allclose(open_path("cube-*.nc").compute(), CUBE)


def test_what_is_no_data_set_is_named(engine):
    with open("text.nc", "w") as file:
        file.write("no netCDF")
    xr.Dataset(coords={"x": [1.0]}).to_netcdf("empty.nc", engine=engine)
    for path, words in (
        ("text.nc", ["text.nc", "netCDF"]),
        ("none.nc", ["none.nc", "exist"]),
        ("none-*.nc", ["none-*.nc", "exist"]),
        ("empty.nc", ["empty.nc", "variables"]),
        ("https://127.0.0.1:9/x.nc", ["x.nc", "zarr"]),
    ):
        with pytest.raises(InputError, match=naming(*words)) as caught:
            open_path(path)
        assert "\n" not in str(caught.value)
