"""Workers in jobs of a real Slurm give the bits that threads give, whatever becomes of the jobs."""

import sys

import dask
import pytest

from dadmm import load, resume
from dadmm.app.build import parameter_digest
from dadmm.cluster import connection, deploy
from dadmm.errors import RunError
from support.clusters import no_client, profile, worker_pids
from support.messages import naming
from support.places import ROOT
from support.runs import at
from support.servers import on_path, until
from support.slurm import slurm, slurm_node
from support.training import train, write_config

pytestmark = pytest.mark.processes


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
        pytest.raises(RunError, match=naming("workers", "1 s")),
        connection.connect(on_slurm(replace=False)),
    ):
        train(tmp_path / "run", at(3, lambda: slurm("scancel", *jobs())))
    no_client()
    assert parameter_digest(resume(tmp_path / "run")) == digest


def test_what_slurm_refuses_or_keeps_waiting_is_told_in_one_line(on_slurm):
    with (
        pytest.raises(RunError, match=naming("workers", "sbatch", "Memory")),
        connection.connect(on_slurm({"memory": "100TiB"})),
    ):
        pass
    waiting = {"job_extra_directives": ["--begin=now+3600"]}
    with (
        pytest.raises(RunError, match=naming("worker", "2 s", "jobs")),
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
