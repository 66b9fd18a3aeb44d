"""Open CSV files as one table: in memory if they are small, else block by block.

All cells are looked at before a column is called numbers, truth values or text, at any size; at
prediction, what the column was in training decides.  Large files are read once to find where their
records end, once to look at their cells, and then block by block, on the workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import accumulate
from operator import add
from typing import Any

from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import computing
from dadmm.data.files import File, check_columns, sizes
from dadmm.data.folders import Keys, key_columns, with_keys
from dadmm.data.table import Table
from dadmm.data.text.blocks import WIDE, Block, as_text, head, is_one_piece, raw
from dadmm.data.text.content import Content
from dadmm.data.text.dialect import Dialect, dialect_of, first_row
from dadmm.data.text.records import after_first, cuts, ends
from dadmm.data.text.rows import rows
from dadmm.data.text.survey import Survey, survey
from dadmm.errors import InputError, unknown

# The first bytes of a file, which show its dialect.
HEAD = 2**20
# Heads that are read at once.
AT_ONCE = 16


@dataclass(frozen=True)
class Part:
    """A block of a file, how it is written, and the columns that its folders name."""

    block: Block
    dialect: Dialect
    keys: Keys = ()

    def content(self, name: str, table: Table) -> Content:
        """Return its whole records, without the header."""
        block, dialect = self.block, self.dialect
        where = f"{name}: {block.url}"
        text = as_text(raw(block, table), where, table, block.first == 0)
        if len(text) >= 2**31:
            raise InputError(f"{where} has more than 2 GiB in one piece: unpack it, or use Parquet")
        if block.first == 0 and dialect.header:
            text = after_first(text, dialect.delimiter, dialect.spaced)
        return Content(text, dialect, table, where)


def open_csv(
    files: Sequence[File],
    name: str,
    table: Table,
    most: int,
    known: Mapping[Any, str] | None = None,
) -> Any:
    """Return a pandas frame, or a dask frame if the files have more than `most` bytes.

    Rows are counted through all files.  Columns are in the order of the first file.

    Parameters
    ----------
    files : sequence of File
        In the order of their rows.
    name : str
        The table's name in errors.
    table : Table
        How to read them.
    most : int
        Bytes of a table in memory, and of a block.
    known : mapping of column to dtype, or None
        What columns were in training; None in training.  Others are found out.

    Raises
    ------
    InputError
        If the files cannot be read as one table; the message says where, and the cure.
    """
    amounts, urls = sizes(files), [file.url for file in files]
    keys, key_types = key_columns(files)
    where = f"{name}: {urls[0]}"
    text, encoding = head(urls[0], table, HEAD, where)
    if table.encoding is None and encoding in WIDE:
        table = replace(table, encoding=encoding)
    first = dialect_of(text, where, table, list(known or ()))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        others = list(
            pool.map(partial(_dialect_like, first=first, name=name, table=table), urls[1:])
        )
    dialects = [first, *others]
    dtypes = _said(first, table, known, where)
    unsaid = [column for column in first.names if column not in dtypes]
    index = _index(first, table, where)
    small = sum(amounts) <= most
    if small:
        parts = list(map(Part, map(Block, urls), dialects, keys))
        contents = [part.content(name, table) for part in parts]
        surveys = [survey(content, unsaid) for content in contents]
    else:
        whole = list(map(Part, map(Block, urls), dialects, keys))
        parts = _cut(whole, amounts, name, table, most)
        with computing(name):
            tasks = [delayed(_survey_part)(part, unsaid, name, table) for part in parts]
            surveys = list(compute(*tasks))
    found = reduce(add, surveys)
    if not found.rows:
        raise InputError(f"{where} has no rows")
    dtypes |= {column: seen.dtype for column, seen in found.seen.items()}
    if known is None:
        _refuse_dressed(found, first, index, table, where)
    dtypes = {column: dtypes[column] for column in first.names}
    if _ends_unnamed(first, found):
        del dtypes[first.names[-1]]
    wanted = Wanted(dtypes, index, key_types)
    starts = [0, *accumulate(each.rows for each in surveys)]
    if small:
        return _joined(list(map(wanted.frame, contents, starts, keys)))
    import dask.dataframe as dd

    parts = [
        replace(part, block=replace(part.block, row=row))
        for part, row, each in zip(parts, starts, surveys, strict=False)
        if each.rows
    ]
    meta = wanted.frame(Content(b"", first, table, where), 0, keys[0])
    return dd.from_map(partial(_read, wanted=wanted, name=name, table=table), parts, meta=meta)


def _joined(parts: Sequence[Any]) -> Any:
    import pandas as pd

    return parts[0] if len(parts) == 1 else pd.concat(parts)


def _dialect_like(url: str, first: Dialect, name: str, table: Table) -> Dialect:
    """Return the dialect of one of several files: its columns may be in another order."""
    if not first.header:
        return first
    where = f"{name}: {url}"
    text, _ = head(url, table, HEAD, where)
    found: tuple[Any, ...] = tuple(first_row(text, first.delimiter))
    if not found:
        raise InputError(f"{where} has no rows, not even a header: remove it")
    if len(found) + 1 == len(first.names) and first.names[0] == "":
        found = ("", *found)
    check_columns(found, first.names, where)
    return replace(first, names=found)


def _said(
    dialect: Dialect, table: Table, known: Mapping[Any, str] | None, where: str
) -> dict[Any, str]:
    """Return the dtypes that the user or training say."""
    names = {str(name): name for name in dialect.names}
    dtypes = {names[name]: dtype for name, dtype in (known or {}).items() if name in names}
    for name, dtype in (table.dtype or {}).items():
        if name not in names:
            if known is not None:
                continue  # such as the targets, which new rows need not have
            raise unknown(f"column in dtype of {where}", name, names)
        dtypes[names[name]] = dtype
    return dtypes


def _index(dialect: Dialect, table: Table, where: str) -> Any:
    """Return the column that names the rows; None if there is none.

    A first column without a name is the index that pandas and R write.
    """
    if table.index is None:
        return "" if dialect.names[0] == "" else None
    found = {str(name): name for name in dialect.names}
    if table.index not in found:
        raise unknown(f"column of {where}", table.index, found)
    return found[table.index]


def _ends_unnamed(dialect: Dialect, found: Survey) -> bool:
    """Whether all rows end with a delimiter: then the last column has no name and no values."""
    last = dialect.names[-1]
    named = dialect.header and last != ""
    seen = found.seen.get(last)
    return len(dialect.names) > 1 and not named and seen is not None and seen.kind == "missing"


def _cut(
    files: Sequence[Part],
    amounts: Sequence[int],
    name: str,
    table: Table,
    most: int,
) -> list[Part]:
    """Cut files into blocks of whole records, of about `most` bytes."""
    blocks = [
        [file.block]
        if is_one_piece(file.block.url, table) or size <= most
        else [Block(file.block.url, at, min(at + most, size)) for at in range(0, size, most)]
        for file, size in zip(files, amounts, strict=True)
    ]
    with computing(name):
        found = compute(
            [
                [delayed(_ends)(block, file.dialect, table) for block in some if len(some) > 1]
                for some, file in zip(blocks, files, strict=True)
            ]
        )[0]
    parts: list[Part] = []
    for some, told, file in zip(blocks, found, files, strict=True):
        places = cuts(told) if told else [0]
        begins = [b.first + p for b, p in zip(some, places, strict=True) if p is not None]
        for first, last in zip(begins, [*begins[1:], some[-1].last], strict=True):
            if last is None or first < last:
                parts.append(replace(file, block=Block(some[0].url, first, last)))
    return parts


def _ends(block: Block, dialect: Dialect, table: Table) -> tuple[tuple[int, int], ...]:
    return ends(raw(block, table), dialect.delimiter, dialect.spaced)


def _survey_part(part: Part, columns: Sequence[Any], name: str, table: Table) -> Survey:
    content = part.content(name, table)
    if part.block.first:
        content.where += f" from byte {part.block.first} on,"
    return survey(content, columns)


def _refuse_dressed(found: Survey, dialect: Dialect, index: Any, table: Table, where: str) -> None:
    """Raise `InputError` for text that should have been numbers."""
    for column in dialect.names:
        complaint = found.complaint(column, table.mark)
        if complaint and column != index:
            raise InputError(f"{where} {complaint}")


@dataclass(frozen=True)
class Wanted:
    """What a table is read as.

    Parameters
    ----------
    dtypes : mapping of column to str
        The columns of the files, in order.
    index : column or None
        The one that names the rows.
    keys : mapping of str to dtype
        The columns that folders name.
    """

    dtypes: Mapping[Any, str]
    index: Any
    keys: Mapping[str, Any]

    def only(self, columns: Collection[Any]) -> Wanted:
        """Return the same with some columns only, but one of the files' at least."""
        found = [c for c in self.dtypes if c in {*columns, self.index}] or list(self.dtypes)[:1]
        return replace(self, dtypes={c: self.dtypes[c] for c in found})

    def frame(self, content: Content, first: int, keys: Keys) -> Any:
        """Return rows as a pandas frame; `first` is the number of the first."""
        place = {column: i for i, column in enumerate(content.dialect.names)}
        frame = rows(content, first, {place[c]: dtype for c, dtype in self.dtypes.items()})
        frame = with_keys(frame, keys, self.keys)
        if self.index is None:
            return frame
        frame = frame.set_index(self.index)
        if self.index == "":
            frame.index.name = None
        return frame


def _read(
    part: Part, wanted: Wanted, name: str, table: Table, columns: Sequence[Any] | None = None
) -> Any:
    """Return the rows of a part.  Dask passes `columns` if it needs only some."""
    if columns is None:
        return wanted.frame(part.content(name, table), part.block.row, part.keys)
    frame = wanted.only(columns).frame(part.content(name, table), part.block.row, part.keys)
    return frame[list(columns)]
