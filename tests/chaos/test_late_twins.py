"""Tasks that run again, late: after newer generations exist, and after other sessions began."""

import pytest

from dadmm import resume
from dadmm.engine.plan import Step
from dadmm.engine.session import Session
from dadmm.errors import StoreError
from support.replay import repeat
from support.runs import all_bits
from support.stopped_runs import ITERATIONS, data, model


def attempt(path, step, limit):
    """Let it write what it can; its generation may be gone."""
    try:
        repeat(path, step, limit)
    except (StoreError, OSError):
        return False
    return True


def test_a_late_task_of_another_session_with_other_options_changes_nothing(made, tmp_path):
    """It was asked for under another limit on the iterations, so it writes other numbers."""
    path = made.copy("stopped", tmp_path / "run")
    stale = Step(2, 2, 3)  # what the session that was stopped had begun
    wrote = []

    def late(iteration, row):
        Session.open(path).plan.begin(stale.target)  # so that it finds where to
        wrote.append(attempt(path, stale, limit=50))

    resumed = resume(path, callback=late)
    assert wrote[0]  # at first its input is still there: it computed, and wrote all of it
    assert all_bits(resumed) == made.bits
    assert Session.open(path).position.generation == 5


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_late_task_of_an_older_iteration_changes_nothing(made, back, tmp_path):
    path = tmp_path / "run"

    def late(iteration, row):
        if iteration > back:
            k = iteration - 1 - back
            attempt(path, Step(k, k, k + 1), ITERATIONS)

    assert all_bits(model(made.solver, path).fit(*data(), callback=late)) == made.bits
