"""Workers over a real sshd on loopback give the bits that threads give."""

import os
import sys

import dask
import psutil
import pytest

from dadmm.cluster import connection
from dadmm.errors import RunError
from support.clusters import listening, no_client, one_line, profile, worker_pids
from support.messages import naming
from support.servers import until
from support.ssh import ssh_server
from support.training import train

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def ssh(tls, tmp_path_factory):
    """Give what a profile says to reach an sshd on loopback, over which TLS is talked."""
    folder = tmp_path_factory.mktemp("ssh")
    with ssh_server(folder) as connect_options:
        options = {"connect_options": connect_options, "remote_python": sys.executable}
        yield {"extends": "ssh", "tls": tls, "cluster": options}


def test_hosts_over_ssh_give_the_same_bits(ssh, digest, tmp_path):
    with connection.connect(profile(tmp_path, ssh), memory_limit="1GiB") as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["memory_limit"] == 2**30
        pids = [*worker_pids(client), client.run_on_scheduler(os.getpid)]
        assert os.getpid() not in pids
        assert listening(pids) == {"127.0.0.1"}
        assert train(tmp_path / "run") == digest
        spill = client.run(dask.config.get, "distributed.worker.memory.spill")
        assert set(spill.values()) == {False}  # dadmm's settings went along
    until(lambda: not any(map(psutil.pid_exists, pids)), "what ran over SSH has ended")
    no_client()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"known_hosts": "empty"}, "Host key is not trusted"),
        ({"client_keys": []}, "Permission denied"),
        ({"port": 1}, "Connect call failed"),
    ],
)
def test_a_host_that_cannot_be_logged_into_is_told_in_one_line(ssh, tmp_path, change, words):
    (tmp_path / "empty").write_text("")
    if "known_hosts" in change:
        change = {"known_hosts": str(tmp_path / "empty")}
    options = {**ssh["cluster"], "connect_options": {**ssh["cluster"]["connect_options"], **change}}
    path = profile(tmp_path, {**ssh, "cluster": options, "timeout": 30})
    with (
        pytest.raises(RunError, match=naming("profile.yaml", words)) as caught,
        connection.connect(path),
    ):
        pass
    one_line(caught)
    no_client()
