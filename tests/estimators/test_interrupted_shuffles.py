"""A run that is stopped while it stores its inputs goes on, to the same bits, or says why not."""

import shutil
import signal
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from dadmm import resume
from dadmm.data import exchange
from dadmm.errors import StoreError
from dadmm.store.files import LocalFiles
from support.messages import naming
from support.runs import all_bits, bits
from support.sorted_rows import X, Y, model, save

KILLED = """
import os, signal, sys
import numpy as np, zarr
from dadmm import ADMMClassifier
from dadmm.data import exchange, ingest

where, after, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
count = 0

def dying(function):
    def call(*args, **options):
        global count
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return function(*args, **options)
    return call

home = {"put": exchange.InFiles, "take": exchange.InFiles, "close": exchange.InFiles,
        "_measure": ingest, "store_order": ingest}[where]
setattr(home, where, dying(getattr(home, where)))
x = zarr.open_array(folder + "/x.zarr", mode="r")
y = np.load(folder + "/y.npy")
ADMMClassifier(
    (16, 16), max_iter=3, tol=0, random_state=0, chunks=150, run=folder + "/run",
    shuffle="auto" if where == "_measure" else "copy",
).fit(x, y, sample_weight=np.linspace(0.5, 1.5, len(y)))
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("where", "after"),
    [("store_order", 0), ("put", 0), ("put", 4), ("take", 0), ("take", 6), ("close", 0),
     ("_measure", 3)],
)  # fmt: skip
def test_a_kill_in_the_middle_of_the_shuffle_costs_nothing(where, after, tmp_path):
    stored = save(tmp_path, 5)
    np.save(tmp_path / "y.npy", Y)
    shuffle = "auto" if where == "_measure" else "copy"
    weights = np.linspace(0.5, 1.5, len(Y))
    expected = all_bits(model(shuffle=shuffle).fit(stored, Y, sample_weight=weights))
    script = [sys.executable, "-c", KILLED, where, str(after), str(tmp_path)]
    done = subprocess.run(script, timeout=120, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    put = []
    real = LocalFiles.save

    def noted(self, name, *parts, **options):
        put.append(name)
        return real(self, name, *parts, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFiles, "save", noted)
        again = resume(tmp_path / "run")
    assert all_bits(again) == expected
    cut = [name for name in put if name.startswith("shuffle/x/")]
    assert len(cut) == {"put": 10 - after, "store_order": 10}.get(where, 0)
    assert not (tmp_path / "run" / "shuffle").exists()


def test_a_run_stopped_before_its_inputs_were_found_says_so(tmp_path, monkeypatch):
    """A shuffle of a caller's own graph cannot go on without it."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dadmm.data.exchange.InFiles.take", stop)
    with pytest.raises(KeyboardInterrupt):
        model(run=tmp_path / "run").fit(da.from_array(X, chunks=200), Y)
    assert not (tmp_path / "run" / "zarr.json").exists()
    with pytest.raises(KeyboardInterrupt):
        model(run=tmp_path / "run", shuffle="copy").fit(save(tmp_path, 5), Y)
    monkeypatch.undo()
    assert bits(resume(tmp_path / "run")) == bits(model().fit(X, Y))


OTHERS = {
    "gone": lambda: None,
    "fewer rows": lambda: X[:700],
    "fewer columns": lambda: X[:, :50],
    "another dtype": lambda: X.astype(np.int16),
    "another order": lambda: X[::-1],
}


@pytest.mark.parametrize("shuffle", ["copy", "auto"])
@pytest.mark.parametrize("change", OTHERS)
def test_a_run_that_goes_on_from_other_data_is_refused(change, shuffle, tmp_path, monkeypatch):
    """Also if some blocks of the former data have been cut up."""
    puts = []
    real = exchange.InFiles.put

    def stop_late(*given):
        if len(puts) == 4:
            raise KeyboardInterrupt
        puts.append(given)
        real(*given)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dadmm.data.exchange.InFiles.put", stop_late)
    monkeypatch.setattr("dadmm.data.ingest._measure", stop)
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        model(run=tmp_path / "run", shuffle=shuffle).fit(save(tmp_path, 5), Y)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "x.zarr")
    if (other := OTHERS[change]()) is not None:
        zarr.create_array(str(tmp_path / "x.zarr"), data=other, chunks=(5, 64))
    if shuffle == "auto" and change == "another order":
        return  # nothing of the former data is kept, so the run takes these
    with pytest.raises(StoreError, match=naming("x.zarr" if change != "another order" else "x")):
        resume(tmp_path / "run")


def test_a_block_that_a_loss_of_power_damaged_is_cut_again(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dadmm.data.exchange.InFiles.take", stop)
    with pytest.raises(KeyboardInterrupt):
        model(run=tmp_path / "run", shuffle="copy").fit(save(tmp_path, 5), Y)
    monkeypatch.undo()
    place = tmp_path / "run" / "shuffle" / "x"
    (place / "3").write_bytes(b"")
    raw = bytearray((place / "7").read_bytes())
    raw[100] ^= 1
    (place / "7").write_bytes(raw)
    assert bits(resume(tmp_path / "run")) == bits(model().fit(X, Y))
