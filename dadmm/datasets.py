"""Named data sets and files, for configs: what `dadmm fit` trains on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from dadmm.errors import InputError, unknown

Array = NDArray[Any]

DATASETS = ("digits", "wine-white", "wine-red")


def load_dataset(name: str) -> tuple[Array, Array]:
    """Return inputs and targets of a named data set.

    Digits ship inside scikit-learn.  Wine Quality (Cortez et al. 2009) is read from the folder
    that the environment variable ``DADMM_DATA`` names, if it is set and has it, and is otherwise
    downloaded by scikit-learn from OpenML.

    Returns
    -------
    x : (rows, features) float64 array
    y : (rows,) array
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return x, y
    if name in ("wine-white", "wine-red"):
        return _wine(name.removeprefix("wine-"))
    raise unknown("data set", name, DATASETS)


def _wine(colour: str) -> tuple[Array, Array]:
    folder = os.environ.get("DADMM_DATA")
    path = Path(folder, f"winequality-{colour}.csv") if folder else None
    if path is not None and path.exists():
        table = np.loadtxt(path, delimiter=",", dtype=np.float64)
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import fetch_openml

    try:
        found = fetch_openml("wine_quality", version=1, as_frame=True, parser="auto").frame
    except Exception as error:
        raise InputError(
            f"Wine Quality could not be downloaded ({type(error).__name__}): put "
            f"winequality-{colour}.csv into a folder and set DADMM_DATA to it"
        ) from error
    # OpenML's table has both colours, the 1599 red ones first.
    rows = found.iloc[:1599] if colour == "red" else found.iloc[1599:]
    return rows.iloc[:, :-1].to_numpy(np.float64), rows.iloc[:, -1].to_numpy(np.float64)


def read_array(path: str, name: str = "x") -> Any:
    """Return the array in a file: ``.npy``, ``.csv`` (numbers; a header row is skipped), or zarr.

    A zarr array comes back as a lazy dask array with its own chunks.

    Raises
    ------
    InputError
        If there is no such file, or it holds no numbers; the message names the first bad cell.
    """
    if "://" not in path and not Path(path).exists():
        raise InputError(f"{name}: {path} does not exist")
    if path.endswith(".npy"):
        try:
            return np.load(path, allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{name}: {path} is not a plain .npy array: {error}") from error
    if path.endswith(".csv"):
        return _read_csv(path, name)[1]
    import dask.array as da

    try:
        return da.from_zarr(path)
    except Exception as error:
        raise InputError(
            f"{name}: {path} is not a .npy, a .csv or a zarr array: {error}"
        ) from error


def _read_csv(path: str, name: str) -> tuple[list[str], Array]:
    lines = Path(path).read_text().splitlines()
    rows = [line.split(",") for line in lines if line.strip()]
    if not rows:
        raise InputError(f"{name}: {path} is empty")
    header: list[str] = []
    if not all(_is_number(cell) for cell in rows[0]):
        header, rows = [cell.strip().strip('"') for cell in rows[0]], rows[1:]
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InputError(f"{name}: {path} row {i} has {len(row)} columns, not {len(rows[0])}")
        for j, cell in enumerate(row):
            if not _is_number(cell):
                column = header[j] if header else str(j)
                raise InputError(
                    f"{name}: {path} row {i}, column {column} holds {cell.strip()!r}, which is not "
                    "numeric: encode or drop that column"
                )
    return header, np.array(rows, dtype=np.float64).reshape(len(rows), -1)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def load_data(table: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return (x, y, x_test, y_test) for a config's [data] table; the test set is None without one.

    The split is scikit-learn's `train_test_split`, seeded, so it is the same at every resume.
    """
    if "dataset" in table:
        x, y = load_dataset(table["dataset"])
    elif table["x"].endswith(".csv") and not str(table.get("y", "")).endswith((".csv", ".npy")):
        header, cells = _read_csv(table["x"], "x")
        target = str(table.get("y", header[-1] if header else cells.shape[1] - 1))
        names = header or [str(i) for i in range(cells.shape[1])]
        if target not in names:
            raise unknown(f"column of {table['x']}", target, names)
        column = names.index(target)
        x, y = np.delete(cells, column, axis=1), cells[:, column]
    elif "y" not in table:
        raise InputError("[data] has x but no y: name the file of the targets")
    else:
        x, y = read_array(table["x"], "x"), read_array(table["y"], "y")
    fraction = table.get("test_fraction", 0.0)
    if not fraction:
        return x, y, None, None
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        raise InputError(
            "[data] test_fraction splits data in memory: hold rows of zarr data out yourself"
        )
    if len(x) != len(y):
        raise InputError(f"[data] y has {len(y)} rows, x has {len(x)}")
    xa, xb, ya, yb = train_test_split(
        x, y, test_size=fraction, random_state=int(table.get("seed", 0))
    )
    return xa, ya, xb, yb
