"""Real servers on loopback for the tests of clusters, each ended by its process id."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from dadmm import ADMMClassifier, RelaxedADMM
from dadmm.app.build import parameter_digest

ROOT = Path(__file__).parents[1]
X = np.random.default_rng(0).normal(size=(240, 6))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
ITERATIONS = 6


def estimator(run, **options):
    """Return one that has six chunks to visit in each of its iterations."""
    given = {"solver": RelaxedADMM(), "max_iter": ITERATIONS, "tol": 0, "chunks": 40}
    return ADMMClassifier((8, 8), random_state=0, run=str(run), **{**given, **options})


CONFIG = """[data]
x = "{place}/x.npy"
y = "{place}/y.npy"
[model]
hidden_layer_sizes = [8, 8]
max_iter = 6
tol = 0
chunks = {chunks}
random_state = 0
[solver]
name = "relaxed"
[run]
path = "{place}/run"
"""


def train(run, callback=None, **options):
    """Train where the current client says; return the digest of the parameters."""
    return parameter_digest(estimator(run, **options).fit(X, Y, callback=callback))


def write_config(folder, place=None, chunks=40):
    """Write a config that trains what `train` does, and its data."""
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    (folder / "train.toml").write_text(CONFIG.format(place=place or folder, chunks=chunks))


def at(iteration, do):
    """Return a callback that does something once, after an iteration."""

    def callback(k, row):
        if k == iteration:
            do()

    return callback


def free_ports(count):
    """Return ports of loopback that were free just now, none twice."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


@contextmanager
def process(*command, log, **options):
    """Run a server while the block runs; its output goes into a file."""
    with Path(log).open("wb") as file:
        started = subprocess.Popen(
            [str(word) for word in command], stdout=file, stderr=subprocess.STDOUT, **options
        )
        try:
            yield started
        finally:
            end(started)


def end(started):
    """End a process and those that it started."""
    try:
        family = psutil.Process(started.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    started.send_signal(signal.SIGTERM)
    try:
        started.wait(10)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait(10)
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


def until(done, what, log=None, seconds=30, started=None):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = done()
        except OSError:
            found = None
        if found:
            return found
        ended = started is not None and started.poll() is not None
        if ended or time.monotonic() > deadline:
            said = Path(log).read_text(errors="replace")[-2000:] if log else ""
            raise AssertionError(f"not so within {seconds} s: {what}\n{said}")
        time.sleep(0.05)


def answers(port):
    """Return whether something listens on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dask(*words):
    """Return the command line of `dask ...` in this environment."""
    return [sys.executable, "-m", "dask", *words]


def on_path():
    """Return the environment with this Python's programs first on the PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


# ------------------------------------------------------------------------------------------- TLS


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


# ------------------------------------------------------------------------------------------- SSH


@contextmanager
def ssh_server(folder):
    """Run sshd on loopback, with keys of its own; give the options of a client."""
    import asyncssh

    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if sshd is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    try:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it keeps its children
    except OSError:
        pytest.skip("/run/sshd is not there, and making it takes root")
    folder, (port,) = Path(folder), free_ports(1)
    for name in ("host_key", "client_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        key.write_public_key(folder / f"{name}.pub")
        (folder / name).chmod(0o600)
    host = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    (folder / "sshd_config").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
"""
    )
    log = folder / "sshd.log"
    with process(sshd, "-D", "-e", "-f", folder / "sshd_config", log=log) as started:
        until(lambda: answers(port), "sshd answers", log, started=started)
        yield {
            "port": port,
            "username": psutil.Process().username(),
            "client_keys": [str(folder / "client_key")],
            "known_hosts": str(folder / "known_hosts"),
            "config": [],
            "connect_timeout": 10,
        }


# ----------------------------------------------------------------------------------------- Slurm

SLURM_CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16384 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def slurm(command, *words):
    """Run one of Slurm's programs; return what it prints."""
    done = subprocess.run(
        [command, *map(str, words)], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@contextmanager
def slurm_node(folder):
    """Run a Slurm of one node, whose users need prove nothing, on loopback."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    found = [shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "sbatch")]
    if None in found:
        pytest.skip("no Slurm: apt-get install slurmctld slurmd slurm-client")
    if os.getuid():
        pytest.skip("a Slurm of one's own runs its jobs as root")
    folder = Path(folder)
    for name in ("spool", "state"):
        (folder / name).mkdir()
    controller, node = free_ports(2)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(folder=folder, host=host, controller=controller, node=node))
    logs = [folder / "slurmctld.log", folder / "slurmd.log"]
    with (
        pytest.MonkeyPatch.context() as patch,
        process(found[0], "-D", "-f", conf, log=logs[0]) as first,
    ):
        patch.setenv("SLURM_CONF", str(conf))
        with process(found[1], "-D", "-f", conf, log=logs[1]):
            until(lambda: "idle" in _nodes(), "the node is idle", logs[0], started=first)
            yield folder


def _nodes():
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=30)
    return done.stdout
