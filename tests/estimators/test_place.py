"""Where a run lies that has no `run=` on a cluster: in shared memory only if all of it fits."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from dadmm import ADMMClassifier, BlockADMM, RelaxedADMM
from dadmm.errors import RunError
from dadmm.estimators import start
from dadmm.estimators.problem import pose
from dadmm.store.files import LocalFiles
from support.messages import naming

X = np.random.default_rng(0).standard_normal((90, 6)).astype(np.float32)
Y = np.arange(90) % 3
SOLVERS = {
    "relaxed": RelaxedADMM(),
    "online": BlockADMM(),
    "grid": BlockADMM(mode="batch", schedule="grid", blocks=2, consensus="admm"),
}


def model(solver="online", width=8, **options):
    same = {"max_iter": 4, "tol": 0, "chunks": 40, "random_state": 0}
    return ADMMClassifier((width, width), solver=SOLVERS[solver], **{**same, **options})


@pytest.fixture
def client():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.mark.parametrize("width", [8, 300])
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_run_takes_more_than_was_counted(solver, width, tmp_path):
    run, most = tmp_path / "run", []

    def look(k, row):
        files = (path.stat().st_blocks for path in run.rglob("*") if path.is_file())
        most.append(512 * sum(files))

    made = model(solver, width, run=run)
    made.fit(X, Y, callback=look)
    counted = start.stored_bytes(pose(made, X, Y, None))
    assert max(most) < counted
    assert counted - start.FILES < 4 * max(most)


@pytest.fixture
def two_places(tmp_path, monkeypatch):
    """Give two folders, of which the first has `free` bytes, and what was made in which."""
    made, free = [], [0]
    folders = [tmp_path / "memory", tmp_path / "disk"]
    real = start.scratch

    @contextmanager
    def scratch(place):
        made.append(place)
        place.mkdir(exist_ok=True)
        with real(place) as folder:
            yield folder

    class Usage:
        def __init__(self, place):
            self.free = free[0]

    monkeypatch.setattr(start, "places", lambda: folders)
    monkeypatch.setattr(start, "scratch", scratch)
    monkeypatch.setattr(start.shutil, "disk_usage", Usage)
    return made, free


def test_parameters_count(client, two_places):
    made, free = two_places
    free[0] = 8 * 2**20  # the rows alone would fit
    model(width=8, max_iter=1).fit(X, Y)
    model(width=600, max_iter=1).fit(X, Y)
    assert [place.name for place in made] == ["memory", "disk"]
    assert not any(path.is_file() for place in made for path in Path(place).rglob("*"))


def test_a_full_place_is_named_with_a_cure(client, two_places, monkeypatch):
    real = LocalFiles.save

    def save(self, name, *parts, **options):
        if name.startswith("params/1"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, name, *parts, **options)

    monkeypatch.setattr(LocalFiles, "save", save)
    made, _ = two_places
    with pytest.raises(RunError) as caught:
        model().fit(X, Y)
    (place,) = made
    assert caught.match(naming(str(place), "full", "run"))
    assert list(place.iterdir()) == []
