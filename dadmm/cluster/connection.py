"""Connect to the place where a run computes: a client, a scheduler, a cluster, or threads."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import format_bytes

from dadmm.cluster import profiles, slot
from dadmm.cluster.deploy import close, start, why
from dadmm.cluster.profiles import Profile
from dadmm.cluster.tls import AUTHORITY, CERTIFICATE, KEY, client_security
from dadmm.cluster.tls import settings as tls_settings
from dadmm.cluster.worker import BASE_BYTES, WORKER_SETTINGS
from dadmm.errors import InputError, RunError, SecurityWarning, unknown

KEYS = ("profile", "scheduler", "workers", "memory_limit", "dashboard", "tls", "timeout")
EVERYWHERE = ("0.0.0.0", "::", "")
NOT_FOLLOWED = "is not followed, for it could be somebody else's: say --cluster, or give [cluster]"
# Seconds between two checks for a scheduler file, and for trying to reach a lost scheduler again.
LOOK_EVERY, RECONNECT_WITHIN = 0.1, 30.0


@contextmanager
def connect(
    where: str | Path | Mapping[str, Any] | None = None, /, **options: Any
) -> Iterator[Any]:
    """Compute on a cluster, or on threads, while the block runs.

    The first of these that exists:

    1. the current `distributed.Client`;
    2. the address of a scheduler, or a scheduler file: `where`, `scheduler`, or Dask's setting
       ``scheduler-address`` (``DASK_SCHEDULER_ADDRESS``);
    3. the profile that `where` or `profile` names;
    4. `workers` processes on this machine, which is the profile "local";
    5. threads.

    At the end of the block, clients and clusters that were opened here are closed; others stay.

    Parameters
    ----------
    where : str, path, dict or None
        An address such as ``tls://head:8786``, a scheduler file (.json), a profile's name or file
        (.yaml), or a config's [cluster] table, of the options below.
    **options : object
        `profile` and `scheduler`, as `where`; `workers`, how many are started (0: as many as the
        profile says); `memory_limit` of each; `dashboard`, a port on loopback, 0 for any free
        one, -1 for none; `tls`, True or a folder with ``ca.pem``, ``cert.pem`` and ``key.pem``;
        `timeout`, until the first worker must be there, as ``"10 minutes"``.

    Yields
    ------
    distributed.Client or None
        None for threads.

    Raises
    ------
    InputError
        If a profile, class, file or option does not exist or makes no sense, or a package is not
        installed.
    RunError
        If, within `timeout`, a cluster does not start, or a scheduler does not answer, refuses the
        certificate, or has no workers.
    """
    client = current_client()
    if client is not None:
        yield client
        return
    table = _table(where, options)
    address = scheduler_address(table)
    if address is not None:
        profile = Profile(address, address=address)
    elif table.get("profile"):
        profile = profiles.find(table["profile"])
    else:
        profile = profiles.find("local" if table.get("workers") else "threads")
    with ExitStack() as stack:
        if profile.scheduler is not None:
            stack.enter_context(dask.config.set(scheduler=profile.scheduler))
            yield None
        else:
            yield _open(profile, table, stack)


def scheduler_address(table: Mapping[str, Any]) -> str | None:
    """Return the scheduler's address or file in a [cluster] table, else in Dask's setting."""
    found = table.get("scheduler") or dask.config.get("scheduler-address", None)
    return str(found) if found else None


def _table(where: str | Path | Mapping[str, Any] | None, options: Mapping[str, Any]) -> Any:
    """Return the options by name, with `where` as one of them."""
    if isinstance(where, Mapping):
        table = {**where, **options}
    elif where is None:
        table = dict(options)
    else:
        table = {**as_table(str(where)), **options}
    for name in table:
        if name not in KEYS:
            raise unknown("option of a cluster", name, KEYS)
    return table


def as_table(where: str) -> dict[str, Any]:
    """Return the [cluster] table for a scheduler's address or file, or a profile."""
    runs = "://" in where or where.endswith(".json")
    return {"scheduler" if runs else "profile": where}


def of_a_store(table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the safe part of a stored [cluster] table, and the keys that were left out.

    A store may come from somebody else, and the choice of a scheduler, or of the class that starts
    one, decides what runs here.  A profile's name is safe: the user, or dadmm, wrote that profile.
    """
    profile = str(table.get("profile", ""))
    left = [key for key in ("scheduler", "tls") if key in table]
    left += ["profile"] if profiles.is_file(profile) else []
    return {k: v for k, v in table.items() if k in KEYS and k not in left}, left


def _open(profile: Profile, table: Mapping[str, Any], stack: ExitStack) -> Any:
    """Return a client of a cluster that has a worker; the stack closes both."""
    what = f"profile {profile.name!r}" if profile.cluster else profile.address
    timeout = table.get("timeout", profile.timeout)
    limit = profiles.seconds(timeout, str(what))
    deadline = time.monotonic() + limit
    tls = table.get("tls", profile.tls)
    stack.enter_context(dask.config.set(tls_settings(tls)))
    if profile.cluster:
        stack.enter_context(dask.config.set(WORKER_SETTINGS))
        target = start(profile, table, tls, deadline, limit, stack)
    else:
        target = _address(str(profile.address), deadline, limit)
    security = None if profile.cluster else client_security(tls, target)
    while True:
        left = max(deadline - time.monotonic(), 1.0)
        try:
            # The client also tries for this long to reach a scheduler that it has lost.
            client = _client(target, timeout=min(left, RECONNECT_WITHIN), security=security)
            break
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            if time.monotonic() >= deadline or not isinstance(error, OSError):
                raise RunError(_refused(target, error, bool(security or tls), limit)) from error
    stack.callback(close, client)
    _warn_of_open_ports(client, target)
    _wait(client, str(what), deadline, limit)
    return client


def _client(target: Any, **options: Any) -> Any:
    """Return a client; close a client that does not connect, lest it stay the current one."""
    from distributed import Client

    before = _default_client()
    try:
        return Client(target, **options)
    except BaseException:
        left = _default_client()
        if left is not None and left is not before:
            close(left)
        raise


def _wait(client: Any, what: str, deadline: float, limit: float) -> None:
    """Wait for the first worker, and check that workers have the memory that they need."""
    try:
        client.wait_for_workers(1, timeout=max(deadline - time.monotonic(), 1.0))
    except TimeoutError as error:
        raise RunError(
            f"{what}: no worker came within {limit:g} s: see their logs, and whether their jobs "
            "still wait or have ended; timeout sets how long to wait"
        ) from error
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        if worker["memory_limit"] and worker["memory_limit"] < BASE_BYTES:
            raise RunError(
                f"{what}: the worker {address} has {format_bytes(worker['memory_limit'])} of "
                f"memory; Python and its libraries alone need {format_bytes(BASE_BYTES)}"
            )


def _address(place: str, deadline: float, limit: float) -> str:
    """Return an address; read it from a scheduler file once that exists."""
    if "://" in place or not place.endswith(".json"):  # Dask takes host:port without a scheme
        return place
    path = Path(place)
    while True:
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not written yet, or not whole
            found = json.loads(path.read_text())
            if isinstance(found, Mapping) and isinstance(found.get("address"), str):
                return str(found["address"])
            raise InputError(f"{place} is not a scheduler file: it has no address")
        if time.monotonic() >= deadline:
            raise RunError(
                f"no scheduler file appeared at {place} within {limit:g} s: start "
                f"dask scheduler --scheduler-file {place}"
            )
        time.sleep(LOOK_EVERY)


def _refused(target: Any, error: BaseException, encrypted: bool, limit: float) -> str:
    """Return the reason why a scheduler could not be reached."""
    address = target if isinstance(target, str) else target.scheduler_address
    each: BaseException | None = error
    words = ""
    while each is not None:
        words += f"{type(each).__name__} {each} ".lower()
        each = each.__cause__ or each.__context__
    if address.startswith("tls:") and not encrypted:
        return (
            f"the scheduler at {address} wants a certificate: give tls, a folder with {AUTHORITY}, "
            f"{CERTIFICATE} and {KEY}"
        )
    if "ssl" in words or "certificate" in words:
        return f"the scheduler at {address} and the certificates of tls do not agree: {why(error)}"
    hint = "" if address.startswith("tls:") else "; with TLS, its address begins with tls://"
    return f"no scheduler answered at {address} within {limit:g} s: check that it runs{hint}"


def _warn_of_open_ports(client: Any, target: Any) -> None:
    """Warn if a scheduler takes work from anybody who reaches this machine."""
    scheduler = getattr(target, "scheduler", None)
    try:
        if hasattr(scheduler, "listeners"):
            found = listening(scheduler)
        else:
            found = client.run_on_scheduler(listening)
    except Exception:  # the scheduler refuses pickles, or lacks dadmm: nothing is known
        return
    for address in found:
        scheme, _, place = address.partition("://")
        if scheme == "tcp" and place.rpartition(":")[0].strip("[]") in EVERYWHERE:
            warnings.warn(
                f"the scheduler listens on all addresses ({address}) without TLS: anybody who "
                "reaches it can run programs as you; give it --host, or certificates (tls)",
                SecurityWarning,
                stacklevel=5,
            )


def listening(dask_scheduler: Any) -> list[str]:
    """Return the addresses at which a scheduler listens."""
    return [str(listener.listen_address) for listener in dask_scheduler.listeners]


def current_client() -> Any:
    """Return the current distributed client; None on threads, and in a task of a cluster.

    Raises
    ------
    InputError
        If it is asynchronous.
    """
    if slot.in_task():
        return None
    if dask.config.get("scheduler", None) in ("threads", "sync", "synchronous", "threading"):
        return None
    client = _default_client()
    if client is not None and client.asynchronous:
        raise InputError(
            "the current Client is asynchronous, and a fit waits for its results: make a Client "
            "without asynchronous=True, or call fit in asyncio.to_thread"
        )
    return client


def _default_client() -> Any:
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def resources(client: Any, memory_limit: int | str | None) -> tuple[int | str | None, int]:
    """Return the memory of a worker (None: no limit), and how many tasks it runs at once.

    Parameters
    ----------
    client : distributed.Client or None
        None for this process, under Dask's other schedulers, and for a task of a cluster.
    memory_limit : int, str or None
        The limit that the user gave; None takes that of the worker with the least memory a thread.
    """
    if client is None:
        if slot.in_task() or dask.config.get("scheduler", None) in (
            "sync",
            "synchronous",
            "single-threaded",
        ):
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
