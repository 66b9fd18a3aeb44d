"""Iterate, commit, stop, resume: the one loop that drives every solver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
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
        record = run.committed()
        k = _start(plan) if record is None else int(record["iteration"])
        run.sweep(k)
        status = "finished"
        try:
            while k < max_iter:
                row = _iterate(plan, k)
                k += 1
                if callback is not None:
                    callback(k, row)
                if row["step"] <= tol * row["size"]:
                    status = "converged"
                    break
            final = compute(graph.finish(plan, k))
        except KeyboardInterrupt:
            run.commit(k, status="interrupted")
            raise
        run.commit(k, status=status, final=final)
    return status


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
    _begin(plan, k + 1)
    row = dict(compute(graph.iteration(plan, k)))
    if not all(math.isfinite(value) for value in row.values()):
        run.sweep(k)
        run.commit(k, status="diverged")
        bad = ", ".join(name for name, value in row.items() if not math.isfinite(value))
        raise DivergenceError(
            f"iteration {k + 1} diverged ({bad} not finite); iteration {k} is kept. "
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
    try:
        return task.compute(**({"retries": RETRIES} if distributed else {}))
    except (DadmmError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise RunError(f"the run store could not be read or written: {error}") from error
    except Exception as error:
        raise RunError(f"a task failed for good: {type(error).__name__}: {error}") from error


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
    return float(np.exp(slope)), 1.0 - scatter / spread if spread > 0 else 1.0
