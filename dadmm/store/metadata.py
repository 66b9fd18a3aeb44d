"""Metadata of zarr v3 groups and arrays, with a checksum among their attributes.

zarr does not write it, for two reasons.  Every iteration begins a generation, so speed counts.
And metadata must be exactly as this version writes it, before anything is allocated or decoded.
Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import google_crc32c
import numpy as np

CHECKSUM = "crc32c"
CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]
KINDS = "buif"


@dataclass(frozen=True)
class ArraySpec:
    """The shape, chunks and dtype of an array.

    Parameters
    ----------
    shape, chunks : tuple of int
        Shapes of the array and of each chunk; only the first axis is cut.
    dtype : str
        Little-endian.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str

    @property
    def count(self) -> int:
        """Return the number of chunks."""
        if 0 in self.shape:
            return 0
        return -(-self.shape[0] // self.chunks[0]) if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Return the bytes of a whole chunk, with padding, without the checksum."""
        return prod(self.chunks) * np.dtype(self.dtype).itemsize

    def file(self, chunk: int) -> str:
        """Return the name of a chunk's file."""
        return ".".join(
            ["c", *([str(chunk)] if self.shape else []), *["0"] * (len(self.shape) - 1)]
        )


def record(content: Mapping[str, Any]) -> bytes:
    """Return a record as JSON with a checksum."""
    return json.dumps({**content, CHECKSUM: _sum(content)}, indent=1).encode()


def parse_record(text: bytes) -> dict[str, Any]:
    """Return the content of a record; raise `ValueError` if it is damaged."""
    found = _json(text)
    if found.pop(CHECKSUM, None) != _sum(found):
        raise ValueError("its checksum does not match")
    return found


def group_document(attributes: Mapping[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    return _document({"zarr_format": 3, "node_type": "group"}, attributes or {})


@lru_cache(maxsize=1024)
def array_document(
    shape: tuple[int, ...], rows: int, dtype: str, dims: tuple[str, ...] | None
) -> bytes:
    """Return the ``zarr.json`` of an array that is cut into chunks of `rows` rows."""
    kind = np.dtype(dtype)
    content: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": kind.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": (rows, *(max(1, n) for n in shape[1:]))[: len(shape)]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": {"f": "NaN", "b": False}.get(kind.kind, 0),
        "codecs": CODECS,
        "storage_transformers": [],
    }
    if dims is not None:
        content["dimension_names"] = dims
    return _document(content, {})


def parse_group(text: bytes) -> dict[str, Any]:
    """Return the attributes of a group; raise `ValueError` if its metadata is damaged."""
    found = _parse(text)
    if found.get("node_type") != "group":
        raise ValueError("it is not a group")
    return found["attributes"]


def is_array(text: bytes) -> bool:
    """Whether metadata claims to be an array's."""
    return _json(text).get("node_type") == "array"


def unchecked(text: bytes) -> dict[str, Any]:
    """Return the attributes in metadata that anybody may have written; empty if there are none."""
    attributes = _json(text).get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def parse_array(text: bytes) -> ArraySpec:
    """Return the description of an array; raise `ValueError` if its metadata is damaged.

    Only metadata that `array_document` writes is accepted, although zarr could read more.
    """
    found = _parse(text)
    try:
        shape = tuple(found["shape"])
        dtype = np.dtype(found["data_type"])
        chunks = tuple(found["chunk_grid"]["configuration"]["chunk_shape"])
        dims = found.get("dimension_names")
        rows = chunks[0] if chunks else 1
        # Checked first: `array_document` remembers, and to it 1, 1.0 and true are the same.
        whole = all(type(n) is int and n >= 0 for n in (*shape, *chunks)) and rows > 0
        if not whole or dtype.kind not in KINDS:
            raise ValueError("its numbers are wrong")
        same = array_document(shape, rows, dtype.str, None if dims is None else tuple(dims))
    except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"it does not describe an array of a run ({error})") from error
    if found != _parse(same):
        raise ValueError("it does not describe an array of a run")
    return ArraySpec(shape, chunks, dtype.newbyteorder("<").str)


def _document(content: Mapping[str, Any], attributes: Mapping[str, Any]) -> bytes:
    whole = {**content, "attributes": dict(attributes)}
    whole["attributes"][CHECKSUM] = _sum(whole)
    return json.dumps(whole, indent=1).encode()


def _parse(text: bytes) -> dict[str, Any]:
    found = _json(text)
    attributes = found.get("attributes")
    if not isinstance(attributes, dict):
        raise ValueError("it has no attributes")
    expected = attributes.pop(CHECKSUM, None)
    if expected != _sum(found):
        raise ValueError("its checksum does not match")
    return found


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _sum(content: Mapping[str, Any]) -> int:
    """Return the CRC-32C of a JSON object, which does not depend on order and spacing."""
    return google_crc32c.value(json.dumps(content, sort_keys=True).encode())
