"""Places of files: absolute where they come in, and seen by the process that reads."""

from __future__ import annotations

import os
import sys

from dadmm.errors import RunError


def absolute(place: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, with ``~`` replaced by the home folder; a URL as it is.

    Other processes, and this one later, may stand in other folders.
    """
    text = str(place).removeprefix("file://")
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def worker() -> str | None:
    """Return the address of the worker whose task this is; None outside tasks."""
    distributed = sys.modules.get("distributed")  # a worker has imported it
    try:
        return None if distributed is None else str(distributed.get_worker().address)
    except ValueError:
        return None


def refuse_unseen(run: object) -> None:
    """Raise `RunError` in a task of a worker: it does not see the run."""
    if worker() is not None:
        raise RunError(unseen(run))


def unseen(place: object) -> str:
    """Return the line that says that this process does not see a place."""
    who = worker()
    who = "this process" if who is None else f"the worker {who}"
    return f"{who} does not see {place}: give a path or URL that all workers reach"
