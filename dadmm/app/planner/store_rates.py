"""Measure how fast this process writes, reads and deletes chunks of a store."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from dadmm.app.planner.timing import Effort, meet, timed_once
from dadmm.store.arrays import ZarrBlocks


def store_rates(folder: str, durable: bool, effort: Effort) -> dict[str, float]:
    """Return bytes per second of "read", "write", "cold", "drain" (onto the disk) and "delete".

    Three entries are seconds of a small chunk: "file" if it is cached, "seek" if not, "unlink" to
    delete it.  Chunks are written as workers do: whole, with checksums, and synced at the end.
    """
    blocks = ZarrBlocks(folder, durable=durable)
    blocks.files.save("zarr.json", b"{}", new=True)
    if durable:
        blocks.sync_late()
    block = np.random.default_rng(os.getpid()).random((effort.chunk // 4096, 1024), np.float32)
    count, size = effort.chunks, block.nbytes
    clock = time.perf_counter if durable else time.thread_time
    written: list[float] = []
    deleted: list[float] = []
    drained = 0.0
    for generation in range(effort.generations):
        group = f"state/{generation}"
        blocks.create(f"{group}/v", (len(block) * count, 1024), len(block), "<f4", ("a", "b"))
        meet()
        last = generation == effort.generations - 1
        began = time.perf_counter()
        for chunk in range(count):
            taken = timed_once(partial(blocks.write, f"{group}/v", chunk, block), clock)
            if not last:  # the system writes to the disk between visits
                time.sleep(effort.pause)
                written += [taken] if generation > 1 else []
        blocks.settle(group)
        drained = time.perf_counter() - began
        # A disk may be several times as fast where files were deleted, as they are in a run.
        if generation > 1:
            deleted.append(timed_once(partial(blocks.delete, f"state/{generation - 2}")))
    kept = f"state/{effort.generations - 1}/v"
    few = f"state/{effort.generations - 1}/few"
    blocks.create(few, (count, 1), 1, "<f4", ("a", "b"))
    busy = time.thread_time
    read = [timed_once(partial(blocks.read, kept, c), busy) for c in range(count)]
    small = np.zeros((1, 1), np.float32)
    files = [timed_once(partial(blocks.write, few, c, small)) for c in range(count)]
    files += [timed_once(partial(blocks.read, few, chunk)) for chunk in range(count)]
    _forget(Path(folder))
    meet()
    cold = [timed_once(partial(blocks.read, kept, chunk)) for chunk in range(count)]
    seeks = [timed_once(partial(blocks.read, few, chunk)) for chunk in range(count)]
    unlinked = timed_once(partial(blocks.delete, few))
    blocks.delete("state")
    return {
        "read": size / median(read),
        "write": size / median(written),
        "cold": size / median(cold),
        "drain": count * size / drained,
        "delete": count * size / median(deleted),
        "file": median(files),
        "seek": median(seeks),
        "unlink": unlinked / count,
    }


def _forget(folder: Path) -> None:
    """Ask the system, if it can be asked, to drop a folder's files from its cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
