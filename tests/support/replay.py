"""An iteration of a stored run done again by hand, as by workers that are late."""

from dadmm.engine.eager import Eager
from dadmm.estimators.load import open_plan
from dadmm.solvers.parts import Pace
from dadmm.store import Run


def repeat(path, step, limit):
    """Do an iteration of a run of `limit` by hand, as workers would that are late."""
    pace = Pace(step.iteration / limit, (step.iteration + 1) / limit)
    Eager(open_plan(Run.open(path))).iteration(step, pace)
