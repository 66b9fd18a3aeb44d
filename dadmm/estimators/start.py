"""Begin a run: open its store, and write all that the run needs to go on by itself."""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from dask.utils import format_bytes

from dadmm.cluster.connection import current_client
from dadmm.data import ingest
from dadmm.data.arrays import as_matrix
from dadmm.data.deal import Deal
from dadmm.data.moments import Moments, difference, sum_moments
from dadmm.engine.compute import store_errors
from dadmm.engine.plan import Plan
from dadmm.engine.result import save_scaling
from dadmm.engine.session import Session
from dadmm.errors import DadmmError, OrderWarning, RunError, StoreError, ValidationWarning
from dadmm.estimators.problem import Posed
from dadmm.networks.scaling import Scaling
from dadmm.solvers.problem import Problem
from dadmm.solvers.stopping import HeldOut
from dadmm.store import KEPT_PARAMS, Run
from dadmm.store.room import SPARE
from dadmm.store.scratch import places, scratch
from dadmm.store.sources import Source

# Chunks that differ by more cost accuracy: see docs/how-to/order-of-rows.md.
DIFFERENT = 0.1
# The committed state, that before it, and the next.
GENERATIONS = 3
# Metadata and the history.
FILES = 4 * 2**20
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def place(path: str | Path | None, overwrite: bool, posed: Posed) -> Iterator[Run]:
    """Open a new run's store: at a path, or in memory that local workers share."""
    if path is not None:
        run = Run.create(path, posed.attributes, overwrite=overwrite)
        with run.locked():
            try:
                yield run
            except BaseException as error:
                stopped = isinstance(error, (KeyboardInterrupt, RunError))
                with suppress(OSError, DadmmError):
                    if not (run.can_go_on if stopped else run.has_data):
                        run.check_lock()  # another driver may hold it by now
                        run.delete()  # it cannot be resumed, and would block the next fit
                raise
        return
    if current_client() is None:
        yield Run.in_memory(posed.attributes)
        return
    with _shared_folder(posed) as folder:
        yield Run.create(folder, posed.attributes, overwrite=True, durable=False)


@contextmanager
def _shared_folder(posed: Posed) -> Iterator[str]:
    """Make a folder that the workers of a local cluster share, and remove it at the end.

    It is in the system's shared memory if the run fits there, else among the temporary files.
    """
    client = current_client()
    address = client.scheduler.address
    if not any(host in address for host in ("inproc://", "127.0.0.1", "localhost", "[::1]")):
        raise RunError(
            f"the workers of {address} may not see this machine's memory: give run=, a path or URL "
            "that all of them reach"
        )
    needed = stored_bytes(posed)
    if not (found := places()):
        raise RunError("no temporary files can be written: give run=, a path that can be")
    memory, *disk = found
    roomy = min(shutil.disk_usage(memory).free, SPARE * psutil.virtual_memory().available)
    with scratch(memory if roomy > needed or not disk else disk[0]) as folder:
        try:
            yield str(folder / "run")
        except RunError as error:
            if getattr(error.__cause__, "errno", None) in FULL:
                raise RunError(
                    f"{folder.parent} is full: give run=, a path with room for about "
                    f"{format_bytes(needed)}"
                ) from error
            raise


def stored_bytes(posed: Posed) -> int:
    """Return the most bytes that a run takes in its store."""
    problem, layout = posed.problem, posed.solver.layout(posed.problem)
    itemsize = np.dtype(problem.dtype).itemsize
    # Inputs twice: once more while they are shuffled.  Then the order, weight and targets.
    inputs = 2 * problem.architecture.widths[0] * posed.x.dtype.itemsize if posed.copies else 0
    targets = 1 if problem.classes else problem.architecture.widths[-1]
    row = inputs + 8 * (2 + targets) + GENERATIONS * itemsize * sum(layout.state.values())
    chunk = GENERATIONS * itemsize * sum(layout.memory.values())
    params = sum(array.nbytes for array in posed.solver.initial(problem, 0).values())
    # The parameters of the last iterations, the best one, the next one, and the network.
    kept = (KEPT_PARAMS + 3) * params
    whole = max(posed.chunks) * len(posed.chunks) * row + len(posed.chunks) * chunk + kept
    return whole + whole // 8 + FILES


def begin(run: Run, posed: Posed) -> tuple[Plan, dict[str, Moments]]:
    """Store all that a run needs to go on by itself.

    Returns
    -------
    Plan
    dict of str to Moments
        Of the inputs ("x") and, if they are scaled, of the targets ("y").
    """
    found = {}
    problem, chunks, deal = posed.problem, posed.chunks, posed.deal
    scaling, apart = dict(posed.units), 0.0
    with store_errors():
        if posed.weight is not None:
            ingest.store(run, "weight", posed.weight, chunks, deal)
        if posed.y is not None:
            codes = problem.classes if problem.one_class else 0
            y = ingest.store(run, "y", posed.y, chunks, deal, codes, problem.weighted)
            apart = difference(y, alike=problem.classes > 0)
            if isinstance(posed.solver.stopping, HeldOut):
                _warn_of_few(problem, sum_moments(y))
            if not problem.classes:
                how = "none" if posed.standardize == "none" else "feature"
                found["y"] = total = sum_moments(y)
                scaling.setdefault("y", total.scaling(how))
                variation = float((total.squares / scaling["y"].scale ** 2).sum())
                variation *= problem.rows / total.count
                problem = replace(problem, target_variation=variation)
        columns = 1 if problem.classes else problem.architecture.widths[-1]
        save_scaling(run, {"y": scaling.get("y", Scaling.identity(columns))})
        if posed.initial is not None:
            run.save_params("initial", posed.initial)
            run.blocks.settle("initial")
        inputs = Inputs(
            posed.source,
            posed.copies,
            deal,
            posed.x.dtype.str,
            posed.standardize,
            posed.in_order,
            apart,
        )
        # From here on the run can go on by itself if it finds its inputs again; but not with the
        # scaling of a last fit, which is not stored yet.
        again = inputs.to_json() if posed.source is not None and "x" not in scaling else None
        run.update(problem=asdict(problem), pending=again)
        plan = Plan(run, posed.solver, problem, chunks, posed.seed)
        found["x"] = finish(plan, inputs, posed.x, scaling.get("x"))
    return plan, found


def _warn_of_few(problem: Problem, y: Moments) -> None:
    """Warn if too few rows can be held out for early stopping to go by; `y` are the targets'."""
    which = "data of four rows or more"
    few = y.count < 4
    if problem.one_class and not problem.weighted:
        which = "two rows or more of each class"
        few = bool((np.round(y.mean * y.count) == 1).any())
    if few:
        warnings.warn(
            f"early_stopping has too few rows to hold out: give {which}, or use "
            "early_stopping=False",
            ValidationWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class Inputs:
    """How a run comes by its inputs, once all else is stored.

    Parameters
    ----------
    source : Source or None
        The zarr array that holds them; None if there is none that other processes can open.
    copies : bool
        Whether the run copies them.
    deal : Deal or None
    dtype : str
        Of the inputs.
    standardize : str
    in_order : bool
        Whether the rows were left in order by a method that heeds it.
    apart : float
        The difference between the chunks' targets.
    """

    source: Source | None
    copies: bool
    deal: Deal | None
    dtype: str
    standardize: str
    in_order: bool
    apart: float

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: Any) -> Inputs:
        """Read what `to_json` wrote; raise `StoreError` if it did not write it."""
        try:
            deal = None
            if table["deal"] is not None:
                names = ("rows", "chunk", "seed", "unit")
                deal = Deal(*(int(table["deal"][name]) for name in names))
                if min(deal.seed, deal.unit) < 0 or deal.unit > deal.chunk:
                    raise ValueError("no fit deals rows so")
            source = Source.parse(table["source"])
            return cls(
                source,
                bool(table["copies"]),
                deal,
                str(table["dtype"]),
                str(table["standardize"]),
                bool(table["in_order"]),
                float(table["apart"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                "the run store does not say where its inputs are: it is damaged"
            ) from error


def finish(plan: Plan, inputs: Inputs, x: Any, scaling: Scaling | None = None) -> Moments:
    """Store or look at the inputs, and how they are scaled: then the run goes on by itself.

    Return the moments of the inputs.

    Parameters
    ----------
    plan : Plan
    inputs : Inputs
    x : (rows, features) array
        The inputs.
    scaling : Scaling or None
        Given if the parameters were learnt in it; None forms it.
    """
    run, chunks, deal, source = plan.run, plan.chunks, inputs.deal, inputs.source
    weighted = plan.problem.weighted and not plan.solver.heeds_rows_of_weight_0(plan.problem)
    if inputs.copies:
        if deal is not None:
            ingest.store_order(run, chunks, deal)
        found = ingest.store(run, "x", x, chunks, deal, weighted=weighted)
    else:
        assert source is not None
        found = ingest.keep_in_place(run, source, chunks, deal, weighted)
    run.blocks.delete("shuffle")
    total = sum_moments(found)
    apart = difference(found, alike=inputs.standardize == "global")
    differ = max(inputs.apart, apart)
    run.update(dealt=deal is not None, chunk_difference=differ)
    # Its presence says that all data are stored.
    save_scaling(run, {"x": total.scaling(inputs.standardize) if scaling is None else scaling})
    run.update(pending=None)
    # What random rows may give by chance, thrice over, counts for nothing.
    chance = 3 * (2 * len(chunks)) ** 0.5 / sum(chunks)
    if inputs.in_order and differ > DIFFERENT + chance:
        warnings.warn(
            f"the chunks differ: {differ:.0%} of the variance of the inputs or of the targets lies "
            "between them, so agents that train on different chunks do not agree; with "
            "shuffle='auto' each chunk has rows from everywhere",
            OrderWarning,
            stacklevel=2,
        )
    return total


def _found(inputs: Inputs, shape: tuple[int, int]) -> Any:
    """Return the inputs of a run that was stopped, as a dask array; refuse others."""
    source = inputs.source
    assert source is not None
    try:
        array = source.open()
        found = as_matrix(array)
    except Exception as error:
        raise StoreError(
            f"{source} cannot be read ({type(error).__name__}: {error}); it must stay as it was "
            "when the run began"
        ) from error
    if (found.shape, found.dtype.str) != (shape, inputs.dtype):
        raise StoreError(
            f"{source} has shape {found.shape} and dtype {found.dtype.str}, {shape} and "
            f"{inputs.dtype} when the run began: restore it, or start the fit again, over the run "
            "(overwrite=True, --overwrite)"
        )
    return found


def go_on(session: Session) -> bool:
    """Finish the inputs of a run that was stopped while it stored them; False if it cannot.

    It can if the inputs are in a zarr array, which it finds again.
    """
    run, plan = session.run, session.plan
    table = run.attributes.get("pending")
    if table is None:
        return False
    inputs = Inputs.from_json(table)
    if inputs.deal and (inputs.deal.rows, inputs.deal.chunk) != (plan.problem.rows, plan.chunks[0]):
        raise StoreError(f"{run.url} cannot be used: its order of the rows does not fit its config")
    with store_errors():
        shape = plan.problem.rows, plan.problem.architecture.widths[0]
        finish(plan, inputs, _found(inputs, shape))
    return True
