"""Open the files and URLs that `fit` and `predict` are given.

Small CSV and Parquet files become a pandas frame, large ones a dask frame that is read block by
block.  The same rules decide in both which cells are numbers and which are text.
"""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes
from fsspec.core import url_to_fs
from fsspec.utils import read_block

from dadmm.data.arrays import NUMBERS_AT_ONCE
from dadmm.data.columns import first_repeat
from dadmm.errors import InputError, unknown
from dadmm.numerics.types import Array
from dadmm.store.sources import refuse_pickle

# Tables of at most so many bytes are read into memory, larger ones in blocks of this size.
SMALL = 2**26
# The first bytes of a table, which decide which columns hold numbers.
HEAD = 2**20
# float64 does not hold every whole number above this.
MOST_WHOLE = 2**53
# pandas takes longer over a column than over its cells if there are more columns than this.
WIDE = 1000
# A graph of Dask's cannot have more.
MOST_CHUNKS = 10**6
TABLES = (".csv", ".parquet")
# pandas 3 does so anyway: numbers are read as written, to the last bit.
EXACT: Any = {} if version("pandas") >= "3" else {"float_precision": "round_trip"}


def is_table(path: str) -> bool:
    """Whether a path, glob or URL names CSV or Parquet files."""
    return path.endswith(TABLES)


def open_path(path: str | os.PathLike[str], name: str = "x", index: str | None = None) -> Any:
    """Open the array, data set or table at a path, glob or URL.

    Parameters
    ----------
    path : str or path
        ``.npy``, or ``.csv`` and ``.parquet``, which may be globs; anything else is zarr.  In CSV
        the first row is a header if it has no number in it; commas or semicolons separate cells;
        cells are numbers or text.  Numbers are float64; a column of whole numbers is int64 if the
        table is read into memory.
    name : str
        The name in errors.
    index : str or None
        The column of a table that becomes its index.

    Returns
    -------
    array, zarr.Array, xarray.Dataset, or pandas or dask data frame
        Zarr and tables larger than 64 MiB are not read yet.

    Raises
    ------
    InputError
        If it cannot be opened, or its content does not fit its name; the message names the place.
    """
    path = os.fspath(path)
    where = f"{name}: {path}"
    with _opening(where):
        filesystem, inside = url_to_fs(path)
        if not is_table(path):
            if "://" not in path and not os.path.exists(path):
                raise InputError(f"{where} does not exist")
            if "://" not in path and not (Path(path).is_file() or Path(path).is_dir()):
                raise InputError(f"{where} is neither a file nor a folder")
            npy = path.endswith(".npy")
            return _read_npy(filesystem, inside, where) if npy else _open_zarr(path, where)
        urls = [path]
        if set("*?[") & set(inside) and not filesystem.exists(inside):
            found = sorted(filesystem.glob(inside))
            urls = [filesystem.unstrip_protocol(f) if "://" in path else f for f in found]
        elif not filesystem.exists(inside):
            urls = []
        if not urls:
            raise InputError(f"{where} does not exist")
        table = _open_parquet(urls, name) if path.endswith(".parquet") else _open_csv(urls, name)
    if index is None:
        return table
    if index not in table.columns:
        raise unknown(f"column of {path}", index, map(str, table.columns))
    if hasattr(table, "map_partitions"):
        return table.map_partitions(lambda part: part.set_index(index))
    return table.set_index(index)


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


def _read_npy(filesystem: Any, path: str, where: str) -> Array:
    """Return the array in a file, checking the header's size against the file's first.

    Nothing is unpickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            if filesystem.protocol == "file" or "file" in filesystem.protocol:
                return np.array(np.lib.format.open_memmap(path, mode="r"))
            content = io.BytesIO(filesystem.cat_file(path))
            return np.asarray(np.lib.format.read_array(content, allow_pickle=False))
    except (MemoryError, FileNotFoundError):
        raise
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{where} is not a plain .npy array: {error}") from error


def _open_zarr(path: str, where: str) -> Any:
    from distributed.system import MEMORY_LIMIT

    try:
        stored = zarr.open(path, mode="r")
        if isinstance(stored, zarr.Group):
            for array_name, array in stored.arrays():
                refuse_pickle(array, f"{where}/{array_name}")
            found = xr.open_zarr(path, chunks={}, consolidated=False)
            if not found.data_vars:
                raise InputError("the group has no arrays: name one that has")
            return found[sorted(found.data_vars)]  # folders are listed in any order
        refuse_pickle(stored, where)
        count, largest = stored.nchunks, prod(stored.chunks) * stored.dtype.itemsize
    except Exception as error:
        raise InputError(
            f"{where} is not a .npy, .csv or .parquet file, a zarr array or a data set: {error}"
        ) from error
    if count > MOST_CHUNKS:
        raise InputError(f"{where} has {count} chunks: store it in fewer, larger ones")
    if largest > MEMORY_LIMIT:
        size = format_bytes(largest)
        raise InputError(f"{where} has chunks of {size}, more than memory: use smaller ones")
    return stored


def _open_parquet(urls: Sequence[str], name: str) -> Any:
    if sum(_sizes(urls)) <= SMALL:
        import pandas as pd

        parts = [pd.read_parquet(url) for url in urls]
        for url, part in zip(urls, parts, strict=True):
            _check_columns(part.columns, list(parts[0].columns), f"{name}: {url}")
        return _joined(parts)
    import dask.dataframe as dd

    return dd.read_parquet(list(urls))


def _sizes(urls: Sequence[str]) -> list[int]:
    """Return the size of each file in bytes; 0 if its server does not tell."""
    places = [url_to_fs(url) for url in urls]
    return [fs.du(path) if fs.isdir(path) else int(fs.size(path) or 0) for fs, path in places]


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
    sizes = _sizes(urls)
    head = _lines(urls[0], 0, HEAD if sizes[0] > HEAD else None)
    layout = _layout(head, f"{name}: {urls[0]}")
    if sum(sizes) <= SMALL:
        parts = [_read_csv((url, 0, None), _layout_of(url, layout, name), name) for url in urls]
        table = _joined([_in_order(part, layout.names) for part in parts])
        if not len(table):
            raise InputError(f"{name}: {urls[0]} has no rows")
        return _whole_as_integers(table)
    import dask.dataframe as dd

    layouts = [_layout_of(url, layout, name) for url in urls]
    blocks = [
        ((url, first, SMALL), own)
        for url, size, own in zip(urls, sizes, layouts, strict=True)
        for first in range(0, max(size, 1), SMALL)
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
    if first == 0 and length is None:
        content = bytes(filesystem.cat_file(path))
    else:
        with filesystem.open(path, "rb") as file:
            content = read_block(file, first, length, b"\n")
    # The header is the first line that is not blank.
    return content.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n") if first == 0 else content


def _layout(head: bytes, where: str) -> Layout:
    """Return the layout of a file, from its first lines."""
    try:
        lines = [line for line in head.decode().splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{where} is not a text file in UTF-8: {error}") from error
    if not lines:
        raise InputError(f"{where} has no rows")
    delimiter = ";" if ";" in re.sub('"[^"]*"', "", lines[0]) else ","
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
    _check_columns(names, layout.names, f"{name}: {url}")
    return replace(layout, names=names)


def _check_columns(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise `InputError` if a file has other columns than the first one."""
    names = list(names)
    here, first = set(names), set(known)
    for what, listed in (
        ("no column", [name for name in known if name not in here]),
        ("the other column", [name for name in names if name not in first]),
    ):
        if listed:
            raise InputError(
                f"{where} has {what} {listed[0]!r}, unlike the first file: give all files the "
                "same columns, or name one file"
            )
    if len(names) != len(known):
        raise InputError(f"{where} has a column twice: rename one")


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
