"""Arrays and data sets of xarray: sample dimensions become rows, the others columns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from dadmm.data.arrays import is_dask
from dadmm.data.columns import check_names
from dadmm.data.containers import Container, Plain, Task
from dadmm.errors import DataError, ShapeError, unknown
from dadmm.networks.form import Column, Form, Label
from dadmm.networks.names import Name, by_name, text_of


class Labelled(Container):
    """An array or data set of xarray.

    Its sample dimensions are stacked into rows; the others are features.  Each variable of a data
    set is a feature; a variable that lacks a sample dimension is repeated over it.
    """

    def __init__(self, x: Any, dims: str | Sequence[str] | None = None) -> None:
        self.x = x
        given = (dims,) if isinstance(dims, str) else dims
        first = tuple(x.dims)[:1] if isinstance(x, xr.DataArray) else _first_dim(x)
        self.dims = tuple(str(dim) for dim in (given or first))
        for dim in self.dims:
            if dim not in x.dims:
                raise unknown("dimension of x", dim, list(x.dims))
        self.sizes = {dim: x.sizes[dim] for dim in self.dims}
        self.features = {str(dim): _coordinates(x, dim) for dim in x.dims if dim not in self.dims}
        if isinstance(x, xr.Dataset):
            self.names = tuple(map(str, x.data_vars))

    def _reordered(self, form: Form) -> Labelled:
        """Return these rows with their features in the order of training, by coordinates."""
        columns = isinstance(self.x, xr.Dataset) and not self.features
        if not form.features or (columns and by_name(form.names, self.names)):
            return self
        x, wanted = self.x, list(form.features)
        if set(self.features) != set(wanted):
            raise ShapeError(
                f"x has the dimensions {list(self.features)} besides its samples, training had "
                f"{wanted}: select or rename them"
            )
        for dim, labels in form.features.items():
            here = self.features[dim]
            if labels is None or here is None or list(labels) == here:
                continue
            place = {label: i for i, label in enumerate(here)}
            if len(place) < len(here) or set(place) != set(labels):
                raise DataError(
                    f"x has other coordinates of {dim!r} than training: select those of training, "
                    "interpolate to them, or drop them"
                )
            x = x.isel({dim: [place[label] for label in labels]})
        return Labelled(x.transpose(*self.dims, *wanted, missing_dims="ignore"), self.dims)

    def _plain(self) -> Plain:
        """Return the rows as a matrix, with names for its columns."""
        parts, names = [], []
        arrays = self.x.data_vars if isinstance(self.x, xr.Dataset) else {self.x.name: self.x}
        for key, array in arrays.items():
            name = str(key)
            if array.dtype.kind not in "buif":
                raise DataError(
                    f"x is not numeric: {name} has dtype {array.dtype}; convert or drop it"
                )
            part = self._stack(array, repeat=isinstance(self.x, xr.Dataset))
            width = part.shape[1]
            names += [name] if width == 1 else [f"{name}_{i}" for i in range(width)]
            parts.append(part)
        if not parts:
            raise DataError("x is empty: the data set has no variables")
        if isinstance(self.x, xr.DataArray):
            rest = [dim for dim in self.x.dims if dim not in self.dims]
            index = self.x.indexes.get(rest[0]) if len(rest) == 1 else None
            if index is not None and index.is_unique:
                names = index.tolist()
            elif rest or self.x.name is None:
                names = []
        return Plain(_side_by_side(parts), check_names(names, "x"))

    def _stack(self, array: Any, repeat: bool = False) -> Any:
        """Return a variable as a matrix, (rows, numbers of a row)."""
        rest = [dim for dim in self.features if dim in array.dims]
        rest += [dim for dim in array.dims if dim not in self.dims and dim not in rest]
        variable = loaded_lazily(array).variable
        lacks = [dim for dim in self.dims if dim not in array.dims]
        if lacks and not repeat:
            raise ShapeError(f"{array.name} lacks the sample dimension {lacks[0]!r} of x")
        if lacks:
            variable = self._repeated(variable, rest)
        values = variable.transpose(*self.dims, *rest).data
        return values.reshape((prod(self.sizes.values()), -1 if values.size else 0))

    def _repeated(self, variable: Any, rest: Sequence[str]) -> Any:
        """Return a variable over all samples; if x is lazy, lazily in chunks of its size."""
        sizes = {**self.sizes, **{dim: variable.sizes[dim] for dim in rest}}
        chunks = _chunks(self.x)
        if not chunks:
            return variable.set_dims(sizes)
        given = {dim: chunks.get(dim, (size,)) for dim, size in sizes.items()}
        variable = variable.chunk({dim: given[dim] for dim in variable.dims})
        variable = variable.set_dims({dim: variable.sizes.get(dim, 1) for dim in sizes})
        few = variable.transpose(*sizes).data
        whole = da.broadcast_to(few, tuple(sizes.values()), chunks=tuple(given.values()))
        return xr.Variable(tuple(sizes), whole)

    def learn(self, categorical: str, missing: str, weight: Any = None) -> tuple[Column, ...]:
        inner = self._plain()
        columns = inner.learn(categorical, missing, weight)
        self.names = inner.names
        return columns

    def matrix(self, form: Form, handle_unknown: str = "error") -> Any:
        return self._reordered(form)._plain().matrix(form)

    def apply(self, task: Task) -> Any:
        found = self._reordered(task.form)._plain().apply(task)
        rest = tuple(dim for dim in self.x.dims if dim not in self.dims)
        coords = self.x.coords.to_dataset().drop_dims(rest, errors="ignore").coords
        dims, shape = self.dims, tuple(self.sizes.values())
        if task.labels is not None:
            dims, shape = (*dims, "output"), (*shape, len(task.labels))
        out = xr.DataArray(found.reshape(shape), coords=coords, dims=dims)
        out.name = task.name  # xarray takes that of a dask array where there is none
        if task.labels is None:
            return out
        levels = any(isinstance(label, tuple) for label in task.labels)
        return out.assign_coords(output=list(map(text_of, task.labels) if levels else task.labels))

    def split(self, names: Sequence[Name]) -> tuple[Container, Any]:
        if not isinstance(self.x, xr.Dataset):
            return super().split(names)
        for name in names:
            if name not in self.x.data_vars:
                raise unknown("variable of x", name, list(self.x.data_vars))
            others = [dim for dim in self.x[name].dims if dim not in self.dims]
            if others:
                raise ShapeError(
                    f"the target {name!r} has the dimension {others[0]!r} besides "
                    f"those of samples, {self.dims}: name all of them in sample_dims"
                )
        parts = [self._stack(self.x[name]) for name in names]
        rest = Labelled(self.x.drop_vars(list(names)), self.dims)
        matrix = _side_by_side(parts)
        return rest, matrix[:, 0] if len(parts) == 1 else matrix

    def align(self, y: Any, name: str, repeat: bool = False) -> Any:
        shared = [dim for dim in self.dims if dim in y.dims]
        for dim in self.dims:
            if dim not in y.dims and not repeat:
                raise ShapeError(f"{name} has no dimension {dim!r}, which the samples of x have")
        for dim in y.dims:
            if repeat and dim not in self.dims and y.sizes[dim] > 1:
                raise ShapeError(
                    f"{name} has the dimension {dim!r}, which the samples of x, {self.dims}, do "
                    "not have: rename or drop it"
                )
        for dim in shared:
            here, there = (a.indexes.get(dim) for a in (self.x, y))
            if here is not None and there is not None and not here.equals(there):
                raise DataError(
                    f"x and {name} have different coordinates of {dim!r}: use xarray.align"
                )
        if any(y.sizes[dim] != self.sizes[dim] for dim in shared):
            raise ShapeError(f"{name} has sizes {dict(y.sizes)}, x has {dict(self.sizes)}")
        found = self._stack(y, repeat)
        return found[:, 0] if set(y.dims) <= set(self.dims) else found


def _chunks(x: Any) -> dict[Hashable, tuple[int, ...]]:
    """Return the chunks of each dimension along which a variable is lazy."""
    found: dict[Hashable, tuple[int, ...]] = {}
    for array in x.data_vars.values() if isinstance(x, xr.Dataset) else [x]:
        found = {**loaded_lazily(array).chunksizes, **found}
    return found


def _side_by_side(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return (da if any(map(is_dask, parts)) else np).concatenate(parts, axis=1)


def _coordinates(x: Any, dim: Hashable) -> list[Label] | None:
    """Return the coordinates of a dimension as JSON values; None if there are none."""
    index = x.indexes.get(dim)
    if index is None or (index.nlevels == 1 and index.hasnans):
        return None
    return [v if isinstance(v, (str, int, float)) else str(v) for v in index.tolist()]


def _first_dim(x: xr.Dataset) -> tuple[Any, ...]:
    return next((tuple(array.dims)[:1] for array in x.data_vars.values() if array.ndim), ())


def loaded_lazily(array: Any) -> Any:
    """Return an xarray array as it is if in memory, else as a dask array; read nothing."""
    if array.chunks is None and not array.variable._in_memory:
        return array.chunk("auto" if array.dtype.kind in "buif" else {})
    return array


def shared_dims(x: Any, y: Any) -> tuple[str, ...] | None:
    """Return the dimensions that xarray inputs and targets share; None for other containers."""
    if isinstance(x, xr.Dataset) and isinstance(y, (str, list)):
        names = [y] if isinstance(y, str) else y
        y = x[names[0]] if names and all(name in x.data_vars for name in names) else None
    kinds = (xr.DataArray, xr.Dataset)
    if not isinstance(x, kinds) or not isinstance(y, kinds):
        return None
    shared = tuple(str(dim) for dim in y.dims if dim in x.dims)
    if not shared:
        raise ShapeError(f"x has dimensions {tuple(x.dims)}, y {tuple(y.dims)}: none is shared")
    return shared
