"""Whatever is killed, and however often: the run that is resumed ends with the same bits.

Drivers are real processes.  They are killed at random moments (the seeds are fixed) after an event
that can be seen from outside: a commit.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from dadmm import ADMMClassifier, BlockADMM, Dense, NMFBlock, RelaxedADMM, load, resume
from dadmm.errors import StoreError
from support.clusters import processes
from support.runs import all_bits

pytestmark = pytest.mark.processes

ITERATIONS = 10
DEADLINE = 600  # of a process that hangs: a busy machine is slow, too
SOLVERS = {
    "3-splitting": RelaxedADMM(),
    "2-splitting": RelaxedADMM(splitting=2, inner_steps=2),
    "regions": RelaxedADMM(regions=3),
    "block": BlockADMM(batch_size=8),
    "block, batch": BlockADMM(mode="batch", blocks=2, batch_size=8, consensus="admm"),
    "factors": BlockADMM(blocks=[Dense(24), NMFBlock(8)], batch_size=8),
}


def digits():
    x, y = load_digits(return_X_y=True)
    return x[:600].astype(np.float32), y[:600]


def model(solver, run=None, **options):
    return ADMMClassifier(
        (24, 24), max_iter=ITERATIONS, tol=0, chunks=100, random_state=1,
        solver=SOLVERS[solver], run=run, **options,
    )  # fmt: skip


def go_on(run, solver):
    """Do what a person does who finds a run in whatever state."""
    if Path(run).exists():
        try:
            return resume(run)
        except StoreError as error:
            if "start" not in str(error):
                raise
    return model(solver, run, overwrite=True).fit(*digits())


@pytest.fixture(scope="module")
def undisturbed():
    """Return the bits of a run that nobody disturbs."""
    known = {}

    def of(solver):
        if solver not in known:
            with dask.config.set(scheduler="sync"):
                known[solver] = all_bits(model(solver).fit(*digits()))
        return known[solver]

    return of


# ------------------------------------------------------------------------------------- drivers


def drive(run, solver, workers):
    """Be the driver: a process of its own runs this."""
    if not workers:
        go_on(run, solver)
        return
    with processes(workers) as client:
        aside = Path(f"{run}.workers.partial")
        aside.write_text(json.dumps(list(client.run(os.getpid).values())))
        aside.rename(f"{run}.workers")
        go_on(run, solver)


def drive_restlessly(run, solver, seed, interrupts):
    """Be a driver that is stopped and goes on again and again, on one and the same cluster."""
    moments, stopped = random.Random(seed), 0
    with processes(2):
        for _ in range(interrupts):
            timer = threading.Timer(
                moments.uniform(0.02, 0.6), os.kill, (os.getpid(), signal.SIGINT)
            )
            timer.start()
            try:
                go_on(run, solver)
                timer.cancel()
                timer.join()
            except KeyboardInterrupt:
                stopped += 1
        go_on(run, solver)
    print(stopped)


@contextmanager
def driver(function, *args):
    """Start a driver; at the end nothing of it or of the workers that it started is left."""
    code = f"import test_kills\nif __name__ == '__main__': test_kills.{function}{args!r}"
    script = Path(args[0]).with_suffix(".py")
    script.write_text(code)
    started = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    family = []
    try:
        yield started
    finally:
        if started.poll() is None:
            family = psutil.Process(started.pid).children(recursive=True)
            started.kill()
        started.communicate(timeout=DEADLINE)
        # Workers end by themselves when their driver is gone; none may linger.
        _, alive = psutil.wait_procs(family, timeout=DEADLINE)
        for process in alive:
            process.kill()
        assert not alive


def committed(run):
    """Return the committed iteration of a run, -1 before the first commit."""
    try:
        return json.loads((run / "commit.json").read_text())["iteration"]
    except FileNotFoundError:
        return -1


def happens(reached, started):
    """Wait for an event that a driver brings about, not for a time; False if it ended before."""
    deadline = time.monotonic() + DEADLINE
    while not reached():
        if started.poll() is not None:
            return reached()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.001)
    return True


def wait_until(reached, started):
    """Wait for an event that must come."""
    if not happens(reached, started):
        pytest.fail(f"the driver ended by itself: {started.communicate()[1][-2000:]}")


@pytest.mark.parametrize(
    ("solver", "kills", "seed"),
    [
        ("3-splitting", 3, 1),
        ("2-splitting", 1, 2),
        ("regions", 1, 3),
        ("block", 1, 4),
        ("block, batch", 2, 5),
    ],
)
def test_a_driver_killed_again_and_again(solver, kills, seed, undisturbed, tmp_path):
    run, moments = tmp_path / "run", random.Random(seed)
    for kill in range(kills):
        last = committed(run)
        with driver("drive", str(run), solver, 0) as started:
            wait_until(lambda last=last, kill=kill: committed(run) > last + (kill > 0), started)
            time.sleep(moments.uniform(0, 0.15))  # to be anywhere in an iteration
            started.send_signal(signal.SIGKILL)
            started.wait()
        assert last < committed(run)
        assert load(run).n_iter_ == committed(run)
    assert committed(run) < ITERATIONS
    assert all_bits(resume(run)) == undisturbed(solver)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.long] * (seed >= 3)) for seed in range(100)]
)
def test_whatever_is_killed_at_any_moment(seed, undisturbed, tmp_path):
    """The driver, a worker or both; at any moment from the first file on; once or more often."""
    run, rng = tmp_path / "run", random.Random(f"kill {seed}")
    victim = ("driver", "worker", "both")[seed % 3]
    solver = ("3-splitting", "block", "block, batch")[seed // 3 % 3]
    for _ in range(rng.randint(1, 3 if victim == "driver" else 2)):
        goal = committed(run) + rng.randint(0, 4)
        workers = 0 if victim == "driver" and rng.random() < 0.6 else 2
        with driver("drive", str(run), solver, workers) as started:
            seen = run.exists if goal < 0 else lambda goal=goal: committed(run) >= goal
            if not happens(seen, started):
                break  # it was done before
            time.sleep(rng.uniform(0, 0.2))
            if victim != "driver":
                victims = json.loads(Path(f"{run}.workers").read_text())
                with suppress(ProcessLookupError):  # the run may be over
                    os.kill(rng.choice(victims), signal.SIGKILL)
            if victim != "worker":
                started.send_signal(signal.SIGKILL)
            else:
                err = started.communicate(timeout=DEADLINE)[1]
                assert started.returncode == 0, err[-3000:]
    assert all_bits(go_on(run, solver)) == undisturbed(solver)
    assert not list(run.rglob("*.partial")) + list(run.glob(".deleted-*"))


@pytest.mark.parametrize("seed", range(2))
def test_a_driver_killed_before_its_first_commit(seed, undisturbed, tmp_path):
    run = tmp_path / "run"
    with driver("drive", str(run), "3-splitting", 0) as started:
        wait_until(run.exists, started)
        time.sleep(random.Random(seed).uniform(0, 0.05))
        started.send_signal(signal.SIGKILL)
        started.wait()
    assert all_bits(go_on(run, "3-splitting")) == undisturbed("3-splitting")


def test_a_worker_killed_and_then_its_driver(undisturbed, tmp_path):
    run, moments = tmp_path / "run", random.Random(7)
    with driver("drive", str(run), "3-splitting", 2) as started:
        wait_until(lambda: committed(run) >= 1, started)
        victims = json.loads(Path(f"{run}.workers").read_text())
        os.kill(victims[0], signal.SIGKILL)
        at = committed(run)
        wait_until(lambda: committed(run) > at, started)  # it goes on without
        time.sleep(moments.uniform(0, 0.1))
        os.kill(victims[1], signal.SIGKILL)
        started.send_signal(signal.SIGKILL)
    assert 1 < committed(run) < ITERATIONS
    assert all_bits(resume(run)) == undisturbed("3-splitting")  # on threads


def test_a_driver_stopped_again_and_again_on_one_cluster(undisturbed, tmp_path):
    """The cluster may still be at work on what the last session wanted."""
    run = tmp_path / "run"
    with driver("drive_restlessly", str(run), "regions", 5, 3) as started:
        out, err = started.communicate(timeout=2 * DEADLINE)
        assert started.returncode == 0, err[-3000:]
    assert int(out) >= 2
    assert all_bits(load(run)) == undisturbed("regions")


# ------------------------------------------------------------------------------------- workers


def test_workers_killed_in_the_middle_of_an_iteration(undisturbed, tmp_path):
    moments = random.Random(11)
    with processes(2) as client:
        for run in (tmp_path / "run", None):
            victim = min(client.run(os.getpid).values())
            timer = threading.Timer(moments.uniform(0, 0.1), os.kill, (victim, signal.SIGKILL))

            def kill(iteration, row, timer=timer):
                if iteration == 2:
                    timer.start()

            made = model("3-splitting", run).fit(*digits(), callback=kill)
            timer.join()
            assert victim not in client.run(os.getpid).values()
            assert all_bits(made) == undisturbed("3-splitting")
