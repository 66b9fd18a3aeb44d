"""Workers that die on one chunk, a cluster without workers, a scheduler that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import dask
import psutil
import pytest
from distributed import Client
from distributed.core import Status

from dadmm import RelaxedADMM, resume
from dadmm.engine.tasks import task_of
from dadmm.errors import RunError, StoreError
from dadmm.store import Run
from support.clusters import processes
from support.messages import names, naming
from support.runs import all_bits
from support.stopped_runs import data, model

pytestmark = pytest.mark.processes


class Fatal(RelaxedADMM):
    """Kills the worker that visits the second chunk, as the system does when memory runs out."""

    def visit(self, problem, part, weights, chunk):
        if chunk.seed[2] == 1 and chunk.seed[1] == 1 and multiprocessing.parent_process():
            os._exit(9)
        return super().visit(problem, part, weights, chunk)


class Slow(RelaxedADMM):
    """A disk that does not answer in time."""

    def visit(self, problem, part, weights, chunk):
        raise TimeoutError("the disk does not answer")


def test_workers_that_die_on_one_chunk_again_and_again_name_it(tmp_path):
    run = tmp_path / "run"
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 1,
                # A worker that dies takes along what waits there, which would be blamed too.
                "distributed.scheduler.worker-saturation": 1.0,
            }
        ),
        processes(2),
        pytest.raises(RunError) as caught,
    ):
        model("relaxed", run).set_params(solver=Fatal()).fit(*data())
    message = str(caught.value)
    assert names(message, "chunk 1", "2 workers")
    assert "visit-chunk-" in message
    assert "\n" not in message
    assert Run.open(run).committed()["iteration"] == 1
    with pytest.raises(StoreError, match=naming("Fatal", "solver")):
        resume(run)
    assert all_bits(resume(run, solver=Fatal())) == all_bits(model("relaxed").fit(*data()))


def test_a_task_that_times_out_is_no_wait_for_ever(tmp_path):
    with processes(1), pytest.raises(RunError, match="the disk does not answer"):
        model("relaxed", tmp_path / "run").set_params(solver=Slow()).fit(*data())


def test_a_cluster_that_loses_its_workers_for_good_is_given_up(tmp_path):
    run = tmp_path / "run"

    def lose(iteration, row):
        if iteration == 2:
            client.cluster.scale(0)

    patience = {"dadmm.no-workers-timeout": "3 s"}
    with processes(1) as client, dask.config.set(patience):
        begin = time.monotonic()
        with pytest.raises(RunError, match=naming("workers", "3 s")):
            model("batch", run).fit(*data(), callback=lose)
        assert time.monotonic() - begin < 600  # and not the 10 minutes of the default
    assert Run.open(run).committed()["iteration"] == 2
    assert all_bits(resume(run)) == all_bits(model("batch").fit(*data()))


def pause(dask_worker):
    dask_worker.periodic_callbacks["memory_monitor"].stop()
    dask_worker.status = Status.paused


def test_a_cluster_whose_workers_are_all_paused_is_given_up(tmp_path):
    """As Dask does with workers at 80 % of their memory; nothing would ever go on."""

    def full(iteration, row):
        client.run(pause)

    patience = {"dadmm.no-workers-timeout": "3 s"}
    words = naming("paused", "workers", "memory")
    with (
        processes(1) as client,
        dask.config.set(patience),
        pytest.raises(RunError, match=words),
    ):
        model("online", tmp_path / "run").fit(*data(), callback=full)


def start(*command):
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_scheduler_that_is_killed_costs_an_iteration(tmp_path):
    run, address = tmp_path / "run", tmp_path / "scheduler.json"
    quiet = ("--host", "127.0.0.1", "--scheduler-file", str(address))
    scheduler = start("dask_scheduler", *quiet, "--no-dashboard", "--port", "0")
    started = [scheduler]
    try:
        deadline = time.monotonic() + 600
        while not address.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started.append(start("dask_worker", *quiet, "--no-dashboard", "--nthreads", "1"))

        def kill(iteration, row):
            if iteration == 2:
                scheduler.send_signal(signal.SIGKILL)

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
            Client(scheduler_file=str(address), timeout=60) as client,
        ):
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(RunError, match=naming("scheduler", "gone")):
                model("online", run).fit(*data(), callback=kill)
    finally:
        family = [c for p in started for c in psutil.Process(p.pid).children(recursive=True)]
        for process in started:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in psutil.wait_procs(family, timeout=10)[1]:
            process.kill()
    assert Run.open(run).committed()["iteration"] == 2
    assert all_bits(resume(run)) == all_bits(model("online").fit(*data()))


@pytest.mark.parametrize(
    ("key", "chunk"),
    [
        ("visit-chunk-ab12-3-iterate-0-0-chunk7", 7),
        ("visit-region-1-2-ab12-3-iterate-0-0-chunk7", 7),
        ("forward-block-1-ab12-3-iterate-0-0-chunk12", 12),
        ("train-block-2-ab12-3-iterate-0-1-chunk0", 0),
        ("start-chunk-ab12-0-chunk4", 4),
        ("store-x-ab12-chunk4", 4),
        ("sum-grams-ab12-3-iterate-0-0-1-2", None),
        ("solve-weights-ab12-3-0-2", None),
    ],
)
def test_a_task_is_named_by_its_chunk(key, chunk):
    assert task_of(key) == (None if chunk is None else f"chunk {chunk} ({key})")
