"""A run that is open: its plan, its progress, its results."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed

from dadmm.engine import recovery
from dadmm.engine.examine import Examination, examine
from dadmm.engine.graph import iteration
from dadmm.engine.plan import Plan, Position, Step
from dadmm.engine.result import load_network, load_scaling
from dadmm.engine.stored import stored_plan
from dadmm.errors import StoreError
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.numerics.types import Array
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver
from dadmm.store import Run, ZarrBlocks
from dadmm.store.lock import refuse_locked


def _copied(run: Run, name: str, chunk: int) -> Array:
    """Return a chunk that stays: the next read of a variable would overwrite it."""
    return run.blocks.read(name, chunk).copy()


class Session:
    """A run that is open: its plan, its progress, its results.

    The plan is read and checked once.  All else is read from the store at each call, because a
    driver may be at work on the run.

    Parameters
    ----------
    run : Run
    solver : Solver or None
        The run's solver, if it is not dadmm's own: a store holds no code.
    """

    def __init__(self, run: Run, solver: Solver | None = None) -> None:
        self.run = run
        self._given = solver

    @classmethod
    def open(cls, place: str | PathLike[str] | Run, solver: Solver | None = None) -> Session:
        """Open a stored run.

        Raises
        ------
        StoreError
            If there is none, or it has another format version.
        """
        return cls(place if isinstance(place, Run) else Run.open(place), solver)

    @classmethod
    def of(cls, plan: Plan) -> Session:
        """Return the session of a run whose plan this process has made."""
        found = cls(plan.run)
        found.plan = plan
        return found

    @cached_property
    def plan(self) -> Plan:
        """The plan that the run goes on with: solver, problem, chunks and seed.

        Raises
        ------
        StoreError
            If the store's config is not one that this version knows.
        """
        return stored_plan(self.run, self._given)

    @property
    def solver(self) -> Solver:
        """The method that trains."""
        return self.plan.solver

    @property
    def problem(self) -> Problem:
        """What the method minimises."""
        return self.plan.problem

    @property
    def can_go_on(self) -> bool:
        """Whether the run can be resumed: its data are stored, or it knows where its inputs are."""
        return self.run.can_go_on

    @property
    def pipeline(self) -> dict[str, Any]:
        """The tables of the config that started the run, not checked; {} if there was none.

        Raises
        ------
        StoreError
            If the store holds something else in their place.
        """
        tables = self.run.attributes.get("pipeline") or {}
        if not isinstance(tables, dict):
            raise StoreError(f"{self.run.url} cannot be used: its pipeline is no config")
        return tables

    def refuse_driver(self) -> None:
        """Raise `LockedError` if another driver is at work on the run."""
        if isinstance(self.run.blocks, ZarrBlocks):
            refuse_locked(self.run.blocks, "")

    @property
    def record(self) -> dict[str, Any] | None:
        """The commit record, None before the first commit; `DamageError` if it is damaged."""
        return self.run.committed()

    @property
    def iteration(self) -> int:
        """The committed iteration, 0 before the first commit."""
        return int((self.record or {}).get("iteration", 0))

    @property
    def position(self) -> Position | None:
        """How far the run is, None before the first commit."""
        record = self.record
        return None if record is None else Position.of(record, self.rows())

    def is_done(self, max_iter: int) -> bool:
        """Whether the run is finished, and has converged or come to `max_iter`."""
        record = self.record or {}
        return bool(record.get("final")) and (
            record["iteration"] >= max_iter or record["status"] == "converged"
        )

    def history(self, mend: bool = False) -> xr.Dataset:
        """Return the history of the committed iterations; `mend` leaves damaged arrays out."""
        return self.run.history(mend)

    def rows(self, mend: bool = False) -> list[dict[str, float]]:
        """Return the history as one dict of numbers per iteration."""
        return recovery.rows_of(self.history(mend))

    def graph(self) -> Delayed:
        """Return Dask's graph of the next iteration: its method `visualize` draws it."""
        at = self.position
        step = Step(0, 0, 1) if at is None else Step(at.iteration, at.generation, at.fresh)
        return iteration(self.plan, step)

    def best(self) -> int:
        """Return the generation that the solver would finish with now."""
        at = self.position
        assert at is not None
        _, generation = at.best(self.plan.judge(at.rows).keep)
        return generation

    def network(self, generation: int | None = None) -> Network:
        """Return the finished network; before the end that of a generation, by default the best.

        Raises
        ------
        StoreError
            If the stored parameters do not fit the run's config.
        """
        return load_network(self.plan, self.best() if generation is None else generation)

    def parameters(self, generation: int) -> dict[str, Array]:
        """Return all parameters of a generation, as the solver keeps them."""
        layers = self.plan.layout.layers.values()
        return self.run.load_params(generation, [name for names in layers for name in names])

    def state(self, generation: int | None = None) -> xr.Dataset:
        """Return what the method keeps of each sample, in the caller's order of the samples.

        Nothing is read yet: the arrays are dask's.

        Parameters
        ----------
        generation : int or None
            None takes the committed one.
        """
        run, plan = self.run, self.plan
        if generation is None:
            at = self.position
            assert at is not None
            generation = at.generation
        order = run.order()
        back = slice(None) if order is None else np.argsort(order)
        found = {}
        for name, width in plan.layout.state.items():
            blocks = [
                da.from_delayed(
                    delayed(_copied)(run, f"state/{generation}/{name}", chunk),
                    (rows, width),
                    plan.problem.dtype,
                )
                for chunk, rows in enumerate(plan.chunks)
            ]
            found[name] = ("sample", f"{name}_unit"), da.concatenate(blocks)[back]
        return xr.Dataset(found)

    @property
    def scaling(self) -> dict[str, Scaling]:
        """How inputs ("x") and targets ("y") are scaled."""
        return load_scaling(self.run)

    def check_forms(self) -> None:
        """Raise `StoreError` if committed arrays have a wrong shape, which compiled code trusts."""
        recovery.check_forms(self.plan)

    def mend(self) -> None:
        """Go back by one commit record, and warn, if the last is damaged."""
        recovery.last_record(self.run)

    def examine(self) -> Examination:
        """Read the whole run, in tasks, and compare every byte with its checksum."""
        return examine(self.plan)
