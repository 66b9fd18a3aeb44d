"""Named data sets and files, for configs: what `dadmm fit` trains on."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from dask.utils import format_bytes
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from dadmm.data import as_matrix, check_finite
from dadmm.errors import InputError, unknown
from dadmm.store.sources import refuse_pickle

Array = NDArray[Any]

# What a graph of Dask's can have.
MOST_CHUNKS = 10**6
DATASETS = ("digits", "mnist", "wine-white", "wine-red")


def load_dataset(name: str) -> tuple[Array, Array]:
    """Return inputs and targets of a named data set.

    Digits ship inside scikit-learn.  MNIST (LeCun et al. 1998, ``mnist.npz``) and Wine Quality
    (Cortez et al. 2009) are read from the folder that the environment variable ``DADMM_DATA``
    names, if it is set and has them, and are otherwise downloaded by scikit-learn from OpenML.

    Returns
    -------
    x : (rows, features) array
        uint8 for MNIST, float64 for the others.
    y : (rows,) array
        MNIST's 70 000 rows are the 60 000 of its training set, then the 10 000 of its test set.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return x, y
    if name == "mnist":
        return _mnist()
    if name in ("wine-white", "wine-red"):
        return _wine(name.removeprefix("wine-"))
    raise unknown("data set", name, DATASETS)


def _mnist() -> tuple[Array, Array]:
    folder = os.environ.get("DADMM_DATA")
    path = Path(folder, "mnist.npz") if folder else None
    cure = "put mnist.npz into a folder and set DADMM_DATA to it"
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as found:
                x = np.concatenate([found["x_train"], found["x_test"]])
                y = np.concatenate([found["y_train"], found["y_test"]])
        except (ValueError, KeyError, OSError) as error:
            raise InputError(f"{path} is not MNIST ({error}): {cure}") from error
        return x.reshape(len(x), -1), y.astype(np.int64)
    from sklearn.datasets import fetch_openml

    try:
        table = fetch_openml("mnist_784", version=1, as_frame=False, parser="auto")
    except Exception as error:
        what = type(error).__name__
        raise InputError(f"MNIST could not be downloaded ({what}): {cure}") from error
    return np.asarray(table.data).astype(np.uint8), np.asarray(table.target).astype(np.int64)


def _wine(colour: str) -> tuple[Array, Array]:
    folder = os.environ.get("DADMM_DATA")
    path = Path(folder, f"winequality-{colour}.csv") if folder else None
    if path is not None and path.exists():
        table = read_array(str(path), "wine")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import fetch_openml

    cure = f"put winequality-{colour}.csv into a folder and set DADMM_DATA to it"
    try:
        found = fetch_openml("wine_quality", version=1, as_frame=True, parser="auto").frame
    except Exception as error:
        what = type(error).__name__
        raise InputError(f"Wine Quality could not be downloaded ({what}): {cure}") from error
    # OpenML's table has both colours, the 1599 red ones first; their first acidities tell.
    table = found.to_numpy(np.float64)
    if len(table) != 6497 or (table[0, 0], table[1599, 0]) != (7.4, 7.0):
        raise InputError(f"OpenML's Wine Quality is not the table of 2009: {cure}")
    rows = table[:1599] if colour == "red" else table[1599:]
    return rows[:, :-1], rows[:, -1]


def read_array(path: str, name: str = "x") -> Any:
    """Return the array in a file: ``.npy``, ``.csv`` (numbers; a header row is skipped), or zarr.

    A zarr array comes back as it is, unread.

    Raises
    ------
    InputError
        If there is no such file, or it holds no numbers; the message names the first bad cell.
    """
    if "://" not in path and not os.path.exists(path):
        raise InputError(f"{name}: {path} does not exist")
    if "://" not in path and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(f"{name}: {path} is neither a file nor a folder")
    if path.endswith(".npy"):
        return _read_npy(path, name)
    if path.endswith(".csv"):
        header, rows = _read_csv(path, name)
        return _numbers(rows, range(len(rows[0])), header, f"{name}: {path}")
    return _read_zarr(path, name)


def _read_npy(path: str, name: str) -> Array:
    """Return the array in a file, whose size is compared to what it says before that is believed.

    Nothing is unpickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            return np.array(np.lib.format.open_memmap(path, mode="r"))
    except MemoryError as error:
        raise InputError(f"{name}: {path} does not fit into memory: store it as zarr") from error
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{name}: {path} is not a plain .npy array: {error}") from error


def _read_zarr(path: str, name: str) -> Any:
    from distributed.system import MEMORY_LIMIT

    try:
        stored = zarr.open_array(path, mode="r")
        refuse_pickle(stored, f"{name}: {path}")
        count, largest = stored.nchunks, prod(stored.chunks) * stored.dtype.itemsize
    except Exception as error:
        raise InputError(
            f"{name}: {path} is not a .npy, a .csv or a zarr array: {error}"
        ) from error
    if count > MOST_CHUNKS:
        raise InputError(f"{name}: {path} has {count} chunks: store it in fewer, larger ones")
    if largest > MEMORY_LIMIT:
        size = format_bytes(largest)
        raise InputError(f"{name}: {path} has chunks of {size}, more than memory: use smaller ones")
    return stored


def _read_csv(path: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows of a file, cut at commas or semicolons."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {path} is not a text file: {error}") from error
    delimiter = ";" if lines and ";" in lines[0] else ","
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{name}: {path} is not a table: {error}") from error
    header = [str(i) for i in range(len(rows[0]))] if rows else []
    if rows and not any(_is_number(cell) for cell in rows[0]):
        header, rows = [cell.strip() for cell in rows[0]], rows[1:]
    if not rows:
        raise InputError(f"{name}: {path} has no rows")
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"{name}: {path} row {i} has {len(row)} columns, not {len(header)}")
    return header, rows


def _numbers(
    rows: Sequence[Sequence[str]], columns: Sequence[int], header: Sequence[str], where: str
) -> Array:
    """Return some columns as numbers; the error names the first cell that is none."""
    for i, row in enumerate(rows):
        for j in columns:
            if not _is_number(row[j]):
                held = f"holds {row[j].strip()!r}, not a number" if row[j].strip() else "is empty"
                raise InputError(
                    f"{where} row {i}, column {header[j]} {held}: fill, encode or drop it"
                )
    return np.array([[float(row[j]) for j in columns] for row in rows])


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
    elif table["x"].endswith(".csv") and not table.get("y", "").endswith((".csv", ".npy")):
        x, y = _from_one_csv(table["x"], table.get("y"))
    elif "y" not in table:
        raise InputError("[data] has x but no y: name the file of the targets")
    else:
        x, y = read_array(table["x"], "x"), read_array(table["y"], "y")
    fraction = table.get("test_fraction", 0.0)
    if not fraction and table.get("dataset") == "mnist":  # it has a test set of its own
        return x[:60000], y[:60000], x[60000:], y[60000:]
    if not fraction:
        return x, y, None, None
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        raise InputError(
            "[data] test_fraction splits data in memory: hold rows of zarr data out yourself"
        )
    if len(x) != len(y):
        raise InputError(f"[data] y has {len(y)} rows, x has {len(x)}")
    x = as_matrix(x, "x")  # names bad rows before the split shuffles them
    check_finite(y.reshape(len(y), -1), "y")
    try:
        xa, xb, ya, yb = train_test_split(
            x, y, test_size=fraction, random_state=table.get("seed", 0)
        )
    except ValueError as error:
        raise InputError(
            f"[data] test_fraction={fraction} of {len(x)} rows leaves too few to train or test"
        ) from error
    return xa, ya, xb, yb


def _from_one_csv(path: str, target: str | None) -> tuple[Array, Array]:
    """Return inputs and targets of a table, of which the targets may be text."""
    header, rows = _read_csv(path, "x")
    if target is not None and target not in header:
        raise unknown(f"column of {path}", target, header)
    column = len(header) - 1 if target is None else header.index(target)
    others = [j for j in range(len(header)) if j != column]
    x = _numbers(rows, others, header, f"x: {path}")
    cells = [row[column].strip() for row in rows]
    return x, np.array([float(c) for c in cells] if all(map(_is_number, cells)) else cells)
