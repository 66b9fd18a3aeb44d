"""Real servers on loopback, each ended by its process id."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil


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


def on_path():
    """Return the environment with this Python's programs first on the PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
