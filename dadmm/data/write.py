"""Write predictions to files: at once, or in parts that a killed process can go on from."""

from __future__ import annotations

import csv
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from fsspec.core import url_to_fs

from dadmm.data.files import as_path, table_files, table_kind
from dadmm.errors import DataError, InputError
from dadmm.store import ZarrBlocks
from dadmm.store.lock import LOCK, Lock
from dadmm.store.place import absolute
from dadmm.store.replace import as_json, record, replace_file, writing


def check_output(run: str, source: str, target: str, overwrite: bool) -> None:
    """Raise `InputError` if predictions of `run` for `source` cannot be written to `target`."""
    run, source, target = map(absolute, (run, source, target))
    if Path(target).suffix not in (".npy", ".csv", ".parquet", ".zarr"):
        raise InputError(f"{target}: end the output's name in .npy, .csv, .parquet or .zarr")
    try:
        filesystem, path = url_to_fs(target)
    except (ValueError, ImportError) as error:
        raise InputError(f"{target} cannot be written: {error}") from error
    if filesystem.exists(path) and not overwrite:
        raise InputError(f"{target} exists: choose another name, or use --overwrite")
    if "://" in target:
        return
    place = Path(target).resolve()
    if place in (Path(run).resolve(), Path(source).resolve()):
        raise InputError(f"{target} is read by this very command: choose another name")
    if place.suffix != ".zarr" and os.path.isdir(place):
        raise InputError(f"{target} is a folder: choose another name")
    if place.suffix == ".zarr" and os.path.exists(place) and not (place / "zarr.json").exists():
        raise InputError(f"{target} is not a zarr array, so it is not overwritten: remove it first")
    if not os.path.isdir(place.parent):
        raise InputError(f"{target}: there is no folder {place.parent}; make it first")


def write(predicted: Any, target: str, aside: Path | None = None) -> None:
    """Write predictions aside and rename them into place; write lazy ones chunk by chunk.

    A table keeps its index if the index, or a level of it, has a name.  An xarray array becomes
    a data set in zarr, and a table with one row per sample in CSV and Parquet.

    Parameters
    ----------
    predicted : array or table, lazy or not
    target : str
        A path, or the URL of a zarr array.
    aside : Path or None
        The path to write to before the rename, with the same ending; None makes a name beside
        `target` that is this process's own.

    Raises
    ------
    InputError, RunError
        As `writing` does.
    """
    target = absolute(target)
    # Dask cannot fuse the tasks of an array that was a frame: they have an input in common.
    lazy = hasattr(predicted, "to_dask_array")
    with (
        writing(target),
        dask.config.set({"optimization.fuse.active": False} if lazy else {}),
    ):
        if "://" in target:
            _write_zarr(predicted, target)
            return
        path = Path(target)
        aside = aside or path.with_name(f".{os.getpid()}.{path.name}")
        try:
            tabular = _is_frame(predicted) or isinstance(predicted, xr.DataArray)
            if path.suffix == ".parquet" or (path.suffix == ".csv" and tabular):
                _write_table(predicted, aside)
            elif path.suffix == ".zarr":
                _write_zarr(predicted, str(aside))
            else:
                (_write_npy if path.suffix == ".npy" else _write_csv)(predicted, aside)
            if path.is_dir():
                shutil.rmtree(path)
            elif aside.is_dir():
                path.unlink(missing_ok=True)
            aside.replace(path)
        finally:
            if os.path.isdir(aside):
                shutil.rmtree(aside)
            elif os.path.exists(aside):  # Path.exists raises for names that are too long
                aside.unlink()


def _is_frame(predicted: Any) -> bool:
    return hasattr(predicted, "to_parquet") or hasattr(predicted, "to_frame")


def _write_table(predicted: Any, path: Path) -> None:
    """Write CSV or Parquet; write a dask frame one partition after another."""
    import pandas as pd

    if isinstance(predicted, xr.DataArray):
        predicted = predicted.rename(predicted.name or "prediction").to_dataframe().reset_index()
    if not _is_frame(predicted):
        values = plain(np.asarray(predicted))
        predicted = pd.DataFrame(values.reshape(len(values), -1))
    if hasattr(predicted, "to_frame"):
        name = "prediction" if predicted.name is None else str(predicted.name)
        predicted = predicted.to_frame(name=name)
    predicted = predicted.rename(columns=str)
    index = any(n is not None for n in getattr(predicted, "_meta", predicted).index.names)
    if path.suffix == ".csv":
        parts = predicted.partitions if hasattr(predicted, "partitions") else [predicted]
        with path.open("w", newline="", encoding="utf-8") as file:
            for i, part in enumerate(parts):
                part = part.compute() if hasattr(part, "compute") else part
                part.to_csv(file, header=i == 0, index=index, lineterminator="\n")
    elif hasattr(predicted, "partitions"):
        predicted.to_parquet(str(path), write_index=index)
    else:
        predicted.to_parquet(path, index=index)


def _as_array(predicted: Any) -> Any:
    """Return the numbers or labels of any container as an array."""
    if hasattr(predicted, "to_dask_array"):  # computes the frame once more, to count its rows
        return predicted.to_dask_array(lengths=True)
    if isinstance(predicted, xr.DataArray):
        return predicted.data
    return predicted if hasattr(predicted, "blocks") else np.asarray(predicted)


def _write_zarr(predicted: Any, target: str) -> None:
    import dask.array as da

    if isinstance(predicted, xr.DataArray):
        name = predicted.name or "prediction"
        # The coordinates remember filters, shards and codecs of the store that they were read
        # from, which need not fit this one.
        found = _even(predicted.to_dataset(name=name).drop_encoding())
        with _quiet():
            found.to_zarr(target, mode="w", consolidated=False)
        return
    predicted = _as_array(predicted)
    if predicted.dtype.kind == "O":  # labels, all at once: the longest one sets the dtype
        predicted = np.asarray(predicted)
    if not isinstance(predicted, da.Array):
        predicted = da.from_array(plain(predicted))
    with _quiet():
        predicted.rechunk("auto").to_zarr(target, overwrite=True)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr v3 has no final dtype for text yet
        yield


def _even(data: xr.Dataset) -> xr.Dataset:
    """Return a data set whose lazy variables have chunks of one size, as zarr needs them."""
    largest: dict[Any, int] = {}
    for variable in data.variables.values():
        for dim, lengths in zip(variable.dims, variable.chunks or (), strict=False):
            largest[dim] = max(largest.get(dim, 1), *lengths)
    return data.chunk(largest) if largest else data


def _blocks(predicted: Any) -> list[Any]:
    return list(predicted.blocks.ravel()) if hasattr(predicted, "blocks") else [predicted]


def _write_npy(predicted: Any, path: Path) -> None:
    """Write an array; write a dask array block by block."""
    predicted = _as_array(predicted)
    if predicted.dtype.kind == "O":
        predicted = plain(np.asarray(predicted))
    descr = np.lib.format.dtype_to_descr(predicted.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": predicted.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # Not through mapped memory: a full disk would kill the process.
        for block in _blocks(predicted):
            file.write(np.asarray(block, predicted.dtype).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _write_csv(predicted: Any, path: Path) -> None:
    """Write an array; write a dask array block by block."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for block in _blocks(_as_array(predicted)):
            writer.writerows(np.asarray(block).reshape(len(block), -1))
        file.flush()
        os.fsync(file.fileno())


def plain(values: Any) -> Any:
    """Return labels that are objects (from pandas) in NumPy's own dtype for their values."""
    return np.array(values.tolist()) if values.dtype.kind == "O" else values


def predict_parts(
    predict: Callable[[Any], Any],
    x: Any,
    target: str,
    job: Mapping[str, Any],
    rows: int,
    tell: Callable[[int, int], None],
    finish: Callable[[Any], Any],
) -> None:
    """Write ``predict(x)`` to a local file, some rows at a time; keep the parts of earlier tries.

    Parts are files in ``target.parts`` until all are there.  Then `target` is replaced whole, and
    ``target.json`` names its job.  One process at a time writes there.

    Parameters
    ----------
    predict : callable
        From rows to predictions.
    x : (rows, features) array
        NumPy, zarr, or a pandas frame.
    job : dict
        Everything that the predictions depend on, as JSON; parts of another job are deleted.
    rows : int
        Rows of a part.
    tell : callable
        Called as ``tell(first, last)`` after each part.
    finish : callable
        From all predictions, a dask array, to what is written.

    Raises
    ------
    LockedError
        If another process writes there.
    InputError, RunError
        As `writing` does.
    """
    target = absolute(target)
    folder = Path(f"{target}.parts")
    with writing(target):
        folder.mkdir(exist_ok=True)
        lock = Lock(ZarrBlocks(folder), otherwise="")
        try:
            _start(folder, target, job)
            files = _predict(predict, x, folder, rows, tell)
            _assemble(files, folder, target, job, finish)
        finally:
            lock.release()
            if folder.is_dir() and not list(folder.glob("*.npy")):
                shutil.rmtree(folder)  # it has no parts to keep


def as_table(values: Any, index: Any, like: Any) -> Any:
    """Return predictions as a pandas table with an index, named as other predictions are."""
    import pandas as pd

    values = np.asarray(values)
    if values.ndim == 1:
        return pd.Series(values, index, name=getattr(like, "name", None))
    return pd.DataFrame(values, index, getattr(like, "columns", None))


def _start(folder: Path, target: str, job: Mapping[str, Any]) -> None:
    """Delete the parts of another job."""
    if record(folder / "job.json") == job:
        return
    if (folder / "job.json").exists():
        # The earlier job may have died before it replaced `target`.
        Path(f"{target}.json").unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    replace_file(folder / "job.json", as_json(job))


def _predict(
    predict: Callable[[Any], Any],
    x: Any,
    folder: Path,
    rows: int,
    tell: Callable[[int, int], None],
) -> list[Path]:
    """Write the parts that are missing; return the files of all."""
    total, files = x.shape[0], []
    for first in range(0, max(total, 1), rows):
        last = min(first + rows, total)
        files.append(folder / f"{first}-{last}.npy")
        if files[-1].exists():
            continue
        try:
            some = x.iloc[first:last] if hasattr(x, "iloc") else np.asarray(x[first:last])
            values = predict(some)
        except DataError as error:
            raise DataError(f"in the rows from {first} on: {error}") from error
        content = io.BytesIO()
        np.save(content, values, allow_pickle=False)
        replace_file(files[-1], content.getvalue())
        tell(first, last)
    return files


def _assemble(
    files: list[Path],
    folder: Path,
    target: str,
    job: Mapping[str, Any],
    finish: Callable[[Any], Any],
) -> None:
    """Write the parts as one file, and delete them."""
    import dask.array as da

    arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    lengths, shape = tuple(map(len, arrays)), arrays[0].shape[1:]
    dtype = np.result_type(*{array.dtype for array in arrays})
    # One layer for all parts: with a layer each, Dask would search all layers for every part.
    whole = da.map_blocks(
        _part, list(map(str, files)), chunks=(lengths, *((n,) for n in shape)), dtype=dtype
    )
    # In this order: `target` does not count as complete while there are parts.
    replace_file(f"{target}.json", as_json(job))
    write(finish(whole), target, folder / f"whole{Path(target).suffix}")
    shutil.rmtree(folder)


def _part(files: list[str], block_info: Any = None) -> Any:
    return np.load(files[block_info[None]["chunk-location"][0]], allow_pickle=False)


def is_complete(target: str, job: Mapping[str, Any]) -> bool:
    """Whether `target` holds all predictions of a job."""
    whole = os.path.exists(target) and not os.path.exists(f"{target}.parts")
    return whole and record(Path(f"{target}.json")) == job


def changed_last(path: str) -> list[int] | None:
    """Return number, bytes and newest change of the files of a local path; None for a URL.

    Replacing a file changes them, unless somebody takes care to hide it.
    """
    path = as_path(path)
    if "://" in path:
        return None
    if os.path.isfile(path):
        found = [os.stat(path)]
    elif kind := table_kind(path):
        found = [os.stat(file.url) for file in table_files(path, kind)]
    else:
        found = [os.stat(os.path.join(at, n)) for at, _, names in os.walk(path) for n in names]
    return [
        len(found),
        sum(each.st_size for each in found),
        max((each.st_mtime_ns for each in found), default=0),
    ]
