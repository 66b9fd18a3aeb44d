"""End a process: exit codes, SIGTERM like Ctrl-C, warnings as lines."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from dadmm.errors import (
    CacheWarning,
    DadmmError,
    FactorWarning,
    InputError,
    LockedError,
    OrderWarning,
    RecoveryWarning,
    SecurityWarning,
    StoreError,
    ValidationWarning,
    one_line,
)

FAILED = 1
BAD_INPUT = 2
# EX_TEMPFAIL of sysexits.h: the same command may work later.
LATER = 75
INTERRUPTED = 130
TERMINATED = 143
NEWS = (
    CacheWarning,
    FactorWarning,
    OrderWarning,
    RecoveryWarning,
    SecurityWarning,
    ValidationWarning,
)

CODES = """exit codes:
  0    done; also if there was nothing left to do
  1    the run failed: disk full, workers lost, training diverged
  2    bad usage or bad input: the same command fails again
  75   another process is at work on the run, or on the output: try later
  130  stopped by Ctrl-C    } the last whole iteration is kept;
  143  stopped by SIGTERM   } the same command goes on from there"""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which Slurm and Kubernetes send before they kill; handled like Ctrl-C."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set a handler
        return

    def stop(number: int, frame: Any) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ending(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error, and the line to print; "" for a stop.

    With ``DADMM_DEBUG`` set, raise an error that dadmm did not foresee again.
    """
    if isinstance(error, KeyboardInterrupt):
        return (TERMINATED if isinstance(error, Terminated) else INTERRUPTED), ""
    if isinstance(error, LockedError):
        return LATER, str(error)
    if isinstance(error, (InputError, StoreError)):
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        return FAILED, one_line(f"there is not enough memory: {error}")
    if isinstance(error, (DadmmError, OSError)) or not isinstance(error, Exception):
        return FAILED, one_line(str(error))
    if os.environ.get("DADMM_DEBUG"):
        raise error
    what = f"{type(error).__name__}: {one_line(str(error))}"
    return FAILED, f"{what} (DADMM_DEBUG=1 shows where)"


@contextmanager
def tidy_warnings(say: Callable[[str], None]) -> Iterator[None]:
    """Pass dadmm's own warnings to `say`, and drop warnings the user cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="distributed")
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="dadmm")
        warnings.filterwarnings("ignore", message="A column-vector y")  # files often have one
        # A config says how long to train, and the report how that ended.
        warnings.filterwarnings("ignore", message="max_iter=")
        for category in NEWS:
            warnings.filterwarnings("always", category=category)
        show = warnings.showwarning

        def tidy(message: Warning | str, *args: Any, **options: Any) -> None:
            if isinstance(message, NEWS):
                say(str(message))
            else:
                show(message, *args, **options)

        warnings.showwarning = tidy
        yield
