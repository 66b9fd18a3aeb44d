"""Clusters of worker processes on this machine."""

from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def processes(workers, **options):
    """Two things differ from the defaults: nothing listens off loopback, and no dashboard."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            **options,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client
