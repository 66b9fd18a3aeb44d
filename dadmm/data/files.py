"""Find the files that a path, glob, folder or list names, in one order.

The order is natural: ``part.2`` comes before ``part.10``, as Dask's writers count and its readers
sort.  It does not depend on the size of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dask.utils import natural_sort_key
from fsspec.core import url_to_fs

from dadmm.errors import InputError

# The endings of tables.  pandas, Dask and Arrow write Parquet under all three.
ENDINGS = {"csv": (".csv", ".tsv"), "parquet": (".parquet", ".parq", ".pq")}
# Compressed text, by its ending and the name that fsspec gives it.
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip", ".zst": "zstd"}
# What a folder of zarr has.
MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
# Writers give this value to rows that have none.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file of a table.

    Parameters
    ----------
    url : str
    keys : tuple of (str, str)
        The columns that the folders above it name, as in ``year=2024/part.0.parquet``.
    """

    url: str
    keys: tuple[tuple[str, str], ...] = ()


def as_path(path: str | os.PathLike[str]) -> str:
    """Return a path or URL as text, with ``~`` replaced by the home folder."""
    text = os.fspath(path)
    return text if "://" in text else os.path.expanduser(text)


def ending_kind(path: str) -> str | None:
    """Return "csv" or "parquet" if a name ends so, in upper or lower case, else None."""
    name = path.rstrip("/").lower()
    for kind, endings in ENDINGS.items():
        packed = tuple(end + pack for end in endings for pack in PACKED) if kind == "csv" else ()
        if name.endswith((*endings, *packed)):
            return kind
    return None


def compression(url: str) -> str | None:
    """Return fsspec's name of a file's compression; None if its name tells of none."""
    return PACKED.get(os.path.splitext(url)[1].lower())


def are_paths(x: Any) -> bool:
    """Whether `x` is a list of paths of tables."""
    return (
        isinstance(x, (list, tuple))
        and len(x) > 0
        and all(isinstance(each, (str, os.PathLike)) for each in x)
        and all(table_kind(each) for each in x)
    )


def table_kind(path: Any) -> str | None:
    """Return "csv" or "parquet" if a path, glob, URL or list of them names tables, else None.

    A local folder or glob of another name is looked into.
    """
    if isinstance(path, (list, tuple)):
        kinds = {table_kind(each) for each in path}
        return kinds.pop() if len(kinds) == 1 else None
    path = as_path(path)
    kind = ending_kind(path)
    if kind or "://" in path or len(path) > 4096:
        return kind
    try:
        filesystem, inside = url_to_fs(path)
        if _is_glob(filesystem, inside):
            kinds = {table_kind(found) for found in _matches(filesystem, inside)}
        elif os.path.isdir(inside) and not any(
            os.path.exists(os.path.join(inside, mark)) for mark in MARKS
        ):
            kinds = {ending_kind(name) for name in _visible(_walk(inside), inside)}
        else:
            return None
    except (OSError, ValueError):
        return None  # opening it says why
    return kinds.pop() if len(kinds) == 1 else None


def table_files(path: str, kind: str) -> list[File]:
    """Return the files of a path, glob or URL in natural order; none if there are none."""
    filesystem, inside = url_to_fs(path)
    base, found = inside, [inside]
    if _is_glob(filesystem, inside):
        base = os.path.dirname(re.split(r"[*?\[]", inside, maxsplit=1)[0])
        found = _matches(filesystem, inside)
    elif not filesystem.exists(inside):
        return []
    files = []
    for place in found:
        if _is_folder(filesystem, place):
            names = list(_visible(filesystem.find(place), place))
            # Folders may have notes beside the tables; Dask names its CSV files 0.part.
            names = [name for name in names if ending_kind(name) == kind] or names
            files += sorted(names, key=natural_sort_key)
        else:
            files.append(place)
    far = "://" in path
    return [
        File(
            filesystem.unstrip_protocol(name)
            if far and name != inside
            else path
            if name == inside
            else name,
            _keys(name, base),
        )
        for name in files
    ]


def _is_glob(filesystem: Any, inside: str) -> bool:
    return bool(set("*?[") & set(inside)) and not filesystem.exists(inside)


def _matches(filesystem: Any, pattern: str) -> list[str]:
    """Return what a glob matches, in natural order, without what Arrow skips too."""
    found = sorted(filesystem.glob(pattern), key=natural_sort_key)
    if os.path.basename(pattern.rstrip("/")).startswith((".", "_")):
        return found
    return [name for name in found if not os.path.basename(name).startswith((".", "_"))]


def _is_folder(filesystem: Any, place: str) -> bool:
    # fsspec takes a file with links in it for a folder of the web.
    return "http" not in filesystem.protocol and filesystem.isdir(place)


def _walk(folder: str) -> Iterator[str]:
    for at, _, names in os.walk(folder):
        yield from (os.path.join(at, name) for name in names)


def _visible(names: Iterable[str], folder: str) -> Iterator[str]:
    """Drop what Arrow skips too: ``_SUCCESS``, ``_metadata``, hidden files and folders."""
    for name in names:
        parts = Path(name).relative_to(folder).parts
        if not any(part.startswith((".", "_")) and "=" not in part for part in parts):
            yield name


def _keys(name: str, base: str) -> tuple[tuple[str, str], ...]:
    """Return the columns that the folders between `base` and a file name."""
    below = os.path.dirname(name[len(base) :] if name.startswith(base) else "")
    pairs = (part.partition("=") for part in below.split("/") if "=" in part)
    return tuple((unquote(key), unquote(value)) for key, _, value in pairs if key)


def sizes(files: Sequence[File]) -> list[int]:
    """Return the size of each file in bytes; 0 if its server does not tell."""
    places = [url_to_fs(file.url) for file in files]
    return [int(filesystem.size(path) or 0) for filesystem, path in places]


def check_columns(names: Iterable[Any], known: Sequence[Any], where: str) -> None:
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
