"""A temporary folder for a run, which does not outlive its driver.

It is removed at the end and on SIGTERM.  A driver that is killed leaves it; the next one that makes
such a folder removes it then.  The driver holds a lock on a file in the folder, which the system
releases when the driver dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "dadmm-run-"
HELD = "driver"


def places() -> list[Path]:
    """Return where such folders may lie: in shared memory, and among the temporary files."""
    found = [SHARED_MEMORY]
    with suppress(FileNotFoundError):  # nothing can be written
        found.append(Path(tempfile.gettempdir()))
    return [place for place in found if place.is_dir() and os.access(place, os.W_OK)]


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """Make a folder in a place, and remove it at the end; remove those of dead drivers."""
    for each in places():
        sweep(each)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    # The file gets its name once it is locked: no other driver can lock it before.
    with (folder / ".new").open("xb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (folder / ".new").rename(folder / HELD)
        try:
            with _removed_on_sigterm(folder):
                yield folder
        finally:
            _remove(folder)


def sweep(place: Path) -> None:
    """Remove this user's folders in a place whose drivers are dead."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or just removed
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            with (folder / HELD).open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder; workers that still write into it find it gone."""
    gone = folder.with_name(f"{folder.name}.gone")
    with suppress(OSError):
        folder = folder.rename(gone)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _removed_on_sigterm(folder: Path) -> Iterator[None]:
    """Remove a folder before SIGTERM ends the process, unless the program handles the signal."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    driver = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() == driver:  # a fork has the handler too
            _remove(folder)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
