"""`pose`: from an estimator and its data to a run's inputs, for fits, plans and calibration."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

import numpy as np
from threadpoolctl import threadpool_info

from dadmm.cluster.connection import current_client, resources
from dadmm.data import arrays, targets
from dadmm.data.deal import ENOUGH, Deal
from dadmm.data.labels import class_weights
from dadmm.data.prepare import prepare_training
from dadmm.data.table import reading_of
from dadmm.data.weights import as_weights, heeded
from dadmm.engine.memory import chunk_rows
from dadmm.errors import OptionError
from dadmm.estimators.order import Place, arrange
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import labels_to_json
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver, check_weights
from dadmm.store.sources import Source


class Trainable(Protocol):
    """The options and hooks of an estimator that `pose` uses."""

    categorical: str
    missing: str
    sample_dims: Any
    random_state: int | None
    memory_limit: int | str | None
    chunks: Any
    copy_data: bool
    shuffle: bool | str
    run: Any
    network_: Network
    # The tables of the config that describes the estimator, if one does: the run keeps them.
    pipeline: ClassVar[Mapping[str, Any] | None] = None

    @property
    def standardize(self) -> str:
        """How inputs are scaled."""

    def check_options(self) -> None:
        """Raise `OptionError` for options that cannot work."""

    def make_solver(self) -> Solver:
        """Return the solver that the options ask for."""

    def encode_target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        """Return targets as columns of numbers, and the labels that the numbers stand for.

        Parameters
        ----------
        y : array-like
        rows : int
            Required number of rows.
        classes : array-like or None
            All labels of the training; None takes those of `y`.

        Returns
        -------
        (rows, outputs) array or None
            Codes of labels, or numbers; None if there is nothing to predict.
        array or None
            The labels; None if there are none.
        """

    def make_problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        """Return the problem to minimise, for inputs of this shape (rows, features).

        `target` and `classes` come from `encode_target`.
        """

    def given_parameters(self, problem: Problem) -> Arrays | None:
        """Return the start parameters that the options give; None takes the solver's own."""

    def last_parameters(self, solver: Solver, problem: Problem, classes: Array | None) -> Arrays:
        """Return the parameters at the end of the last fit.

        Raises
        ------
        ShapeError, OptionError
            If they do not fit the data or the options, or there are none.
        """

    def config(self, solver: Solver) -> dict[str, Any]:
        """Return the options that a run keeps, as JSON."""


@dataclass(frozen=True)
class Scale:
    """The size of a planned run, in place of the data's and of the current workers'.

    Parameters
    ----------
    memory : int, str or None
        Memory of a worker; None sets no limit.
    threads : int
        Threads of a worker.
    rows : int or None
        Rows of the run, of which the data are a sample; None takes those of the data.
    """

    memory: int | str | None = None
    threads: int = 1
    rows: int | None = None


@dataclass(frozen=True)
class Posed:
    """Everything that a run needs to begin.

    Parameters
    ----------
    solver : Solver
    problem : Problem
        Without the fields that are measured once the data is stored.
    chunks : tuple of int
        Rows of each chunk.
    seed : int
    x : (rows, features) array
        The inputs as numbers, not scaled yet.
    y : (rows, outputs) array or None
        Targets, or numbers of labels; None if there is nothing to predict.
    weight : (rows, 1) array or None
        Weights of the samples; the mean of those above 0 is 1.
    source : Source or None
        The zarr array behind `x`, if other processes can open it.
    copies : bool
        Whether the run copies the inputs; otherwise it reads them from `source`.
    deal : Deal or None
        Which rows each chunk has; None for contiguous ranges.
    in_order : bool
        Whether the caller wants these, of a method that heeds the order.
    standardize : str
        How to scale the inputs.
    units : dict of str to Scaling
        Scalings of inputs ("x") and targets ("y") in which `initial` was learnt, if it was learnt.
    initial : dict of str to array, or None
        Parameters to start from; None takes the solver's own.
    attributes : dict
        The JSON record of all this in the store.
    """

    solver: Solver
    problem: Problem
    chunks: tuple[int, ...]
    seed: int
    x: Any
    y: Any
    weight: Any
    source: Source | None
    copies: bool
    deal: Deal | None
    in_order: bool
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
    in_order: bool = False,
    scale: Scale | None = None,
) -> Posed:
    """Return what a run needs to train an estimator on data, and store nothing.

    Parameters
    ----------
    estimator : Trainable
    X, y, sample_weight
        As `fit` takes them.
    solver : Solver or None
        None takes the solver that the options ask for.
    classes : array-like or None
        All labels of the training; None takes those of `y`.
    continues : bool
        Whether training goes on from the estimator's last fit.
    in_order : bool
        Whether chunks are contiguous ranges of the rows, whatever `shuffle` says.
    scale : Scale or None
        None takes the size of the data, and the memory and threads of the current client.

    Raises
    ------
    ShapeError, DataError, OptionError
        If the estimator cannot be trained on the data: what, where, and the cure.
    """
    estimator.check_options()
    solver = estimator.make_solver() if solver is None else solver
    # Parameters of the last fit belong to the columns that they were learnt from.
    form = (estimator.network_.form or Form()) if continues else None
    options = estimator.categorical, estimator.missing, estimator.sample_dims
    reading = reading_of((estimator.pipeline or {}).get("data", {}))
    given = prepare_training(X, y, *options, form, reading, sample_weight)
    count = given.x.shape[0]
    target = heeded(given.y, given.weight, count)
    target, classes = estimator.encode_target(target, count, classes)
    weight = _weights(estimator, given.weight, target, classes)
    problem = estimator.make_problem(given.x.shape, target, classes, solver)
    rows = problem.rows if scale is None or scale.rows is None else scale.rows
    problem = replace(problem, rows=rows, weighted=weight is not None)
    check_weights(solver, problem)
    solver.check(problem)
    seed = _drawn() if estimator.random_state is None else int(estimator.random_state)
    initial: Arrays | None
    if continues:
        learnt = estimator.last_parameters(solver, problem, classes)
        # A new seed gives other orders of the rows than last time.
        initial, seed = learnt, _drawn(seed, int(learnt.get("count_1", 0)))
    else:
        initial = estimator.given_parameters(problem)
    client = current_client()
    if scale is None:
        memory, threads = resources(client, estimator.memory_limit)
    else:
        memory, threads = scale.memory, scale.threads
    shuffle = estimator.shuffle
    if in_order or (shuffle == "auto" and not solver.order_matters):
        shuffle = False

    def rows_per_chunk(in_place: bool, unit: int) -> tuple[int, ...]:
        streamed = arrays.is_dask(given.x) and not in_place
        sizes = estimator.chunks, memory, threads, given.x.dtype.itemsize
        return chunk_rows(solver, problem, *sizes, streamed, in_place, unit, ENOUGH * unit)

    order = arrange(
        shuffle,
        given.stored,
        bool(estimator.copy_data),
        problem.rows * given.x.shape[1] * given.x.dtype.itemsize,
        rows_per_chunk,
        seed,
        Place(estimator.run, in_memory=client is None, known=scale is None),
    )
    chunks = order.chunks
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
        order.source,
        order.copies,
        order.deal,
        estimator.shuffle is False and solver.order_matters and not in_order,
        estimator.standardize,
        _units(estimator.network_) if continues else {},
        initial,
        attributes,
    )


def _drawn(*entropy: int) -> int:
    """Return a seed made from numbers; a random seed without any."""
    return int(np.random.SeedSequence(entropy or None).generate_state(1)[0])


def _units(network: Network) -> dict[str, Scaling]:
    """Return the scalings in which a network's parameters were learnt."""
    outputs = {} if network.outputs is None else {"y": network.outputs}
    return {"x": network.inputs, **outputs}


def _weights(estimator: Trainable, sample_weight: Any, target: Any, classes: Array | None) -> Any:
    """Return a column of weights whose mean is 1, or None."""
    balance = getattr(estimator, "class_weight", None)
    if balance is not None and classes is not None:
        if target.shape[1] > 1:
            raise OptionError("class_weight is for one label per row: use sample_weight")
        return as_weights(sample_weight, target, class_weights(balance, classes))
    return None if sample_weight is None else as_weights(sample_weight, target)


def _versions() -> dict[str, str]:
    names = ("dadmm", "dask", "distributed", "numpy", "scipy", "zarr", "numba", "scikit-learn")
    return {name: version(name) for name in names}


def _machine() -> dict[str, Any]:
    """Return what a result's bits depend on; results repeat only on one kind of processor."""
    blas = [
        f"{i['internal_api']} {i['version']} {i.get('architecture')}" for i in threadpool_info()
    ]
    return {"python": platform.python_version(), "cpu": platform.machine(), "blas": sorted(blas)}
