"""A run that is killed and resumed ends with the same bits as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

import dadmm

pytestmark = pytest.mark.processes

ITERATIONS = 8
OPTIONS = {
    "hidden_layer_sizes": (24, 24),
    "max_iter": ITERATIONS,
    "tol": 0,
    "chunks": 150,
    "random_state": 1,
}
SOLVERS = {
    "3-splitting": dadmm.RelaxedADMM(),
    "regions": dadmm.RelaxedADMM(regions=3),
    "recompute": dadmm.RelaxedADMM(state="recompute"),
}
DRIVER = """
import sys
from test_sigkill import OPTIONS, SOLVERS, digits
import dadmm

def main(run, solver, processes):
    if processes == "0":
        dadmm.ADMMClassifier(solver=SOLVERS[solver], run=run, **OPTIONS).fit(*digits())
        return
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=int(processes), threads_per_worker=1, host="127.0.0.1",
                      dashboard_address=None) as cluster, Client(cluster):
        dadmm.ADMMClassifier(solver=SOLVERS[solver], run=run, **OPTIONS).fit(*digits())

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def digits():
    x, y = load_digits(return_X_y=True)
    return x[:600].astype(np.float32), y[:600]


def bits(estimator):
    params = {name: array.tobytes() for name, array in estimator.network_.params.items()}
    history = estimator.history_.drop_vars("seconds")
    return params, {str(name): column.values.tobytes() for name, column in history.items()}


@pytest.fixture(scope="module")
def undisturbed():
    with dask.config.set(scheduler="sync"):
        return {
            name: bits(dadmm.ADMMClassifier(solver=solver, **OPTIONS).fit(*digits()))
            for name, solver in SOLVERS.items()
        }


def committed(run):
    try:
        return json.loads((run / "commit.json").read_text())["iteration"]
    except FileNotFoundError:
        return -1


def kill_driver_after(run, solver, processes, iteration, delay, script):
    """Start a driver, wait for its commit of an iteration, then a moment more, and kill it."""
    command = [sys.executable, str(script), str(run), solver, str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    driver = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while committed(run) < iteration:
            assert driver.poll() is None, "the driver ended by itself"
            assert time.monotonic() < deadline, "no commit in time"
        moment = time.monotonic() + delay
        while time.monotonic() < moment:  # a busy wait: the moment matters, to the millisecond
            pass
    finally:
        # The driver and the workers that it started are one process group of their own.
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait(timeout=30)
    return committed(run)


@pytest.mark.parametrize(
    ("solver", "processes", "seed"),
    [("3-splitting", 0, 1), ("3-splitting", 0, 2), ("3-splitting", 2, 3), ("regions", 0, 4),
     ("recompute", 0, 5)],
)  # fmt: skip
def test_a_killed_driver_resumes_to_the_same_bits(solver, processes, seed, undisturbed, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    run = tmp_path / "run"
    moments = random.Random(seed)
    iteration, delay = moments.randrange(0, ITERATIONS - 2), moments.uniform(0, 0.1)
    at = kill_driver_after(run, solver, processes, iteration, delay, script)
    assert at >= iteration
    resumed = dadmm.resume(run)
    assert resumed.n_iter_ == ITERATIONS
    assert bits(resumed) == undisturbed[solver]


@pytest.mark.parametrize("solver", ["3-splitting", "regions"])
def test_a_killed_worker_changes_nothing(solver, undisturbed, tmp_path):
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))

        def kill(iteration, row):
            if iteration == 3:
                os.kill(victim, signal.SIGKILL)

        model = dadmm.ADMMClassifier(solver=SOLVERS[solver], run=tmp_path / "run", **OPTIONS)
        model.fit(*digits(), callback=kill)
        assert victim not in client.run(os.getpid).values()
    assert bits(model) == undisturbed[solver]
