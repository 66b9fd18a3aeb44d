"""One driver per run: a lock file with its owner and a heartbeat.

A driver that dies leaves its lock behind.  It is taken over where the owner is known to be gone:
its process on this machine has ended, or it is on another machine and its heart has not beaten for
`STALE` seconds (clocks that differ by more than that would fool this).  A driver looks for its own
lock before every commit, so one whose run was taken from it stops there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from typing import Any

import psutil

from dadmm.errors import LockedError, RunError, StoreError
from dadmm.store import metadata
from dadmm.store.arrays import ZarrBlocks

LOCK = "lock.json"
BEAT = 20.0
STALE = 300.0
CLOCK = 10.0


class Lock:
    """A held lock; `release` it.

    Parameters
    ----------
    blocks : ZarrBlocks
        The run's.
    force : bool
        Take it even from an owner that seems alive.
    otherwise : str
        As for `refuse_locked`.

    Raises
    ------
    LockedError
        If another driver holds it.
    """

    def __init__(
        self,
        blocks: ZarrBlocks,
        force: bool = False,
        otherwise: str = "; or, if you know that it is dead, take it (--force)",
    ) -> None:
        self._blocks = blocks
        self._owner = _myself()
        if not force:
            refuse_locked(blocks, otherwise)
        blocks.files.delete(LOCK)
        try:
            blocks.files.save(LOCK, metadata.record(self._owner), new=True)
        except FileExistsError as error:
            raise LockedError(f"{blocks.url} was started by another driver just now") from error
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="dadmm-heartbeat", daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                if self._mine():
                    self._blocks.files.touch(LOCK)
            except (OSError, StoreError):
                continue  # the next commit finds out and says so

    def _mine(self) -> bool:
        return _owner(self._blocks.files) == self._owner

    def check(self) -> None:
        """Raise `RunError` if the lock is no longer ours."""
        try:
            mine = self._mine()
        except FileNotFoundError as error:
            raise RunError(
                f"{self._blocks.url} has lost its lock.json: the place is gone, or the file was "
                "removed; nothing was committed since. Resume the run once it is back"
            ) from error
        if not mine:
            raise RunError(
                f"{self._blocks.url} was taken over by another driver (--force): this one stops"
            )

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._stop.set()
        self._heart.join()
        try:
            if self._mine():
                self._blocks.files.delete(LOCK)
        except (OSError, StoreError):
            pass  # a disk that is gone: the lock will be found stale


def refuse_locked(blocks: ZarrBlocks, otherwise: str = ", or choose another path") -> None:
    """Raise `LockedError` if another driver that may be alive holds the lock of a run.

    Parameters
    ----------
    otherwise : str
        What can be done instead of waiting for it.
    """
    try:
        owner = _owner(blocks.files)
        age = max(0.0, time.time() - blocks.files.age(LOCK))
    except FileNotFoundError:
        return
    if _alive(owner, age):
        who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "an unknown owner"
        raise LockedError(
            f"{blocks.url} is in use by {who}, since {owner.get('since', 'some time')}, last seen "
            f"{age:.0f} s ago: wait for it{otherwise}"
        )


def _owner(files: Any) -> dict[str, Any]:
    """Return who holds the lock; nobody known if it is damaged."""
    try:
        return metadata.parse_record(files.text(LOCK))
    except ValueError:
        return {}


def _alive(owner: dict[str, Any], age: float) -> bool:
    if owner.get("host") != socket.gethostname():
        return age < STALE
    try:
        # Both follow the machine's clock, which may have been set since.
        started = psutil.Process(int(owner["pid"])).create_time()
        return bool(abs(started - owner["started"]) < CLOCK)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _myself() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": uuid.uuid4().hex,
    }
