"""Find what a config would train, as `fit` does, but store and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dadmm.app.build import make_estimator
from dadmm.app.planner.forecast import Subject
from dadmm.data.arrays import is_dask
from dadmm.datasets import load_data
from dadmm.estimators.nmf import NMF
from dadmm.estimators.problem import Scale, pose


def of_config(
    table: Mapping[str, Any], memory: int | str | None = None, rows: int | None = None
) -> Subject:
    """Return what a checked config would train, and in what chunks.

    Parameters
    ----------
    memory : int, str or None
        Memory of a worker; None takes the config's.
    rows : int or None
        Rows of the run, of which the config's data are a sample; None takes those of the data.

    Raises
    ------
    InputError
        If `fit` would refuse the config or its data.
    """
    estimator = make_estimator(table, "run")
    estimator.check_options()
    if rows is not None and isinstance(estimator.chunks, list):  # they fit the sample alone
        estimator.chunks = next(iter(estimator.chunks), "auto")
    x, y, *_ = load_data(table["data"], supervised=not isinstance(estimator, NMF))
    scale = Scale(estimator.memory_limit if memory is None else memory, rows=rows)
    posed = pose(estimator, x, y, scale=scale)
    return Subject(
        posed.solver,
        posed.problem,
        posed.chunks,
        posed.x.dtype.itemsize,
        in_place=not posed.copies,
        unit=0 if posed.copies or posed.deal is None else posed.deal.unit,
        shuffled=posed.copies and posed.deal is not None and is_dask(posed.x),
        iterations=estimator.max_iter,
    )
