"""Where a run computes: the current client, threads, or worker processes on this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
from dask.system import CPU_COUNT

from dadmm.errors import RunError
from dadmm.watch.dashboard import open_page

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


@contextmanager
def connect(table: Mapping[str, Any]) -> Iterator[str | None]:
    """Make the cluster that a config's [cluster] table asks for, and close it afterwards.

    Parameters
    ----------
    table : dict
        `workers` (0: threads), `memory_limit` per worker, `dashboard` (a port on loopback, 0 for
        any free one, -1 for none).

    Yields
    ------
    str or None
        The address of dadmm's page on the dashboard, if there is one.
    """
    workers = int(table.get("workers", 0))
    if workers == 0:
        with dask.config.set(scheduler="threads"):
            yield None
        return
    from distributed import Client, LocalCluster

    port = int(table.get("dashboard", 0))
    with dask.config.set(WORKER_SETTINGS):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=table.get("memory_limit", "auto"),
                host="127.0.0.1",
                # A scheduler listens in any case; without an address, on a port that may be taken.
                dashboard_address=f"127.0.0.1:{max(port, 0)}",
                scheduler_kwargs={"dashboard": port >= 0},
                preload=[__name__],
            )
        except (OSError, RuntimeError) as error:
            why = str(error).partition("\n")[0]
            raise RunError(f"the {workers} worker processes did not start: {why}") from error
        with cluster, Client(cluster) as client:
            yield open_page(client) if port >= 0 else None


def current_client() -> Any:
    """Return the current distributed client, or None."""
    if dask.config.get("scheduler", None) in ("threads", "sync", "synchronous", "threading"):
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def resources(client: Any, memory_limit: int | str | None) -> tuple[int | str | None, int]:
    """Return the memory of a worker, None if not limited, and how many tasks it does at once.

    Parameters
    ----------
    client : distributed.Client or None
        None for this process, under Dask's other schedulers.
    memory_limit : int, str or None
        What was asked for; None takes that of the worker with the least for each of its threads.
    """
    if client is None:
        if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
            return memory_limit, 1
        return memory_limit, int(dask.config.get("num_workers", None) or CPU_COUNT)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if memory_limit is not None:
        return memory_limit, max((worker["nthreads"] for worker in workers), default=1)
    limited = [worker for worker in workers if worker["memory_limit"]]  # 0 or None: not limited
    if not limited:
        return None, 1
    least = min(limited, key=lambda worker: worker["memory_limit"] / worker["nthreads"])
    return int(least["memory_limit"]), int(least["nthreads"])


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C, which a terminal sends to the workers too, to the process that started them.

    Dask calls this as a local cluster's worker starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
