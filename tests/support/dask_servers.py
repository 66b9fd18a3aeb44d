"""A Dask scheduler and workers of one's own, started by Dask's command line."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from support.places import ROOT
from support.servers import process, until


def dask(*words):
    """Return the command line of `dask ...` in this environment."""
    return [sys.executable, "-m", "dask", *words]


def make_certificates(folder):
    script = ROOT / "cluster" / "make_certificates.py"
    subprocess.run([sys.executable, script, folder, "--days", "1"], check=True, timeout=60)
    return str(folder)


@contextmanager
def dask_processes(folder, tls=None, workers=2):
    """Run `dask scheduler` and `dask worker`; give the scheduler file."""
    place = Path(folder) / "scheduler.json"
    local = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    if tls is not None:
        local += ["--tls-ca-file", f"{tls}/ca.pem", "--tls-cert", f"{tls}/cert.pem"]
        local += ["--tls-key", f"{tls}/key.pem", "--protocol", "tls"]
    logs = [Path(folder) / "scheduler.log", Path(folder) / "worker.log"]
    scheduler = dask("scheduler", "--port", "0", *local, "--scheduler-file", str(place))
    worker = dask("worker", *local, "--scheduler-file", str(place), "--nworkers", str(workers))
    worker += ["--nthreads", "1", "--memory-limit", "1GiB", "--death-timeout", "30"]
    with process(*scheduler, log=logs[0]) as first, process(*worker, log=logs[1]):
        until(place.exists, "the scheduler file is there", logs[0], started=first)
        yield place
