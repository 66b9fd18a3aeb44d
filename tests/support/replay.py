"""An iteration of a stored run done again by hand, as by workers that are late."""

from dadmm.engine.eager import Eager
from dadmm.engine.session import Session
from dadmm.solvers.parts import Pace


def repeat(path, step, limit):
    """Do an iteration of a run of `limit` by hand, as workers would that are late."""
    pace = Pace(step.iteration / limit, (step.iteration + 1) / limit)
    Eager(Session.open(path).plan).iteration(step, pace)
