"""Clusters of worker processes on this machine, and what is left of them."""

import os
from contextlib import contextmanager

import psutil
import pytest
import yaml
from distributed import Client, LocalCluster, default_client


@contextmanager
def processes(workers, current=True, **options):
    """Start workers. Nothing listens off loopback, and there is no dashboard, unlike by default.

    Parameters
    ----------
    current : bool
        Whether the client is the one that others find.
    """
    given = {
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "scheduler_kwargs": {"dashboard": False},
        **options,
    }
    with (
        LocalCluster(n_workers=workers, **given) as cluster,
        Client(cluster, set_as_default=current) as client,
    ):
        client.wait_for_workers(workers)
        yield client


def no_client():
    with pytest.raises(ValueError, match="No client"):
        default_client()


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def worker_pids(client):
    return list(client.run(os.getpid).values())


def listening(pids):
    """Return the addresses at which processes listen."""
    found = set()
    for pid in pids:
        connections = psutil.Process(pid).net_connections("inet")
        found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def profile(folder, content):
    """Write a profile's file; return its path."""
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
