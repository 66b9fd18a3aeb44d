"""Settings of a worker, and the memory that it takes before its first task."""

from __future__ import annotations

import signal
from typing import Any

MIB = 2**20
# Pages of shared libraries that count as a worker's.  Their number does not follow from its tasks:
# the system maps a file in larger pieces if it was written recently.  Measured: 123 MiB; 146 with
# pyarrow, which pandas imports if it is installed; 230 in a fresh environment.
LIBRARIES = 240 * MIB
# Python, NumPy, numba, zarr and distributed take up to 185 MiB besides the libraries, measured in a
# worker that has run tasks.  (The first compilation on a machine takes up to 65 MiB more, once.)
BASE_BYTES = 190 * MIB + LIBRARIES
# With the nanny's defaults glibc maps every large temporary array anew (measured: half the speed).
# State is on disk already, so spilling would only write it twice.
WORKER_SETTINGS: dict[str, Any] = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 268435456,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 67108864,
    # One thread per task, before any library starts more.
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.OPENBLAS_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.MKL_NUM_THREADS": 1,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
}


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C: a terminal sends it to workers too, but only the driver should react.

    Dask calls this when a worker of a local cluster starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
