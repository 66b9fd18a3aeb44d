"""Where compiled kernels are kept if numba finds no place for them.

numba keeps them beside the source or in the user's home.  It refuses to compile at all if it can
write to neither, as in many containers, and fails at the first call if the disk is full.  They go
into a folder of this user's own then, among the temporary files; or each process compiles them.

Keeping them there is only safe if nobody else can write them, because numba runs what it finds.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from contextlib import suppress
from typing import Any

from numba import config, njit

from dadmm.errors import CacheWarning

VARIABLE = "NUMBA_CACHE_DIR"
# The kernels of one fit take 0.3 MiB, those of all methods and dtypes a few.
ROOM = 4 * 2**20


def find_place() -> bool:
    """Return whether compiled kernels can be kept; give numba a place if it has none, and warn."""
    if _has_place():
        return True
    try:
        folder = own_folder()
    except OSError:
        kept, what = False, "each process compiles them anew"
    else:
        # Worker processes inherit the variable, so they neither search nor warn again.
        settings: Any = config
        settings.CACHE_DIR = os.environ[VARIABLE] = folder
        kept, what = True, f"they are kept in {folder}"
    warnings.warn(
        "compiled kernels cannot be kept beside the package or in this user's home, which are "
        f"read-only or full: {what}; set {VARIABLE} to a folder that only this user can write",
        CacheWarning,
        stacklevel=2,
    )
    return kept


def own_folder() -> str:
    """Return a folder among the temporary files that only this user can write.

    Raises
    ------
    OSError
        If it cannot be made, or if others can write it, own it or put another in its place.
    """
    above = os.path.realpath(tempfile.gettempdir())
    folder = os.path.join(above, f"dadmm-kernels-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found, mode = os.lstat(folder), os.stat(above).st_mode
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    closed = stat.S_IMODE(found.st_mode) & 0o077 == 0
    # In a folder that others can write, only the sticky bit keeps them from renaming ours.
    stays = mode & stat.S_ISVTX or not mode & 0o022
    if not (ours and closed and stays):
        raise PermissionError(f"{folder} is not safe from other users")
    _check_room(folder)
    return folder


def _has_place() -> bool:
    """Return whether numba can keep the compiled functions of this package."""
    try:
        probe: Any = njit(cache=True)(_has_place)
        if hasattr(probe, "stats"):  # NUMBA_DISABLE_JIT leaves the function as it is
            _check_room(probe.stats.cache_path)
    except (RuntimeError, OSError):  # numba raises the first if it can write nowhere
        return False
    return True


def _check_room(folder: str) -> None:
    """Raise OSError if the kernels do not fit into a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(ROOM))
