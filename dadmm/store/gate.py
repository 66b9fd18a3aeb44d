"""A gate that lets threads write until it is closed."""

from __future__ import annotations

import threading

from dadmm.errors import StoreError


class Gate:
    """Lets threads through, as a context manager, until it is closed."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        # Threads, not their number: an interrupt may leave the thread that closes in here.
        self._inside: set[int] = set()
        self._closed = False

    def __enter__(self) -> None:
        with self._change:
            if self._closed:
                raise StoreError("the run has ended here, so nothing more is written into it")
            self._inside.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._inside.discard(threading.get_ident())
            self._change.notify_all()

    def close(self) -> None:
        """Refuse more threads, and wait for the others that are inside."""
        with self._change:
            self._closed = True
            self._change.wait_for(lambda: self._inside <= {threading.get_ident()})
