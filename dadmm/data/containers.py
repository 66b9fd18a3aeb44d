"""What every container of rows can do, and plain arrays.

A container gives a matrix of its rows, and returns predictions as the same kind of container.
Nothing lazy is loaded whole: what a container cannot tell without reading its rows, it learns in
one pass over its chunks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import as_matrix, check_finite, computing, is_dask, packing, plain_block
from dadmm.data.columns import Summary, fill, learn
from dadmm.data.weights import in_memory, pieces
from dadmm.errors import InputError, ShapeError
from dadmm.networks.form import Column, Form, Label
from dadmm.networks.names import Name, are_positions, by_name, text_of
from dadmm.numerics.types import Array


@dataclass(frozen=True)
class Task:
    """A prediction to make.

    Parameters
    ----------
    function : callable
        ``function(block, name)`` from (rows, features) to (rows,) or (rows, labels).
    form : Form
        The form of the inputs at training.
    features : int
        The width of the network's inputs.
    labels : sequence or None
        Names of the output columns; None for outputs of one dimension.
    dtype : dtype
        Of the outputs.
    handle_unknown : {"error", "ignore"}
        Raise an error for a category that training never saw, or encode it as zeros.
    """

    function: Callable[[Array, str], Array]
    form: Form
    features: int
    labels: Sequence[Any] | None
    dtype: Any
    handle_unknown: str = "error"

    def empty(self) -> Array:
        """Return outputs of no rows."""
        return np.empty((0,) if self.labels is None else (0, len(self.labels)), self.dtype)

    @property
    def name(self) -> Name | None:
        """Return the target's name; None if there are several targets, or none has a name."""
        targets = self.form.targets
        return targets[0] if targets and len(targets) == 1 else None


class Container(ABC):
    """Rows of inputs, as the user holds them.

    Attributes
    ----------
    names : tuple of names or None
        Column names.
    dims : tuple of str
        The xarray dimensions that are samples.
    features : mapping of str to sequence or None
        The other xarray dimensions, with their coordinates.
    """

    names: tuple[Name, ...] | None = None
    dims: tuple[str, ...] = ()
    features: Mapping[str, Sequence[Label] | None] = MappingProxyType({})

    @abstractmethod
    def learn(self, categorical: str, missing: str, weight: Any = None) -> tuple[Column, ...]:
        """Return how to encode each column; empty if all are numbers and none is missing.

        `weight` has one number for each row; rows of weight 0 are as if they were not there.
        """

    @abstractmethod
    def matrix(self, form: Form, handle_unknown: str = "error") -> Any:
        """Return all rows as numbers, (rows, features), a NumPy or a dask array."""

    @abstractmethod
    def apply(self, task: Task) -> Any:
        """Return the predictions for all rows in the same kind of container."""

    def split(self, names: Sequence[Name]) -> tuple[Container, Any]:
        """Return the other columns as a container, and the named ones: (rows,) or (rows, names)."""
        raise InputError(
            f"y names the column {names[0]!r}, but x has no named columns: pass y as an array"
        )

    def align(self, y: Any, name: str, repeat: bool = False) -> Any:
        """Return an xarray array with its rows in this container's order.

        With `repeat`, one that lacks a dimension of the samples is repeated over it.
        """
        return y

    def _order(self, form: Form) -> list[int] | None:
        """Return where each column of training is here; None if the columns need no reordering."""
        if not by_name(form.names, self.names):
            if form.names and form.encodes and not are_positions(form.names):
                names = ", ".join(map(text_of, form.names[:5]))
                raise InputError(
                    "x has no column names, but training encoded a table: pass one that has "
                    f"the columns {names}{', ...' if len(form.names) > 5 else ''}"
                )
            return None  # arrays are taken by position
        assert self.names is not None
        order = form.order(self.names, "x")
        return None if order == list(range(len(self.names))) else order


class Plain(Container):
    """An array of NumPy, dask or zarr, a sparse matrix, or anything that NumPy converts."""

    def __init__(self, x: Any, names: tuple[Name, ...] | None = None) -> None:
        self.x, self.names = x, names

    def learn(self, categorical: str, missing: str, weight: Any = None) -> tuple[Column, ...]:
        if missing == "refuse":
            return ()
        x = as_matrix(self.x, lazy=weight is None, finite=False)
        if is_dask(x):
            blocks = x.rechunk({1: -1}).to_delayed()[:, 0]
            weights = pieces(weight, x.chunks[0])
            pairs = zip(blocks, weights, strict=True)
            tasks = [delayed(_summarise)(block, each) for block, each in pairs]
            with computing("x"):
                found = compute(*tasks)
        else:
            found = (Summary.of_matrix(x, in_memory(weight, len(x))),)
        names = self.names or range(x.shape[1])
        return learn(add_up(found, names), names, missing, "x")

    def matrix(self, form: Form, handle_unknown: str = "error") -> Any:
        return self._numbers(form, lazy=False)

    @property
    def stored(self) -> Any:
        """Return the zarr array itself; None for other arrays, and where numbers are packed."""
        return self.x if isinstance(self.x, zarr.Array) and not packing(self.x) else None

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
        x = self._numbers(task.form, lazy=True)
        check_width(x.shape[1], task.features)
        if not is_dask(x):
            return task.function(x, "x")
        x = x.rechunk({1: -1})
        meta = task.empty()
        out = x.map_blocks(
            _predict_block,
            delayed(task, pure=True),
            dtype=task.dtype,
            chunks=(x.chunks[0], *((n,) for n in meta.shape[1:])),
            drop_axis=[1] if meta.ndim == 1 else [],
            meta=meta,
        )
        return compute(out)[0] if hasattr(self.x, "tocsr") else out


def _summarise(block: Any, weight: Array | None) -> Summary:
    return Summary.of_matrix(plain_block(block, "x", block.shape, ""), weight)


def _predict_block(block: Any, task: Task, block_id: tuple[int, ...] | None = None) -> Array:
    name = f"x, in the dask chunk {block_id},"
    block = plain_block(block, name, (block.shape[0], task.features), "")
    check_finite(block, name)
    return task.function(block, name)


def check_width(found: int, features: int) -> None:
    """Raise `ShapeError`, in scikit-learn's words, if inputs have another width than training's."""
    if found != features:
        raise ShapeError(
            f"X has {found} features, but dadmm is expecting {features} features as input: "
            "pass the same columns, in the same order"
        )


def add_up(found: Sequence[Summary], names: Sequence[object]) -> Summary:
    """Return the summary of all blocks from those of each."""
    return reduce(lambda a, b: a.add(b, names, "x"), found)
