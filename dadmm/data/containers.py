"""What holds the rows: a matrix out of each container, and predictions back in its like.

A container is opened once by `contain`.  Nothing lazy is loaded whole: what a container cannot say
without reading, it finds out in one pass over its chunks.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from os import PathLike
from types import MappingProxyType
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import compute
from dask.delayed import delayed

from dadmm.data.arrays import as_matrix, check_finite, computing, is_dask, plain_block
from dadmm.data.columns import Order, Summary, check_names, encode, fill, kind, learn, number_type
from dadmm.data.open import open_path
from dadmm.errors import DataError, InputError, ShapeError, unknown
from dadmm.networks.form import Column, Form, Label
from dadmm.numerics.types import Array


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    Parameters
    ----------
    function : callable
        ``function(block, name)`` from (rows, features) to (rows,) or (rows, labels).
    form : Form
        What the inputs were at training.
    features : int
        How many numbers the network takes.
    labels : sequence or None
        Names of the columns of the outputs; None for one dimension.
    dtype : dtype
        Of the outputs.
    handle_unknown : {"error", "ignore"}
        A category that training never saw is an error, or becomes zeros only.
    """

    function: Callable[[Array, str], Array]
    form: Form
    features: int
    labels: Sequence[Any] | None
    dtype: Any
    handle_unknown: str = "error"

    def empty(self, rows: int = 0) -> Array:
        """Return outputs of no meaning."""
        return np.empty((rows,) if self.labels is None else (rows, len(self.labels)), self.dtype)

    @property
    def name(self) -> str | None:
        """Return the name of the one target."""
        targets = self.form.targets
        return targets[0] if targets and len(targets) == 1 else None


class Container(ABC):
    """Rows of inputs, as the user holds them.

    Attributes
    ----------
    names : tuple of str or None
        Of its columns.
    dims : tuple of str
        The dimensions of xarray that are samples.
    features : mapping of str to sequence or None
        The other ones, with their coordinates.
    """

    names: tuple[str, ...] | None = None
    dims: tuple[str, ...] = ()
    features: Mapping[str, Sequence[Label] | None] = MappingProxyType({})

    @abstractmethod
    def learn(self, categorical: str, missing: str) -> tuple[Column, ...]:
        """Return what each column becomes; empty if all are numbers that are there."""

    @abstractmethod
    def matrix(self, form: Form) -> Any:
        """Return all rows for training as numbers, (rows, features), a NumPy or a dask array."""

    @abstractmethod
    def apply(self, task: Task) -> Any:
        """Return the predictions for all rows, in the like of this container."""

    def split(self, names: Sequence[str]) -> tuple[Container, Any]:
        """Return the container without the named columns, and these: (rows,) or (rows, names)."""
        raise InputError(
            f"y names the column {names[0]!r}, but x has no named columns: pass y as an array"
        )

    def align(self, y: Any, name: str) -> Any:
        """Return an array of xarray with the rows of this container."""
        return y

    def _order(self, form: Form) -> list[int] | None:
        """Return the positions of training's columns here; None where they stay as they are."""
        if form.names is None:
            return None
        if self.names is None:
            if form.encodes:
                names = ", ".join(form.names[:5])
                raise InputError(
                    "x has no column names, but training encoded a table: pass one that has "
                    f"the columns {names}{', ...' if len(form.names) > 5 else ''}"
                )
            return None  # arrays are taken by position
        order = form.order(self.names, "x")
        return None if order == list(range(len(self.names))) else order


def contain(x: Any, dims: str | Sequence[str] | None = None) -> Container:
    """Return the container of `x`.

    Parameters
    ----------
    x : Container, array, table, or path
    dims : names or None
        Which dimensions of xarray are samples; None for the first.
    """
    if isinstance(x, Container):
        return x
    if isinstance(x, (str, PathLike)):
        x = open_path(x)
    if isinstance(x, (xr.DataArray, xr.Dataset)):
        return Labelled(x, dims)
    if hasattr(x, "columns") and hasattr(x, "map_partitions"):
        return LazyFrame(x)
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        return Frame(x)
    return Plain(x)


# ------------------------------------------------------------------------------------------ arrays


class Plain(Container):
    """NumPy, dask and zarr arrays, sparse matrices, and what NumPy makes an array of."""

    def __init__(self, x: Any, names: tuple[str, ...] | None = None) -> None:
        self.x, self.names = x, names

    def learn(self, categorical: str, missing: str) -> tuple[Column, ...]:
        """Return what each column becomes."""
        if missing == "refuse":
            return ()
        x = as_matrix(self.x, lazy=True, finite=False)
        if is_dask(x):
            blocks = x.rechunk({1: -1}).to_delayed()[:, 0]
            tasks = [delayed(Summary.of_matrix)(block) for block in blocks]
            with computing("x"):
                found = compute(*tasks)
        else:
            found = (Summary.of_matrix(x),)
        names = self.names or range(x.shape[1])
        return learn(_total(found, names), names, missing, "x")

    def matrix(self, form: Form) -> Any:
        """Return all rows as numbers."""
        return self._numbers(form, lazy=False)

    @property
    def stored(self) -> Any:
        """Return the zarr array that this is, or None."""
        return self.x if isinstance(self.x, zarr.Array) else None

    def _numbers(self, form: Form, lazy: bool) -> Any:
        fills, order = form.fills, self._order(form)
        x = as_matrix(self.x, lazy=lazy, finite=fills is None)
        x = x if order is None else x[:, order]
        if fills is None:
            return x
        check_width(x.shape[1], len(fills))
        if is_dask(x):
            return x.rechunk({1: -1}).map_blocks(fill, fills, dtype=x.dtype)
        x = fill(x, fills)
        check_finite(x, "x")
        return x

    def apply(self, task: Task) -> Any:
        """Return the predictions."""
        x = self._numbers(task.form, lazy=True)
        check_width(x.shape[1], task.features)
        if not is_dask(x):
            return task.function(x, "x")
        x = x.rechunk({1: -1})
        meta = task.empty()
        out = x.map_blocks(
            _apply_block,
            delayed(task, pure=True),
            dtype=task.dtype,
            chunks=(x.chunks[0], *((n,) for n in meta.shape[1:])),
            drop_axis=[1] if meta.ndim == 1 else [],
            meta=meta,
        )
        return out.compute() if hasattr(self.x, "tocsr") else out


def _apply_block(block: Any, task: Task, block_id: tuple[int, ...] | None = None) -> Array:
    name = f"x, in the dask chunk {block_id},"
    block = plain_block(block, name, (block.shape[0], task.features), "")
    check_finite(block, name)
    return task.function(block, name)


def check_width(found: int, features: int) -> None:
    """Raise `ShapeError`, in scikit-learn's words, for inputs of another width than training's."""
    if found != features:
        raise ShapeError(
            f"X has {found} features, but dadmm is expecting {features} features as input: "
            "pass the same columns, in the same order"
        )


def _total(found: Sequence[Summary], names: Sequence[object]) -> Summary:
    return reduce(lambda a, b: a.add(b, names, "x"), found)


# ------------------------------------------------------------------------------------------ tables


class Frame(Container):
    """A pandas data frame."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self.names = check_names(frame.columns, "x")

    def _check(self, categorical: str) -> bool:
        """Refuse columns that cannot be used; return whether any holds categories."""
        if not len(self.frame.columns):
            raise DataError("x has no columns")
        kinds = {name: kind(self.frame.dtypes.iloc[i]) for i, name in self._named()}
        other = [name for name, found in kinds.items() if found == "other"]
        text = [name for name, found in kinds.items() if found == "category"]
        if other or (text and categorical == "refuse"):
            listed = ", ".join(str(name) for name in (other or text)[:10])
            listed += self._example((other or text)[0])
            cure = "convert" if other else "encode them with categorical='one_hot',"
            raise DataError(f"x has columns that are not numeric: {listed}; {cure} or drop them")
        return bool(text)

    def _example(self, name: Hashable) -> str:
        """Return the first cell of a column that is no number."""
        for row, cell in self.frame[name].items():
            try:
                float(cell)
            except (TypeError, ValueError):
                return f" (row {row} holds {str(cell)!r})"
        return ""

    def _named(self) -> list[tuple[int, Hashable]]:
        return list(enumerate(self.frame.columns))

    def _summary(self) -> Summary:
        return Summary.of_table(self.frame, "x")

    def learn(self, categorical: str, missing: str) -> tuple[Column, ...]:
        """Return what each column becomes."""
        text = self._check(categorical)
        if not len(self.frame):
            raise DataError(f"x is empty: its shape is {self.frame.shape}")
        if not text and missing == "refuse":
            return ()
        return learn(self._summary(), list(self.frame.columns), missing, "x")

    def _plan(self, form: Form, handle_unknown: str) -> tuple[Any, tuple[Any, ...], int]:
        """Return the columns of training, what encodes them, and how many numbers they become."""
        order = self._order(form)
        frame = self.frame if order is None else self.frame[list(form.names or ())]
        type(self)(frame)._check("one_hot" if form.columns else "refuse")
        count = len(frame.columns)
        columns = form.columns or (Column(),) * count
        check_width(count, len(columns))
        types = [
            np.dtype(np.uint8) if c.categories is not None else number_type(frame.dtypes.iloc[i])
            for i, c in enumerate(columns)
        ]
        dtype = np.result_type(*types)
        return frame, (columns, dtype, handle_unknown, "x"), sum(c.width for c in columns)

    def matrix(self, form: Form) -> Any:
        """Return all rows as numbers."""
        frame, how, _ = self._plan(form, "error")
        return as_matrix(encode(frame, *how))

    def apply(self, task: Task) -> Any:
        """Return the predictions."""
        frame, encoding, width = self._plan(task.form, task.handle_unknown)
        check_width(width, task.features)
        return self._map(frame, task, encoding)

    def _map(self, frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
        if not len(frame):
            raise DataError(f"x is empty: its shape is {frame.shape}")
        return _apply_frame(frame, task, encoding)

    def split(self, names: Sequence[str]) -> tuple[Container, Any]:
        """Return inputs and named targets."""
        for name in names:
            if name not in self.frame.columns:
                raise unknown("column of x", name, self.frame.columns)
        y = self.frame[names[0] if len(names) == 1 else list(names)]
        rest = self.frame[[c for c in self.frame.columns if c not in names]]
        return type(self)(rest), self._targets(y)

    def _targets(self, y: Any) -> Any:
        return plain(y, "y")

    def check_order(self, order: Order, name: str) -> None:
        """Raise `DataError` for rows whose index has the labels of these in another order.

        Others say nothing of which rows belong together: these are taken by position.
        """
        Order.of(self.frame).check(order, name)


def _apply_frame(frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
    """Return predictions for a pandas frame, with its index."""
    import pandas as pd

    values = task.empty()
    if len(frame):  # a lazy frame may have partitions without rows
        block = encode(frame, *encoding)
        check_finite(block, "x")
        values = task.function(block, "x")
    if task.labels is None:
        return pd.Series(values, index=frame.index, name=task.name)
    return pd.DataFrame(values, index=frame.index, columns=list(task.labels))


def plain(values: Any, name: str) -> Array:
    """Return a pandas Series or frame of targets as NumPy has it.

    Raises
    ------
    DataError
        For a missing value, with its row.
    """
    missing = values.isna().to_numpy(dtype=bool)
    if missing.any():
        row = values.index[int(missing.reshape(len(values), -1).any(axis=1).argmax())]
        raise DataError(f"{name} has a missing value (NaN) in row {row}: fill it or drop the row")
    found = np.asarray(values.to_numpy())
    texts = found.dtype.kind == "O" and len(found) and all(isinstance(v, str) for v in found.flat)
    return found.astype(str) if texts else found


class LazyFrame(Frame):
    """A dask data frame: one pass counts its rows, which a frame does not know."""

    def __init__(self, frame: Any) -> None:
        super().__init__(frame)
        self._parts: list[Any] = []
        self._orders: tuple[Order, ...] = ()
        self._others: dict[str, Order] = {}

    def _check(self, categorical: str) -> bool:
        if not self.frame.npartitions:
            raise DataError("x is empty: it has no partitions")
        return super()._check(categorical)

    def _example(self, name: Hashable) -> str:
        """Return nothing: looking for it would compute the frame."""
        return ""

    def _summary(self) -> Summary:
        self._parts = self.frame.to_delayed()
        tasks = [delayed(_look)(part) for part in self._parts]
        with computing("x"):
            found, self._orders = zip(*compute(*tasks), strict=True)
        if not sum(summary.rows for summary in found):
            raise DataError("x is empty: it has no rows")
        return _total(found, list(self.frame.columns))

    def learn(self, categorical: str, missing: str) -> tuple[Column, ...]:
        """Return what each column becomes."""
        text = self._check(categorical)
        summary = self._summary()
        columns = learn(summary, list(self.frame.columns), missing, "x")
        return columns if text or missing == "impute" else ()

    def matrix(self, form: Form) -> Any:
        """Return all rows as numbers."""
        frame, how, width = self._plan(form, "error")
        parts = self._parts
        if frame is not self.frame or not parts:
            parts = frame.to_delayed()
            self._orders = count_rows(parts, "x")
        for name, order in self._others.items():
            self.check_order(order, name)
        return _array(parts, self._orders, encode, how, how[1], width)

    def _map(self, frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
        meta = _apply_frame(frame._meta, task, encoding)
        return frame.map_partitions(_apply_frame, delayed(task, pure=True), encoding, meta=meta)

    def _targets(self, y: Any) -> Any:
        return lazy_array(y, "y")[0]

    def check_order(self, order: Order, name: str) -> None:
        """Compare once the rows of this frame have been seen."""
        if self._orders:
            reduce(operator.add, self._orders).check(order, name)
        else:
            self._others[name] = order


def _look(part: Any) -> tuple[Summary, Order]:
    return Summary.of_table(part, "x"), Order.of(part)


def count_rows(parts: Sequence[Any], name: str) -> tuple[Order, ...]:
    """Return which rows each partition of a dask frame or Series has: one pass over it."""
    with computing(name):
        return tuple(compute(*[delayed(Order.of)(part) for part in parts]))


def lazy_array(values: Any, name: str) -> tuple[Any, Order]:
    """Return a dask Series or frame of targets as a dask array of known chunks, and its rows.

    Its partitions are counted as they are: Dask may join those of a frame of fewer columns.
    """
    parts = values.to_delayed()
    orders = count_rows(parts, name)
    meta = plain(values._meta, name)
    width = len(values.columns) if meta.ndim == 2 else None
    array = _array(parts, orders, plain, (name,), meta.dtype, width)
    return array, reduce(operator.add, orders)


def _array(
    parts: Sequence[Any],
    orders: Sequence[Order],
    task: Callable[..., Any],
    arguments: tuple[Any, ...],
    dtype: Any,
    width: int | None,
) -> Any:
    tail = () if width is None else (width,)
    blocks = [
        da.from_delayed(delayed(task)(part, *arguments), (order.rows, *tail), dtype)
        for part, order in zip(parts, orders, strict=True)
        if order.rows
    ]
    if not blocks:
        raise DataError("x is empty: it has no rows")
    return da.concatenate(blocks)


# -------------------------------------------------------------------------------- named dimensions


class Labelled(Container):
    """An array or data set of xarray: some dimensions, stacked, are samples; the others features.

    Of a data set each variable is a feature; one that lacks a sample dimension is repeated over it.
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

    def _like(self, form: Form) -> Labelled:
        """Return this with the features of training in their order, by their coordinates."""
        if not form.features:
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

    @property
    def _variables(self) -> dict[str, Any]:
        if isinstance(self.x, xr.Dataset):
            return {str(name): array for name, array in self.x.data_vars.items()}
        return {str(self.x.name): self.x}

    def _plain(self) -> Plain:
        """Return the matrix of its samples."""
        parts, names = [], []
        for name, array in self._variables.items():
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
            labels = self.x[rest[0]].values.tolist() if len(rest) == 1 else []
            texts = labels and rest[0] in self.x.coords and isinstance(labels[0], str)
            if texts:
                names = labels
            elif rest or self.x.name is None:
                names = []
        if len(parts) == 1:
            matrix = parts[0]
        elif any(is_dask(part) for part in parts):
            matrix = da.concatenate(parts, axis=1)
        else:
            matrix = np.concatenate(parts, axis=1)
        return Plain(matrix, check_names(names, "x"))

    def _stack(self, array: Any, repeat: bool = False) -> Any:
        """Return a variable as (rows, the rest of its numbers)."""
        rest = [dim for dim in self.features if dim in array.dims]
        variable = loaded_lazily(array).variable
        lacks = [dim for dim in self.dims if dim not in array.dims]
        if lacks and not repeat:
            raise ShapeError(f"{array.name} has no dimension {lacks[0]!r}, which samples have")
        if lacks:
            variable = variable.set_dims({**self.sizes, **{d: array.sizes[d] for d in rest}})
        values = variable.transpose(*self.dims, *rest).data
        return values.reshape((prod(self.sizes.values()), -1 if values.size else 0))

    def learn(self, categorical: str, missing: str) -> tuple[Column, ...]:
        """Return what each column becomes."""
        inner = self._plain()
        columns = inner.learn(categorical, missing)
        self.names = inner.names
        return columns

    def matrix(self, form: Form) -> Any:
        """Return all rows as numbers."""
        return self._like(form)._plain().matrix(form)

    def apply(self, task: Task) -> Any:
        """Return the predictions."""
        found = self._like(task.form)._plain().apply(task)
        rest = tuple(dim for dim in self.x.dims if dim not in self.dims)
        coords = self.x.coords.to_dataset().drop_dims(rest, errors="ignore").coords
        dims, shape = self.dims, tuple(self.sizes.values())
        if task.labels is not None:
            dims, shape = (*dims, "output"), (*shape, len(task.labels))
        out = xr.DataArray(found.reshape(shape), coords=coords, dims=dims, name=task.name)
        return out if task.labels is None else out.assign_coords(output=list(task.labels))

    def split(self, names: Sequence[str]) -> tuple[Container, Any]:
        """Return inputs and named targets."""
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
        if len(parts) == 1:
            return rest, parts[0][:, 0]
        return rest, (da if any(map(is_dask, parts)) else np).concatenate(parts, axis=1)

    def align(self, y: Any, name: str) -> Any:
        """Return an array with these rows."""
        for dim in self.dims:
            if dim not in y.dims:
                raise ShapeError(f"{name} has no dimension {dim!r}, which the samples of x have")
            here, there = (a.indexes.get(dim) for a in (self.x, y))
            if here is not None and there is not None and not here.equals(there):
                raise DataError(
                    f"x and {name} have different coordinates of {dim!r}: use xarray.align"
                )
        if any(y.sizes[dim] != size for dim, size in self.sizes.items()):
            raise ShapeError(f"{name} has sizes {dict(y.sizes)}, x has {dict(self.sizes)}")
        found = Labelled(y, self.dims)._stack(y)
        return found[:, 0] if set(y.dims) == set(self.dims) else found


def _coordinates(x: Any, dim: Hashable) -> list[Label] | None:
    """Return the coordinates of a dimension as JSON has them; None if there are none."""
    index = x.indexes.get(dim)
    if index is None or index.hasnans:
        return None
    return [v if isinstance(v, (str, int, float)) else str(v) for v in index.tolist()]


def _first_dim(x: xr.Dataset) -> tuple[Any, ...]:
    return next((tuple(array.dims)[:1] for array in x.data_vars.values() if array.ndim), ())


def loaded_lazily(array: Any) -> Any:
    """Return an array of xarray whose values are in memory, or a dask array; nothing is read."""
    if array.chunks is None and not array.variable._in_memory:
        return array.chunk("auto" if array.dtype.kind in "buif" else {})
    return array


def shared_dims(x: Any, y: Any) -> tuple[str, ...] | None:
    """Return the dimensions that inputs and targets of xarray share; None for others."""
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
