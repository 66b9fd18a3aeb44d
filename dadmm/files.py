"""Files that others read: replaced whole, so that nobody sees half of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dadmm.errors import DadmmError, InputError, RunError

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


def replace_file(target: str | Path, content: bytes) -> None:
    """Write a file beside `target`, sync it, and rename it into place; errors as `writing`."""
    path = Path(target)
    with writing(path):
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise InputError(f"{path} is a folder: choose another name")
        aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
