"""How much more a place can hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from dadmm.store.place import absolute

# Share of free memory that a copy may take.
SPARE = 0.5


def room(place: str | os.PathLike[str] | None, in_memory: bool = False) -> tuple[float, str]:
    """Return the bytes that a run at a place can add, and the place in words.

    Parameters
    ----------
    place : path, URL or None
        None stands for the temporary files, or, with `in_memory`, for this process's memory.
    """
    if place is None and in_memory:
        return SPARE * psutil.virtual_memory().available, "this machine's memory"
    if "://" in str(place or "") and not str(place).startswith("file://"):
        return float("inf"), str(place)  # object stores tell no limit
    path = Path(absolute(place or tempfile.gettempdir()))
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    # A run that is there is overwritten.
    taken = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if place else 0
    return float(shutil.disk_usage(there).free + taken), str(path)
