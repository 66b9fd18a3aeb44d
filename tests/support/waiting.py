"""Waiting for a process to get somewhere."""

import json
import time
from pathlib import Path


def wait_for_iteration(run, iteration, process):
    """Wait until a process has committed an iteration of a run."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            record = json.loads((Path(run) / "commit.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            record = {"iteration": -1}
        if record["iteration"] >= iteration:
            return
        time.sleep(0.01)
    raise AssertionError(f"iteration {iteration} was not reached")
