"""Open the files and URLs that `fit` and `predict` are given.

Small CSV and Parquet files become a pandas frame, large ones a dask frame that is read block by
block.  The same rules decide in both which cells are numbers and which are text.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
from fsspec.compression import compr
from fsspec.core import url_to_fs
from fsspec.utils import read_block

from dadmm.data.arrays import NUMBERS_AT_ONCE
from dadmm.data.columns import first_repeat
from dadmm.data.files import (
    PACKED,
    File,
    as_path,
    check_columns,
    compression,
    sizes,
    table_files,
    table_kind,
)
from dadmm.data.parquet import open_parquet
from dadmm.data.stores import open_zarr, read_npy
from dadmm.errors import InputError, unknown

# Tables of at most so many bytes are read into memory, larger ones in blocks of this size.
SMALL = 2**26
# The first bytes of a table, which decide which columns hold numbers.
HEAD = 2**20
# float64 does not hold every whole number above this.
MOST_WHOLE = 2**53
# pandas takes longer over a column than over its cells if there are more columns than this.
WIDE = 1000
# pandas 3 does so anyway: numbers are read as written, to the last bit.
EXACT: Any = {} if version("pandas") >= "3" else {"float_precision": "round_trip"}


def is_table(path: Any) -> bool:
    """Whether a path, glob, folder, URL or list names CSV or Parquet files."""
    return table_kind(path) is not None


def open_path(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    name: str = "x",
    index: str | None = None,
) -> Any:
    """Open the array, data set or table at a path, glob or URL.

    Several files of a table are read in natural order, ``part.2`` before ``part.10``.

    Parameters
    ----------
    path : str, path, or list of them
        ``.npy``, or ``.csv``, ``.tsv`` and ``.parquet``, which may be globs, folders or lists of
        files, which keep their order; text may be compressed; anything else is zarr.  In CSV
        the first row is a header if it has no number in it; commas or semicolons separate cells;
        cells are numbers or text.  Numbers are float64; a column of whole numbers is int64 if the
        table is read into memory.
    name : str
        The name in errors.
    index : str or None
        The column of a table that becomes its index; the name of the index that a Parquet file
        has is fine too.

    Returns
    -------
    array, zarr.Array, xarray.Dataset, or pandas or dask data frame
        Zarr and tables larger than 64 MiB are not read yet.

    Raises
    ------
    InputError
        If it cannot be opened, or its content does not fit its name; the message names the place.
    """
    if isinstance(path, (list, tuple)):
        return _open_tables([as_path(each) for each in path], name, index)
    path = as_path(cast(str, path))
    if is_table(path):
        return _open_tables([path], name, index)
    where = f"{name}: {path}"
    with _opening(where):
        filesystem, inside = url_to_fs(path)
        if "://" not in path and not os.path.exists(path):
            raise InputError(f"{where} does not exist")
        if "://" not in path and not (Path(path).is_file() or Path(path).is_dir()):
            raise InputError(f"{where} is neither a file nor a folder")
        if path.lower().endswith(".npy"):
            return read_npy(filesystem, inside, where)
        return open_zarr(path, where)


def _open_tables(paths: Sequence[str], name: str, index: str | None) -> Any:
    """Open paths, globs, folders and URLs of CSV or of Parquet as one table."""
    kinds = {path: table_kind(path) for path in paths}
    if len(set(kinds.values())) != 1 or None in kinds.values():
        other = next((path for path, kind in kinds.items() if kind != "csv"), "the list")
        raise InputError(
            f"{name}: {other} in a list of paths: list files of CSV only, or of Parquet only"
        )
    files: list[File] = []
    for path in paths:
        with _opening(f"{name}: {path}"):
            found = table_files(path, kinds[path] or "")
            if not found:
                raise InputError(f"{name}: {path} {_why_none(path)}")
            files += found
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    with _opening(f"{name}: {where}"):
        if kinds[paths[0]] == "parquet":
            table = open_parquet(files, name, SMALL)
        else:
            table = _open_csv([file.url for file in files], name)
    if index is None or index in getattr(table, "_meta", table).index.names:
        return table
    if index not in table.columns:
        raise unknown(f"column of {where}", index, map(str, table.columns))
    if hasattr(table, "map_partitions"):
        return table.map_partitions(lambda part: part.set_index(index))
    return table.set_index(index)


def _why_none(path: str) -> str:
    """Return why a path of tables gives no file."""
    if "://" not in path and os.path.isdir(path):
        return "is a folder without files"
    return "does not exist"


@contextmanager
def _opening(where: str) -> Iterator[None]:
    """Turn any error of opening a path into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist") from error
    except MemoryError as error:
        raise InputError(f"{where} does not fit into memory: store it as zarr") from error
    except ImportError as error:
        raise InputError(
            f"{where} cannot be opened: {error}; pip install 'dadmm[tables]', or what the URL needs"
        ) from error
    except Exception as error:  # of any file system, network or decoder
        raise InputError(
            f"{where} cannot be opened: {type(error).__name__}: {error or 'no answer'}"
        ) from error


@dataclass(frozen=True)
class Layout:
    """The layout of a CSV file.

    Parameters
    ----------
    delimiter : str
    names : tuple
        Column names; whole numbers if there is no header row.
    header : bool
        Whether the first row is a header.
    texts : tuple
        The names of the columns that hold text.
    """

    delimiter: str
    names: tuple[Any, ...]
    header: bool
    texts: tuple[Any, ...] = ()


def _open_csv(urls: Sequence[str], name: str) -> Any:
    amounts = sizes([File(url) for url in urls])
    head = _lines(urls[0], 0, HEAD if amounts[0] > HEAD else None)
    layout = _layout(head, f"{name}: {urls[0]}")
    if sum(amounts) <= SMALL:
        parts = [_read_csv((url, 0, None), _layout_of(url, layout, name), name) for url in urls]
        table = _joined([_in_order(part, layout.names) for part in parts])
        if not len(table):
            raise InputError(f"{name}: {urls[0]} has no rows")
        return _whole_as_integers(table)
    import dask.dataframe as dd

    layouts = [_layout_of(url, layout, name) for url in urls]
    blocks = [
        ((url, first, None if compression(url) else SMALL), own)
        for url, size, own in zip(urls, amounts, layouts, strict=True)
        # Compressed text cannot be entered in the middle.
        for first in ([0] if compression(url) else range(0, max(size, 1), SMALL))
    ]
    meta = _parse(b"", layout, name)
    read = partial(_read_in_order, names=layout.names, name=name)
    return dd.from_map(read, blocks, meta=meta)


def _read_in_order(block: tuple[Any, Layout], names: Sequence[Any], name: str) -> Any:
    """Return the rows of a block, with columns in the order of the first file."""
    return _in_order(_read_csv(*block, name), names)


def _in_order(table: Any, names: Sequence[Any]) -> Any:
    """Return the columns of a frame in an order."""
    return table if list(table.columns) == list(names) else table[list(names)]


def _joined(parts: Sequence[Any]) -> Any:
    """Return frames of the same columns as one, whose rows are numbered."""
    import pandas as pd

    if len(parts) > 1:
        return pd.concat(parts, ignore_index=True)
    return parts[0].reset_index(drop=True)


def _whole_as_integers(table: Any) -> Any:
    """Return a frame with columns of whole numbers only, such as labels, as int64."""
    import pandas as pd

    floats = [i for i, dtype in enumerate(table.dtypes) if dtype.kind == "f"]
    # One array instead of one for each column: what follows is quick, here and in predictions.
    some = table if len(floats) == len(table.columns) else table.iloc[:, floats]
    some = pd.DataFrame(some.to_numpy(), index=table.index, columns=some.columns)
    values = some.to_numpy()
    whole: list[int] = []
    at_once = max(1, NUMBERS_AT_ONCE // len(table))
    for first in range(0, len(floats), at_once):
        part = values[:, first : first + at_once]
        held = (np.abs(part) < MOST_WHOLE).all(axis=0) & (part == np.round(part)).all(axis=0)
        whole += (first + np.flatnonzero(held)).tolist()
    if len(whole) == len(floats):
        some = some.astype(np.int64)
    elif whole:
        some = _replaced(some, whole, some.iloc[:, whole].astype(np.int64))
    return some if len(floats) == len(table.columns) else _replaced(table, floats, some)


def _replaced(table: Any, places: Sequence[int], columns: Any) -> Any:
    """Return a frame with others in place of some columns; quick for many, unlike one by one."""
    import pandas as pd

    taken = set(places)
    rest = [i for i in range(len(table.columns)) if i not in taken]
    both = pd.concat([table.iloc[:, rest], columns], axis=1)
    return both.iloc[:, np.argsort([*rest, *places])]


def _lines(url: str, first: int, length: int | None) -> bytes:
    """Return the whole lines that begin in a range of bytes."""
    filesystem, path = url_to_fs(url)
    packed = compression(url)
    if packed:
        content = _unpacked(filesystem, path, packed, None if length is None else first + length)
    elif first == 0 and length is None:
        content = bytes(filesystem.cat_file(path))
    else:
        with filesystem.open(path, "rb") as file:
            content = read_block(file, first, length, b"\n")
    # The header is the first line that is not blank.
    return content.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n") if first == 0 else content


def _unpacked(filesystem: Any, path: str, packed: str, length: int | None) -> bytes:
    """Return compressed text; about its first `length` bytes, to the end of a line."""
    with filesystem.open(path, "rb") as file:
        if packed == "zstd":
            import pyarrow as pa

            text: Any = pa.CompressedInputStream(file, "zstd")
        else:
            text = compr[packed](file, mode="rb")
        with text:
            if length is None:
                return bytes(text.read())
            head = bytes(text.read(length))
            rest = bytes(text.read(length)) if len(head) == length else b""
            return head + rest[: rest.find(b"\n") + 1 or None]


def _layout(head: bytes, where: str) -> Layout:
    """Return the layout of a file, from its first lines."""
    try:
        lines = [line for line in head.decode().splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{where} is not a text file in UTF-8: {error}") from error
    if not lines:
        raise InputError(f"{where} has no rows")
    name = where.lower()
    tabs = name.endswith((".tsv", *(f".tsv{end}" for end in PACKED)))
    delimiter = "\t" if tabs else ";" if ";" in re.sub('"[^"]*"', "", lines[0]) else ","
    first = _first_row(head, delimiter)
    header = not any(_is_number(cell) for cell in first)
    names: tuple[Any, ...] = tuple(first) if header else tuple(range(len(first)))
    if len(set(names)) < len(names):
        raise InputError(f"{where} has the column {first_repeat(names)!r} twice: rename one")
    layout = Layout(delimiter, names, header)
    if len(names) > WIDE and _only_numbers(lines[int(header) :], delimiter):
        return layout
    table = _parse(head, layout, where, header=header, infer=True)
    if not len(table):
        raise InputError(f"{where} has no rows")
    texts = tuple(c for c, d in zip(names, table.dtypes, strict=True) if d.kind not in "if")
    return replace(layout, texts=texts)


def _only_numbers(lines: list[str], delimiter: str) -> bool:
    """Whether all cells of some lines are numbers; quick for many columns, unlike pandas."""
    try:
        return bool(lines) and np.loadtxt(lines, delimiter=delimiter, comments=None).size > 0
    except ValueError:  # text, gaps, quotes or rows of other lengths: pandas decides
        return False


def _first_row(content: bytes, delimiter: str) -> list[str]:
    """Return the cells of the first row that is not blank."""
    text = content[:HEAD].decode(errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return next(([cell.strip() for cell in row] for row in rows if any(map(str.strip, row))), [])


def _read_csv(block: tuple[str, int, int | None], layout: Layout, name: str) -> Any:
    """Return the rows that begin in a block of a file: its URL, first byte and length."""
    url, first, length = block
    where = f"{name}: {url}" + (f" from byte {first} on," if first else "")
    content = _lines(url, first, length)
    return _parse(content, layout, where, header=layout.header and first == 0)


def _layout_of(url: str, layout: Layout, name: str) -> Layout:
    """Return the layout of one of several files: its columns may be in another order."""
    names = tuple(_first_row(_lines(url, 0, HEAD), layout.delimiter)) if layout.header else ()
    if not names:
        return layout
    check_columns(names, layout.names, f"{name}: {url}")
    return replace(layout, names=names)


def _parse(
    content: bytes, layout: Layout, where: str, header: bool = False, infer: bool = False
) -> Any:
    """Return the rows of a CSV text as a pandas frame of float64 and text.

    Raises
    ------
    InputError
        For the first row of another length, and the first text among numbers.
    """
    import pandas as pd

    if not content.strip():
        empty = pd.DataFrame(np.empty((0, len(layout.names))), columns=list(layout.names))
        return empty.astype(dict.fromkeys(layout.texts, str))
    _check_ragged(content, layout, where, header)

    def read(dtype: Any) -> Any:
        return pd.read_csv(
            io.BytesIO(content),
            sep=layout.delimiter,
            names=list(layout.names),
            header=None,
            skiprows=1 if header else 0,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
            dtype=dtype,
            **EXACT,
        )

    texts = dict.fromkeys(layout.texts, str)
    try:
        # One dtype for all, or few: pandas takes long over a dtype for each column.
        table = read(texts if texts or infer else np.float64)
        return table if infer else _tidy(table, texts)
    except ValueError as error:
        found = read(str)
        for column in layout.names:
            if column in texts:
                continue
            for row, cell in enumerate(found[column]):
                if isinstance(cell, str) and not _is_number(cell):
                    raise InputError(
                        f"{where} row {row}, column {column} holds {cell!r}, not a number as the "
                        "first rows of the table do: correct it, or drop the row"
                    ) from error
        return _tidy(read(defaultdict(lambda: np.float64, texts)), texts)


def _tidy(table: Any, texts: Collection[Any]) -> Any:
    """Return a frame with columns of text stripped, and all others as float64.

    The numbers become one array.  pandas reads one for each column, and takes long over each
    step with many of them.

    Raises
    ------
    ValueError
        If pandas found no numbers in a column that is not text.
    """
    import pandas as pd

    names = table.columns
    if any(d.kind not in "iuf" for c, d in zip(names, table.dtypes, strict=True) if c not in texts):
        raise ValueError("a column of numbers holds text")
    numbers = table.drop(columns=list(texts)) if texts else table
    numbers = pd.DataFrame(numbers.to_numpy(np.float64), table.index, numbers.columns)
    if not texts:
        return numbers
    places = [i for i, column in enumerate(names) if column in texts]
    stripped = {i: table.iloc[:, i].str.strip() for i in places}
    rest = [i for i, column in enumerate(names) if column not in texts]
    both = pd.concat([numbers, pd.DataFrame(stripped)], axis=1)
    both = both.iloc[:, np.argsort([*rest, *places])]
    both.columns = names
    return both


def _check_ragged(content: bytes, layout: Layout, where: str, header: bool) -> None:
    """Raise `InputError` for the first row with a wrong number of columns."""
    if b'"' in content:
        rows = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=layout.delimiter)
        counts = np.array([len(row) for row in rows if row], int)
    else:
        text = np.frombuffer(content, np.uint8)
        ends = np.append(np.flatnonzero(text == ord("\n")), len(text))
        cuts = np.flatnonzero(text == ord(layout.delimiter))
        counts = np.diff(np.searchsorted(cuts, ends), prepend=0) + 1
        begins = np.append(0, ends[:-1] + 1)
        first = text[np.minimum(begins, len(text) - 1)]
        blank = (ends == begins) | ((ends - begins == 1) & (first == ord("\r")))
        counts = counts[~blank]
    wrong = counts[int(header) :] != len(layout.names)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where} row {row} has {counts[row + int(header)]} columns, not {len(layout.names)}: "
            "make all rows alike"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
