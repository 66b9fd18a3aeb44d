"""Replace files whole, so that nobody reads half of one."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from dadmm.errors import DadmmError, InputError, RunError
from dadmm.store.files import LocalFiles
from dadmm.store.place import absolute

# Errors that pass once there is room, or the disk is back.
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def reaching(
    place: object,
    doing: str,
    kind: type[DadmmError],
    caught: tuple[type[Exception], ...] = (Exception,),
) -> Iterator[None]:
    """Turn errors of a file system into one line: `RunError` if they may pass, else `kind`."""
    try:
        yield
    except DadmmError:
        raise
    except caught as error:
        kind = RunError if getattr(error, "errno", None) in PASSING else kind
        why = getattr(error, "strerror", None) or error
        raise kind(f"{place} cannot be {doing}: {why}") from error


def writing(target: str | Path) -> AbstractContextManager[None]:
    """Turn errors of writing `target` into one line.

    Raises
    ------
    InputError
        If the place cannot be written to.
    RunError
        If the disk is full or gone.
    """
    # ValueError is for names with a null.
    return reaching(target, "written", InputError, (OSError, ValueError))


def replace_file(target: str | Path, content: bytes, *, new: bool = False) -> None:
    """Write a file whole or not at all; a `new` one must not exist yet.  Errors as `writing`."""
    path = Path(absolute(target))
    with writing(path):
        if "\0" in path.name:
            raise InputError(f"{path} is no name of a file: choose another")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise InputError(f"{path} is a folder: choose another name")
        LocalFiles(path.parent, durable=True).save(path.name, content, new=new)


def record(path: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def as_json(value: Any) -> bytes:
    """Return a value as indented JSON."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
