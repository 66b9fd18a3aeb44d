"""Read amounts as people write them: 1GB/s, 10Gbit, 1ms."""

from __future__ import annotations

import math
import re

from dask.utils import parse_bytes, parse_timedelta

from dadmm.errors import OptionError

BITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
BIT = re.compile(r"([0-9.]+) ?([kmgt]?)bits?", re.IGNORECASE)


def rate(text: str, option: str) -> float:
    """Return bytes per second: of "1GB/s", or of "1Gbit" or "1Gbit/s", which are bits.

    Raises
    ------
    OptionError
        If the text is neither, or the rate is out of range.
    """
    amount = text.strip().removesuffix("/s").strip()
    try:
        bits = BIT.fullmatch(amount)
        found = float(parse_bytes(amount)) if bits is None else _bits(bits)
    except (ValueError, OverflowError) as error:
        raise OptionError(f"{option} {text!r}: write it like 1GB/s or 10Gbit") from error
    return _within(found, 1.0, 1e15, text, option)


def _bits(found: re.Match[str]) -> float:
    return float(found[1]) * BITS[found[2].lower()] / 8


def duration(text: str, option: str) -> float:
    """Return seconds, of "1ms" or "0.2 s".

    Raises
    ------
    OptionError
        If the text is no time, or the time is longer than a minute.
    """
    try:
        found = float(parse_timedelta(text, default="s"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise OptionError(f"{option} {text!r}: write it like 1ms") from error
    return _within(found, 0.0, 60.0, text, option)


def _within(found: float, least: float, most: float, text: str, option: str) -> float:
    if not (math.isfinite(found) and least <= found <= most):
        raise OptionError(f"{option} {text!r}: use {least:g} to {most:g} in basic units")
    return found
