"""Iterate, commit, stop, resume: the one loop that drives every solver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from dask.base import get_scheduler
from numpy.typing import NDArray

from dadmm import graph
from dadmm.errors import DadmmError, DivergenceError, RunError
from dadmm.graph import Plan

Array = NDArray[Any]
Callback = Callable[[int, Mapping[str, float]], None]

RETRIES = 2


def train(plan: Plan, max_iter: int, tol: float, callback: Callback | None = None) -> str:
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
            k, row = _begin_or_resume(plan)
            while k < max_iter and not _converged(row, tol):
                row = _iterate(plan, k)
                k += 1
                if callback is not None:
                    callback(k, row)
            final = compute(graph.finish(plan, k))
        except KeyboardInterrupt:
            if record := run.committed():
                run.commit(record["iteration"], status="interrupted")
            raise
        status = "converged" if _converged(row, tol) else "finished"
        with store_errors():
            run.commit(k, status=status, final=final)
    return status


def _converged(row: Mapping[str, float], tol: float) -> bool:
    return bool(row) and tol > 0 and row["step"] <= tol * row["size"]


def _begin_or_resume(plan: Plan) -> tuple[int, dict[str, float]]:
    """Return the committed iteration and its row of history, which is empty for iteration 0.

    A run that was killed after its last iteration must see that it had converged.
    """
    with store_errors():
        record = plan.run.committed()
        k = _start(plan) if record is None else int(record["iteration"])
        plan.run.sweep(k)
        rows = plan.run.history().isel(iteration=slice(-1, None))
        return k, {str(name): float(value) for name, values in rows.items() for value in values}


def _start(plan: Plan) -> int:
    """Make generation 0 and commit it."""
    run = plan.run
    params = plan.solver.initial(plan.problem, plan.seed)
    run.save_params("params/0", params)
    _begin(plan, 0)
    compute(graph.first(plan))
    run.commit(0)
    return 0


def _begin(plan: Plan, generation: int) -> None:
    widths = plan.solver.variables(plan.problem)
    plan.run.begin(generation, plan.problem.rows, plan.chunks[0], widths, plan.problem.dtype)


def _iterate(plan: Plan, k: int) -> dict[str, float]:
    """Do iteration k -> k+1 and commit it; return its row of history."""
    run = plan.run
    begin = time.perf_counter()
    with store_errors():
        _begin(plan, k + 1)
        row = dict(compute(graph.iteration(plan, k)))
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            run.sweep(k)
            run.commit(k, status="diverged")
            raise DivergenceError(
                f"iteration {k + 1} diverged ({', '.join(bad)} not finite); iteration {k} is kept. "
                f"{plan.solver.hint}"
            )
        row["seconds"] = time.perf_counter() - begin
        run.commit(k + 1, row)
        run.sweep(k + 1)
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
