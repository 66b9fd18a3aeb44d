"""Named data sets and files for configs: the data of `dadmm fit`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.utils import format_bytes
from sklearn.model_selection import train_test_split

from dadmm.data.arrays import as_matrix, check_finite
from dadmm.data.files import ENDINGS, ending_kind
from dadmm.data.open import SMALL, open_path
from dadmm.data.table import Table, reading_of
from dadmm.datasets.drawing import figures
from dadmm.errors import InputError, unknown
from dadmm.numerics.types import Array

DATASETS = ("digits", "mnist", "figures", "wine-white", "wine-red")
FIGURES = 10_000


def load_dataset(name: str) -> tuple[Array, Array]:
    """Return inputs and targets of a named data set.

    Digits ship with scikit-learn.  MNIST (LeCun et al. 1998, ``mnist.npz``) and Wine Quality
    (Cortez et al. 2009) are read from the folder in the environment variable ``DADMM_DATA``, if it
    has them; else scikit-learn downloads them from OpenML.  Figures are the first 10 000 rows of
    `dadmm.datasets.figures`, with seed 0.

    Returns
    -------
    x : (rows, features) array
        uint8 for MNIST and figures, float64 for the others.
    y : (rows,) array
        Of MNIST's 70 000 rows, the first 60 000 are its training set, the others its test set.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return x, y
    if name == "mnist":
        return _mnist()
    if name == "figures":
        drawn = figures(FIGURES)
        return drawn.x, drawn.y
    if name in ("wine-white", "wine-red"):
        return _wine(name.removeprefix("wine-"))
    raise unknown("data set", name, DATASETS)


def _mnist() -> tuple[Array, Array]:
    path, cure = _kept("mnist.npz")
    if path is not None:
        try:
            with np.load(path, allow_pickle=False) as found:
                x = np.concatenate([found["x_train"], found["x_test"]])
                y = np.concatenate([found["y_train"], found["y_test"]])
        except (ValueError, KeyError, OSError) as error:
            raise InputError(f"{path} is not MNIST ({error}): {cure}") from error
        return x.reshape(len(x), -1), y.astype(np.int64)
    table = _download("MNIST", cure, "mnist_784", as_frame=False)
    return np.asarray(table.data).astype(np.uint8), np.asarray(table.target).astype(np.int64)


def _wine(colour: str) -> tuple[Array, Array]:
    path, cure = _kept(f"winequality-{colour}.csv")
    if path is not None:
        table = open_path(path, "wine").to_numpy(np.float64)
        return table[:, :-1], table[:, -1]
    # OpenML's table has both colours, the 1599 red ones first; the first acidities identify them.
    found = _download("Wine Quality", cure, "wine_quality", as_frame=True)
    table = found.frame.to_numpy(np.float64)
    if len(table) != 6497 or (table[0, 0], table[1599, 0]) != (7.4, 7.0):
        raise InputError(f"OpenML's Wine Quality is not the table of 2009: {cure}")
    rows = table[:1599] if colour == "red" else table[1599:]
    return rows[:, :-1], rows[:, -1]


def _kept(file: str) -> tuple[Path | None, str]:
    """Return a file's path in the folder DADMM_DATA, or None, and the cure for a missing file."""
    path = Path(os.environ.get("DADMM_DATA", ""), file)
    cure = f"put {file} into a folder and set DADMM_DATA to it"
    return path if os.environ.get("DADMM_DATA") and path.exists() else None, cure


def _download(title: str, cure: str, name: str, as_frame: bool) -> Any:
    from sklearn.datasets import fetch_openml

    try:
        return fetch_openml(name, version=1, as_frame=as_frame, parser="auto")
    except Exception as error:
        what = type(error).__name__
        raise InputError(f"{title} could not be downloaded ({what}): {cure}") from error


def load_data(table: Mapping[str, Any], supervised: bool = True) -> tuple[Any, Any, Any, Any]:
    """Return (x, y, x_test, y_test) for a config's [data] table; without a test set, None for it.

    Unless `supervised`, files need no targets, and y may be None.  The split is scikit-learn's
    `train_test_split`, seeded, so it is the same at every resume.
    """
    if "dataset" in table:
        x, y = load_dataset(table["dataset"])
    else:
        x, y = _from_files(table, supervised)
    fraction = table.get("test_fraction", 0.0)
    if not fraction and table.get("dataset") == "mnist":  # it has its own test set
        return x[:60000], y[:60000], x[60000:], y[60000:]
    if not fraction:
        return x, y, None, None
    in_memory = (np.ndarray, pd.DataFrame, pd.Series)
    parts = [part for part in (x, y) if part is not None]
    if not all(isinstance(part, in_memory) for part in parts):
        raise InputError(
            "[data] test_fraction splits only data in memory: hold rows of zarr data, or of tables "
            f"above {format_bytes(SMALL)}, out yourself"
        )
    if y is not None and len(x) != len(y):
        raise InputError(f"[data] y has {len(y)} rows, x has {len(x)}: give y a row for each of x")
    if isinstance(x, np.ndarray):  # errors name rows, which the split shuffles
        x = as_matrix(x, "x")
    if isinstance(y, np.ndarray):
        check_finite(y.reshape(len(y), -1), "y")
    try:
        halves = train_test_split(*parts, test_size=fraction, random_state=table.get("seed", 0))
    except ValueError as error:
        raise InputError(
            f"[data] test_fraction={fraction} of {len(x)} rows leaves too few to train or test"
        ) from error
    xa, xb, ya, yb = halves if y is not None else (*halves, None, None)
    return xa, ya, xb, yb


def _from_files(table: Mapping[str, Any], supervised: bool) -> tuple[Any, Any]:
    """Return inputs and targets from two files, or from one table or data set."""
    reading = reading_of(table)
    _check_reading(table, reading)
    x = open_path(Table(table["x"], **reading), "x")
    columns = list(x) if hasattr(x, "columns") or isinstance(x, xr.Dataset) else None
    if "y" not in table:
        if not supervised:
            return x, None
        if columns is None or isinstance(x, xr.Dataset):
            raise InputError("[data] has x but no y: name the file of the targets, or their column")
        return x[columns[:-1]], x[columns[-1]]
    named = list(map(str, table["y"] if isinstance(table["y"], list) else [table["y"]]))
    if not named:
        raise InputError("[data] y names no column: name one or more")
    if columns is not None and (len(named) > 1 or not _is_path(named[0])):
        known = {str(column): column for column in columns}
        for name in named:
            if name not in known:
                raise unknown(f"column of {table['x']}", name, known)
        chosen = [known[name] for name in named]
        target = x[chosen[0]] if len(chosen) == 1 else x[chosen]
        if isinstance(x, xr.Dataset):
            return x.drop_vars(chosen), target
        return x[[column for column in columns if column not in chosen]], target
    if len(named) > 1:
        raise InputError(f"[data] y={table['y']!r} names columns, but {table['x']} has none")
    named_rows = {name: value for name, value in reading.items() if name != "index"}
    y = open_path(Table(named[0], **named_rows), "y", known={})
    return x, y[y.columns[0]] if hasattr(y, "columns") and len(y.columns) == 1 else y


def _check_reading(table: Mapping[str, Any], reading: Mapping[str, Any]) -> None:
    """Raise `InputError` for options of CSV where there is none."""
    said = sorted(name for name in reading if name != "index")
    files = list(table["x"]) if isinstance(table["x"], list) else [table["x"]]
    if isinstance(y := table.get("y"), str) and _is_path(y):
        files.append(y)
    others = (".npy", ".zarr", *ENDINGS["parquet"])
    if said and all(str(file).lower().endswith(others) for file in files):
        raise InputError(f"[data] {said[0]} is for CSV, which {files[0]} is not: leave it out")


def _is_path(text: str) -> bool:
    named = ending_kind(text) is not None or text.lower().endswith((".npy", ".zarr"))
    return named or os.path.exists(text)
