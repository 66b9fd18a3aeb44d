"""Train a network: the seam (`Solver`), and one folder for each method; no Dask, no files.

solver      the seam: what a training method is
parts       what a method asks for: the layout of its arrays, a schedule of passes
problem     what a method is given: the problem, and one chunk of data at a time
sums        what visits return, and how it is added up
evaluate    losses and scores of the network that predicts
stopping    when training stops, which iteration is kept
counts      what a method costs, counted by itself
measured    the memory of a method that counts nothing
rows        rows, a few at a time
registry    solvers by name, and their options as plain tables
block/      stochastic Block-ADMM
relaxed/    relaxed ADMM for residual networks
nmf/        non-negative matrix factorisation

This package exports the names that a method of one's own needs.
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

_NAMES = {
    "counts": ("Counts", "Footprint", "Granularity", "Work", "register"),
    "evaluate": ("measure", "scores"),
    "parts": ("Layout", "Pace", "Part", "Pass", "Phase", "Schedule"),
    "problem": ("Chunk", "Problem"),
    "rows": ("batches",),
    "solver": ("Solver", "Weights", "scoring", "summary"),
    "stopping": ("HeldOut", "NoBetterLoss", "ObjectiveFlat", "StepBelow", "Stopping", "Verdict"),
    "sums": ("Sums",),
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

_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__getattr__, __dir__ = lazy(__name__, _HOMES)
