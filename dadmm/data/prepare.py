"""Take inputs and targets out of the containers that hold them, to train or to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import xarray as xr
import zarr

from dadmm.data.arrays import computing
from dadmm.data.columns import Order
from dadmm.data.containers import Container, Plain
from dadmm.data.files import are_paths
from dadmm.data.frames import Frame, LazyFrame, dask_values, numpy_values
from dadmm.data.labelled import Labelled, loaded_lazily, shared_dims
from dadmm.data.open import open_path
from dadmm.data.table import Table, table_at
from dadmm.errors import InputError
from dadmm.networks.form import Column, Form


@dataclass(frozen=True)
class Training:
    """Inputs and targets to train on.

    Parameters
    ----------
    x : (rows, features) array
        NumPy or dask.
    y : array-like
        NumPy, dask, or anything that converts; not checked yet.
    form : Form
        The form of the inputs.
    stored : zarr.Array or None
        The zarr array that holds the numbers of `x`, so that a run may read them in place.
    container : Container
    """

    x: Any
    y: Any
    form: Form
    stored: zarr.Array[Any] | None
    container: Container

    def rows(self, weights: Any) -> Any:
        """Return sample weights as an array, one row for each row of `x`."""
        return rows_of(self.container, weights, "sample_weight")


def contain(
    x: Any,
    dims: str | Sequence[str] | None = None,
    form: Form | None = None,
    classes: Any = None,
) -> Container:
    """Return the container of `x`.

    Parameters
    ----------
    x : Container, array, table, or path
    dims : names or None
        The xarray dimensions that are samples; None for the first dimension.
    form, classes : Form or None, array or None
        The form and the labels of training, by which files are read.
    """
    if isinstance(x, Container):
        return x
    x = opened(x, form, classes)
    if isinstance(x, (xr.DataArray, xr.Dataset)):
        return Labelled(x, dims)
    if hasattr(x, "columns") and hasattr(x, "map_partitions"):
        return LazyFrame(x)
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        return Frame(x)
    return Plain(x)


def opened(x: Any, form: Form | None = None, classes: Any = None) -> Any:
    """Return what a path, a list of paths or a `Table` names; other inputs as they are.

    `form` and `classes` are those of training, if it is over: files are read as they were then.
    """
    if not isinstance(x, (str, PathLike, Table)) and not are_paths(x):
        return x
    if form is None:
        return open_path(x)
    return open_path(table_at(x, form.reading), known=_dtypes(form, classes))


def _dtypes(form: Form, classes: Any) -> dict[str, str]:
    """Return what the columns of a table were in training, as `open_path` takes it."""
    kinds = {str: "str", bool: "boolean", int: "int64", float: "float64"}
    found = {}
    columns = form.columns or (Column(),) * len(form.names or ())
    for name, column in zip(form.names or (), columns, strict=False):
        cell = 0.0 if column.categories is None else column.categories[0]
        found[str(name)] = kinds[type(cell)]
    for name in form.targets or ():
        if classes is None:
            found[str(name)] = "float64"
        elif classes.dtype.kind in "UOT":
            found[str(name)] = "str"
    return found


def prepare_training(
    x: Any,
    y: Any,
    categorical: str = "refuse",
    missing: str = "refuse",
    sample_dims: str | Sequence[str] | None = None,
    form: Form | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Training:
    """Return inputs and targets to train on.

    Parameters
    ----------
    x : array, table, container, or path
    y : array-like, or names of columns of `x`
    form : Form or None
        The form of the inputs so far, if training goes on.
    reading : mapping or None
        How files were read, if `x` was read from some: options of `dadmm.Table`.

    Raises
    ------
    InputError
        If the data cannot be trained on.
    """
    reading = x.options if isinstance(x, Table) else reading or {}
    x = opened(x, form)
    if sample_dims is None:
        sample_dims = form.dims if form and form.dims else shared_dims(x, y)
    known = None if form is None else form.targets
    container, target, names = take_targets(contain(x, sample_dims), y, known)
    if form is None:
        columns = container.learn(categorical, missing)
        form = Form(container.names, columns, names, container.dims, container.features, reading)
    matrix = container.matrix(form)
    stored = container.stored if isinstance(container, Plain) and not form.columns else None
    return Training(matrix, target, form, stored, container)


def take_targets(
    container: Container, y: Any, known: tuple[str, ...] | None = None
) -> tuple[Container, Any, tuple[str, ...] | None]:
    """Return the inputs without the targets, the targets, and their names.

    Targets whose names are `known` from training come in its order.
    """
    if isinstance(y, str) or _are_names(y, container.names or ()):
        chosen = _ordered([y] if isinstance(y, str) else y, known)
        return *container.split(chosen), tuple(chosen)
    if known and getattr(y, "ndim", 1) == 2 and hasattr(y, "columns") and _names(y):
        y = y[_ordered(list(y.columns), known)]
    values, names = rows_of(container, y), _names(y)
    # An array of several targets has only one name.
    width = values.shape[1] if names and values.ndim == 2 else 1
    return container, values, names if names and len(names) == width else None


def _ordered(names: list[str], known: tuple[str, ...] | None) -> list[str]:
    return list(known) if known and sorted(known) == sorted(names) else names


def _are_names(y: Any, known: Sequence[str]) -> bool:
    named = isinstance(y, list) and len(y) > 0
    return named and all(isinstance(name, str) for name in y) and set(y) <= set(known)


def rows_of(container: Container, y: Any, name: str = "y") -> Any:
    """Return targets or weights as an array, one row for each row of the container."""
    if isinstance(y, xr.Dataset):
        raise InputError(f"{name} is a data set: name one of its variables")
    if isinstance(y, xr.DataArray):
        if isinstance(container, Labelled):
            return container.align(y, name)
        return loaded_lazily(y).data
    if hasattr(y, "map_partitions") and hasattr(y, "npartitions"):
        with computing(name):
            array, order = dask_values(y, name)
        if isinstance(container, Frame):
            container.check_order(order, name)
        return array
    if hasattr(y, "iloc") and hasattr(y, "index"):
        if isinstance(container, Frame):
            container.check_order(Order.of(y), name)
        return numpy_values(y, name)
    return y


def _names(y: Any) -> tuple[str, ...] | None:
    """Return the names of the targets if each has one, else None."""
    if not isinstance(y, xr.DataArray) and not hasattr(y, "index"):
        return None  # the names of dask and zarr arrays mean nothing
    names: list[Any] = list(y.columns) if hasattr(y, "columns") else [getattr(y, "name", None)]
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None
