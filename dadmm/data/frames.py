"""Data frames of pandas and dask: their columns as a matrix, and predictions with their index."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from functools import reduce
from numbers import Number
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import as_matrix, check_finite, computing
from dadmm.data.columns import Order, Summary, check_names, encode, kinds, learn, number_type
from dadmm.data.containers import Container, Task, add_up, check_width
from dadmm.data.weights import in_memory, pieces
from dadmm.errors import DataError, unknown
from dadmm.networks.form import Column, Form
from dadmm.networks.names import Name, alike
from dadmm.numerics.types import Array


class Frame(Container):
    """A pandas data frame.

    Parameters
    ----------
    frame : DataFrame
    indexed : bool
        Whether predictions are a frame with its index.  scikit-learn's tools need plain arrays.
    """

    def __init__(self, frame: Any, indexed: bool = False) -> None:
        self.frame, self.indexed = frame, indexed
        self.names = check_names(frame.columns, "x")

    def learn(self, categorical: str, missing: str, weight: Any = None) -> tuple[Column, ...]:
        text = self._check(categorical)
        if not len(self.frame):
            raise DataError(f"x is empty: its shape is {self.frame.shape}")
        if not text and missing == "refuse":
            return ()
        summary = Summary.of_table(self.frame, "x", in_memory(weight, len(self.frame)))
        return learn(summary, list(self.frame.columns), missing, "x")

    def _check(self, categorical: str) -> bool:
        """Refuse columns that cannot be used; return whether any holds categories."""
        if not len(self.frame.columns):
            raise DataError("x has no columns")
        found = kinds(self.frame.dtypes)
        first = {i: self._first(i) for i, what in enumerate(found) if what == "category"}
        other = [i for i, what in enumerate(found) if what == "other" or _is_odd(first.get(i))]
        text = [i for i, what in enumerate(found) if what == "category"]
        if other or (text and categorical == "refuse"):
            bad = other or text
            listed = ", ".join(str(self.frame.columns[i]) for i in bad[:10])
            listed += self._example(self.frame.columns[bad[0]])
            cure = "convert" if other else "encode them with categorical='one_hot',"
            if not other and isinstance(first[bad[0]], Number):
                cure = "convert them with astype(float),"
            raise DataError(f"x has columns that are not numeric: {listed}; {cure} or drop them")
        return bool(text)

    def _first(self, i: int) -> Any:
        """Return the first cell of a column of any objects that is not missing; else None."""
        import pandas as pd

        cells = self.frame.iloc[:, i]
        if isinstance(cells.dtype, (pd.StringDtype, pd.CategoricalDtype)):
            return None
        return next(iter(cells[cells.notna()]), None)

    def _example(self, name: Hashable) -> str:
        """Return a note on the first cell of a column that is not a number."""
        for row, cell in self.frame[name].items():
            try:
                float(cell)
            except (TypeError, ValueError):
                return f" (row {row} holds {str(cell)!r})"
        return ""

    def _select(self, form: Form, handle_unknown: str) -> tuple[Any, tuple[Any, ...], int]:
        """Return the columns of training, the arguments of `encode` for them, and their width."""
        order = self._order(form)
        frame = self.frame if order is None else self.frame.iloc[:, order]
        type(self)(frame)._check("one_hot" if form.columns else "refuse")
        count = len(frame.columns)
        columns = form.columns or (Column(),) * count
        check_width(count, len(columns))
        types = {
            np.dtype(np.uint8) if column.categories is not None else number_type(dtype)
            for column, dtype in zip(columns, frame.dtypes, strict=True)
        }
        dtype = np.result_type(*types)
        return frame, (columns, dtype, handle_unknown, "x"), sum(c.width for c in columns)

    def matrix(self, form: Form, handle_unknown: str = "error") -> Any:
        frame, encoding, _ = self._select(form, handle_unknown)
        return as_matrix(encode(frame, *encoding))

    def apply(self, task: Task) -> Any:
        frame, encoding, width = self._select(task.form, task.handle_unknown)
        check_width(width, task.features)
        return self._predict(frame, task, encoding)

    def _predict(self, frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
        if not len(frame):
            raise DataError(f"x is empty: its shape is {frame.shape}")
        predict = _predict_frame if self.indexed else _predict_rows
        return predict(frame, task, encoding)

    def split(self, names: Sequence[Name]) -> tuple[Container, Any]:
        known, wanted = alike(self.names or (), names)
        place = {name: i for i, name in enumerate(known)}
        for name, text in zip(names, wanted, strict=True):
            if text not in place:
                raise unknown("column of x", name, self.frame.columns)
        chosen = [place[text] for text in wanted]
        taken = set(chosen)
        rest = [i for i in range(len(place)) if i not in taken]
        y = self._targets(self.frame.iloc[:, chosen])
        return type(self)(self.frame.iloc[:, rest]), y

    def _targets(self, y: Any) -> Any:
        return numpy_values(_flat(y), "y")

    def check_order(self, order: Order, name: str) -> None:
        """Raise `DataError` if `name` has the same index labels in another order.

        If the labels differ, they do not say which rows belong together; rows then match by
        position.
        """
        Order.of(self.frame).check(order, name)


def _flat(frame: Any) -> Any:
    """Return a frame of one column as a Series, and others as they are."""
    return frame.iloc[:, 0] if len(frame.columns) == 1 else frame


def _is_odd(cell: Any) -> bool:
    """Whether a cell can be neither a category nor a number."""
    return cell is not None and not isinstance(cell, (str, bool, np.bool_, Number))


def _predict_rows(frame: Any, task: Task, encoding: tuple[Any, ...]) -> Array:
    """Return predictions for a pandas frame as an array."""
    block = encode(frame, *encoding)
    check_finite(block, "x")
    return task.function(block, "x")


def _predict_frame(frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
    """Return predictions for a pandas frame, with its index."""
    import pandas as pd

    # A lazy frame may have partitions without rows.
    values = _predict_rows(frame, task, encoding) if len(frame) else task.empty()
    if task.labels is None:
        return pd.Series(values, index=frame.index, name=task.name)
    return pd.DataFrame(values, index=frame.index, columns=list(task.labels))


def numpy_values(values: Any, name: str) -> Array:
    """Return a pandas Series or frame of targets as a NumPy array.

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
    """A dask data frame; it does not know its number of rows, so one pass counts them."""

    def __init__(self, frame: Any) -> None:
        super().__init__(_mended(frame))
        self._parts: list[Any] = []
        self._orders: tuple[Order, ...] = ()
        self._others: dict[str, Order] = {}

    def learn(self, categorical: str, missing: str, weight: Any = None) -> tuple[Column, ...]:
        text = self._check(categorical)
        # The pass also counts the rows and checks the cells, so it is made in any case.
        columns = learn(self._summary(weight), list(self.frame.columns), missing, "x")
        return columns if text or missing == "impute" else ()

    def _check(self, categorical: str) -> bool:
        if not self.frame.npartitions:
            raise DataError("x is empty: it has no partitions")
        return super()._check(categorical)

    def _first(self, i: int) -> Any:
        return None  # looking for one would compute the frame

    def _example(self, name: Hashable) -> str:
        return ""

    def _summary(self, weight: Any) -> Summary:
        self._parts = self.frame.to_delayed()
        weights = [None] * len(self._parts)
        if weight is not None:
            weights = pieces(weight, [each.rows for each in _count_rows(self._parts, "x")])
        pairs = zip(self._parts, weights, strict=True)
        tasks = [delayed(_summarise)(part, each) for part, each in pairs]
        with computing("x"):
            found, self._orders = zip(*compute(*tasks), strict=True)
        if not sum(summary.rows for summary in found):
            raise DataError("x is empty: it has no rows")
        return add_up(found, list(self.frame.columns))

    def matrix(self, form: Form, handle_unknown: str = "error") -> Any:
        frame, encoding, width = self._select(form, handle_unknown)
        parts = self._parts
        if frame is not self.frame or not parts:
            parts = frame.to_delayed()
            self._orders = _count_rows(parts, "x")
        for name, order in self._others.items():
            self.check_order(order, name)
        return _array(parts, self._orders, encode, encoding, encoding[1], width)

    def _predict(self, frame: Any, task: Task, encoding: tuple[Any, ...]) -> Any:
        meta = _predict_frame(frame._meta, task, encoding)
        return frame.map_partitions(_predict_frame, delayed(task, pure=True), encoding, meta=meta)

    def _targets(self, y: Any) -> Any:
        return dask_values(y.map_partitions(_flat, meta=_flat(y._meta)), "y")[0]

    def check_order(self, order: Order, name: str) -> None:
        if self._orders:
            reduce(operator.add, self._orders).check(order, name)
        else:
            self._others[name] = order  # `matrix` compares it, once it has counted the rows


def _mended(frame: Any) -> Any:
    """Return a dask frame or Series whose tasks have the keys that they are filed under.

    Those of ``from_delayed(..., verify_meta=False)`` do not, and Dask loses them when it fuses the
    tasks of an array.  Each such key becomes an alias here.
    """
    if not any(type(each).__name__ == "FromDelayed" for each in frame.expr.walk()):
        return frame
    import dask.dataframe as dd

    optimal = frame.optimize()
    graph = dict(optimal.dask)
    astray = {key: task.key for key, task in graph.items() if getattr(task, "key", key) != key}
    if not astray:
        return frame
    keys = optimal.__dask_keys__()
    return dd.from_graph({**graph, **astray}, frame._meta, optimal.divisions, keys, "mended")


def _summarise(part: Any, weight: Array | None) -> tuple[Summary, Order]:
    return Summary.of_table(part, "x", weight), Order.of(part)


def _count_rows(parts: Sequence[Any], name: str) -> tuple[Order, ...]:
    """Return the rows of each partition, in one pass."""
    with computing(name):
        return tuple(compute(*[delayed(Order.of)(part) for part in parts]))


def dask_values(values: Any, name: str) -> tuple[Any, Order]:
    """Return a dask Series or frame of targets as a dask array of known chunks, and its rows.

    The array is made of the partitions that were counted: Dask may join the partitions of a frame
    of fewer columns.
    """
    values = _mended(values)
    parts = values.to_delayed()
    orders = _count_rows(parts, name)
    meta = numpy_values(values._meta, name)
    width = len(values.columns) if meta.ndim == 2 else None
    array = _array(parts, orders, numpy_values, (name,), meta.dtype, width)
    return array, reduce(operator.add, orders)


def _array(
    parts: Sequence[Any],
    orders: Sequence[Order],
    task: Callable[..., Any],
    arguments: tuple[Any, ...],
    dtype: Any,
    width: int | None,
) -> Any:
    """Return a dask array of ``task(part, *arguments)`` for each partition that has rows."""
    tail = () if width is None else (width,)
    blocks = [
        da.from_delayed(delayed(task)(part, *arguments), (order.rows, *tail), dtype)
        for part, order in zip(parts, orders, strict=True)
        if order.rows
    ]
    if not blocks:
        raise DataError("x is empty: it has no rows")
    return da.concatenate(blocks)
