"""Sums: what visits return, and how they are added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Sums = dict[str, Any]


def numbers(sums: Sums) -> Sums:
    """Return the sums that are plain numbers."""
    return {name: value for name, value in sums.items() if np.ndim(value) == 0}


def combine(parts: Sequence[Mapping[str, Any]]) -> Sums:
    """Add up sums in the given order; names that start with ``max_`` take the maximum instead.

    Arrays are added in float64, whatever their dtype.
    """
    total: Sums = {}
    for sums in parts:
        for name, value in sums.items():
            if name not in total:
                array = isinstance(value, np.ndarray)
                total[name] = np.array(value, np.float64) if array else value
            elif name.startswith("max_"):
                total[name] = np.maximum(total[name], value)
            else:
                total[name] += value
    return total
