"""Sparse matrices whose rows become dense a block at a time: SciPy's, and those in zarr groups.

A group holds one as the three arrays of compressed sparse rows, in AnnData's on-disk format:
https://anndata.readthedocs.io/en/stable/fileformat-prose.html#sparse-arrays
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from dask.tokenize import normalize_token
from scipy import sparse

from dadmm.errors import InputError
from dadmm.numerics.types import Array
from dadmm.store.sources import Readable, refuse_pickle

PARTS = ("data", "indices", "indptr")
AGAIN = "write the matrix again"


def is_sparse_group(node: Any) -> bool:
    """Whether a zarr group says that it holds a sparse matrix."""
    kinds = ("csr_matrix", "csc_matrix")
    return isinstance(node, zarr.Group) and node.attrs.get("encoding-type") in kinds


def dense(block: Any) -> Any:
    """Return a sparse block as a NumPy array, and others as they are."""
    for name in ("toarray", "todense"):  # of SciPy, and of the package sparse
        if hasattr(block, name):
            return getattr(block, name)()
    return block


class SparseRows:
    """A sparse matrix for `dask.array.from_array`; each block of rows becomes dense alone."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape, self.dtype, self.ndim = matrix.shape, matrix.dtype, 2

    def __dask_tokenize__(self) -> Any:
        return tuple(
            normalize_token(part)
            for part in (self.shape, self.matrix.data, self.matrix.indices, self.matrix.indptr)
        )

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        rows, columns = key
        return dense(self.matrix[rows])[:, columns]


class StoredRows:
    """A sparse matrix in a zarr group, for `dask.array.from_array`.

    Each block of rows is read and becomes dense alone, in the process that needs it.

    Parameters
    ----------
    group : zarr.Group
    name : str
        Its name in errors.

    Raises
    ------
    InputError
        If it is stored by columns, or is no whole matrix; a block raises it for its own numbers.
    """

    def __init__(self, group: zarr.Group, name: str) -> None:
        if group.attrs.get("encoding-type") != "csr_matrix":
            raise InputError(
                f"{name} is stored by columns (csc_matrix), so its rows cannot be read one by one: "
                "write it by rows, as SciPy's tocsr() gives it"
            )
        self.name = name
        self.shape = self._sizes(group.attrs.get("shape"))
        self.data, self.indices, self.indptr = (self._part(group, part) for part in PARTS)
        for part in (self.indices, self.indptr):
            if part.dtype.kind not in "iu":
                raise InputError(f"{name} has places of dtype {part.dtype}: {AGAIN}")
        if self.data.dtype.kind not in "buif" or self.data.dtype.itemsize > 8:
            raise InputError(
                f"{name} has numbers of dtype {self.data.dtype}: write them as float32 or integers"
            )
        numbers, places, edges = (part.shape[0] for part in (self.data, self.indices, self.indptr))
        if numbers != places or edges != self.shape[0] + 1:
            raise InputError(
                f"{name} has {numbers} numbers at {places} places, and {edges} ends of rows for "
                f"{self.shape[0]} rows: {AGAIN}"
            )
        # SciPy has no matrices of float16.
        half = self.data.dtype.itemsize == 2 and self.data.dtype.kind == "f"
        self.dtype = np.dtype(np.float32) if half else self.data.dtype.newbyteorder("=")
        self.ndim = 2

    def _sizes(self, given: Any) -> tuple[int, int]:
        whole = isinstance(given, list) and all(type(size) is int and size >= 0 for size in given)
        if not whole or len(given) != 2:
            raise InputError(f"{self.name} has the shape {given!r}, not two sizes: {AGAIN}")
        return given[0], given[1]

    def _part(self, group: zarr.Group, part: str) -> Readable:
        array = group.get(part)
        if not isinstance(array, zarr.Array) or array.ndim != 1:
            raise InputError(
                f"{self.name} has no array {part!r} of one dimension, which a sparse matrix needs: "
                f"{AGAIN}"
            )
        refuse_pickle(array, f"{self.name}/{part}")
        return Readable(array)

    def __dask_tokenize__(self) -> Any:
        return tuple(map(normalize_token, (self.shape, self.data, self.indices, self.indptr)))

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        rows, columns = key
        first, end, _ = rows.indices(self.shape[0])
        where = f"{self.name}, in rows {first} to {end - 1},"
        edges = self.indptr[first : end + 1].astype(np.int64)
        known = self.data.shape[0]
        begins, ends = first == 0, end == self.shape[0]
        if (
            (np.diff(edges) < 0).any()
            or not 0 <= edges[0] <= edges[-1] <= known
            or (begins and edges[0] != 0)
            or (ends and edges[-1] != known)
        ):
            raise InputError(
                f"{where} has an indptr that does not go up from 0 to the number of its numbers, "
                f"{known}: {AGAIN}"
            )
        inside = slice(int(edges[0]), int(edges[-1]))
        places = self.indices[inside]
        if places.size and not 0 <= places.min() <= places.max() < self.shape[1]:
            raise InputError(
                f"{where} has indices from {places.min()} to {places.max()}, but "
                f"{self.shape[1]} columns: {AGAIN}"
            )
        numbers = self.data[inside].astype(self.dtype, copy=False)
        shape = end - first, self.shape[1]
        block = sparse.csr_array((numbers, places.astype(np.int64), edges - edges[0]), shape=shape)
        return block.toarray()[:, columns]
