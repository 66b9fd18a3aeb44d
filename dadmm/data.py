"""The user's arrays into the run's chunks: checks, labels, scaling.

NumPy arrays (and what converts to them) are taken chunk by chunk in this process; dask arrays are
written by tasks where their blocks are, and inputs in zarr stay where they are, so that lazy data
never comes together anywhere.  Data keeps its own dtype and is scaled when a task reads it; what
scaling needs to know comes from one pass over the chunks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import compute
from dask.delayed import delayed
from dask.tokenize import normalize_token
from numpy.typing import NDArray

from dadmm import execute
from dadmm.errors import (
    CellError,
    DadmmError,
    DataError,
    OptionError,
    RunError,
    ShapeError,
    StoreError,
    unknown,
)
from dadmm.network import Scaling
from dadmm.store import Run
from dadmm.store.sources import Readable, Source, fingerprint, refuse_pickle
from dadmm.workspace import release

Array = NDArray[Any]

STANDARDIZE = ("feature", "global", "none", "scale", "shift")
ROWS_AT_ONCE = 65536
# At least so many columns, and about so many numbers, are turned into float64 at once.
COLUMNS = 16
NUMBERS_AT_ONCE = 2**21
LABEL_DTYPE = re.compile(r"object|[<>|][biufU][0-9]{1,9}")
MOST_LABELS = 2**28  # bytes


def is_dask(array: Any) -> bool:
    """Whether `array` is a dask array."""
    return isinstance(array, da.Array)


def unwrap(array: Any) -> Any:
    """Return the dask array that stands for one of zarr or a sparse matrix; others as they are."""
    if isinstance(array, zarr.Array):
        refuse_pickle(array, str(array.store_path))
        return da.from_array(Readable(array), chunks=array.chunks)
    if hasattr(array, "tocsr"):
        rows = SparseRows(array.tocsr())
        return da.from_array(rows, chunks=(rows.at_once, -1))
    return array


class SparseRows:
    """A sparse matrix for `dask.array.from_array`, of which some rows at a time become dense."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape, self.dtype, self.ndim = matrix.shape, matrix.dtype, 2
        self.at_once = max(1, NUMBERS_AT_ONCE // max(matrix.shape[1], 1))

    def __dask_tokenize__(self) -> Any:
        return tuple(
            normalize_token(part)
            for part in (self.shape, self.matrix.data, self.matrix.indices, self.matrix.indptr)
        )

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        rows, columns = key
        return dense(self.matrix[rows])[:, columns]


def dense(block: Any) -> Any:
    """Return a sparse block as NumPy has it; others as they are."""
    for name in ("toarray", "todense"):  # of SciPy, and of the package sparse
        if hasattr(block, name):
            return getattr(block, name)()
    return block


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Say in one line what went wrong in the user's own dask graph.

    Raises
    ------
    DataError
        For whatever the graph raises.
    RunError
        For what is no fault of its: a disk, the workers.
    """
    try:
        yield
    except DadmmError:
        raise
    except Exception as error:
        from distributed import KilledWorker

        kind = RunError if isinstance(error, (OSError, KilledWorker)) else DataError
        what = f"{type(error).__name__}: {error}"
        raise kind(f"{name} could not be computed: {what}") from error


def as_matrix(x: Any, name: str = "x", lazy: bool = False, finite: bool = True) -> Any:
    """Return `x` as a numeric matrix, a NumPy or a dask array, (rows, columns).

    Arrays of zarr and sparse matrices become dask arrays; sparse blocks become dense, each where it
    is computed.

    Parameters
    ----------
    lazy : bool
        Leave the chunk sizes of a dask array unknown where they are; to find them out, all of its
        blocks are computed once, and let go.
    finite : bool
        Refuse NaN and infinity in NumPy arrays.

    Raises
    ------
    ShapeError
        If it has not two dimensions.
    DataError
        If it is empty, a column is not numeric, or (NumPy) a value is not finite.
    """
    x = unwrap(x)
    if not is_dask(x):
        x = _as_array(x, name)
    elif not lazy:
        x = _with_sizes(x, name)
    if x.ndim != 2:
        cure = (
            f". Reshape your data either using {name}.reshape(-1, 1) if it has a single feature "
            f"or {name}.reshape(1, -1) if it is a single sample"
        )
        what = f"{name} has {x.ndim} dimension(s), not (rows, columns)"
        raise ShapeError(what + (cure if x.ndim == 1 else ""))
    if 0 in x.shape:
        kind = "feature(s)" if x.shape[0] else "sample(s)"
        raise DataError(
            f"{name} is empty: 0 {kind} (shape={x.shape}) while a minimum of 1 is required."
        )
    if x.dtype.kind not in "buif":
        _check_cells(x, name)
    if x.dtype.kind == "O" or x.dtype.itemsize > 8:
        x = x.astype(np.float64)
    if is_dask(x):
        plain = type(x._meta) is np.ndarray
        return x if plain else x.map_blocks(dense, dtype=x.dtype, meta=np.empty((0, 0), x.dtype))
    if finite:
        check_finite(x, name)
    return x


def _as_array(values: Any, name: str) -> Array:
    if values is None:
        raise DataError(f"{name} is missing")
    if np.ma.is_masked(values):
        raise DataError(f"{name} has masked values: drop or fill them")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{name} has rows of different lengths: make them equal") from error
    if array.ndim == 0:
        raise ShapeError(f"{name} is a {type(values).__name__}, not an array of rows")
    return array


def _with_sizes(array: Any, name: str) -> Any:
    """Return a dask array whose chunk sizes are known; the caller's own stays as it is."""
    if not any(np.isnan(size) for size in array.shape):
        return array
    with computing(name):
        return array.copy().compute_chunk_sizes()


def _check_cells(x: Any, name: str) -> None:
    """Name the first cell that is not numeric; pass objects that all are."""
    if x.dtype.kind == "c":
        raise DataError(
            f"{name} has dtype {x.dtype}. Complex data not supported: pass real and imaginary "
            "parts, or absolute values"
        )
    if is_dask(x) or x.dtype.kind == "m":
        raise DataError(f"{name} has dtype {x.dtype}, which is not numeric: convert or encode it")
    for row, column in np.ndindex(*x.shape):
        value = x[row, column]
        numeric = isinstance(value, (int, float, np.number, np.bool_))
        if not numeric or getattr(value, "dtype", x.dtype).kind in "cm":
            kind, why = DataError, ""
            try:
                float(value)
            except TypeError as error:  # scikit-learn lets it be one
                kind, why = CellError, f" ({error})"
            except ValueError:
                pass
            raise kind(
                f"{name} is not numeric: row {row}, column {column} holds {str(value)!r}{why}; "
                "encode or drop that column"
            )
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise DataError(f"{name} has a number too large in row {row}, column {column}")


def as_targets(y: Any, rows: int) -> Any:
    """Return regression targets as a numeric matrix with as many rows as `x`."""
    y = as_column(y, rows)
    if y.ndim == 1:
        y = y.reshape(-1, 1) if not is_dask(y) else y[:, None]
    return as_matrix(y, "y")


def as_column(y: Any, rows: int, name: str = "y") -> Any:
    """Return `y` as an array, one-dimensional where it has one column, its rows checked.

    Raises
    ------
    ShapeError
        If there are not as many rows as in x.
    """
    if y is None:
        raise DataError(
            "y is missing: this estimator requires y to be passed, but the target y is None"
        )
    y = unwrap(y)
    y = _with_sizes(y, name) if is_dask(y) else _as_array(y, name)
    if y.ndim not in (1, 2):
        raise ShapeError(f"{name} has {y.ndim} dimensions: use (rows,) or (rows, targets)")
    if y.shape[0] != rows:
        raise ShapeError(f"{name} has {y.shape[0]} rows, x has {rows}")
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def is_flat(y: Any) -> bool:
    """Whether `y` has one dimension: what is predicted has its shape."""
    return (y.ndim if hasattr(y, "ndim") else np.asarray(y).ndim) == 1


def find_classes(y: Any) -> Array:
    """Return the sorted distinct labels of y.

    Raises
    ------
    DataError
        For missing or continuous labels, or fewer than two classes.
    ShapeError
        For more than one column.
    """
    if y.ndim != 1:
        raise ShapeError(f"y has shape {y.shape}: a classifier takes one label per row")
    if y.dtype.kind not in "biufUO":
        raise DataError(f"y has dtype {y.dtype}: labels are numbers, strings or booleans")
    if y.dtype.kind == "f":
        _check_labels(y)
    elif y.dtype.kind == "O" and not is_dask(y):
        _check_objects(y)
    try:
        with computing("y") if is_dask(y) else nullcontext():
            classes = np.asarray(da.unique(y).compute() if is_dask(y) else np.unique(y))
    except TypeError as error:
        raise DataError(f"y mixes labels of different types ({error}): make them one") from error
    if classes.dtype.kind == "O":
        _check_objects(classes)
    if classes.dtype.kind == "f" and (classes != np.round(classes)).any():
        raise DataError(
            f"y holds continuous values such as {classes[classes != np.round(classes)][0]}: "
            "Unknown label type for a classifier; use ADMMRegressor"
        )
    if len(classes) < 2:
        raise DataError(
            f"y has one class, {classes.tolist()[0]!r}: a classifier needs at least two"
        )
    return classes


def _check_labels(y: Any) -> None:
    bad = ~np.isfinite(y)
    with computing("y"):
        first = int(bad.argmax() if not is_dask(y) else da.argmax(bad).compute())
        found = bool(bad[first].compute() if is_dask(y) else bad[first])
    if found:
        raise DataError(f"y has a missing or infinite label in row {first}: drop or fill it")


def _check_objects(y: Array) -> None:
    for row, label in enumerate(y):
        if label is None or (isinstance(label, float) and not np.isfinite(label)):
            raise DataError(f"y has a missing label in row {row}: drop or fill it")
        if not isinstance(label, (str, int, float, np.generic)):
            kind = type(label).__name__
            raise DataError(f"y has a {kind} in row {row}: labels are numbers, strings or booleans")


def encode_labels(y: Array, classes: Array, first: int = 0) -> Array:
    """Return the position of each label in `classes`, (rows,) int32.

    Raises
    ------
    DataError
        For a label that is not among them, with its row (counted from `first`).
    """
    y = np.asarray(y)
    try:
        codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        wrong = classes[codes] != y
    except TypeError:
        wrong = np.ones(len(y), bool)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        label, known = y[row : row + 1].tolist()[0], classes.tolist()
        listed = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        raise DataError(
            f"y has the label {label!r} in row {first + row}, which is not among the "
            f"{len(known)} classes of training: {listed}"
        )
    return np.asarray(codes, np.int32)


def as_indicators(y: Any, columns: int) -> Any:
    """Return several labels per row, each there (1) or not (0), as uint8, (rows, columns).

    Raises
    ------
    ShapeError
        If there are not so many columns.
    DataError
        For anything but 0 and 1: its row and column; of a dask array, once it is computed.
    """
    if not columns or y.shape[1] != columns:
        raise ShapeError(
            f"y has shape {y.shape}: a classifier takes one label per row, or several as columns "
            + (f"of 0 and 1, here {columns}" if columns else "of 0 and 1")
        )
    if y.dtype.kind not in "biufO":
        raise DataError(f"y has dtype {y.dtype}: several labels per row are columns of 0 and 1")
    if is_dask(y):
        return y.rechunk({1: -1}).map_blocks(encode_indicators, dtype=np.uint8)
    return encode_indicators(y)


def encode_indicators(y: Array, block_info: Any = None) -> Array:
    """Return what `as_indicators` takes, or a block of it that Dask describes, as uint8."""
    wrong = (y != 0) & (y != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        held = y[row : row + 1, column].tolist()[0]
        row += block_info[0]["array-location"][0][0] if block_info else 0
        raise DataError(
            f"y has {held!r} in row {row}, column {column}: a classifier takes one label per row, "
            "or several as columns of 0 and 1"
        )
    return y.astype(np.uint8)


# ------------------------------------------------------------------------------------ into the run


@dataclass
class Moments:
    """Count, mean, squared deviations and minimum of columns, which add up over chunks."""

    count: int
    mean: Array
    squares: Array
    least: Array

    @classmethod
    def of(cls, block: Array) -> Moments:
        """Return the moments of a block, (rows, columns), in float64."""
        mean, squares = np.empty((2, block.shape[1]))
        # A few columns at a time, but no single one: NumPy adds up in another order then.
        groups = max(1, block.shape[1] // max(COLUMNS, NUMBERS_AT_ONCE // max(len(block), 1)))
        for columns in np.array_split(np.arange(block.shape[1]), groups):
            here = slice(columns[0], columns[-1] + 1)
            wide = block[:, here].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                mean[here] = wide.mean(axis=0)
                wide -= mean[here]
                squares[here] = np.square(wide, out=wide).sum(axis=0)
        return cls(len(block), mean, squares, block.min(axis=0).astype(np.float64))

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub and LeVeque's pairwise update (1979)."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            shift = other.mean - self.mean
            mean = self.mean + shift * (other.count / count)
            squares = self.squares + other.squares + shift**2 * (self.count * other.count / count)
        return Moments(count, mean, squares, np.minimum(self.least, other.least))

    def scaling(self, how: str) -> Scaling:
        """Return the scaling to zero mean and, per column or over all, unit variance.

        "scale" divides all by their root mean square, so that 0 stays 0 and nothing changes its
        sign; "shift" does so once the minimum of every column is 0.
        """
        if how == "none":
            return Scaling.identity(len(self.mean))
        if how in ("scale", "shift"):
            centre = self.least if how == "shift" else np.zeros_like(self.mean)
            size = np.sqrt((self.squares / self.count + (self.mean - centre) ** 2).mean())
            return Scaling(centre, np.full_like(centre, size if size > 0 else 1.0))
        variance = self.squares / self.count
        if how == "global":
            spread = variance.mean() + self.mean.var()
            variance = np.full_like(variance, spread)
        # A column that is constant but for rounding stays as it is.
        noise = (np.finfo(np.float64).eps * 10 * np.abs(self.mean)) ** 2
        scale = np.where(variance > noise, np.sqrt(variance), 1.0)
        return Scaling(self.mean, scale)


def class_weights(given: Mapping[Any, float] | str, classes: Array) -> Mapping[Any, float] | str:
    """Check a `class_weight`; classes that a dict leaves out weigh 1.

    Raises
    ------
    OptionError
        For another word than "balanced", a class that is not there, or a weight below 0.
    """
    if given == "balanced":
        return given
    if not isinstance(given, Mapping):
        raise OptionError(f"class_weight={given!r}: use 'balanced' or a dict of class: weight")
    known = classes.tolist()
    for label, value in given.items():
        if label not in known:
            raise unknown("class in class_weight", label, [str(c) for c in known])
        numeric = isinstance(value, (int, float, np.number)) and np.isrealobj(value)
        too_large = isinstance(value, int) and value > sys.float_info.max
        if not numeric or too_large or not 0 <= value < np.inf:
            raise OptionError(f"class_weight[{label!r}]={value!r}: use a number of 0 or more")
    return {i: float(given.get(label, 1.0)) for i, label in enumerate(known)}


def as_weights(
    sample_weight: Any, target: Any, by_class: Mapping[Any, float] | str | None = None
) -> Any:
    """Return weights as a float64 column with mean 1.

    Parameters
    ----------
    sample_weight : (rows,) array-like or None
    target : (rows, 1) int array
        Encoded labels, where `by_class` is given.
    by_class : mapping of code to weight, "balanced", or None
        What the samples of each class are multiplied by.

    Raises
    ------
    ShapeError, DataError
        For another number of rows; weights that are negative, not finite, or all 0.
    """
    rows = target.shape[0]
    if sample_weight is None:
        weight: Any = np.ones(rows)
    else:
        weight = as_column(sample_weight, rows, "sample_weight")
        if weight.ndim != 1:
            raise ShapeError(f"sample_weight has shape {weight.shape}: give one weight per row")
        if weight.dtype.kind not in "biuf":
            raise DataError(f"sample_weight has dtype {weight.dtype}, which is not numeric")
        weight = weight.astype(np.float64)
    lazy = is_dask(target) or is_dask(weight)
    if by_class is not None:
        # One small integer per sample: the only thing here that comes together anywhere.
        with computing("y"):
            codes = target[:, 0].compute() if is_dask(target) else target[:, 0]
        if by_class == "balanced":
            counts = np.bincount(codes)
            table = len(codes) / (len(counts) * np.maximum(counts, 1))
        else:
            assert isinstance(by_class, Mapping)
            table = np.array([by_class[i] for i in range(len(by_class))])
        factor = table[codes]
        weight = weight * (da.from_array(factor, weight.chunks) if is_dask(weight) else factor)
    with computing("sample_weight"), np.errstate(over="ignore", invalid="ignore"):
        least, mean = weight.min(), weight.mean()
        if lazy:
            least, mean = compute(least, mean)
    if not least >= 0 or not np.isfinite(mean):
        raise DataError("sample_weight has negative, missing or infinite weights: use 0 or more")
    if mean == 0:
        raise DataError("sample_weight is zero for all samples: there is nothing to train on")
    return (weight / mean)[:, None]


def in_place(x: Any, chunks: Sequence[int]) -> Source | None:
    """Return where inputs can be read during the whole run, so that they need not be copied.

    That is a zarr array that other processes can open, whose chunks have no more rows than the
    run's: of larger ones each visit would decode far more than it needs.
    """
    if not isinstance(x, zarr.Array) or x.ndim != 2 or x.dtype.kind not in "buif":
        return None
    return Source.of(x) if x.chunks[0] <= chunks[0] and x.dtype.itemsize <= 8 else None


def store(
    run: Run,
    x: Any,
    y: Any,
    chunks: Sequence[int],
    weight: Any = None,
    source: Source | None = None,
) -> tuple[Moments, Moments | None]:
    """Check `x` and `y`, write them into the run chunk by chunk, return their moments.

    Parameters
    ----------
    x, y : (rows, columns) arrays
        From `as_matrix` and `as_targets`, or labels already encoded; `y` may be None.
    chunks : sequence of int
        Rows of each chunk.
    source : Source or None
        Where the inputs stay; they are then read and checked, but not written.

    Raises
    ------
    DataError
        For NaN or infinity: which array, and the first row; for values too large to scale.
    """
    moments: list[Moments] = []
    edges = np.concatenate([[0], np.cumsum(chunks)])
    given = {"x": x, "y": y, "weight": weight}
    arrays = {name: array for name, array in given.items() if array is not None}
    for name, array in arrays.items():
        rows, columns = array.shape
        if name == "x" and source is not None:
            moments.append(_finite(_refer(run, source, rows, edges), name))
            continue
        run.create_data(name, columns, rows, chunks[0], array.dtype)
        put = partial(_put, run, name, columns, array.dtype)
        if is_dask(array):
            blocks = array.rechunk((tuple(chunks), (columns,))).to_delayed()[:, 0]
            tasks = [
                delayed(put, pure=False)(
                    chunk,
                    int(first),
                    chunks[chunk],
                    block,
                    dask_key_name=f"store-{name}-{run.attributes['id']}-{chunk}",
                )
                for chunk, (first, block) in enumerate(zip(edges[:-1], blocks, strict=True))
            ]
            with computing(name):
                found = list(compute(*tasks))
        else:
            found = [
                put(chunk, int(first), int(last - first), array[first:last])
                for chunk, (first, last) in enumerate(pairwise(edges))
            ]
        run.blocks.settle("data")
        moments.append(_finite(sum_moments(found), name))
    return moments[0], moments[1] if y is not None else None


def _finite(moments: Moments, name: str) -> Moments:
    if not np.isfinite(moments.squares).all():
        raise DataError(f"{name} has values whose squares overflow: scale them down")
    return moments


def _refer(run: Run, source: Source, rows: int, edges: Array) -> Moments:
    """Note where the inputs are, with a checksum of each chunk; return their moments."""
    tasks = [
        delayed(_look, pure=False)(
            source,
            int(first),
            int(last),
            dask_key_name=f"look-at-x-{run.attributes['id']}-{chunk}",
        )
        for chunk, (first, last) in enumerate(pairwise(edges))
    ]
    found = execute.compute(delayed(list)(tasks))
    checksums = np.array([checksum for _, checksum in found], np.int64)
    run.blocks.put("data/x_crc32c", checksums, ("chunk",))
    table = {"url": source.url, "path": source.path, "rows": int(edges[1]), "total": rows}
    run.update(sources={"x": table})
    return sum_moments([moments for moments, _ in found])


def _look(source: Source, first: int, last: int) -> tuple[Moments, int]:
    release()
    block = source.read(first, last)
    check_finite(block, "x", first)
    return Moments.of(block), fingerprint(block)


def sum_moments(found: Sequence[Moments]) -> Moments:
    """Add up moments in their order."""
    total = found[0]
    for moments in found[1:]:
        total = total + moments
    return total


def _put(
    run: Run, name: str, columns: int, dtype: Any, chunk: int, first: int, rows: int, block: Any
) -> Moments:
    release()
    block = plain_block(block, name, (rows, columns), f"from row {first} on")
    block = as_promised(block, dtype, name, f"from row {first} on")
    check_finite(block, name, first)
    run.blocks.write(f"data/{name}", chunk, block)
    return Moments.of(block)


def plain_block(block: Any, name: str, shape: tuple[int, ...], where: str) -> Array:
    """Return a block as NumPy has it, if it is what its dask array promised.

    Raises
    ------
    DataError, ShapeError
        For a block that is masked, not numeric, or of another shape.
    """
    block = _as_array(dense(block), name)
    if block.shape != shape:
        raise ShapeError(
            f"{name} has a block of shape {block.shape} {where}, where its dask array promises "
            f"{shape}: make the two agree"
        )
    if block.dtype.kind not in "buif":
        raise DataError(
            f"{name} has a block of dtype {block.dtype} {where}, which is not numeric: convert it"
        )
    return block


def as_promised(block: Array, dtype: Any, name: str, where: str = "") -> Array:
    """Return a block in the dtype that its lazy array promises.

    Raises
    ------
    DataError
        For whole numbers or booleans that are others in the block.
    """
    if block.dtype == dtype:
        return block
    with np.errstate(invalid="ignore", over="ignore"):
        cast = block.astype(dtype)
    if cast.dtype.kind != "f" and (cast != block).any():
        held = " ".join(f"{name} has {block.dtype} {where}".split())
        raise DataError(
            f"{held}, with numbers that {cast.dtype}, which was promised, cannot hold: give "
            "the right dtype (or meta), or convert it with astype"
        )
    return cast


def check_finite(block: Array, name: str, first: int = 0) -> None:
    """Raise `DataError` for the first NaN or infinity, rows counted from `first`."""
    if block.dtype.kind != "f":
        return
    for begin in range(0, len(block), ROWS_AT_ONCE):
        bad = ~np.isfinite(block[begin : begin + ROWS_AT_ONCE])
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            what = "NaN" if np.isnan(block[begin + row, column]) else "infinity"
            raise DataError(
                f"{name} contains {what} in row {first + begin + row}, column {column}: "
                "drop or impute it"
            )


def check_standardize(how: str) -> str:
    """Return `how` if it is one of the ways to scale; raise `OptionError` otherwise."""
    if how not in STANDARDIZE:
        raise unknown("way to standardize", how, STANDARDIZE)
    return how


def labels_to_json(classes: Array) -> dict[str, Any]:
    """Return class labels as JSON has them."""
    return {
        "dtype": classes.dtype.str if classes.dtype.kind != "O" else "object",
        "labels": classes.tolist(),
    }


def labels_from_json(stored: Mapping[str, Any]) -> Array:
    """Return class labels as they were; `StoreError` for what are none."""
    try:
        labels = stored["labels"]
        plain = isinstance(labels, list) and LABEL_DTYPE.fullmatch(stored["dtype"])
        if not plain or not all(isinstance(label, (str, int, float)) for label in labels):
            raise ValueError("they are no labels")
        dtype = np.dtype(stored["dtype"])
        if dtype.itemsize * len(labels) > MOST_LABELS:  # forged: there may be no such memory
            raise ValueError(f"{len(labels)} labels of {dtype.itemsize} bytes each are too many")
        classes = np.array(labels, dtype=dtype)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"the classes of the run cannot be used: {error}") from error
    return classes
