"""Open arrays: ``.npy``, zarr arrays, and data sets in zarr groups."""

from __future__ import annotations

import io
import os
import warnings
from glob import glob
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes, natural_sort_key

from dadmm.data.arrays import group_refused, packing, unwrap
from dadmm.data.sparse import is_sparse_group
from dadmm.data.table import options_help
from dadmm.errors import InputError
from dadmm.numerics.types import Array
from dadmm.store.place import absolute
from dadmm.store.sources import refuse_pickle

# A graph of Dask's cannot have more.
MOST_CHUNKS = 10**6
NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
# What helps with other files that people have.
CURES = {
    ".zip": "unpack it",
    ".npz": "save the array of interest with numpy.save",
    ".grib": "store it as zarr with xarray.open_dataset(...).to_zarr(...)",
    ".h5": "store it as zarr with xarray.open_dataset(...).to_zarr(...)",
    ".hdf5": "store it as zarr with xarray.open_dataset(...).to_zarr(...)",
    ".xlsx": "save it as CSV, or write pandas.read_excel(...).to_parquet(...)",
    ".xls": "save it as CSV, or write pandas.read_excel(...).to_parquet(...)",
    ".feather": "write pandas.read_feather(...).to_parquet(...)",
    ".arrow": "write pandas.read_feather(...).to_parquet(...)",
    ".json": "write pandas.read_json(...).to_parquet(...)",
    ".jsonl": "write pandas.read_json(..., lines=True).to_parquet(...)",
    ".txt": options_help("if it is a table, use its delimiter, such as delimiter=';'"),
    ".dat": options_help("if it is a table, use its delimiter, such as delimiter=';'"),
    ".pkl": "it can run code when it is read; write it as .npy or .parquet where you trust it",
}


def read_npy(filesystem: Any, path: str, where: str) -> Array:
    """Return the array in a file, checking the header's size against the file's first.

    Nothing is unpickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            if filesystem.protocol == "file" or "file" in filesystem.protocol:
                return np.array(np.lib.format.open_memmap(path, mode="r"))
            content = io.BytesIO(filesystem.cat_file(path))
            return np.asarray(np.lib.format.read_array(content, allow_pickle=False))
    except (MemoryError, FileNotFoundError):
        raise
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{where} is not a plain .npy array: {error}") from error


def is_netcdf(path: str) -> bool:
    """Whether a path or glob names netCDF files."""
    return path.lower().endswith(NETCDF)


def open_netcdf(path: str, where: str) -> xr.Dataset:
    """Return the data set in a netCDF file, or in the files of a glob, lazily.

    Raises
    ------
    InputError
        If there is none, or nothing that reads it is installed.
    """
    if "://" in path:
        raise InputError(f"{where}: netCDF is read from local files: copy it, or store it as zarr")
    path = absolute(path)
    files = [path] if os.path.exists(path) else sorted(glob(path), key=natural_sort_key)
    if not files:
        raise InputError(f"{where} does not exist")
    try:
        if len(files) == 1:
            found = xr.open_dataset(files[0], chunks={})
        else:
            found = xr.open_mfdataset(files, chunks={}, combine="by_coords", join="exact")
    except ValueError as error:
        if "engine" not in str(error) and "backends" not in str(error):
            raise
        raise InputError(
            f"{where} is not netCDF, or of a version that needs pip install 'dadmm[netcdf]'"
        ) from error
    if not found.data_vars:
        raise InputError(f"{where} has no variables")
    return found[sorted(map(str, found.data_vars))]


def open_zarr(path: str, where: str) -> Any:
    """Return the array, sparse matrix or data set at a path; `where` names it in errors."""
    from distributed.system import MEMORY_LIMIT

    path = absolute(path)
    try:
        stored = zarr.open(path, mode="r")
        if is_sparse_group(stored):
            return unwrap(stored)
        if isinstance(stored, zarr.Group):
            return _open_group(stored, path, where)
        refuse_pickle(stored, where)
        count, largest = stored.nchunks, prod(stored.chunks) * stored.dtype.itemsize
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where} {_refusal(path, error)}") from error
    if count > MOST_CHUNKS:
        raise InputError(f"{where} has {count} chunks: store it in fewer, larger ones")
    if largest > MEMORY_LIMIT:
        size = format_bytes(largest)
        raise InputError(f"{where} has chunks of {size}, more than memory: use smaller ones")
    return unwrap(stored) if packing(stored) else stored


def _open_group(group: Any, path: str, where: str) -> Any:
    """Return the data set in a group; list nothing if its metadata are consolidated."""
    consolidated = group.metadata.consolidated_metadata is not None
    try:
        arrays = dict(group.arrays())
    except Exception as error:  # of any server
        if "://" not in path:
            raise InputError(f"{where} {_refusal(path, error)}") from error
        raise InputError(
            f"{where} is a group that cannot be listed: name one of its arrays, as {path}/NAME, or "
            f"call zarr.consolidate_metadata where it is written ({error})"
        ) from error
    for array_name, array in arrays.items():
        refuse_pickle(array, f"{where}/{array_name}")
    if not arrays:
        raise group_refused(group, where)
    try:
        found = xr.open_zarr(path, chunks={}, consolidated=consolidated)
    except (KeyError, ValueError) as error:
        if "dimension" not in str(error):
            raise
        raise group_refused(group, where) from error  # no data set: it names no dimensions
    if not found.data_vars:
        raise group_refused(group, where)
    return found[sorted(found.data_vars)]  # folders are listed in any order


def _refusal(path: str, error: Exception) -> str:
    """Return why a path is not opened, and what helps."""
    known = "is not a .npy, .csv, .tsv or .parquet file, a zarr array or a data set"
    return f"{known}: {CURES.get(Path(path).suffix.lower(), error)}"
