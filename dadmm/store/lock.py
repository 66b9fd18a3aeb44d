"""Keep a run to one driver, by a lock file with its owner and a heartbeat.

A driver that dies leaves its lock behind.  Another driver takes the lock over if the owner is gone:
its process on this machine has ended, or it is on another machine and has not touched the lock for
`STALE` seconds (clocks that differ by more would mislead this).  A driver checks its own lock
before every commit, so it stops there if its run was taken over.
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
    """A lock that this process holds until `release`.

    Parameters
    ----------
    blocks : ZarrBlocks
        The run's store.
    force : bool
        Take the lock even if its owner seems alive.
    otherwise : str
        As for `refuse_locked`.

    Raises
    ------
    LockedError
        If another driver holds the lock.
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
                continue  # the next commit finds out and raises the error

    def _mine(self) -> bool:
        return _owner(self._blocks.files) == self._owner

    def check(self) -> None:
        """Raise `RunError` if this process no longer holds the lock."""
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
        """Delete the lock, if this process still holds it."""
        self._stop.set()
        self._heart.join()
        try:
            if self._mine():
                self._blocks.files.delete(LOCK)
        except (OSError, StoreError):
            pass  # the disk is gone: others will find the lock stale


def refuse_locked(blocks: ZarrBlocks, otherwise: str = ", or choose another path") -> None:
    """Raise `LockedError` if another driver holds the lock of a run and may be alive.

    Parameters
    ----------
    otherwise : str
        The cure besides waiting, at the end of the message.
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
    """Return the owner in the lock file; empty if the file is damaged."""
    try:
        return metadata.parse_record(files.text(LOCK))
    except ValueError:
        return {}


def _alive(owner: dict[str, Any], age: float) -> bool:
    if owner.get("host") != socket.gethostname():
        return age < STALE
    try:
        # Both times follow the machine's clock, which may have been set in between.
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
