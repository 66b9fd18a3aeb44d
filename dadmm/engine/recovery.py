"""Find the damaged bytes of a run store, and go back to what is intact."""

from __future__ import annotations

import math
import uuid
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import xarray as xr
from dask.delayed import delayed

from dadmm.engine import graph
from dadmm.engine.compute import compute
from dadmm.engine.plan import Plan, Position
from dadmm.engine.result import load_network
from dadmm.engine.tasks import chunk_id
from dadmm.errors import DamageError, RecoveryWarning, StoreError
from dadmm.store import Run, ZarrBlocks

# An array that claims more chunks is forged: reading so many files would take over a day.
MOST_CHUNKS = 10**7


def rows_of(history: xr.Dataset) -> list[dict[str, float]]:
    """Return a history as one dict of numbers per iteration."""
    names = [str(name) for name in history.data_vars]
    columns = [history[name].values.tolist() for name in names]
    rows = zip(*columns, strict=True) if names else [()] * history.sizes["iteration"]
    return [
        {
            name: value
            for name, value in zip(names, row, strict=True)
            if not math.isnan(value) and (name != "generation" or 0 <= value < 2**53)
        }
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
    """Return the history of a run; drop damaged columns, for good."""
    try:
        return rows_of(run.history())
    except DamageError as damage:
        record = run.committed() or {}
        rows = rows_of(run.history(mend=True))
        run.retreat(record["iteration"], record["generation"], rows, record["previous"])
        _warn(f"{damage}; the run goes on without that part of its history")
        return rows


def check_forms(plan: Plan) -> None:
    """Raise `StoreError` if arrays of the committed iteration have a wrong shape.

    Compiled code trusts shapes, and others may have made the store.  Arrays that are missing or
    damaged fail later, when they are read.
    """
    run, problem, solver = plan.run, plan.problem, plan.solver
    blocks = run.blocks
    with suppress(DamageError):
        record = run.committed()
        if record is None or not isinstance(blocks, ZarrBlocks):
            return
        with suppress(DamageError):
            load_network(plan)  # raises if it does not fit: its size is known then
        g, chunks = record["generation"], plan.chunks
        forms: dict[str, tuple[tuple[int, ...], int]] = {
            f"params/{g}/{name}": (array.shape, 0)
            for name, array in solver.initial(problem, 0).items()
        }
        for rows, chunk, widths in (
            (problem.rows, chunks[0], plan.layout.state),
            (len(chunks), 1, plan.layout.memory),
        ):
            forms |= {f"state/{g}/{name}": ((rows, w), chunk) for name, w in widths.items()}
        if "x" not in run.attributes.get("sources", {}):
            forms["data/x"] = ((problem.rows, problem.architecture.widths[0]), chunks[0])
        for name, (shape, chunk) in forms.items():
            with suppress(DamageError):
                found = blocks.spec(name)
                if found.shape != shape or (chunk and found.chunks[0] != chunk):
                    raise StoreError(f"{run.url}: {name} does not fit the run's config")


def fall_back(plan: Plan, at: Position, damage: DamageError) -> Position:
    """Go back to what is intact, commit that, and warn; raise the damage if nothing is.

    In this order: sums that never change are formed again; the last iteration is done again, from
    the generation before it, to the same bits unless the options have changed since; state is made
    anew from the last parameters that are intact.
    """
    run = plan.run
    # Tasks of the attempt that found the damage may still write into the generation it began.
    fresh = at.fresh + 1
    run.claim(fresh)
    group, _, rest = damage.name.partition("/")
    if group == "constants":
        compute(graph.first(plan, at.generation, None))
        run.blocks.settle("constants")
        _warn(f"{damage}; it was formed again")
        return replace(at, fresh=fresh)
    if group not in ("state", "params"):
        raise damage
    best = plan.judge(at.rows).keep
    if group == "params" and best and rest.partition("/")[0] != str(at.generation):
        # Only iterations whose parameters are still stored can take its place.
        there = {*run.blocks.names("params")} - {rest.partition("/")[0]}
        rows = [
            row
            if str(int(row.get("generation", -1))) in there
            else {name: value for name, value in row.items() if name != "validation_score"}
            for row in at.rows
        ]
        run.retreat(at.iteration, at.generation, rows, at.previous)
        _warn(f"{damage}; the best of the other iterations takes the place of iteration {best}")
        return replace(at, rows=rows, fresh=fresh)
    if at.previous is not None and not damages(run, plan.needed(at.previous)):
        k, rows = at.iteration - 1, at.rows[:-1]
        run.retreat(k, at.previous, rows)
        _warn(f"{damage}; iteration {k + 1} is done again")
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
            g = run.first
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
        run.claim(at.fresh + 1)
        run.retreat(k, at.fresh, rows, started=at.fresh)
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
    tasks, key = [], check_key(run)
    for name in names:
        try:
            chunks = run.blocks.count(name)
            if chunks > MOST_CHUNKS:
                raise DamageError(str(run.url), name, None, f"claims {chunks} chunks")
        except DamageError as damage:
            found.append(damage)
            continue
        tasks += [
            delayed(_damage, pure=False)(
                run, name, chunk, dask_key_name=f"{key}-{name}-{chunk_id(chunk)}"
            )
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


def check_key(run: Run) -> str:
    """Return the start of the keys of one check, which no other on the cluster shares."""
    return f"check-{run.attributes['id']}-{uuid.uuid4().hex[:8]}"


def _warn(text: str) -> None:
    warnings.warn(text, RecoveryWarning, stacklevel=2)
