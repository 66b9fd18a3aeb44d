"""From the attributes of a stored run to its plan; what no fit stores is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dadmm.engine.plan import Plan
from dadmm.errors import InputError, StoreError
from dadmm.networks.architecture import Architecture
from dadmm.networks.form import Form
from dadmm.networks.target import labels_from_json
from dadmm.numerics.activations import get_activation
from dadmm.numerics.losses import get_loss
from dadmm.options import check_type
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import stored_solver
from dadmm.solvers.solver import Solver, check_weights
from dadmm.store import Run


def stored_plan(run: Run, solver: Solver | None = None) -> Plan:
    """Return the plan of a stored run, to resume it with.

    Parameters
    ----------
    run : Run
    solver : Solver or None
        The run's solver, if it is not dadmm's own: a store holds no code.

    Raises
    ------
    StoreError
        If the store's config is not one that this version knows.
    """
    stored = run.attributes
    try:
        shape = stored["problem"]["architecture"]
        arch = Architecture(tuple(shape["widths"]), tuple(shape["skips"]), shape["activation"])
        problem = Problem(**{**stored["problem"], "architecture": arch})
        _check(problem, stored)
        solver = stored_solver(stored["config"]["solver"], solver)
        check_weights(solver, problem)
        solver.check(problem)
        return Plan(run, solver, problem, tuple(stored["chunks"]), stored["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{run.url} cannot be used: {error}") from error


def _check(problem: Problem, stored: Mapping[str, Any]) -> None:
    """Raise `InputError` for what no fit stores: others may have made the store."""
    arch = problem.architecture
    for name, number in (
        *(("width", width) for width in arch.widths),
        ("rows", problem.rows),
        ("seed", stored["seed"]),
        ("input_bytes", stored["input_bytes"]),
        ("classes", problem.classes),
        *(("chunk", rows) for rows in stored["chunks"]),
    ):
        least = 0 if name in ("seed", "classes") else 1
        if type(number) is not int or not least <= number < 2**63:
            raise InputError(f"its {name} is {number!r}")
    for name, value in (
        *(("skip", skip) for skip in arch.skips),
        ("weighted", problem.weighted),
        ("supervised", problem.supervised),
        ("flat", stored["flat"]),
    ):
        check_type(name, value, bool)
    for name in ("alpha", "target_variation"):
        check_type(name, getattr(problem, name), float)
    if problem.dtype not in ("float32", "float64"):
        raise InputError(f"its dtype is {problem.dtype!r}")
    labels = stored["classes"]
    known = 0 if labels is None else len(labels_from_json(labels))
    fits = known == problem.classes and known in (0, arch.widths[-1])
    if len(arch.skips) != len(arch.widths) - 1 or not fits:
        raise InputError("its layers do not fit together")
    *full, last = stored["chunks"]
    if sum(full) + last != problem.rows or last > (full or [last])[0] or len(set(full)) > 1:
        raise InputError("its chunks do not tile its rows")
    for name, word in (("activation", arch.activation), ("loss", problem.loss)):
        check_type(name, word, str)
    if not Form.from_json(stored["inputs"]).fits(arch.widths[0]):
        raise InputError("its columns do not fit its network")
    get_activation(arch.activation)
    get_loss(problem.loss)
