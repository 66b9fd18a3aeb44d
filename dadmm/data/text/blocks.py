"""Read bytes of CSV: whole files, or the whole records that begin in a piece of one."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any
from zipfile import ZipFile

from fsspec.compression import compr
from fsspec.core import url_to_fs

from dadmm.data.files import compression
from dadmm.data.table import Table, options_help
from dadmm.errors import InputError

# How files begin that are no text, and what to do about them.
MAGIC = {
    **{
        start: f"is compressed: use compression={kind!r}"
        for start, kind in (
            (b"\x1f\x8b", "gzip"),
            (b"BZh", "bz2"),
            (b"\xfd7zXZ", "xz"),
            (b"PK\x03\x04", "zip"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
        )
    },
    b"PAR1": "is Parquet: end its name in .parquet",
}
# Encodings in which the bytes of quotes, newlines and delimiters mean nothing else are cut as
# they are; the others must be decoded from their begin.
WIDE = ("utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-7")
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Block:
    """Some bytes of a file.

    Parameters
    ----------
    url : str
    first, last : int or None
        From which byte to before which one; None is the end of the file.
    row : int
        The number of its first row.
    """

    url: str
    first: int = 0
    last: int | None = None
    row: int = 0


def packing(url: str, table: Table) -> str | None:
    """Return fsspec's name of a file's compression, or None."""
    if table.compression is not None:
        return None if table.compression == "none" else table.compression
    return compression(url)


def is_one_piece(url: str, table: Table) -> bool:
    """Whether a file cannot be entered in the middle."""
    return packing(url, table) is not None or _codec(table.encoding) in WIDE


def _codec(encoding: str | None) -> str:
    return codecs.lookup(encoding or "utf-8").name


def raw(block: Block, table: Table) -> bytes:
    """Return the bytes of a block, unpacked."""
    filesystem, path = url_to_fs(block.url)
    packed = packing(block.url, table)
    if packed:
        return _unpacked(filesystem, path, packed, block.last)
    if block.first == 0 and block.last is None:
        return bytes(filesystem.cat_file(path))
    with filesystem.open(path, "rb") as file:
        file.seek(block.first)
        return bytes(file.read(-1 if block.last is None else block.last - block.first))


def _unpacked(filesystem: Any, path: str, packed: str, length: int | None) -> bytes:
    with filesystem.open(path, "rb") as file:
        if packed == "zstd":
            import pyarrow as pa

            text: Any = pa.CompressedInputStream(file, "zstd")
        elif packed == "zip":
            text = _only_file(ZipFile(file), path)
        else:
            text = compr[packed](file, mode="rb")
        with text:
            return bytes(text.read() if length is None else text.read(length))


def _only_file(archive: ZipFile, path: str) -> Any:
    """Open the one file of an archive; folders, and the notes that macOS adds, do not count."""
    found = [name for name in archive.namelist() if not name.endswith("/")]
    found = [name for name in found if not name.startswith("__MACOSX/")]
    if len(found) != 1:
        listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(f"{path} has {len(found)} files, not one: unpack it ({listed})")
    return archive.open(found[0])


def as_text(content: bytes, where: str, table: Table, first: bool = True) -> bytes:
    """Return bytes of a file as UTF-8, without the mark of its encoding.

    Parameters
    ----------
    first : bool
        Whether these are the first bytes of the file.

    Raises
    ------
    InputError
        If the bytes are no text in that encoding.
    """
    encoding = table.encoding
    if encoding is None and first:
        encoding = marked(content)
    try:
        if _codec(encoding) == "utf-8":  # who reads the cells decodes them
            return content.removeprefix(codecs.BOM_UTF8) if first else content
        return content.decode(encoding or "utf-8").removeprefix("\ufeff").encode()
    except ValueError as error:
        raise no_text(where, encoding) from error


def no_text(where: str, encoding: str | None, likely: str = "latin-1") -> InputError:
    """Return the error for bytes that are no text in an encoding."""
    cure = options_help(f"use encoding={likely!r}, 'cp1252', or what it is")
    return InputError(f"{where} is not a text file in {encoding or 'UTF-8'}: {cure}")


def marked(content: bytes) -> str | None:
    """Return the encoding that the first bytes of a file say; None if they say none."""
    return next((name for mark, name in MARKS if content.startswith(mark)), None)


def _check_start(content: bytes, table: Table, where: str) -> None:
    """Raise `InputError` if a file begins as text does not."""
    cure = next((cure for start, cure in MAGIC.items() if content.startswith(start)), None)
    if cure is not None:
        raise InputError(f"{where} {options_help(cure) if '=' in cure else cure}")
    start = content[:1024]
    if table.encoding is None and marked(content) is None and 4 * start.count(0) > len(start):
        raise no_text(where, None, "utf-16")


def head(url: str, table: Table, length: int, where: str) -> tuple[str, str | None]:
    """Return the first whole lines of a file, two or more, and the encoding that it says."""
    content = raw(Block(url, 0, length), table)
    _check_start(content, table, where)
    while len(content) == length and content.count(b"\n") < 2:
        length *= 2
        content = raw(Block(url, 0, length), table)
    if len(content) == length:
        content = content[: content.rfind(b"\n") + 1]
        if marked(content) in WIDE:
            content += b"\x00" * (-len(content) % 4)  # a newline of several bytes was cut
    try:
        return as_text(content, where, table).decode(), marked(content)
    except UnicodeDecodeError as error:
        raise no_text(where, None) from error
