"""Options of estimators and solvers: each is described once, and checked by its description."""

from __future__ import annotations

from sys import float_info

import numpy as np

from dadmm.errors import OptionError

TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "True or False"),
    int: ((int, np.integer), "a whole number"),
    float: ((int, float, np.integer, np.floating), "a number"),
    str: ((str,), "a name in quotes"),
}


def check_type(option: str, value: object, kind: type) -> None:
    """Raise `OptionError` unless a value is of the kind that an option wants."""
    types, words = TYPES[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise OptionError(f"{option}={value!r}: use {words}")
    if kind is float and isinstance(value, int) and abs(value) > float_info.max:
        raise OptionError(f"{option} has {len(str(abs(value)))} digits: use {words} below 1e308")
