"""A config's cluster is made and closed again; self-started workers are set up alike."""

import signal

import dask
import pytest
import yaml
from distributed import default_client

from dadmm.cluster import connection, deploy
from dadmm.cluster.profiles import find
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.live.dashboard import open_page
from dadmm.errors import RunError
from support.places import ROOT


def flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {k: v for name, sub in tree.items() for k, v in flat(sub, f"{prefix}{name}.").items()}


def test_the_file_for_self_started_workers_holds_the_local_clusters_settings():
    path = ROOT / "cluster" / "worker.yaml"
    assert flat(yaml.safe_load(path.read_text())) == WORKER_SETTINGS


def test_no_workers_are_threads():
    with connection.connect({}) as client:
        assert client is None
        assert dask.config.get("scheduler") == "threads"
    assert dask.config.get("scheduler", None) is None


def setting():
    return signal.getsignal(signal.SIGINT), dask.config.get("distributed.worker.memory.spill")


@pytest.mark.processes
def test_workers_run_on_loopback_and_leave_ctrl_c_alone():
    with connection.connect({"workers": 1, "memory_limit": "1GiB", "dashboard": -1}) as client:
        assert client is default_client()
        assert open_page(client) is None
        workers = client.scheduler_info()["workers"]
        assert all(address.startswith("tcp://127.0.0.1:") for address in workers)
        (worker,) = workers.values()
        assert worker["memory_limit"] == 2**30
        assert worker["nthreads"] == 1
        assert client.submit(setting).result() == (signal.SIG_IGN, False)
    with pytest.raises(ValueError, match="No client"):
        default_client()


@pytest.mark.parametrize("port", [0, -1, 12345])
def test_the_dashboard_stays_on_loopback(port):
    options, _ = deploy.options_of(find("local"), {"workers": 3, "dashboard": port}, False)
    assert options["n_workers"] == 3
    assert options["scheduler_kwargs"] == {
        "dashboard_address": f"127.0.0.1:{max(port, 0)}",
        "dashboard": port >= 0,
    }


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_workers_that_do_not_start_are_a_failed_run(monkeypatch, error):
    def fail(**options):
        raise error("no ports left\nand a hint")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    with (
        pytest.raises(RunError, match=r"'local'.*\bno ports left$"),
        connection.connect({"workers": 2}),
    ):
        pass


def test_of_a_store_only_what_is_harmless_is_followed():
    """Whoever made it must not choose what runs here."""
    place = {"workers": 2, "memory_limit": "2GiB", "profile": "slurm"}
    assert connection.of_a_store(place) == (place, [])
    bad = {"scheduler": "tcp://10.0.0.1:8786", "tls": "certificates", "profile": "run/x.yaml"}
    assert connection.of_a_store({**place, **bad}) == (
        {"workers": 2, "memory_limit": "2GiB"},
        ["scheduler", "tls", "profile"],
    )


class Workers:
    """A client whose workers have these (memory limit, threads)."""

    def __init__(self, *workers):
        self.workers = workers

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        found = [{"memory_limit": limit, "nthreads": threads} for limit, threads in self.workers]
        return {"workers": dict(enumerate(found))}


@pytest.mark.parametrize(
    ("workers", "asked", "expected"),
    [
        ([(4000, 1)], None, (4000, 1)),
        ([(4000, 2), (3000, 1)], None, (4000, 2)),
        ([(4000, 1), (3000, 1), (0, 8)], None, (3000, 1)),
        ([(0, 2), (None, 1)], None, (None, 1)),
        ([], None, (None, 1)),
        ([(4000, 2), (3000, 1)], "2GiB", ("2GiB", 2)),
        ([], "2GiB", ("2GiB", 1)),
    ],
)
def test_the_memory_that_counts_is_that_of_the_worker_with_the_least(workers, asked, expected):
    assert connection.resources(Workers(*workers), asked) == expected


@pytest.mark.parametrize(
    ("config", "threads"),
    [({"scheduler": "sync"}, 1), ({"scheduler": "threads", "num_workers": 3}, 3)],
)
def test_without_workers_it_is_that_of_this_process_for_all_its_threads(config, threads):
    with dask.config.set(config):
        assert connection.resources(None, "2GiB") == ("2GiB", threads)
        assert connection.resources(None, None) == (None, threads)
