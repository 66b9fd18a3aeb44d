"""The time that a run's tasks take by phase, and the most memory that a process has had.

Each process adds up its own; the driver collects it after every iteration.
Results do not depend on it: nothing here touches what tasks return.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Sessions that a worker keeps: one that serves many runs forgets those that ended.
SESSIONS = 32
PREFIX = "seconds_"

_spent: OrderedDict[str, Counter[str]] = OrderedDict()
_lock = threading.Lock()


@contextmanager
def phase(session: str, name: str) -> Iterator[None]:
    """Add the time that the block takes to a phase of a session."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        with _lock:
            _spent.setdefault(session, Counter())[name] += seconds  # type: ignore[assignment]
            while len(_spent) > SESSIONS:
                _spent.popitem(last=False)


def take(session: str) -> dict[str, Any]:
    """Return what this process spent on a session since it was last asked, and its peak memory.

    Returns
    -------
    dict
        "seconds": phase to seconds, over all threads; "peak": bytes, since the process began.
    """
    with _lock:
        spent = _spent.pop(session, Counter())
    return {"seconds": dict(spent), "peak": peak_memory()}


def columns(found: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return columns of history: the seconds of all processes, and the memory of the fullest."""
    total: Counter[str] = Counter()
    peaks = [0]
    for process in found:
        total.update(process["seconds"])
        peaks.append(process["peak"])
    row = {f"{PREFIX}{name}": float(seconds) for name, seconds in total.items()}
    return row | ({"memory_peak": float(max(peaks))} if max(peaks) else {})


def is_measured(column: str) -> bool:
    """Whether a column of history measures the machine, so that it differs when a run is repeated.

    The wall time, ``seconds``, does not count.
    """
    return column.startswith((PREFIX, "memory_"))


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    try:
        # Not `getrusage`: its peak outlives exec, so a small child reports its large parent's.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
