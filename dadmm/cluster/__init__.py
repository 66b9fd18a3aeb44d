"""Where a run computes: connect to a cluster or start one; TLS; profiles.

As a worker's preload, this package prepares the worker (`dask_setup`).
"""

from dadmm.cluster.connection import connect
from dadmm.cluster.worker import WORKER_SETTINGS, dask_setup

__all__ = ["WORKER_SETTINGS", "connect", "dask_setup"]
