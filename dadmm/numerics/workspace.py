"""Scratch memory that is reused instead of allocated again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from dadmm.numerics.types import Array


@dataclass
class Workspace(threading.local):
    """Scratch arrays that one thread reuses.

    Dask's nannies make the allocator return memory eagerly: without reuse, every visit would map
    and page-fault its temporaries again.
    """

    arrays: dict[tuple[str, str], Array] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a C-ordered array with undefined contents, valid until `name` is taken again."""
        key = (name, np.dtype(dtype).str)
        size = prod(shape)
        flat = self.arrays.get(key)
        if flat is None or flat.size < size:
            flat = self.arrays[key] = np.empty(size, dtype)
        return flat[:size].reshape(shape)


_lasting: list[Workspace] = []


def lasting() -> Workspace:
    """Return a workspace whose arrays are kept until `release`."""
    _lasting.append(Workspace())
    return _lasting[-1]


def release() -> None:
    """Free the arrays of this thread's lasting workspaces, before work of another kind."""
    for workspace in _lasting:
        workspace.arrays.clear()
