"""Data and run on a server of objects that speaks S3: trained, killed, resumed, predicted from."""

import asyncio
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import dadmm
from dadmm.app.build import parameter_digest
from dadmm.cluster import connection
from dadmm.data.write import write as write_predictions
from dadmm.store import Run
from dadmm.store.files import RemoteFiles
from dadmm.store.lock import LOCK
from support.servers import answers, free_ports, process, until
from support.training import ITERATIONS, X, train, write_config

pytest.importorskip("s3fs", reason="pip install 'dadmm[s3]'")
pytest.importorskip("moto", reason="pip install 'moto[server]'")

BUCKET = "s3://there"
# Two chunks of one hidden layer: the server takes ten milliseconds for each request.
SMALL = {"chunks": 120, "hidden": (8,)}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Give an empty bucket of a server on loopback, and the way there to whoever is started."""
    import s3fs

    folder, (port,) = tmp_path_factory.mktemp("s3"), free_ports(1)
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        with process(*command, log=log) as started:
            until(lambda: answers(port), "the server answers", log, started=started)
            s3fs.S3FileSystem.clear_instance_cache()
            files = s3fs.S3FileSystem()
            files.mkdir(BUCKET)
            yield files
            asyncio.run_coroutine_threadsafe(files._s3.close(), files.loop).result(10)
            s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    """Give the digest of the parameters of a run in a folder."""
    with connection.connect():
        return train(tmp_path_factory.mktemp("folder") / "run", **SMALL)


@pytest.mark.processes
def test_a_run_among_objects_is_killed_and_goes_on_to_the_same_bits(bucket, digest, tmp_path):
    write_config(tmp_path, BUCKET, **SMALL)
    for name in ("x.npy", "y.npy"):
        bucket.put(str(tmp_path / name), f"{BUCKET}/{name}")
    command = [sys.executable, "-c", "from dadmm.app.cli import main; main()"]
    config, run = str(tmp_path / "train.toml"), f"{BUCKET}/run"
    fit = [*command, "fit", config, "--workers", "1"]
    with process(*fit, log=tmp_path / "log", start_new_session=True) as driver:
        until(lambda: committed(run) >= 2, "it is under way", tmp_path / "log", 90, driver)
        os.killpg(driver.pid, signal.SIGKILL)  # with its workers
        driver.wait(10)
    assert 2 <= committed(run) < ITERATIONS
    assert bucket.exists(f"{run}/{LOCK}")
    with connection.connect():
        estimator = dadmm.resume(run)  # the owner of its lock is dead
        assert parameter_digest(estimator) == digest
        write_predictions(dadmm.load(run).predict(X), str(tmp_path / "labels.npy"))
    assert not bucket.exists(f"{run}/{LOCK}")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), estimator.predict(X))
    left = subprocess.run([*command, "check", run], capture_output=True, text=True, timeout=60)
    assert (left.returncode, left.stderr) == (0, "")
    assert "damaged    nothing" in left.stdout


def committed(run):
    try:
        return (Run.open(run).committed() or {"iteration": -1})["iteration"]
    except dadmm.errors.StoreError:
        return -1


def test_of_two_drivers_that_find_no_lock_one_comes_second(bucket, monkeypatch):
    """The server sees to it: a look beforehand would not."""
    files = RemoteFiles(f"{BUCKET}/locked")
    saw = []
    exists = type(bucket).exists

    def blind(filesystem, path, *args, **options):
        saw.append(path)
        return len(saw) > 2 and exists(filesystem, path, *args, **options)

    monkeypatch.setattr(type(bucket), "exists", blind)
    files.save(LOCK, b"1", new=True)
    with pytest.raises(FileExistsError):
        files.save(LOCK, b"2", new=True)
    assert len(saw) == 3  # before, before, and for the message
    assert files.text(LOCK) == b"1"
