"""The same data in NumPy, pandas and xarray, and with holes and categories in it."""

import numpy as np
import pandas as pd
import xarray as xr

from dadmm import ADMMClassifier, ADMMRegressor
from dadmm.data.frames import Frame

RNG = np.random.default_rng(5)
ROWS = 60
X = RNG.normal(size=(ROWS, 4)).round(3)
X[X < -1] = 0
LABELS = np.where(X[:, 0] > X[:, 1], "yes", "no")
PRICE = X[:, 0] * 2 + np.sin(X[:, 1])
BOTH = np.stack([PRICE, -PRICE], axis=1)
NAMES = ["a", "b", "c", "d"]
INDEX = pd.Index(np.arange(ROWS) * 10 + 3, name="id")
FRAME = pd.DataFrame(X, columns=NAMES, index=INDEX)
OPTIONS = {"max_iter": 2, "random_state": 0, "chunks": 25, "tol": 0}
TIME, LAT, LON = 5, 4, 3
CUBE = xr.DataArray(
    X.reshape(TIME, LAT, LON, 4),
    dims=("time", "lat", "lon", "feature"),
    coords={
        "time": pd.date_range("2020-01-01", periods=TIME),
        "lat": [10.0, 20.0, 30.0, 40.0],
        "lon": [0.0, 5.0, 10.0],
        "feature": NAMES,
        "height": (("lat", "lon"), np.ones((LAT, LON))),
    },
)
CUBE_Y = CUBE.isel(feature=0, drop=True).copy(data=PRICE.reshape(TIME, LAT, LON)).rename("price")


def classifier(**options):
    return ADMMClassifier((5, 5), **{**OPTIONS, **options})


def regressor(**options):
    return ADMMRegressor((5, 5), **{**OPTIONS, **options})


def indexed(table):
    """Return a table whose predictions keep index and names, as one from a file."""
    return Frame(table, indexed=True)


def holed():
    table = FRAME.reset_index(drop=True).assign(
        colour=np.resize(["red", "green", "blue", "red"], ROWS),
        size=pd.Categorical(np.resize([3, 1, 2], ROWS)),
        good=np.resize([True, False], ROWS),
        price=PRICE,
    )
    table.loc[[2, 40], "b"] = np.nan
    table.loc[7, "colour"] = None
    return table


def by_hand(table):
    colour = table["colour"].fillna("red")
    columns = [table[name] for name in "abcd"]
    columns[1] = columns[1].fillna(columns[1].mean())
    columns += [colour == c for c in ("blue", "green", "red")]
    columns += [table["size"] == s for s in (1, 2, 3)]
    return np.column_stack([*columns, table["good"]]).astype(float)


ENCODED = {"categorical": "one_hot", "missing": "impute"}
