"""Read Parquet files, small or large, to the same rows, types and index."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fsspec.core import url_to_fs

from dadmm.data.arrow import numbers
from dadmm.data.files import File, check_columns, sizes
from dadmm.data.folders import Keys, key_columns, with_keys
from dadmm.errors import InputError

# Dask stores an index without a name under this one.
UNNAMED = "__null_dask_index__"
# Footers that are read at once.
AT_ONCE = 16


@dataclass(frozen=True)
class Footer:
    """What the end of a file tells.

    Parameters
    ----------
    empty : pandas.DataFrame
        A frame without rows, of the file's columns, types and index.
    rows : tuple of int
        Rows of each row group.
    bytes : tuple of int
        The size of each row group, unpacked.
    counted : tuple or None
        Start, step and name of an index that only counts rows; None if the index is stored.
    untyped : frozenset of str
        Columns without any value, whose type the file does not know.
    """

    empty: Any
    rows: tuple[int, ...]
    bytes: tuple[int, ...]
    counted: tuple[int, int, str | None] | None
    untyped: frozenset[str]

    @classmethod
    def of(cls, file: Any) -> Footer:
        """Return the footer of an open file."""
        schema, found = file.schema_arrow, file.metadata
        empty = _plain_index(numbers(schema.empty_table()).to_pandas())
        groups = [found.row_group(i) for i in range(found.num_row_groups)]
        # pandas holds whole numbers among missing ones as float64, and truth values as objects.
        types = {
            found.schema.column(i).path: "boolean" if dtype.kind == "b" else "float64"
            for i, dtype in _whole(empty, found.schema)
            if any(_has_missing(group.column(i)) for group in groups)
        }
        return cls(
            empty.astype(types),
            tuple(group.num_rows for group in groups),
            tuple(group.total_byte_size for group in groups),
            _counted(schema.metadata or {}),
            _untyped(schema),
        )


def _whole(empty: Any, schema: Any) -> list[tuple[int, Any]]:
    """Return the places and dtypes of whole numbers and truth values."""
    whole = {
        name: dtype
        for name, dtype in zip(empty.columns, empty.dtypes, strict=True)
        if getattr(dtype, "kind", "") in "iub" and not hasattr(dtype, "na_value")
    }
    paths = ((i, schema.column(i).path) for i in range(len(schema))) if whole else ()
    return [(i, whole[path]) for i, path in paths if path in whole]


def _untyped(schema: Any) -> frozenset[str]:
    import pyarrow as pa

    return frozenset(field.name for field in schema if pa.types.is_null(field.type))


def _has_missing(column: Any) -> bool:
    found = column.statistics
    return found is not None and found.has_null_count and found.null_count > 0


def _counted(metadata: dict[bytes, bytes]) -> tuple[int, int, str | None] | None:
    """Return start, step and name of an index that pandas did not store as a column."""
    index = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    if not index:
        return 0, 1, None
    first = index[0]
    if isinstance(first, dict) and first.get("kind") == "range":
        return first["start"], first["step"], first["name"]
    return None


def _plain_index(frame: Any) -> Any:
    if frame.index.name == UNNAMED:
        frame.index.name = None
    return frame


@dataclass(frozen=True)
class Piece:
    """Some row groups of a file.

    Parameters
    ----------
    url : str
    groups : tuple of int or None
        None for all.
    counted : tuple or None
        Start, step and name of the index; None if it is stored.
    keys : tuple of (str, value)
        Columns that the folders name.
    """

    url: str
    groups: tuple[int, ...] | None
    counted: tuple[int, int, str | None] | None
    keys: Keys


def open_parquet(files: Sequence[File], name: str, most: int) -> Any:
    """Return a pandas frame, or a dask frame if the files have more than `most` bytes.

    The index of the files is kept.  Files without one are counted through.  Columns are in the
    order of the first file.

    Raises
    ------
    InputError
        If the files have other columns or another index than the first.
    """
    import pandas as pd

    keys, types = key_columns(files)
    if sum(sizes(files)) <= most:
        footers, tables = [], []
        for file in files:
            with _opened(file.url, whole=True) as stored:
                footers.append(Footer.of(stored))
                tables.append(stored.read(use_pandas_metadata=True))
        meta = _meta(footers, types, files, name)
        pieces = _pieces(files, footers, keys, None)
        tables.reverse()  # each is freed once it is converted
        parts = [_frame(tables.pop(), piece, meta) for piece in pieces]
        return parts[0] if len(parts) == 1 else pd.concat(parts)
    import dask.dataframe as dd

    with ThreadPoolExecutor(AT_ONCE) as pool:
        footers = list(pool.map(_footer, [file.url for file in files]))
    meta = _meta(footers, types, files, name)
    return dd.from_map(partial(_read, meta=meta), _pieces(files, footers, keys, most), meta=meta)


@contextmanager
def _opened(url: str, whole: bool = False) -> Iterator[Any]:
    """Open a file; fetch it first if all of it is read from afar."""
    import pyarrow.parquet as pq

    filesystem, path = url_to_fs(url)
    if "file" in filesystem.protocol:
        with pq.ParquetFile(path) as stored:
            yield stored
    elif whole:
        yield pq.ParquetFile(io.BytesIO(filesystem.cat_file(path)))
    else:
        with filesystem.open(path, "rb") as file, pq.ParquetFile(file, pre_buffer=True) as stored:
            yield stored


def _footer(url: str) -> Footer:
    with _opened(url) as stored:
        return Footer.of(stored)


def _meta(
    footers: Sequence[Footer], types: dict[str, Any], files: Sequence[File], name: str
) -> Any:
    """Return a frame without rows, of the types that hold the rows of all files."""
    import pandas as pd

    first = footers[0].empty
    distinct: list[Any] = []
    for footer, file in zip(footers, files, strict=True):
        empty, where = footer.empty, f"{name}: {file.url}"
        check_columns(empty.columns, list(first.columns), where)
        if _index_names(footer) != _index_names(footers[0]):
            raise InputError(
                f"{where} has the index {_index_names(footer)}, the first file "
                f"{_index_names(footers[0])}: write all files with the same index"
            )
        if not any(_same_types(empty, other) for other in distinct):
            distinct.append(empty)
    meta = first if len(distinct) == 1 else pd.concat(distinct)[list(first.columns)]
    meta = meta.astype(_found_elsewhere(footers, meta))
    return with_keys(meta, dict.fromkeys(types).items(), types)


def _found_elsewhere(footers: Sequence[Footer], meta: Any) -> dict[str, Any]:
    """Return the types of columns that have no value in some files, from the other files."""
    import pandas as pd

    found = {}
    for name in set().union(*(footer.untyped for footer in footers)) & set(meta.columns):
        known = [each.empty[name].iloc[:0] for each in footers if name not in each.untyped]
        kind: Any = pd.concat(known).dtype if known else meta[name].dtype
        if isinstance(kind, pd.CategoricalDtype):  # an empty one forgets that it is of text
            kind = pd.CategoricalDtype(pd.Index([], dtype=str))
        # What holds whole numbers and truth values among missing ones.
        plain = {"i": float, "u": float, "b": "boolean"}.get(getattr(kind, "kind", ""), kind)
        found[name] = kind if hasattr(kind, "na_value") else plain
    return found


def _same_types(a: Any, b: Any) -> bool:
    return list(a.columns) == list(b.columns) and list(a.dtypes) == list(b.dtypes)


def _index_names(footer: Footer) -> list[Any]:
    return list(footer.empty.index.names) if footer.counted is None else [footer.counted[2]]


def _pieces(
    files: Sequence[File],
    footers: Sequence[Footer],
    keys: Sequence[Keys],
    most: int | None,
) -> list[Piece]:
    """Cut files at row groups into pieces of about `most` bytes; None cuts none."""
    counts = [footer.counted for footer in footers]
    starts = [count[0] for count in counts if count is not None]
    # Files that were written one by one all count from 0.
    fresh = len(starts) == len(files) and len(set(starts)) < len(starts)
    pieces, first = [], 0
    for file, footer, values in zip(files, footers, keys, strict=True):
        start, step, label = footer.counted or (0, 1, None)
        if fresh:
            start, step = first, 1
        for groups in [None] if most is None else _cut(footer.bytes, most):
            before = sum(footer.rows[: groups[0]]) if groups else 0
            counted = None if footer.counted is None else (start + before * step, step, label)
            pieces.append(Piece(file.url, groups, counted, values))
        first += sum(footer.rows)
    return pieces


def _cut(amounts: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Return runs of row groups, each of at most `most` bytes or one group."""
    runs: list[list[int]] = [[]]
    held = 0
    for i, amount in enumerate(amounts):
        if runs[-1] and held + amount > most:
            runs.append([])
            held = 0
        runs[-1].append(i)
        held += amount
    return [tuple(run) for run in runs]


def _read(piece: Piece, meta: Any, columns: Sequence[str] | None = None) -> Any:
    """Return the rows of a piece.  Dask passes `columns` if it needs only some."""
    wanted = list(meta.columns if columns is None else columns)
    keys = {key for key, _ in piece.keys}
    with _opened(piece.url) as stored:
        have = None if columns is None else [c for c in wanted if c not in keys]
        if have is not None and keys:
            have += [c for c in stored.schema_arrow.names if c in keys and c in wanted]
        table = stored.read_row_groups(
            list(piece.groups or ()), columns=have, use_pandas_metadata=True
        )
    return _frame(table, piece, meta[wanted])


def _frame(table: Any, piece: Piece, meta: Any) -> Any:
    """Return a table's rows with the columns, types and index that all files have."""
    import pandas as pd

    frame = _plain_index(numbers(table).to_pandas())
    if piece.counted is not None:
        start, step, label = piece.counted
        stop = start + table.num_rows * step
        frame.index = pd.RangeIndex(start, stop, step, name=label)
    frame = with_keys(frame, piece.keys, meta.dtypes)
    if list(frame.columns) != list(meta.columns):  # this copies
        frame = frame[list(meta.columns)]
    other = {
        name: dtype
        for name, dtype, own in zip(meta.columns, meta.dtypes, frame.dtypes, strict=True)
        if own != dtype
        and (
            (getattr(own, "kind", "O") in "iu" and dtype.kind == "f")
            or (getattr(own, "kind", "O") in "bO" and str(dtype) == "boolean")
        )
    }
    other |= {name: meta[name].dtype for name in _untyped(table.schema) & set(meta.columns)}
    return frame.astype(other) if other else frame
