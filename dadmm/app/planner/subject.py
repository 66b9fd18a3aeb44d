"""What a config is about: looked up as `fit` would, but nothing is stored or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dadmm.app.build import make_estimator
from dadmm.app.planner.forecast import Subject
from dadmm.data import arrays
from dadmm.data.prepare import prepare_training
from dadmm.datasets import load_data
from dadmm.engine.memory import chunk_rows
from dadmm.estimators.nmf import NMF
from dadmm.solvers.solver import Counted


def of_config(
    table: Mapping[str, Any], memory: int | str | None = None, rows: int | None = None
) -> Subject:
    """Return what a checked config would train, and in what chunks.

    Parameters
    ----------
    memory : int, str or None
        Memory of a worker; None takes the config's.
    rows : int or None
        How many there will be, of which the config's data are a sample.

    Raises
    ------
    InputError
        As `fit` does for what it would not train on.
    """
    estimator = make_estimator(table, "run")
    estimator._check_options()
    solver = estimator._make_solver()
    assert isinstance(solver, Counted)  # as all are
    x, y, *_ = load_data(table["data"], supervised=not isinstance(estimator, NMF))
    given = prepare_training(x, y, estimator.categorical, estimator.missing, None, None)
    target, classes = estimator._target(given.y, given.x.shape[0])
    problem = estimator._problem(given.x.shape, target, classes, solver)
    weighted = getattr(estimator, "class_weight", None) is not None
    problem = replace(problem, rows=rows or problem.rows, weighted=weighted)
    solver.check(problem)
    in_place = given.stored is not None and not estimator.copy_data
    size = given.x.dtype.itemsize
    chosen = estimator.chunks
    if rows is not None and isinstance(chosen, list):
        chosen = chosen[0] if chosen else "auto"
    chunks = chunk_rows(
        solver,
        problem,
        chosen,
        estimator.memory_limit if memory is None else memory,
        1,
        size,
        streamed=arrays.is_dask(given.x),
        in_place=in_place,
    )
    return Subject(solver, problem, chunks, size, in_place, True, estimator.max_iter)
