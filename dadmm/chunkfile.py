"""A chunk of a zarr v3 array on a local disk, without the detour.

With the codecs that the run store uses (`bytes`, little-endian, then `crc32c`) a chunk's file is
the C-ordered block followed by four bytes of CRC-32C.  zarr reads and writes the same files; its
asynchronous machinery costs 0.5 to 1.5 ms a chunk and two more copies, which was a third of an
iteration at width 256.  Reading here lands in memory that the calling thread uses again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from dadmm.errors import StoreError
from dadmm.workspace import Workspace

Array = NDArray[Any]

_work = Workspace()


def read_chunk(path: Path, shape: tuple[int, ...], dtype: Any, key: str | None = None) -> Array:
    """Return a whole chunk, padding of the last one included.

    Parameters
    ----------
    path : Path
        The chunk's file.
    shape : tuple of int
        Of a whole chunk.
    key : str or None
        Read into this thread's buffer of that name, valid until it is read into again; None
        allocates.

    Raises
    ------
    FileNotFoundError
        If there is no such chunk.
    StoreError
        If the file is shorter or longer than the chunk, or its checksum does not match.
    """
    dtype = np.dtype(dtype)
    out = np.empty(shape, dtype) if key is None else _work.take(key, shape, dtype)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != out.nbytes + 4:
            raise StoreError(f"it has {size} bytes, not {out.nbytes + 4}")
        raw = out.reshape(-1).view(np.uint8)
        done = 0
        while done < len(raw):
            got = file.readinto(raw[done:].data)
            if not got:
                raise StoreError(f"it ends after {done} bytes")
            done += got
        found = int.from_bytes(file.read(4), "little")
    if google_crc32c.value(raw) != found:
        raise StoreError("its checksum does not match")
    return out


def write_chunk(path: Path, block: Array, rows: int, fill: float, durable: bool) -> None:
    """Write a whole chunk: aside, synced if `durable`, then renamed into place.

    A block of fewer than `rows` rows, the array's last, is padded with `fill`, as zarr does.
    """
    block = np.ascontiguousarray(block)
    if block.ndim and len(block) < rows:
        padded = np.full((rows, *block.shape[1:]), fill, block.dtype)
        padded[: len(block)] = block
        block = padded
    raw = block.reshape(-1).view(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    with aside.open("wb", buffering=0) as file:
        done = 0
        while done < len(raw):
            done += file.write(raw[done:].data)
        file.write(google_crc32c.value(raw).to_bytes(4, "little"))
        if durable:
            os.fsync(file.fileno())
    aside.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
