"""Open the files and URLs that `fit` and `predict` are given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from dadmm.data.files import File, as_path, table_files, table_kind
from dadmm.data.parquet import open_parquet
from dadmm.data.stores import is_netcdf, open_netcdf, open_zarr, read_npy
from dadmm.data.table import Table
from dadmm.data.text.open import open_csv
from dadmm.errors import InputError, unknown

# Tables of at most so many bytes are read into memory, larger ones in blocks of this size.
SMALL = 2**26


def open_path(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Table,
    name: str = "x",
    index: str | None = None,
    known: Mapping[Any, str] | None = None,
) -> Any:
    """Open the array, data set or table at a path, glob or URL.

    Several files of a table are read in natural order, ``part.2`` before ``part.10``.

    Parameters
    ----------
    path : str, path, list of them, or Table
        ``.npy``, or ``.csv``, ``.tsv`` and ``.parquet``, which may be globs, folders or lists of
        files, which keep their order; text may be compressed; ``.nc``, which may be a glob;
        anything else is zarr.  A `Table` says how CSV is written where the file does not.
    name : str
        The name in errors.
    index : str or None
        The column of a table that becomes its index; the name of the index that a Parquet file
        has is fine too.
    known : mapping of column to dtype, or None
        What columns of CSV were in training: they are read as that.  The others, or all if it is
        None, are what their cells are: whole numbers, other numbers, truth values, or text.

    Returns
    -------
    array, zarr.Array, xarray.Dataset, or pandas or dask data frame
        Zarr and tables larger than 64 MiB are not read yet.

    Raises
    ------
    InputError
        If it cannot be opened, or its content does not fit its name; the message names the place.
    """
    table = path if isinstance(path, Table) else Table(path)
    if index is not None:
        table = Table(table.path, **{**table.options, "index": index})
    if isinstance(table.path, list):
        return _open_tables([as_path(each) for each in table.path], name, table, known)
    path = as_path(table.path)
    # Text that says how it is written may have any name.
    if table_kind(path) or (table.says_text and _is_plain_file(path)):
        return _open_tables([path], name, table, known)
    where = f"{name}: {path}"
    with _opening(where):
        if is_netcdf(path):
            return open_netcdf(path, where)
        filesystem, inside = url_to_fs(path)
        if "://" not in path and not os.path.exists(path):
            raise InputError(f"{where} does not exist")
        if "://" not in path and not (Path(path).is_file() or Path(path).is_dir()):
            raise InputError(f"{where} is neither a file nor a folder")
        if path.lower().endswith(".npy"):
            return read_npy(filesystem, inside, where)
        return open_zarr(path, where)


def _is_plain_file(path: str) -> bool:
    return "://" not in path and os.path.isfile(path) and not path.lower().endswith(".npy")


def _open_tables(
    paths: Sequence[str], name: str, table: Table, known: Mapping[Any, str] | None
) -> Any:
    """Open paths, globs, folders and URLs of CSV or of Parquet as one table."""
    kinds = {path: table_kind(path) or ("csv" if table.says_text else None) for path in paths}
    if len(set(kinds.values())) != 1 or None in kinds.values():
        other = next((path for path, kind in kinds.items() if kind != "csv"), "the list")
        raise InputError(
            f"{name}: {other} in a list of paths: list files of CSV only, or of Parquet only"
        )
    files: list[File] = []
    for path in paths:
        with _opening(f"{name}: {path}"):
            found = table_files(path, kinds[path] or "")
            if not found:
                raise InputError(f"{name}: {path} {_why_none(path)}")
            files += found
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    with _opening(f"{name}: {where}"):
        if kinds[paths[0]] == "csv":
            return open_csv(files, name, table, SMALL, known)
        return _indexed(open_parquet(files, name, SMALL), table.index, where)


def _indexed(table: Any, index: str | None, where: str) -> Any:
    """Return a frame with a column as its index."""
    if index is None or index in getattr(table, "_meta", table).index.names:
        return table
    if index not in table.columns:
        raise unknown(f"column of {where}", index, map(str, table.columns))
    if hasattr(table, "map_partitions"):
        return table.map_partitions(lambda part: part.set_index(index))
    return table.set_index(index)


def _why_none(path: str) -> str:
    """Return why a path of tables gives no file."""
    if "://" not in path and os.path.isdir(path):
        return "is a folder without files"
    return "does not exist"


@contextmanager
def _opening(where: str) -> Iterator[None]:
    """Turn any error of opening a path into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist") from error
    except MemoryError as error:
        raise InputError(f"{where} does not fit into memory: store it as zarr") from error
    except ImportError as error:
        raise InputError(
            f"{where} cannot be opened: {error}; pip install 'dadmm[tables]', or what the URL needs"
        ) from error
    except Exception as error:  # of any file system, network or decoder
        raise InputError(
            f"{where} cannot be opened: {type(error).__name__}: {error or 'no answer'}"
        ) from error
