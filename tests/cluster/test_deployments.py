"""Real schedulers, sshd and Slurm on loopback: every one gives the bits that threads give."""

import os
import re
import signal
import sys
import time

import dask
import psutil
import pytest
import yaml
from distributed import Client, LocalCluster, default_client

from dadmm import load, resume
from dadmm.app.build import parameter_digest
from dadmm.cluster import connection, deploy
from dadmm.errors import InputError, OptionError, RunError, SecurityWarning
from support.dask_servers import dask_processes, make_certificates
from support.places import ROOT
from support.servers import free_ports, on_path, until
from support.slurm import slurm, slurm_node
from support.ssh import ssh_server
from support.training import at, train, write_config

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    """Give the digest of the parameters that threads find."""
    with connection.connect():
        return train(tmp_path_factory.mktemp("threads") / "run")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Give a folder of certificates."""
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


def no_client():
    with pytest.raises(ValueError, match="No client"):
        default_client()


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# -------------------------------------------------------------------------- over TLS, by a file


@pytest.fixture(scope="module")
def scheduler_file(tls, tmp_path_factory):
    with dask_processes(tmp_path_factory.mktemp("dask"), tls) as place:
        yield place


def worker_pids(client):
    return list(client.run(os.getpid).values())


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
    assert "wants a certificate: give tls, a folder with ca.pem" in one_line(caught)
    no_client()
    other = make_certificates(tmp_path / "other")
    with (
        pytest.raises(RunError) as caught,
        connection.connect(scheduler_file, tls=other, timeout=3),
    ):
        pass
    assert "and the certificates of tls do not agree" in one_line(caught)
    with connection.connect(scheduler_file, tls=tls) as client:
        plain = client.scheduler.address.replace("tls://", "tcp://")
    with pytest.raises(RunError) as caught, connection.connect(plain, timeout=2):
        pass
    assert re.search(r"no scheduler answered at tcp://.* within 2 s.*tls://", one_line(caught))
    assert time.monotonic() - started < 30
    no_client()


def test_nothing_of_it_listens_beyond_this_machine(scheduler_file, tls):
    with connection.connect(scheduler_file, tls=tls) as client:
        pids = [*worker_pids(client), client.run_on_scheduler(os.getpid)]
        nannies = [psutil.Process(pid).ppid() for pid in pids[:-1]]
    assert listening({*pids, *nannies}) == {"127.0.0.1"}


def listening(pids):
    """Return the addresses at which processes listen."""
    found = set()
    for pid in pids:
        connections = psutil.Process(pid).net_connections("inet")
        found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def test_certificates_that_are_not_there_are_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"tls: .* has no ca.pem: make certificates with"),
        connection.connect("tcp://127.0.0.1:1", tls=str(tmp_path)),
    ):
        pass
    with (
        pytest.raises(OptionError, match=r"tls=true makes certificates for a cluster that is star"),
        connection.connect("tls://127.0.0.1:1", tls=True),
    ):
        pass


# ----------------------------------------------------------------------- local, and who comes first


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


# ----------------------------------------------------------------------------- what does not come


def test_a_scheduler_that_is_not_there_is_told_in_time(tmp_path):
    (port,) = free_ports(1)
    started = time.monotonic()
    with (
        pytest.raises(
            RunError, match=f"no scheduler answered at tcp://127.0.0.1:{port} within 1 s"
        ),
        connection.connect(f"tcp://127.0.0.1:{port}", timeout=1),
    ):
        pass
    with (
        pytest.raises(RunError, match=r"no scheduler file appeared at .* within 0.5 s: start dask"),
        connection.connect(tmp_path / "scheduler.json", timeout="500 ms"),
    ):
        pass
    (tmp_path / "scheduler.json").write_text("{}")
    with (
        pytest.raises(InputError, match="is no scheduler file: it has no address"),
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
            pytest.raises(RunError, match=r"mine.yaml' did not start within 0.1 s"),
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
        pytest.raises(RunError, match=rf"{address}: no worker came within 1 s: see their logs"),
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
        pytest.raises(RunError, match=r"has 100.00 MiB of memory; Python and its libraries alone"),
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

    with pytest.warns(SecurityWarning, match=r"listens on all addresses \(tcp://0.0.0.0:.*TLS"):
        connect(host="0.0.0.0")
    connect(host="127.0.0.1")  # warnings are errors here


# --------------------------------------------------------------------------------------- over SSH


@pytest.fixture(scope="module")
def ssh(tls, tmp_path_factory):
    """Give what a profile says to reach an sshd on loopback, over which TLS is talked."""
    folder = tmp_path_factory.mktemp("ssh")
    with ssh_server(folder) as connect_options:
        options = {"connect_options": connect_options, "remote_python": sys.executable}
        yield {"extends": "ssh", "tls": tls, "cluster": options}


def profile(folder, content):
    """Write a profile's file; return its path."""
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


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
        ({"known_hosts": "empty"}, "did not start: Host key is not trusted"),
        ({"client_keys": []}, "did not start: Permission denied"),
        ({"port": 1}, "did not start: .*Connect call failed"),
    ],
)
def test_a_host_that_cannot_be_logged_into_is_told_in_one_line(ssh, tmp_path, change, words):
    (tmp_path / "empty").write_text("")
    if "known_hosts" in change:
        change = {"known_hosts": str(tmp_path / "empty")}
    options = {**ssh["cluster"], "connect_options": {**ssh["cluster"]["connect_options"], **change}}
    path = profile(tmp_path, {**ssh, "cluster": options, "timeout": 30})
    with pytest.raises(RunError, match=words) as caught, connection.connect(path):
        pass
    one_line(caught)
    no_client()


# -------------------------------------------------------------------------------------- on Slurm


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with slurm_node(tmp_path_factory.mktemp("slurm")) as folder:
        yield folder


@pytest.fixture
def on_slurm(node, tmp_path):
    """Give what writes a profile for it, and see to it that no job is left."""

    def write(cluster=None, **more):
        options = {
            "memory": "1GiB",
            "python": sys.executable,
            "log_directory": str(node),
            "shared_temp_directory": str(tmp_path),
            "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
            **(cluster or {}),
        }
        return profile(tmp_path, {"extends": "slurm", "workers": 1, "cluster": options, **more})

    yield write
    until(lambda: not jobs(), "no job is left")


def jobs(state="all"):
    """Return the numbers of Slurm's jobs that have not ended."""
    lines = slurm("squeue", "-h", "-o", "%i %T").splitlines()
    found = dict(line.split() for line in lines)
    gone = ("COMPLETING", "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT")
    return [job for job, now in found.items() if now not in gone and state in ("all", now)]


def test_slurm_gives_the_same_bits_though_a_job_is_cancelled(on_slurm, digest, tmp_path):
    cancelled = []

    def cancel():
        cancelled.extend(jobs("RUNNING"))
        slurm("scancel", *cancelled)

    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100 ms"}),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(deploy, "REPLACE_EVERY", 0.5)
        with connection.connect(on_slurm()) as client:
            assert client.scheduler.address.startswith("tls://127.0.0.1:")
            (first,) = worker_pids(client)
            # The only job; the run waits for the one that replaces it.
            assert train(tmp_path / "run", at(3, cancel)) == digest
            assert len(cancelled) == 1
            assert not set(jobs()) & set(cancelled)
            assert worker_pids(client) != [first]
    no_client()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_job_whose_wall_time_is_over_is_replaced(on_slurm, digest, tmp_path):
    """A minute is Slurm's shortest limit, and it does not look all the time."""
    ended = []

    def wait():
        ended.extend(jobs("RUNNING"))
        until(lambda: not set(ended) & set(jobs()), "its time is over", seconds=200)

    limits = {"walltime": "00:01:00", "worker_extra_args": ["--dashboard-address", "127.0.0.1:0"]}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100 ms"}),
        connection.connect(on_slurm(limits)) as client,
    ):
        (first,) = worker_pids(client)
        assert train(tmp_path / "run", at(3, wait)) == digest
        assert len(ended) == 1
        assert worker_pids(client) != [first]
    no_client()


def test_jobs_that_ended_for_good_stop_the_run_in_one_line(on_slurm, digest, tmp_path):
    """As at the end of their wall time; what is committed goes on elsewhere."""
    with (
        dask.config.set({"dadmm.no-workers-timeout": "1 s"}),
        pytest.raises(RunError, match="the cluster has had no workers for 1 s; what is comm"),
        connection.connect(on_slurm(replace=False)),
    ):
        train(tmp_path / "run", at(3, lambda: slurm("scancel", *jobs())))
    no_client()
    assert parameter_digest(resume(tmp_path / "run")) == digest


def test_what_slurm_refuses_or_keeps_waiting_is_told_in_one_line(on_slurm):
    with (
        pytest.raises(RunError, match=r"did not start its workers: sbatch: error: Memory spec"),
        connection.connect(on_slurm({"memory": "100TiB"})),
    ):
        pass
    waiting = {"job_extra_directives": ["--begin=now+3600"]}
    with (
        pytest.raises(RunError, match=r"no worker came within 2 s: .* whether their jobs still wa"),
        connection.connect(on_slurm(waiting), timeout=2),
    ):
        pass
    no_client()


def test_one_job_may_be_the_whole_cluster(node, digest, tmp_path):
    """The batch script: a scheduler, workers and the driver, over TLS, in one allocation."""
    write_config(tmp_path)
    script = ROOT / "cluster" / "slurm" / "one-job.sbatch"
    given = ["--ntasks=2", "--mem-per-cpu=2G", f"--output={tmp_path}/log", f"--chdir={tmp_path}"]
    environment = f"--export=ALL,PATH={on_path()['PATH']},DADMM_WORKER_MEMORY=1GiB"
    train_py = f"{environment},DADMM_TRAIN={ROOT}/pipelines/train.py"
    slurm("sbatch", *given, train_py, script, tmp_path / "train.toml")
    until(lambda: not jobs(), "the job has ended", tmp_path / "log", seconds=90)
    log = (tmp_path / "log").read_text()
    assert '"event": "done"' in log, log
    assert parameter_digest(load(tmp_path / "run")) == digest
    assert not list(tmp_path.glob(".dadmm-*"))  # nor its key
