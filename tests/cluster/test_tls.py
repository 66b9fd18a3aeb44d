"""Real schedulers and workers talk over TLS, to nobody who has no certificate."""

import os
import signal
import time

import dask
import psutil
import pytest

from dadmm.cluster import connection
from dadmm.errors import InputError, OptionError, RunError
from support.clusters import listening, no_client, one_line, worker_pids
from support.dask_servers import dask_processes, make_certificates
from support.messages import names, naming
from support.runs import at
from support.training import train

pytestmark = pytest.mark.processes


# ----------------------------------------------------------------------------- over TLS, by a file


@pytest.fixture(scope="module")
def scheduler_file(tls, tmp_path_factory):
    with dask_processes(tmp_path_factory.mktemp("dask"), tls) as place:
        yield place


def test_processes_over_tls_give_the_same_bits_though_a_worker_is_killed(
    scheduler_file, tls, digest, tmp_path
):
    with connection.connect(scheduler_file, tls=tls) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        client.wait_for_workers(2, timeout=30)
        before = worker_pids(client)
        kill = at(2, lambda: os.kill(before[0], signal.SIGKILL))
        assert train(tmp_path / "run", kill) == digest
    no_client()
    assert dask.config.get("distributed.comm.require-encryption") is None
    with connection.connect(scheduler_file, tls=tls) as client:  # it was not closed with the client
        client.wait_for_workers(2, timeout=30)  # the nanny has started another
        assert before[1] in worker_pids(client)
        assert set(before) != set(worker_pids(client))


def test_whoever_has_no_certificate_gets_one_line_and_nothing_else(scheduler_file, tls, tmp_path):
    started = time.monotonic()
    with pytest.raises(RunError) as caught, connection.connect(scheduler_file, timeout=5):
        pass
    assert names(one_line(caught), "tls", "ca.pem")
    no_client()
    other = make_certificates(tmp_path / "other")
    with (
        pytest.raises(RunError) as caught,
        connection.connect(scheduler_file, tls=other, timeout=3),
    ):
        pass
    assert names(one_line(caught), "certificates")
    with connection.connect(scheduler_file, tls=tls) as client:
        plain = client.scheduler.address.replace("tls://", "tcp://")
    with pytest.raises(RunError) as caught, connection.connect(plain, timeout=2):
        pass
    assert names(one_line(caught), plain, "2 s", "tls://")
    assert time.monotonic() - started < 30
    no_client()


def test_nothing_of_it_listens_beyond_this_machine(scheduler_file, tls):
    with connection.connect(scheduler_file, tls=tls) as client:
        pids = [*worker_pids(client), client.run_on_scheduler(os.getpid)]
        nannies = [psutil.Process(pid).ppid() for pid in pids[:-1]]
    assert listening({*pids, *nannies}) == {"127.0.0.1"}


def test_certificates_that_are_not_there_are_named(tmp_path):
    with (
        pytest.raises(InputError, match=naming("tls", str(tmp_path), "ca.pem")),
        connection.connect("tcp://127.0.0.1:1", tls=str(tmp_path)),
    ):
        pass
    with (
        pytest.raises(OptionError, match=naming("tls=true", "certificates")),
        connection.connect("tls://127.0.0.1:1", tls=True),
    ):
        pass


# ---------------------------------------------------------------------- local, and who comes first


@pytest.mark.parametrize("how", [True, "folder"])
def test_a_local_cluster_talks_over_tls_if_told(how, tls, digest, tmp_path):
    with connection.connect("local", workers=1, tls=tls if how == "folder" else how) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        if how is True:  # the other is tested with processes, above
            assert train(tmp_path / "run") == digest
        pids = worker_pids(client)
        assert listening({*pids, os.getpid()}) == {"127.0.0.1"}
    assert not any(psutil.pid_exists(pid) for pid in pids)
    no_client()
