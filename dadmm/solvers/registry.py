"""Solvers by name, and their options to and from plain tables (JSON, TOML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.blocks import Block, block_from_table, block_to_table
from dadmm.options import check_options, options_of
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.solver import Solver

SOLVERS: dict[str, type] = {"block": BlockADMM, "relaxed": RelaxedADMM}
# Also that of `dadmm.NMF`, which other estimators cannot choose.
STORED: dict[str, type] = {**SOLVERS, "nmf": Factorization}
DEFAULT = "block"


def make_solver(solver: str | Solver | Mapping[str, Any]) -> Solver:
    """Return the solver that a name, an object, or a config's table stands for.

    An object may be of any subclass of `Solver`; names are those of dadmm's own.

    Raises
    ------
    OptionError
        For a name or an option that does not exist, with the nearest one that does.
    """
    if isinstance(solver, str):
        solver = {"name": solver}
    if not isinstance(solver, Mapping):
        _check(solver)
        return solver
    options = dict(solver)
    name = options.pop("name", DEFAULT)
    if not isinstance(name, str) or name not in STORED:
        raise unknown("solver", name, SOLVERS)
    known = options_of(STORED[name])
    for option, value in options.items():
        homes = [s for s in SOLVERS if option in options_of(SOLVERS[s])]
        if option not in known and homes:
            raise OptionError(
                f"the {name} solver has no option {option!r}: it belongs to {homes[0]!r}, which "
                f"name={homes[0]!r} chooses"
            )
        if option not in known:
            raise unknown(f"option of the {name} solver", option, known)
        if isinstance(value, Sequence) and not isinstance(value, str):
            options[option] = [
                block_from_table(item) if isinstance(item, Mapping) else item for item in value
            ]
    return make_solver(STORED[name](**options))


def _check(solver: object) -> None:
    """Raise `OptionError` unless this is a solver whose options are in their ranges."""
    if isinstance(solver, type) and issubclass(solver, Solver):
        name = solver.__name__
        raise OptionError(f"solver={name} is a class: use an object, {name}()")
    if not isinstance(solver, Solver):
        names = ", ".join(SOLVERS)
        raise OptionError(f"solver={solver!r}: use one of {names}, or an object of a dadmm.Solver")
    if hasattr(solver, "__dataclass_fields__"):
        check_options(solver)


def solver_table(solver: Solver) -> dict[str, Any]:
    """Return a solver as a run stores it, made of plain values only.

    `make_solver` takes the table of one of dadmm's own.  Another's table also names its class: a
    store holds no code, so whoever loads the run must pass the solver.

    Raises
    ------
    OptionError
        If an option of another solver is not a plain value.
    """
    table: dict[str, Any] = {"name": solver.name}
    if type(solver) not in STORED.values():
        table["class"] = f"{type(solver).__module__}:{type(solver).__qualname__}"
    names: Any = options_of(type(solver)) if hasattr(solver, "__dataclass_fields__") else ()
    return table | {name: _plain(name, getattr(solver, name)) for name in names}


def _plain(option: str, value: Any) -> Any:
    """Return an option's value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(option, item) for item in value]
    if isinstance(value, Block):
        return block_to_table(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise OptionError(f"{option}={value!r} cannot be stored: use numbers, text, or lists of these")


def stored_solver(table: Mapping[str, Any], solver: Solver | None) -> Solver:
    """Return the solver of a stored run, given its table, or the one that was passed.

    Raises
    ------
    OptionError
        If the run's solver is not dadmm's own and none was passed, or if another one was.
    """
    if solver is None:
        if "class" in table:
            raise OptionError(
                f"it was trained by {table['class']}, which is not part of dadmm: pass that "
                "solver, as in dadmm.load(path, solver=...)"
            )
        return make_solver(table)
    if solver_table(solver) != table:
        raise OptionError("it was trained by another solver than the one passed")
    return solver
