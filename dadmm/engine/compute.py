"""Compute a graph, and say in one line what stopped it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import dask
from dask.base import get_scheduler

from dadmm.cluster import slot
from dadmm.engine.tasks import task_of
from dadmm.errors import DadmmError, RunError

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
KEPT = "what is committed is kept: resume the run"
# Seconds between checks that the cluster still has workers.
LOOK_EVERY = 10.0
# Seconds to wait for answers that a run can do without.
ANSWER_WITHIN = 2.0


def compute(task: Any, cure: str = KEPT) -> Any:
    """Compute a graph as Dask's own rule says: on the current client, or else on threads.

    In a task of a cluster it is computed in the slot of that task.

    A task that raises is tried again on a cluster, and one whose worker dies goes to another,
    as often as Dask's setting ``distributed.scheduler.allowed-failures`` says.

    Parameters
    ----------
    cure : str
        What to do if the cluster is lost, for the error.

    Raises
    ------
    DadmmError, OSError
        As a task raised them.
    RunError
        For any other error: one line that names it, with the original as its cause.  A cluster
        whose workers are all gone or paused is such an error, after Dask's setting
        ``dadmm.no-workers-timeout`` (by default "10 minutes").
    """
    from distributed import Client, KilledWorker  # slow to import
    from distributed.comm.core import CommClosedError

    client = None if slot.in_task() else getattr(get_scheduler(), "__self__", None)
    with store_errors():
        try:
            if isinstance(client, Client):
                return _watched(client, task, cure)
            return slot.compute(task)[0]
        except (CancelledError, CommClosedError) as error:  # the latter is an OSError, too
            raise RunError(
                f"the scheduler is gone, or gave up its tasks; {cure} on another cluster"
            ) from error
        except (DadmmError, OSError):
            raise
        except KilledWorker as error:
            what = task_of(str(error.task)) or f"task {error.task}"
            raise RunError(
                f"{what}: {error.allowed_failures + 1} workers died while they worked on it, the "
                f"last at {error.last_worker.address}; if they ran out of memory, give smaller "
                f"chunks or more memory; {cure}"
            ) from error
        except Exception as error:
            what = f"{type(error).__name__}: {_line(error)}"
            raise RunError(f"a task failed for good: {what}") from error


def _watched(client: Client, task: Any, cure: str) -> Any:
    """Compute on a cluster, as long as it has workers."""
    from distributed import TimeoutError as NotYet

    future = client.compute(task, retries=RETRIES)
    patience = dask.utils.parse_timedelta(dask.config.get("dadmm.no-workers-timeout", "10 minutes"))
    seen = time.monotonic()
    try:
        while True:
            try:
                return future.result(timeout=min(LOOK_EVERY, patience))
            except NotYet:
                if future.done():  # it was the task that timed out
                    return future.result()
            states = [w["status"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]
            if any(state != "paused" for state in states):
                seen = time.monotonic()
            elif time.monotonic() - seen >= patience:
                what = (
                    "paused all its workers, whose memory is full," if states else "had no workers"
                )
                raise RunError(
                    f"the cluster has {what} for {patience:.0f} s; {cure}"
                    + (" with more memory" if states else "")
                )
    finally:
        future.release()


def everywhere(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Call a function in each process that computes; return the answers.

    Processes that do not answer within `ANSWER_WITHIN` seconds are left out.
    """
    from distributed import Client

    client = None if slot.in_task() else getattr(get_scheduler(), "__self__", None)
    if not isinstance(client, Client):
        return [function(*args)]

    async def ask(worker: str) -> list[Any]:
        # One call for each worker: a stuck one must not hold up the answers of the others.
        answer = client.run(function, *args, workers=[worker], on_error="ignore")
        with suppress(Exception):
            return list((await asyncio.wait_for(answer, ANSWER_WITHIN)).values())
        return []

    async def ask_all(workers: Iterable[str]) -> list[list[Any]]:
        return await asyncio.gather(*map(ask, workers))

    try:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        return [value for found in client.sync(ask_all, workers) for value in found]
    except Exception:
        return []  # the next graph reports what happened to the cluster


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn an error of the file system, such as a full disk, into a `RunError` of one line."""
    try:
        yield
    except OSError as error:
        what = f"the run store could not be read or written: {_line(error)}"
        raise RunError(what) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
