"""A Slurm of one node on loopback."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.servers import free_ports, process, until

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
