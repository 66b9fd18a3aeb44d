"""Files that others read: replaced whole, so that nobody sees half of one."""

from __future__ import annotations

import os
from pathlib import Path

from dadmm.errors import InputError


def replace_file(target: str | Path, content: bytes) -> None:
    """Write a file beside `target`, sync it, and rename it into place.

    Raises
    ------
    InputError
        If the place cannot be written to.
    OSError
        If the disk is full or gone.
    """
    path = Path(target)
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
    except PermissionError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
