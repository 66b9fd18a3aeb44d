"""Take inputs and targets out of the containers that hold them, to train or to score."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
import zarr

from dadmm.data.arrays import computing
from dadmm.data.columns import Order
from dadmm.data.containers import Container, Plain
from dadmm.data.files import are_paths
from dadmm.data.foreign import Foreign, as_pandas
from dadmm.data.frames import Frame, LazyFrame, dask_values, numpy_values
from dadmm.data.labelled import Labelled, loaded_lazily, shared_dims
from dadmm.data.open import open_path
from dadmm.data.table import Table, table_at
from dadmm.errors import InputError
from dadmm.networks.form import Column, Form
from dadmm.networks.names import Name, alike, are_positions, is_text, plain_name, text_of


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
    weight : (rows,) array-like or None
        Sample weights, one for each row of `x`; not checked yet.
    """

    x: Any
    y: Any
    form: Form
    stored: zarr.Array[Any] | None
    weight: Any


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
    given, x = x, opened(x, form, classes)
    if isinstance(x, (xr.DataArray, xr.Dataset)):
        return Labelled(x, dims)
    if (table := as_pandas(x, "x")) is not x:
        return Foreign(table) if hasattr(table, "columns") else Plain(table)
    kind = type(x)  # a column of pandas is an attribute as well, whatever its name
    if hasattr(kind, "columns") and hasattr(kind, "map_partitions"):
        return LazyFrame(x)
    if hasattr(kind, "columns") and hasattr(kind, "iloc"):
        return Frame(x, indexed=x is not given)  # users of files have no index but the file's
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
        found[text_of(name)] = kinds[type(cell)]
    for name in form.targets or ():
        if classes is None:
            found[text_of(name)] = "float64"
        elif classes.dtype.kind in "UOT":
            found[text_of(name)] = "str"
    return found


def prepare_training(
    x: Any,
    y: Any,
    categorical: str = "refuse",
    missing: str = "refuse",
    sample_dims: str | Sequence[str] | None = None,
    form: Form | None = None,
    reading: Mapping[str, Any] | None = None,
    sample_weight: Any = None,
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
    sample_weight : array-like or None
        Fills are weighted means, and rows of weight 0 have no categories.

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
    weight = weights_of(container, sample_weight)
    strange = "error"
    if form is None:
        columns = container.learn(categorical, missing, weight)
        strange = "error" if weight is None else "ignore"  # only rows of weight 0 can have any
        form = Form(container.names, columns, names, container.dims, container.features, reading)
    matrix = container.matrix(form, strange)
    stored = container.stored if isinstance(container, Plain) and not form.columns else None
    return Training(matrix, target, form, stored, weight)


def take_targets(
    container: Container, y: Any, known: tuple[Name, ...] | None = None
) -> tuple[Container, Any, tuple[Name, ...] | None]:
    """Return the inputs without the targets, the targets, and their names.

    Targets whose names are `known` from training come in its order.
    """
    named = _named(container, y)
    if named is not None:
        chosen = [named[i] for i in _order(named, known)]
        return *container.split(chosen), tuple(chosen)
    table = as_pandas(y, "y")
    names = _names(table)
    values = rows_of(container, y) if table is y else numpy_values(table, "y")
    # An array of several targets has only one name.
    if names is None or len(names) != (values.shape[1] if values.ndim == 2 else 1):
        return container, values, None
    order = _order(names, known)
    if order != list(range(len(names))):
        values, names = values[:, order], tuple(names[i] for i in order)
    return container, values, names


def _order(names: Sequence[Name], known: Sequence[Name] | None) -> list[int]:
    """Return where each of the targets of training is; their own order if they are others."""
    here, wanted = alike(names, known or ())
    same = set(wanted) == set(here)
    return [here.index(text) for text in wanted] if same else list(range(len(here)))


def _named(container: Container, y: Any) -> list[Name] | None:
    """Return the names of columns that `y` gives; None if it holds the targets themselves."""
    names = container.names or ()
    if isinstance(y, str):
        return [y]
    if isinstance(y, list):
        given = list(map(plain_name, y)) if 0 < len(y) <= len(names) else []
        known, texts = alike(names, given)
        found = given and len(set(texts)) == len(texts) and set(texts) <= set(known)
        return given if found and (is_text(given) or not _are_rows(given, container)) else None
    label = isinstance(y, np.generic) or (isinstance(y, Hashable) and not hasattr(y, "__array__"))
    if y is None or not label:
        return None
    name = plain_name(y)
    known, (text,) = alike(names, [name])
    numbers = isinstance(name, (int, float, date)) and bool(names)
    return [name] if text in known or numbers else None


def _are_rows(values: list[Any], container: Container) -> bool:
    """Whether numbers that are also names of columns may be targets, one for each row."""
    if not isinstance(container, Frame):
        return True
    with computing("x"):
        return len(container.frame) == len(values)


def rows_of(container: Container, y: Any, name: str = "y") -> Any:
    """Return targets or weights as an array, one row for each row of the container."""
    if isinstance(y, xr.Dataset):
        raise InputError(f"{name} is a data set: name one of its variables")
    if isinstance(y, xr.DataArray):
        if isinstance(container, Labelled):
            return container.align(y, name)
        return loaded_lazily(y).data
    if (table := as_pandas(y, name)) is not y:
        return numpy_values(table, name)  # it had no index: rows match by position
    if hasattr(type(y), "map_partitions") and hasattr(type(y), "npartitions"):
        with computing(name):
            array, order = dask_values(y, name)
        if isinstance(container, Frame):
            container.check_order(order, name)
        return array
    if hasattr(type(y), "iloc"):
        if isinstance(container, Frame):
            container.check_order(Order.of(y), name)
        return numpy_values(y, name)
    return y


def weights_of(container: Container, weights: Any) -> Any:
    """Return sample weights as an array, one row for each row of the container."""
    if isinstance(weights, xr.DataArray) and isinstance(container, Labelled):
        return container.align(weights, "sample_weight", repeat=True)
    return rows_of(container, weights, "sample_weight")


def _names(y: Any) -> tuple[Name, ...] | None:
    """Return the names of the targets if each has one, else None."""
    if not isinstance(y, xr.DataArray) and not hasattr(y, "index"):
        return None  # the names of dask and zarr arrays mean nothing
    labels: list[Any] = list(y.columns) if hasattr(y, "columns") else [getattr(y, "name", None)]
    names = tuple(map(plain_name, labels))
    distinct = len(set(names)) == len(names)
    return None if None in labels or not distinct or are_positions(names) else names
