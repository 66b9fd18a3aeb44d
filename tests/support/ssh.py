"""An sshd on loopback, with keys of its own."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.servers import answers, free_ports, process, until


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
