"""Fixtures of every test."""

import json
import shutil
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

pytest.register_assert_rewrite("support")

from dadmm import ADMMClassifier  # noqa: E402
from support import browser  # noqa: E402
from support.refusals import SMALL, X, Y, snapshot  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread():
    """Small products are slower on many threads, and the tests may share their machine."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def page():
    """Give a page of a headless Chromium: that of another module may still look for its server."""
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    with browser.browser() as page:
        yield page


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Return a classifier's finished run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    ADMMClassifier(**SMALL, run=run).fit(X, Y)
    return run


@pytest.fixture
def kept_run(finished_run, here):
    """Put a copy of it here, as ``run``, and check that it stays as it is."""
    shutil.copytree(finished_run, "run")
    yield "run"
    assert snapshot("run") == {
        Path("run", path.relative_to(finished_run)): content
        for path, content in snapshot(finished_run).items()
    }


@pytest.fixture
def foreign_run(finished_run, here):
    """Put a run of another version of dadmm here, as ``run``, and check that it stays as it is."""
    shutil.copytree(finished_run, "run")
    path = Path("run", "zarr.json")
    document = json.loads(path.read_text())
    document["attributes"]["dadmm"] |= {"format": 99, "versions": {"dadmm": "9.9.9"}}
    path.write_text(json.dumps(document))
    before = snapshot("run")
    yield "run"
    assert snapshot("run") == before
