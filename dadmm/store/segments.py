"""Segments of rows, one after another in a file, each followed by its CRC-32C."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import google_crc32c
import numpy as np

from dadmm.errors import DamageError, StoreError
from dadmm.numerics.types import Array
from dadmm.store.arrays import ZarrBlocks

CHECKSUM = 4


def write_segments(blocks: ZarrBlocks, name: str, segments: Sequence[Array]) -> None:
    """Write a file of segments whole; it need not outlive a loss of power."""
    parts: list[Any] = []
    for segment in segments:
        raw = np.ascontiguousarray(segment).reshape(-1).view(np.uint8)
        parts += [raw, google_crc32c.value(raw).to_bytes(CHECKSUM, "little")]
    blocks.files.save(name, *parts, sync=False)


def read_segment(blocks: ZarrBlocks, name: str, rows: int, segments: int, out: Array) -> None:
    """Read a segment into `out`.

    Parameters
    ----------
    rows, segments : int
        How many lie before it in the file.
    out : array
        Its rows, contiguous in memory.

    Raises
    ------
    DamageError
        If the file is missing, too short, or its checksum does not match.
    """
    first = rows * prod(out.shape[1:]) * out.dtype.itemsize + segments * CHECKSUM
    raw = out.reshape(-1).view(np.uint8)
    try:
        found = blocks.files.part(name, first, raw, CHECKSUM)
    except FileNotFoundError as error:
        raise DamageError(blocks.url, name, None, "is missing") from error
    except StoreError as error:
        raise DamageError(blocks.url, name, None, f"is damaged ({error})") from error
    if google_crc32c.value(raw) != int.from_bytes(found, "little"):
        raise DamageError(blocks.url, name, None, "is damaged (its checksum does not match)")
