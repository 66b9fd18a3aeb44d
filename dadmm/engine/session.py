"""A run that is open: who it is, how far it has come, and what it has made."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import Any

import xarray as xr
from dask.delayed import Delayed

from dadmm.engine import recovery
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


class Session:
    """A run that is open: who it is, how far it has come, and what it has made.

    Who it is (`plan`, `solver`, `problem`) is read and checked once.  The rest is read from the
    store each time somebody asks, because a driver may be at work on the run.

    Parameters
    ----------
    run : Run
    solver : Solver or None
        The run's solver, where the store cannot make it: nothing stored holds code.
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

    # ------------------------------------------------------------------------------- who it is

    @cached_property
    def plan(self) -> Plan:
        """What to go on with: solver, problem, chunks and seed.

        Raises
        ------
        StoreError
            If the store's config is not one that this version knows.
        """
        return stored_plan(self.run, self._given)

    @property
    def solver(self) -> Solver:
        """The method that trains it."""
        return self.plan.solver

    @property
    def problem(self) -> Problem:
        """What it minimises."""
        return self.plan.problem

    @property
    def has_data(self) -> bool:
        """Whether all that it needs is stored, so that it can go on by itself."""
        return self.run.has_data

    @property
    def pipeline(self) -> dict[str, Any]:
        """The tables of the config that it was started with, not checked; {} if there was none.

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

    # ------------------------------------------------------------------------ how far it has come

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
        """How far it is, None before the first commit."""
        record = self.record
        return None if record is None else Position.of(record, self.rows())

    def is_done(self, max_iter: int) -> bool:
        """Whether nothing is left to do, with a limit on the iterations."""
        record = self.record or {}
        return bool(record.get("final")) and (
            record["iteration"] >= max_iter or record["status"] == "converged"
        )

    def history(self, mend: bool = False) -> xr.Dataset:
        """Return the history of the committed iterations; see `Run.history`."""
        return self.run.history(mend)

    def rows(self, mend: bool = False) -> list[dict[str, float]]:
        """Return the history as one dict of numbers per iteration."""
        return recovery.rows_of(self.history(mend))

    def graph(self) -> Delayed:
        """Return Dask's graph of the next iteration, to look at: its `visualize` draws it."""
        at = self.position
        step = Step(0, 0, 1) if at is None else Step(at.iteration, at.generation, at.fresh)
        return iteration(self.plan, step)

    # -------------------------------------------------------------------------- what it has made

    def best(self) -> int:
        """Return the generation that the solver would finish with now."""
        at = self.position
        assert at is not None
        _, generation = at.best(self.plan.judge(at.rows).keep)
        return generation

    def network(self, generation: int | None = None) -> Network:
        """Return the finished network; before it is, that of a generation, by default the best.

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

    @property
    def scaling(self) -> dict[str, Scaling]:
        """How inputs ("x") and targets ("y") are scaled."""
        return load_scaling(self.run)

    # ---------------------------------------------------------------------------------- damage

    def check_forms(self) -> None:
        """Raise `StoreError` if committed arrays have not the form that compiled code trusts."""
        recovery.check_forms(self.plan)

    def mend(self) -> None:
        """Go back to the commit record before the last, and warn, if the last is damaged."""
        recovery.last_record(self.run)

    def examine(self) -> recovery.Examination:
        """Read the whole run, in tasks, and compare every byte with its checksum."""
        return recovery.examine(self.plan)
