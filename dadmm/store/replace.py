"""Replace files whole, so that nobody reads half of one."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dadmm.errors import DadmmError, InputError, RunError
from dadmm.store.files import LocalFiles

# Errors that pass once there is room, or the disk is back.
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Turn any error of writing `target` into one line.

    Raises
    ------
    InputError
        If the place cannot be written to.
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
    """Write a file whole or not at all; a `new` one must not exist yet.  Errors as `writing`."""
    path = Path(target)
    with writing(path):
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
