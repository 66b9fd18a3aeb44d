"""What a worker is: its settings, and the memory that it takes before it does anything."""

from __future__ import annotations

import signal
from typing import Any

MIB = 2**20
# Pages of shared libraries that count as a worker's.  How many does not depend on what it does: the
# system maps a file in larger pieces if it was written recently.  Measured: 123 MiB, 146 with
# pyarrow, which pandas imports where it is there, and 230 in an environment just installed.
LIBRARIES = 240 * MIB
# Python, NumPy, numba, zarr and distributed themselves.  Beside the libraries they take up to 185
# MiB, measured in a worker that has run.  (Compiling for the first time on a machine takes up to 65
# MiB more, once.)
BASE_BYTES = 190 * MIB + LIBRARIES
# The nanny's defaults make glibc map and fault every large temporary anew (measured: half the
# speed); state is on disk already, so spilling would only write it twice.
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
    """Leave Ctrl-C, which a terminal sends to the workers too, to the process that started them.

    Dask calls this as a local cluster's worker starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
