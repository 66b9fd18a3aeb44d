"""Read and write chunks of a zarr v3 array without zarr.

With the codecs of the run store (`bytes`, little-endian, then `crc32c`) a chunk's file is the
C-ordered block followed by four bytes of CRC-32C.  zarr reads and writes the same files, but its
asynchronous machinery costs 0.5 to 1.5 ms a chunk and two more copies: a third of an iteration at
width 256.  `read_chunk` reuses the calling thread's memory.
"""

from __future__ import annotations

from functools import partial

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from dadmm.errors import StoreError
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import lasting
from dadmm.store.files import Files
from dadmm.store.metadata import ArraySpec

_work = lasting()


def read_chunk(files: Files, name: str, spec: ArraySpec, key: str | None = None) -> Array:
    """Return a whole chunk, with its padding if it is the last one.

    Parameters
    ----------
    name : str
        The chunk's file.
    key : str or None
        Read into this thread's buffer of that name, which the next read overwrites; None
        allocates.

    Raises
    ------
    FileNotFoundError
        If the chunk does not exist.
    StoreError
        If the file is shorter or longer than the chunk, or its checksum does not match.
    """
    out: list[Array] = []

    def allocate() -> NDArray[np.uint8]:
        take = np.empty if key is None else partial(_work.take, key)
        out.append(take(spec.chunks, spec.dtype))
        return out[0].reshape(-1).view(np.uint8)

    try:
        left = files.load(name, spec.nbytes + 4, allocate)
    except MemoryError as error:
        raise StoreError(f"it does not fit into memory: {spec.nbytes} bytes") from error
    if google_crc32c.value(out[0].reshape(-1).view(np.uint8)) != int.from_bytes(left, "little"):
        raise StoreError("its checksum does not match")
    return out[0]


def write_chunk(files: Files, name: str, block: Array, spec: ArraySpec) -> None:
    """Write a whole chunk aside, sync it where files are durable, and rename it into place.

    The array's last block may have fewer rows than a chunk; it is padded as zarr would pad it.
    """
    block = np.ascontiguousarray(block, spec.dtype)
    if spec.chunks and len(block) < spec.chunks[0]:
        fill = np.nan if block.dtype.kind == "f" else 0
        padded = np.full(spec.chunks, fill, block.dtype)
        padded[: len(block)] = block
        block = padded
    raw = block.reshape(-1).view(np.uint8)
    files.save(name, raw.data, google_crc32c.value(raw).to_bytes(4, "little"))
