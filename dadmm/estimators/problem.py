"""From an estimator and its data to what a run needs: the same for fits, plans and calibration.

`pose` does it; what differs between estimators it asks them: see `Trainable`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import zarr
from threadpoolctl import threadpool_info

from dadmm.cluster.connection import current_client, resources
from dadmm.data import arrays, targets
from dadmm.data.prepare import prepare_training
from dadmm.engine.memory import chunk_rows
from dadmm.errors import OptionError
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import labels_to_json
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver, check_weights


class Trainable(Protocol):
    """What `pose` asks an estimator, beside its options about inputs, memory and the seed."""

    categorical: str
    missing: str
    sample_dims: Any
    standardize: str
    random_state: int | None
    memory_limit: int | str | None
    chunks: Any
    copy_data: bool
    network_: Network
    pipeline: Mapping[str, Any] | None

    def check_options(self) -> None:
        """Raise `OptionError` for options that cannot work."""

    def make_solver(self) -> Solver:
        """Return the solver that the options ask for."""

    def encode_target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        """Return targets as columns of numbers, and the labels that these stand for.

        Parameters
        ----------
        y : array-like
        rows : int
            How many there must be.
        classes : array-like or None
            All labels that there will be; None takes those of `y`.

        Returns
        -------
        (rows, outputs) array or None
            Codes of labels, or numbers; None if there is nothing to predict.
        array or None
            The labels, None where there are none.
        """

    def make_problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        """Return what is to be minimised over so many rows of so many features.

        `target` and `classes` are what `encode_target` returned.
        """

    def given_parameters(self, problem: Problem) -> Arrays | None:
        """Return parameters to start from that the options give; None for the solver's own."""

    def last_parameters(self, solver: Solver, problem: Problem, classes: Array | None) -> Arrays:
        """Return the parameters at which the last fit stopped.

        Raises
        ------
        ShapeError, OptionError
            If they do not fit the data or the options, or there are none.
        """

    def config(self, solver: Solver) -> dict[str, Any]:
        """Return what a run keeps of the options, as JSON."""


@dataclass(frozen=True)
class Scale:
    """How large a run will be, where that is not this data on the workers of now.

    Parameters
    ----------
    memory : int, str or None
        Of a worker; None does not limit.
    threads : int
        What a worker does at once.
    rows : int or None
        How many there will be, of which the data are a sample; None takes those of the data.
    """

    memory: int | str | None = None
    threads: int = 1
    rows: int | None = None


@dataclass(frozen=True)
class Posed:
    """What a run needs to begin.

    Parameters
    ----------
    solver : Solver
    problem : Problem
        Without what only the stored data tell.
    chunks : tuple of int
        Rows of each.
    seed : int
    x : (rows, features) array
        The inputs as numbers, not scaled yet.
    y : (rows, outputs) array or None
        Targets, or labels by their number; None if there is nothing to predict.
    weight : (rows, 1) array or None
        Weights of the samples, whose mean is 1.
    stored : zarr.Array or None
        The array that `x` is, if it may be read where it is.
    standardize : str
        How the inputs will be scaled.
    units : dict of str to Scaling
        Scalings of inputs ("x") and targets ("y") that `initial` was learnt in, if it was learnt.
    initial : dict of str to array, or None
        Parameters to start from; None for the solver's own.
    attributes : dict
        What the store keeps of all this, as JSON.
    """

    solver: Solver
    problem: Problem
    chunks: tuple[int, ...]
    seed: int
    x: Any
    y: Any
    weight: Any
    stored: zarr.Array[Any] | None
    standardize: str
    units: Mapping[str, Scaling]
    initial: Arrays | None
    attributes: Mapping[str, Any]


def pose(
    estimator: Trainable,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    solver: Solver | None = None,
    classes: Any = None,
    continues: bool = False,
    scale: Scale | None = None,
) -> Posed:
    """Return what a run needs to train an estimator on data; nothing is stored yet.

    Parameters
    ----------
    estimator : Trainable
    X, y, sample_weight
        As `fit` takes them.
    solver : Solver or None
        For the one that the options ask for.
    classes : array-like or None
        All labels that there will be, where `y` may lack some.
    continues : bool
        Whether training goes on from the estimator's last fit.
    scale : Scale or None
        For this data, and what the current client has.

    Raises
    ------
    ShapeError, DataError, OptionError
        For what cannot be trained: what, where, and the cure.
    """
    estimator.check_options()
    solver = estimator.make_solver() if solver is None else solver
    # Parameters that go on are for the columns that they were learnt from.
    form = (estimator.network_.form or Form()) if continues else None
    options = estimator.categorical, estimator.missing, estimator.sample_dims
    given = prepare_training(X, y, *options, form)
    target, classes = estimator.encode_target(given.y, given.x.shape[0], classes)
    weight = _weights(estimator, given.rows(sample_weight), target, classes)
    problem = estimator.make_problem(given.x.shape, target, classes, solver)
    rows = problem.rows if scale is None or scale.rows is None else scale.rows
    problem = replace(problem, rows=rows, weighted=weight is not None)
    check_weights(solver, problem)
    solver.check(problem)
    seed = _drawn() if estimator.random_state is None else int(estimator.random_state)
    initial: Arrays | None
    if continues:
        learnt = estimator.last_parameters(solver, problem, classes)
        # Other orders of the rows than the last time.
        initial, seed = learnt, _drawn(seed, int(learnt.get("count_1", 0)))
    else:
        initial = estimator.given_parameters(problem)
    stored = None if estimator.copy_data else given.stored
    if scale is None:
        memory, threads = resources(current_client(), estimator.memory_limit)
    else:
        memory, threads = scale.memory, scale.threads
    chunks = chunk_rows(
        solver,
        problem,
        estimator.chunks,
        memory,
        threads,
        given.x.dtype.itemsize,
        streamed=arrays.is_dask(given.x),
        in_place=stored is not None,
    )
    attributes = {
        "config": estimator.config(solver),
        "pipeline": estimator.pipeline,
        "problem": asdict(problem),
        "chunks": list(chunks),
        "input_bytes": given.x.dtype.itemsize,
        "seed": seed,
        "classes": None if classes is None else labels_to_json(classes),
        "flat": given.y is not None and targets.is_flat(given.y),
        "inputs": given.form.to_json(),
        "versions": _versions(),
        "machine": _machine(),
    }
    return Posed(
        solver,
        problem,
        chunks,
        seed,
        given.x,
        target,
        weight,
        stored,
        estimator.standardize,
        _units(estimator.network_) if continues else {},
        initial,
        attributes,
    )


def _drawn(*entropy: int) -> int:
    """Return a seed that follows from some numbers, or from none."""
    return int(np.random.SeedSequence(entropy or None).generate_state(1)[0])


def _units(network: Network) -> dict[str, Scaling]:
    """Return the scalings that a network's parameters were learnt in."""
    outputs = {} if network.outputs is None else {"y": network.outputs}
    return {"x": network.inputs, **outputs}


def _weights(estimator: Trainable, sample_weight: Any, target: Any, classes: Array | None) -> Any:
    """Return a column of weights whose mean is 1, or None."""
    balance = getattr(estimator, "class_weight", None)
    if balance is not None and classes is not None:
        if target.shape[1] > 1:
            raise OptionError("class_weight is for one label per row: use sample_weight")
        return targets.as_weights(sample_weight, target, targets.class_weights(balance, classes))
    return None if sample_weight is None else targets.as_weights(sample_weight, target)


def _versions() -> dict[str, str]:
    names = ("dadmm", "dask", "distributed", "numpy", "scipy", "zarr", "numba", "scikit-learn")
    return {name: version(name) for name in names}


def _machine() -> dict[str, Any]:
    """Return what the bits of a result depend on: results repeat on one kind of processor."""
    blas = [
        f"{i['internal_api']} {i['version']} {i.get('architecture')}" for i in threadpool_info()
    ]
    return {"python": platform.python_version(), "cpu": platform.machine(), "blas": sorted(blas)}
