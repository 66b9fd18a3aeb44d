"""Iterate, commit, stop, resume: the one loop that drives every solver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from dask.base import get_scheduler
from numpy.typing import NDArray

from dadmm import graph
from dadmm.errors import DadmmError, DivergenceError, RunError
from dadmm.graph import Plan
from dadmm.solvers.base import Pace

Array = NDArray[Any]
Callback = Callable[[int, Mapping[str, float]], None]

RETRIES = 2


def train(
    plan: Plan,
    max_iter: int,
    tol: float,
    callback: Callback | None = None,
    initial: Mapping[str, Array] | None = None,
) -> str:
    """Train from wherever the run's commit record says, until done.

    Parameters
    ----------
    plan : Plan
    max_iter : int
        Iterations in all, those of earlier sessions included.
    tol : float
        Stop when an iteration moves all variables together by at most `tol` times their norm.
        0 never stops early.
    callback : callable or None
        Called as ``callback(iteration, row)`` after each commit.
    initial : mapping or None
        Parameters to start from; None draws them.

    Returns
    -------
    str
        "converged", or "finished" for `max_iter` iterations.

    Raises
    ------
    DivergenceError
        If a number of the report is not finite; the last good iteration stays committed.
    RunError
        If a task failed for a reason outside the method: disk full, workers gone.
    KeyboardInterrupt
        As it came; the last whole iteration is committed by then.
    """
    run = plan.run
    with graph.one_blas_thread():
        try:
            k, rows = _begin_or_resume(plan, initial)
            while k < max_iter and not plan.solver.converged(rows, tol):
                rows.append(_iterate(plan, k, max_iter, rows))
                k += 1
                if callback is not None:
                    callback(k, rows[-1])
            final = compute(graph.finish(plan, plan.solver.best(rows) or k))
        except KeyboardInterrupt:
            if record := run.committed():
                run.commit(record["iteration"], status="interrupted")
            raise
        status = "converged" if plan.solver.converged(rows, tol) else "finished"
        with store_errors():
            run.commit(k, status=status, final=final)
    return status


def _begin_or_resume(
    plan: Plan, initial: Mapping[str, Array] | None
) -> tuple[int, list[dict[str, float]]]:
    """Return the committed iteration and the rows of history up to it."""
    with store_errors():
        record = plan.run.committed()
        k = _start(plan, initial) if record is None else int(record["iteration"])
        rows = rows_of(plan.run.history())
        plan.run.sweep(k, plan.solver.best(rows))
        return k, rows


def rows_of(history: xr.Dataset) -> list[dict[str, float]]:
    """Return a history as one dict of numbers per iteration."""
    names = [str(name) for name in history.data_vars]
    columns = [history[name].values.tolist() for name in names]
    return [
        {name: value for name, value in zip(names, row, strict=True) if not math.isnan(value)}
        for row in zip(*columns, strict=True)
    ]


def _start(plan: Plan, initial: Mapping[str, Array] | None) -> int:
    """Make generation 0 and commit it."""
    run = plan.run
    params = plan.solver.initial(plan.problem, plan.seed) if initial is None else initial
    run.save_params("params/0", params)
    _begin(plan, 0)
    compute(graph.first(plan))
    run.commit(0)
    return 0


def _begin(plan: Plan, generation: int) -> None:
    problem, begin = plan.problem, plan.run.begin
    widths = plan.solver.variables(problem)
    begin(generation, problem.rows, plan.chunks[0], widths, problem.dtype)
    sizes = plan.solver.memory(problem)
    begin(generation, len(plan.chunks), 1, sizes, problem.dtype, dim="chunk")


def _iterate(
    plan: Plan, k: int, max_iter: int, rows: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Do iteration k -> k+1 and commit it; return its row of history."""
    run = plan.run
    pace = Pace(k / max_iter, (k + 1) / max_iter, plan.solver.factor(rows))
    begin = time.perf_counter()
    with store_errors():
        _begin(plan, k + 1)
        row = dict(compute(graph.iteration(plan, k, pace)))
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            run.sweep(k, plan.solver.best(rows))
            run.commit(k, status="diverged")
            raise DivergenceError(
                f"iteration {k + 1} diverged ({', '.join(bad)} not finite); iteration {k} is kept. "
                f"{plan.solver.hint}"
            )
        row["seconds"] = time.perf_counter() - begin
        run.commit(k + 1, row)
        run.sweep(k + 1, plan.solver.best([*rows, row]))
    return row


def compute(task: Any) -> Any:
    """Compute a graph where Dask's own rule says: a current client, else threads.

    Raises
    ------
    RunError
        For whatever stopped the graph and is not an error of dadmm's own: one line that says
        what, with the original as its cause.
    """
    scheduler = get_scheduler(collections=[task])
    distributed = "distributed" in getattr(scheduler, "__module__", "")
    with store_errors():
        try:
            return task.compute(**({"retries": RETRIES} if distributed else {}))
        except (DadmmError, OSError):
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {_line(error)}"
            raise RunError(f"a task failed for good: {what}") from error


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn an error of the file system, such as a full disk, into a `RunError` of one line."""
    try:
        yield
    except OSError as error:
        what = f"the run store could not be read or written: {_line(error)}"
        raise RunError(what) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def convergence_rate(steps: Array) -> tuple[float, float]:
    """Fit ``|z^{k+1} - z^k| ~ c q^k`` to the second half of the steps.

    Parameters
    ----------
    steps : (iterations,) array
        Step lengths.

    Returns
    -------
    tuple of float
        The rate q per iteration (below 1: the steps shrink R-linearly) and the R^2 of the fit of
        ``log step``; NaN for fewer than 8 positive steps.
    """
    steps = np.asarray(steps, np.float64)
    later = np.arange(len(steps)) >= len(steps) // 2
    used = np.flatnonzero(later & (steps > 0) & np.isfinite(steps))
    if len(used) < 4 or len(steps) < 8:
        return math.nan, math.nan
    logs = np.log(steps[used])
    slope, intercept = np.polyfit(used, logs, 1)
    scatter = float(((logs - slope * used - intercept) ** 2).sum())
    spread = float(((logs - logs.mean()) ** 2).sum())
    level = spread <= 1e-20 * float((logs**2).sum())
    return float(np.exp(slope)), 1.0 if level else 1.0 - scatter / spread
