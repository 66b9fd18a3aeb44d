"""When bytes of a run store are damaged: find which, and go back to what is intact."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import xarray as xr
from dask.delayed import delayed

from dadmm import graph
from dadmm.errors import DamageError, RecoveryWarning
from dadmm.execute import compute
from dadmm.graph import Plan
from dadmm.store import Run

if TYPE_CHECKING:
    from dadmm.loop import Position


def rows_of(history: xr.Dataset) -> list[dict[str, float]]:
    """Return a history as one dict of numbers per iteration."""
    names = [str(name) for name in history.data_vars]
    columns = [history[name].values.tolist() for name in names]
    rows = zip(*columns, strict=True) if names else [()] * history.sizes["iteration"]
    return [
        {name: value for name, value in zip(names, row, strict=True) if not math.isnan(value)}
        for row in rows
    ]


def last_record(run: Run) -> dict[str, Any] | None:
    """Return the commit record; if it is damaged, go back to the one before it."""
    try:
        return run.committed()
    except DamageError as damage:
        before = run.committed_before()
        if before is None:
            raise
        run.blocks.publish(before)
        _warn(f"{damage}; going on from the record before it, iteration {before['iteration']}")
        return before


def whole_rows(run: Run) -> list[dict[str, float]]:
    """Return the history of a run; without what is damaged, which is then forgotten for good."""
    try:
        return rows_of(run.history())
    except DamageError as damage:
        record = run.committed() or {}
        rows = rows_of(run.history(mend=True))
        run.retreat(record["iteration"], record["generation"], rows, record["previous"])
        _warn(f"{damage}; the run goes on without that part of its history")
        return rows


def fall_back(plan: Plan, at: Position, damage: DamageError) -> Position:
    """Go back to what is intact, commit that, and say so; raise the damage if nothing is.

    In this order: sums that never change are formed again, to the same bits; the iteration before
    is repeated, to the same bits; state is made anew from the last parameters that are intact.
    """
    run = plan.run
    group, _, rest = damage.name.partition("/")
    if group == "constants":
        compute(graph.first(plan, at.generation, None))
        _warn(f"{damage}; it was formed again")
        return at
    if group not in ("state", "params"):
        raise damage
    best = plan.solver.best(at.rows)
    if group == "params" and best and rest.partition("/")[0] != str(at.generation):
        row = {k: v for k, v in at.rows[best - 1].items() if k != "validation_score"}
        rows = [*at.rows[: best - 1], row, *at.rows[best:]]
        run.retreat(at.iteration, at.generation, rows, at.previous)
        _warn(f"{damage}; the best of the other iterations takes the place of iteration {best}")
        return replace(at, rows=rows)
    # Tasks of the attempt that found the damage may still write into the generation it began.
    fresh = at.fresh + 1
    if at.previous is not None and not damages(run, plan.arrays(at.previous)):
        k, rows = at.iteration - 1, at.rows[:-1]
        run.retreat(k, at.previous, rows)
        _warn(f"{damage}; going on from iteration {k}, to the same bits")
        return replace(
            at, iteration=k, generation=at.previous, previous=None, rows=rows, fresh=fresh
        )
    return _from_parameters(plan, replace(at, fresh=fresh), damage)


def _from_parameters(plan: Plan, at: Position, damage: DamageError) -> Position:
    """Make state anew from the last intact parameters."""
    run = plan.run
    for k in range(at.iteration, -1, -1):
        g = at.generation if k == at.iteration else int(at.rows[k - 1].get("generation", -1))
        if k == 0 < at.iteration:
            g = 0
        names = plan.parameters(g)
        if damages(run, names):
            continue
        run.save_params(
            f"params/{at.fresh}", {n.rpartition("/")[2]: run.blocks.get(n) for n in names}
        )
        plan.begin(at.fresh)
        compute(graph.first(plan, at.fresh, at.fresh))
        rows = at.rows[:k]
        if rows:
            rows[-1] = {**rows[-1], "generation": float(at.fresh)}
        run.retreat(k, at.fresh, rows)
        _warn(
            f"{damage}; going on from the parameters of iteration {k}, the state made anew: the "
            "result will differ from that of an undisturbed run"
        )
        return replace(
            at, iteration=k, generation=at.fresh, previous=None, rows=rows, fresh=at.fresh + 1
        )
    raise damage


def damages(run: Run, names: Iterable[str]) -> list[DamageError]:
    """Read whole arrays, in tasks, and return what is wrong with them."""
    found: list[DamageError] = []
    tasks = []
    for name in names:
        try:
            chunks = run.blocks.count(name)
        except DamageError as damage:
            found.append(damage)
            continue
        tasks += [
            delayed(_damage, pure=False)(run, name, chunk, dask_key_name=f"check-{name}-{chunk}")
            for chunk in range(chunks)
        ]
    if tasks:
        found += [damage for damage in compute(delayed(list)(tasks)) if damage is not None]
    return found


def _damage(run: Run, name: str, chunk: int) -> DamageError | None:
    try:
        run.blocks.read(name, chunk)
    except DamageError as damage:
        return damage
    return None


def _warn(text: str) -> None:
    warnings.warn(text, RecoveryWarning, stacklevel=2)
