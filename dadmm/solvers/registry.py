"""Solvers by name, and their options to and from plain tables (JSON, TOML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.blocks import block_from_table, block_to_table
from dadmm.options import check_options
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.solver import Solver

SOLVERS: dict[str, type] = {"block": BlockADMM, "relaxed": RelaxedADMM}
# That of `dadmm.NMF` too, which is no choice of other estimators.
STORED: dict[str, type] = {**SOLVERS, "nmf": Factorization}
DEFAULT = "block"


def make_solver(solver: str | Solver | Mapping[str, Any]) -> Solver:
    """Return the solver that a name, an object, or a config's table stands for.

    Raises
    ------
    OptionError
        For a name or an option that does not exist, with the nearest one that does.
    """
    if isinstance(solver, str):
        solver = {"name": solver}
    if not isinstance(solver, Mapping):
        if not isinstance(solver, tuple(STORED.values())):
            raise OptionError(f"solver={solver!r}: use one of {', '.join(SOLVERS)} or its object")
        check_options(solver)
        return solver
    options = dict(solver)
    name = options.pop("name", DEFAULT)
    if not isinstance(name, str) or name not in STORED:
        raise unknown("solver", name, SOLVERS)
    known = [field.name for field in fields(STORED[name])]
    for option, value in options.items():
        homes = [s for s in SOLVERS if option in {f.name for f in fields(SOLVERS[s])}]
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


def solver_table(solver: Solver) -> dict[str, Any]:
    """Return a solver as `make_solver` takes it, made of plain values only."""
    table: dict[str, Any] = {"name": solver.name}
    for field in fields(solver):  # type: ignore[arg-type]
        value = getattr(solver, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, Sequence) and not isinstance(value, str):
            items = [v.item() if isinstance(v, np.generic) else v for v in value]
            value = [v if isinstance(v, (int, str)) else block_to_table(v) for v in items]
        table[field.name] = value
    return table
