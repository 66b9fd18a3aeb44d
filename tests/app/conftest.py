"""A finished run of the command line, and jobs that are run in this process."""

import pytest

from dadmm.app.jobs import run_job
from support.configs import configure
from support.jobs import lines
from support.terminal import ok


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Return a finished run."""
    folder = tmp_path_factory.mktemp("run")
    assert ok("fit", configure(folder), "--run", folder / "run")
    return folder / "run"


@pytest.fixture
def job(capsys):
    """Run a job; return its exit code, its log, and what it printed as an error."""

    def go(name, config):
        code = run_job(name, str(config))
        out, err = capsys.readouterr()
        return code, lines(out), err

    return go
