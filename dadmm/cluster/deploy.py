"""Start the cluster of a profile in bounded time, replace lost workers, and close it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from tempfile import _TemporaryFileWrapper as TemporaryFile
from typing import Any

from dadmm.cluster import profiles
from dadmm.cluster.profiles import Profile, put
from dadmm.cluster.tls import security
from dadmm.errors import OptionError, RunError

# Seconds between two requests for workers that were lost.
REPLACE_EVERY = 5.0

logger = logging.getLogger(__name__)


def start(
    profile: Profile,
    table: Mapping[str, Any],
    tls: bool | str,
    deadline: float,
    limit: float,
    stack: ExitStack,
) -> Any:
    """Start the cluster of a profile, and ask it for workers."""
    make = profile.make()
    options, scale = options_of(profile, table, tls)
    where = f"the cluster of profile {profile.name!r}"
    try:
        cluster = within(lambda: make(**options), deadline)
    except Late as error:
        raise RunError(f"{where} did not start within {limit:g} s") from error
    except TypeError as error:
        raise OptionError(f"{where} does not take these options: {why(error)}") from error
    except Exception as error:
        raise RunError(f"{where} did not start: {why(error)}") from error
    if not hasattr(cluster, "scheduler_address"):
        with suppress(Exception):
            cluster.close()
        raise OptionError(f"profile {profile.name!r}: {profile.cluster['type']} is not a cluster")
    stack.callback(close, cluster)
    try:
        within(lambda: _scaled(cluster, scale), deadline)
    except Late as error:
        raise RunError(f"{where} did not start its workers within {limit:g} s") from error
    except Exception as error:
        raise RunError(f"{where} did not start its workers: {why(error)}") from error
    if profile.replace and scale:
        stack.enter_context(_replacing(cluster, scale))
    return cluster


def options_of(
    profile: Profile, table: Mapping[str, Any], tls: bool | str
) -> tuple[dict[str, Any], int | None]:
    """Return the options of a profile's class, and how many workers to scale to.

    The second is None if an option sets the workers, or nobody asks for a number.
    """
    where, options = f"profile {profile.name!r}", profile.options()
    count = table.get("workers") or profile.workers
    scale = None if not count or profile.put(options, "workers", count) else count
    memory = table.get("memory_limit")
    if memory is not None and not profile.put(options, "memory_limit", memory):
        raise _no_place(profile, "memory_limit")
    for limit in profile.get(options, "memory_limit"):
        if limit != "auto":
            profiles.check_memory(limit, where)
    port = table.get("dashboard")
    if port is not None and isinstance(place := profile.places.get("dashboard"), str):
        # A scheduler always opens this port; without an address it takes one that may be in use.
        put(options, f"{place}.dashboard_address", f"127.0.0.1:{max(port, 0)}")
        put(options, f"{place}.dashboard", port >= 0)
    places = ["tls", "certificates"] if isinstance(tls, str) else ["tls"]
    if tls and not any(profile.put(options, place, security(tls)) for place in places):
        raise _no_place(profile, f"tls={tls!r}")
    return options, scale


def _no_place(profile: Profile, what: str) -> OptionError:
    return OptionError(
        f"profile {profile.name!r} has no place for {what}: name the option of the class in its "
        "places, or set it in its cluster"
    )


def _scaled(cluster: Any, workers: int | None) -> None:
    """Ask for workers; raise the error of a queue that refuses their jobs."""
    from distributed import SpecCluster, Status

    async def scale() -> None:
        cluster.scale(workers)
        try:
            await cluster
        except Exception:
            # A cluster does not close while it has workers that it believes to be alive.
            for each in getattr(cluster, "_created", ()):
                if each.status == Status.created:
                    each.status = Status.failed
            raise

    if workers and isinstance(cluster, SpecCluster):
        with _unlogged("tornado.application"):  # the error is raised as well
            cluster.sync(scale)
    elif workers:
        cluster.scale(workers)


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Silence a logger."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def _replacing(cluster: Any, workers: int) -> Iterator[None]:
    """Ask for so many workers again and again: a cluster that lost some starts new ones."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(REPLACE_EVERY):
            with suppress(Exception):  # it is tried again; the driver notices if no worker is left
                cluster.scale(workers)

    asking = threading.Thread(target=ask, name="dadmm-replace-workers", daemon=True)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


class Late(Exception):  # noqa: N818
    """A cluster or its workers did not start in time."""


def within(make: Callable[[], Any], deadline: float) -> Any:
    """Return the result of `make`, or raise `Late` after the deadline.

    A cluster that starts later is closed.  Deployment packages have other time-outs, or none.
    """
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(make())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="dadmm-start-cluster", daemon=True).start()
    try:
        return done.result(max(deadline - time.monotonic(), 0.0))
    except BaseException as error:
        if done.done():
            raise
        done.add_done_callback(_close_late)  # also after Ctrl-C
        if isinstance(error, TimeoutError):
            raise Late from error
        raise


def _close_late(done: Future[Any]) -> None:
    if done.exception() is None and done.result() is not None:
        close(done.result())


def close(what: Any) -> None:
    """Close a client or a cluster; log an error, so that it hides no other."""
    for value in list(getattr(what, "__dict__", {}).values()):
        if isinstance(value, TemporaryFile):  # TLS keys, which dask_jobqueue does not delete
            value.close()
    try:
        if hasattr(what, "__exit__"):
            what.__exit__(None, None, None)
        else:
            what.close()
    except Exception:
        logger.warning("%s could not be closed", type(what).__name__, exc_info=True)


def why(error: BaseException) -> str:
    """Return the first line of an error, and that of its root cause."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    lines = [_first_line(each) for each in (error, root)]
    return lines[1] if lines[1] in lines[0] else ": ".join(lines)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error, or of what a program of the queue wrote to stderr."""
    text = str(error).rpartition("stderr:\n")[2].strip()
    return text.partition("\n")[0].strip() or type(error).__name__
