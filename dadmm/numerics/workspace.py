"""Scratch memory that is used again instead of allocated anew."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from dadmm.numerics.types import Array


@dataclass
class Workspace(threading.local):
    """Scratch arrays that one thread uses again and again.

    A visit that allocated its temporaries anew would have them mapped and page-faulted each time
    on workers whose allocator returns memory eagerly, as Dask's nannies set it.
    """

    arrays: dict[tuple[str, str], Array] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a C-ordered array of `shape`, contents undefined, valid until taken again."""
        key = (name, np.dtype(dtype).str)
        size = prod(shape)
        flat = self.arrays.get(key)
        if flat is None or flat.size < size:
            flat = self.arrays[key] = np.empty(size, dtype)
        return flat[:size].reshape(shape)


_lasting: list[Workspace] = []


def lasting() -> Workspace:
    """Return a workspace that is kept until `release`."""
    _lasting.append(Workspace())
    return _lasting[-1]


def release() -> None:
    """Let go of what this thread's workspaces have kept, for work of another kind."""
    for workspace in _lasting:
        workspace.arrays.clear()
