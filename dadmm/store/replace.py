"""Files that others read: replaced whole, so that nobody sees half of one."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dadmm.errors import DadmmError, InputError, RunError
from dadmm.store.files import LocalFiles

# What goes away once there is room, or the disk is back.
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Say in one line why a file cannot be written.

    Raises
    ------
    InputError
        If the place is none to write to.
    RunError
        If the disk is full or gone.
    """
    try:
        yield
    except DadmmError:
        raise
    except (OSError, ValueError) as error:  # the latter for names with a null
        kind = RunError if getattr(error, "errno", None) in PASSING else InputError
        why = getattr(error, "strerror", None) or error
        raise kind(f"{target} cannot be written: {why}") from error


def replace_file(target: str | Path, content: bytes, *, new: bool = False) -> None:
    """Write a file whole or not at all; a `new` one must not be there yet.  Errors as `writing`."""
    path = Path(target)
    with writing(path):
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise InputError(f"{path} is a folder: choose another name")
        LocalFiles(path.parent, durable=True).save(path.name, content, new=new)


def record(path: Path) -> Any:
    """Return what a JSON file says; None if there is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def as_json(value: Any) -> bytes:
    """Return a value as a readable JSON text."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
