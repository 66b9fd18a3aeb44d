"""Iterate, commit, stop, resume: the one loop that drives every solver."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dadmm.engine import graph, tasks, timing
from dadmm.engine.compute import compute, everywhere, store_errors
from dadmm.engine.plan import Plan, Position, Step
from dadmm.engine.recovery import damages, fall_back, last_record, whole_rows
from dadmm.errors import DadmmError, DamageError, DivergenceError
from dadmm.solvers.parts import Pace

Callback = Callable[[int, Mapping[str, float]], None]

# A session that keeps finding damage has a broken disk.
FALL_BACKS = 3


@dataclass(frozen=True)
class Until:
    """How long to iterate, and what to call on the way.

    Parameters
    ----------
    max_iter : int
        Iterations in all, those of earlier sessions included.
    tol : float
        Stop when an iteration moves all variables together by at most `tol` times their norm.
        0 never stops early.
    callback : callable or None
        Called as ``callback(iteration, row)`` after each commit; it may raise `StopIteration` to
        make that iteration the last.
    before : callable or None
        Called before each iteration.
    """

    max_iter: int
    tol: float = 0.0
    callback: Callback | None = None
    before: Callable[[], None] | None = None


def train(plan: Plan, until: Until) -> str:
    """Train from the run's commit record on, until done.

    Returns
    -------
    str
        "converged", "stopped" by the callback, or "finished" for `max_iter` iterations.

    Raises
    ------
    DivergenceError
        If a number of the report is not finite; the last good iteration stays committed.
    DamageError
        If bytes of the store are damaged.  A session that resumes warns and goes back to what is
        intact, at most `FALL_BACKS` times.
    RunError
        If a task failed for a reason outside the method: disk full, workers gone.
    KeyboardInterrupt
        Passed on; the last whole iteration is committed by then.
    """
    run = plan.run
    with tasks.one_blas_thread():
        try:
            at, resumed = _begin_or_resume(plan)
            for _ in range(FALL_BACKS if resumed else 0):
                try:
                    return _go(plan, at, until, resumed)
                except DamageError as damage:
                    with store_errors():
                        at = fall_back(plan, at, damage)
            return _go(plan, at, until)
        except KeyboardInterrupt:
            with suppress(OSError, DadmmError):
                run.mark("interrupted")
            raise


def _go(plan: Plan, at: Position, until: Until, resumed: bool = False) -> str:
    """Iterate from a position until done, and finish."""
    run = plan.run
    status = "finished"
    while at.iteration < until.max_iter and not plan.judge(at.rows, until.tol).stop:
        if until.before is not None:
            until.before()
        _iterate(plan, at, until.max_iter)
        try:
            if until.callback is not None:
                until.callback(at.iteration, at.rows[-1])
        except StopIteration:
            status = "stopped"
            break
    if plan.judge(at.rows, until.tol).stop:
        status = "converged"
    with store_errors():
        best, kept = at.best(plan.judge(at.rows).keep)
        if resumed and (found := damages(run, plan.parameters(kept))):
            raise found[0]  # finishing would not read all arrays
        final = compute(graph.finish(plan, best, kept, at.fresh))
        run.finish(status, final, at.fresh)
    return status


def _begin_or_resume(plan: Plan) -> tuple[Position, bool]:
    """Return the position to go on from, and whether an earlier session reached it."""
    run = plan.run
    with store_errors():
        resumed = last_record(run) is not None
        if not resumed:
            _start(plan)
        rows = whole_rows(run)
        at = Position.of(run.committed() or {}, rows)
        if resumed:
            # Late tasks of earlier sessions may still write into generations that these claimed.
            at.fresh += 1
            run.claim(at.fresh)
            run.tidy()
        _sweep(plan, at)
        return at, resumed


def _sweep(plan: Plan, at: Position) -> None:
    """Delete the generations not needed to go on, or to go back by one iteration."""
    before = [] if at.previous is None or not plan.run.blocks.spare else [at.previous]
    plan.run.sweep([at.generation, *before], at.held(plan.judge(at.rows).keep) + before)


def _start(plan: Plan) -> None:
    """Make the first generation, from given parameters or drawn ones; commit it."""
    run, first = plan.run, plan.run.first
    given = run.blocks.names("initial")
    params = {name: run.blocks.get(f"initial/{name}") for name in given}
    drawn = plan.solver.initial(plan.problem, plan.seed)
    run.save_params(f"params/{first}", drawn | params)
    if not params:
        for number, each in enumerate(plan.passes.before):
            compute(graph.before(plan, each, number, first))
    plan.begin(first)
    compute(graph.first(plan, first, first))
    run.settle(first)
    run.commit(0, first)
    run.blocks.delete("initial")


def _iterate(plan: Plan, at: Position, max_iter: int) -> None:
    """Do iteration k -> k+1 and commit it; move the position on."""
    run, k = plan.run, at.iteration
    pace = Pace(k / max_iter, (k + 1) / max_iter, plan.judge(at.rows).rate)
    started = time.perf_counter()
    with store_errors():
        plan.begin(at.fresh)
        row = dict(compute(graph.iteration(plan, Step(k, at.generation, at.fresh), pace)))
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            _sweep(plan, at)
            run.mark("diverged")
            raise DivergenceError(
                f"iteration {k + 1} diverged ({', '.join(bad)} not finite); iteration {k} is kept. "
                f"{plan.solver.hint}"
            )
        computed = time.perf_counter()
        run.settle(at.fresh)
        row |= {"seconds": computed - started, "generation": float(at.fresh)}
        row |= {f"{timing.PREFIX}settle": time.perf_counter() - computed}
        row |= timing.columns(everywhere(timing.take, plan.session)) | dict(plan.budget)
        run.commit(k + 1, at.fresh, row, at.generation)
        at.rows.append(row)
        at.iteration, at.previous = k + 1, at.generation
        at.generation, at.fresh = at.fresh, at.fresh + 1
        _sweep(plan, at)
