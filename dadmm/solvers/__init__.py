"""How a network is trained: the seam (`Solver`), and one folder for each method; no Dask, no files.

The names here are those that a method of one's own needs.
"""

from typing import TYPE_CHECKING

from dadmm.lazy import lazy

if TYPE_CHECKING:
    from dadmm.solvers.counts import Counts, Footprint, Granularity, Work, register
    from dadmm.solvers.evaluate import measure, scores
    from dadmm.solvers.parts import Layout, Pace, Part, Pass, Phase, Schedule
    from dadmm.solvers.problem import Chunk, Problem
    from dadmm.solvers.rows import batches
    from dadmm.solvers.solver import Solver, Weights, scoring, summary
    from dadmm.solvers.stopping import (
        HeldOut,
        NoBetterLoss,
        ObjectiveFlat,
        StepBelow,
        Stopping,
        Verdict,
    )
    from dadmm.solvers.sums import Sums

_HOMES = {
    "Chunk": "problem",
    "Counts": "counts",
    "Footprint": "counts",
    "Granularity": "counts",
    "HeldOut": "stopping",
    "Layout": "parts",
    "NoBetterLoss": "stopping",
    "ObjectiveFlat": "stopping",
    "Pace": "parts",
    "Part": "parts",
    "Pass": "parts",
    "Phase": "parts",
    "Problem": "problem",
    "Schedule": "parts",
    "Solver": "solver",
    "StepBelow": "stopping",
    "Stopping": "stopping",
    "Sums": "sums",
    "Verdict": "stopping",
    "Weights": "solver",
    "Work": "counts",
    "batches": "rows",
    "measure": "evaluate",
    "register": "counts",
    "scores": "evaluate",
    "scoring": "solver",
    "summary": "solver",
}
__all__ = [
    "Chunk",
    "Counts",
    "Footprint",
    "Granularity",
    "HeldOut",
    "Layout",
    "NoBetterLoss",
    "ObjectiveFlat",
    "Pace",
    "Part",
    "Pass",
    "Phase",
    "Problem",
    "Schedule",
    "Solver",
    "StepBelow",
    "Stopping",
    "Sums",
    "Verdict",
    "Weights",
    "Work",
    "batches",
    "measure",
    "register",
    "scores",
    "scoring",
    "summary",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
