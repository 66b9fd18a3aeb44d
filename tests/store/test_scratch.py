"""A temporary folder does not outlive its driver, however that ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from dadmm.store import scratch
from dadmm.store.scratch import PREFIX

DRIVER = """
import sys, time
from pathlib import Path
from dadmm.store import scratch
scratch.places = lambda: []
with scratch.scratch(Path(sys.argv[1])) as folder:
    (folder / "run").mkdir()
    (folder / "run" / "chunk").write_bytes(b"0")
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def only_here(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "places", lambda: [tmp_path])


@pytest.fixture
def driver(tmp_path):
    """Start a driver that has made its folder."""
    command = [sys.executable, "-c", DRIVER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert PREFIX in process.stdout.readline()
        yield process
        process.kill()


def folders(place):
    return list(place.glob(f"{PREFIX}*"))


def test_it_is_gone_at_the_end_and_after_an_error(tmp_path):
    with suppress(KeyError), scratch.scratch(tmp_path) as folder:
        assert folders(tmp_path) == [folder]
        raise KeyError
    assert folders(tmp_path) == []


@pytest.mark.processes
def test_sigterm_leaves_nothing_and_still_ends_the_driver(driver, tmp_path):
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(30) == -signal.SIGTERM
    assert folders(tmp_path) == []


@pytest.mark.processes
def test_the_next_start_removes_what_a_killed_driver_left_and_nothing_of_a_live_one(
    driver, tmp_path
):
    with scratch.scratch(tmp_path):
        assert len(folders(tmp_path)) == 2
    assert len(folders(tmp_path)) == 1
    driver.kill()
    driver.wait(30)
    assert len(folders(tmp_path)) == 1
    with scratch.scratch(tmp_path) as folder:
        assert folders(tmp_path) == [folder]


def test_a_handler_of_the_program_stays(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with scratch.scratch(tmp_path) as folder:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert folder.exists()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard


def test_only_folders_of_dead_drivers_are_swept(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / scratch.HELD).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    (tmp_path / f"{PREFIX}new").mkdir()  # whose driver has not locked it yet
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}dead" / scratch.HELD).touch()
    scratch.sweep(tmp_path)
    assert {path.name for path in folders(tmp_path)} == {f"{PREFIX}link", f"{PREFIX}new"}
    assert other.exists()
