"""Schedulers that are there already, that never come, and that anybody reaches."""

import time

import dask
import psutil
import pytest
from distributed import Client, LocalCluster, default_client

from dadmm.cluster import connection
from dadmm.errors import InputError, RunError, SecurityWarning
from support.clusters import no_client, worker_pids
from support.messages import naming
from support.servers import free_ports

pytestmark = pytest.mark.processes


# ---------------------------------------------------------------------- local, and who comes first


@pytest.fixture(scope="module")
def other():
    """Give the address of somebody else's scheduler."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as made:
        yield made.scheduler_address


def test_what_is_there_comes_before_what_would_be_started(other, tmp_path):
    """The current client; then an address, given or in Dask's settings; then a profile."""
    with Client(other) as mine:
        with connection.connect("local", workers=2) as client:
            assert client is mine
        assert default_client() is mine  # what was there before stays open
        assert mine.submit(abs, -1).result() == 1
    for table, setting in (
        ({"scheduler": other, "profile": "local"}, None),
        ({"profile": "local", "workers": 2}, other),
        ({}, other),
    ):
        with (
            dask.config.set({"scheduler-address": setting}),
            connection.connect(table) as client,
        ):
            assert client.scheduler.address == other
        no_client()
    with connection.connect("threads") as client:
        assert client is None


def test_what_was_opened_is_closed_when_the_block_fails(tmp_path):
    pids = []

    def fail():
        with connection.connect({"workers": 1}) as client:
            pids.extend(worker_pids(client))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])
    no_client()


# ------------------------------------------------------------------------------ what does not come


def test_a_scheduler_that_is_not_there_is_told_in_time(tmp_path):
    (port,) = free_ports(1)
    started = time.monotonic()
    with (
        pytest.raises(RunError, match=naming(f"tcp://127.0.0.1:{port}", "1 s")),
        connection.connect(f"tcp://127.0.0.1:{port}", timeout=1),
    ):
        pass
    with (
        pytest.raises(RunError, match=naming(f"{tmp_path}/scheduler.json", "0.5 s")),
        connection.connect(tmp_path / "scheduler.json", timeout="500 ms"),
    ):
        pass
    (tmp_path / "scheduler.json").write_text("{}")
    with (
        pytest.raises(InputError, match=naming(f"{tmp_path}/scheduler.json", "address")),
        connection.connect(tmp_path / "scheduler.json", timeout=1),
    ):
        pass
    assert time.monotonic() - started < 20


def test_a_cluster_that_takes_too_long_is_given_up_and_closed_when_it_comes(tmp_path):
    """A class of the user's that starts, but only after the time-out."""
    (tmp_path / "slow_deployment.py").write_text(
        """
import threading
closed, go = threading.Event(), threading.Event()

class Cluster:
    scheduler_address = "tcp://127.0.0.1:1"

    def __init__(self):
        go.wait(60)

    def close(self):
        closed.set()
"""
    )
    (tmp_path / "mine.yaml").write_text("cluster: {type: slow_deployment.Cluster}\ntimeout: 100 ms")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with (
            pytest.raises(RunError, match=naming("mine.yaml", "0.1 s")),
            connection.connect(tmp_path / "mine.yaml"),
        ):
            pass
        import slow_deployment

        assert not slow_deployment.closed.is_set()
        slow_deployment.go.set()
        assert slow_deployment.closed.wait(30)


def test_a_scheduler_without_workers_is_told_in_time(tmp_path):
    with (
        empty_scheduler() as address,
        pytest.raises(RunError, match=naming(address, "worker", "1 s")),
        connection.connect(address, timeout=1),
    ):
        pass
    no_client()


def empty_scheduler(**options):
    made = LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False, **options},
    )

    class Address:
        def __enter__(self):
            return made.scheduler_address

        def __exit__(self, *error):
            made.close()

    return Address()


def test_workers_with_too_little_memory_are_told(tmp_path):
    made = LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tcp",
        memory_limit="100MiB",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    )
    with (
        made,
        pytest.raises(RunError, match=naming("100.00 MiB")),
        connection.connect(made.scheduler_address),
    ):
        pass


def test_a_scheduler_that_anybody_reaches_is_warned_of(tls):
    def connect(**options):
        made = LocalCluster(
            n_workers=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            **{"protocol": "tcp", "scheduler_kwargs": {"dashboard": False}, **options},
        )
        with made, connection.connect(made.scheduler_address, tls=options.get("security") and tls):
            pass

    with pytest.warns(SecurityWarning, match=r"tcp://0\.0\.0\.0:\d+.*TLS"):
        connect(host="0.0.0.0")
    connect(host="127.0.0.1")  # warnings are errors here
