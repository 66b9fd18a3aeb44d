"""From a stored run, or a network's file, back to what can go on or predict."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

from dadmm.cluster.connection import current_client, resources
from dadmm.engine import loop
from dadmm.engine.memory import chunk_rows
from dadmm.engine.plan import Plan
from dadmm.engine.recovery import check_forms, last_record
from dadmm.errors import DamageError, InputError, OptionError, StoreError, unknown
from dadmm.estimators.base import Trained
from dadmm.estimators.deepfacto import DeepFacto
from dadmm.estimators.nmf import NMF
from dadmm.estimators.supervised import ADMMClassifier, ADMMRegressor
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Block, Dense, NMFBlock
from dadmm.networks.chain import Chain
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.target import labels_from_json
from dadmm.numerics.activations import get_activation
from dadmm.numerics.losses import get_loss
from dadmm.options import check_type
from dadmm.solvers.block.cut import frozen
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.registry import make_solver, solver_table
from dadmm.solvers.solver import Problem, Solver
from dadmm.store import Run

ESTIMATORS: dict[str, type[Trained]] = {
    kind.__name__: kind for kind in (ADMMClassifier, ADMMRegressor, DeepFacto, NMF)
}
# What loading a run gives.
Estimator = ADMMClassifier | ADMMRegressor | DeepFacto | NMF


def open_plan(run: Run, solver: Solver | None = None) -> Plan:
    """Return the plan of a stored run: what to resume it with.

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
        _check_stored(problem, stored)
        if solver is None:
            solver = make_solver(stored["config"]["solver"])
        elif solver_table(solver) != stored["config"]["solver"]:
            raise OptionError("it was trained by another solver than the one passed")
        solver.check(problem)
        return Plan(run, solver, problem, tuple(stored["chunks"]), stored["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{run.url} cannot be used: {error}") from error


def _check_stored(problem: Problem, stored: Mapping[str, Any]) -> None:
    """Raise `InputError` for what no fit would have stored: others may have made the store."""
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


def is_done(run: Run, max_iter: int) -> bool:
    """Whether a run has nothing left to do, with a limit on its iterations."""
    record = run.committed() or {}
    return bool(record.get("final")) and (
        record["iteration"] >= max_iter or record["status"] == "converged"
    )


def load(path: str | Path, *, solver: Solver | None = None) -> Estimator:
    """Return the fitted estimator of a stored run, or of a network's file.

    That of a run is as at the last committed iteration.  That of a ``.safetensors`` file predicts;
    a file has neither the history of the training nor its options.

    Parameters
    ----------
    path : path or URL
        A run; or the file that `Network.save` wrote.
    solver : solver object or None
        The solver of the run: needed where it has blocks of torch modules, for nothing stored
        holds code.

    Raises
    ------
    StoreError
        If there is no run, or it has not finished its first step.
    InputError
        If there is no file, or it is not one that dadmm wrote.
    """
    if str(path).endswith(".safetensors"):
        return _from_file(path, solver)
    run = Run.open(path)
    plan = open_plan(run, solver)
    if run.committed() is None:
        raise StoreError(f"{path} has no committed iteration yet: dadmm resume {path}")
    estimator: Estimator = _stored_estimator(run, plan.solver)
    estimator._take(plan)
    return estimator


def _from_file(path: str | Path, solver: Solver | None) -> Estimator:
    from dadmm.networks.files import safetensors_file

    blocks = frozen(getattr(solver, "blocks", ()))
    given = isinstance(blocks, tuple) and any(isinstance(block, Block) for block in blocks)
    network = safetensors_file.decode(path, blocks if given else ())
    form = network.form or Form()
    kind, options = _kind_of(network)
    if form.encodes:
        options["categorical"] = "one_hot"
    if any(column.fill is not None for column in form.columns):
        options["missing"] = "impute"
    if solver is not None and kind is not NMF:
        options["solver"] = solver
    estimator: Estimator = kind(**options)
    estimator._take_network(network)
    return estimator


def _kind_of(network: Network) -> tuple[Any, dict[str, Any]]:
    """Return the estimator of a network from a file, and those of its options that this tells."""
    arch, target = network.architecture, network.target
    options: dict[str, Any] = {"hidden_layer_sizes": arch.widths[1:-1], "loss": target.loss}
    if isinstance(arch, Architecture):
        options["activation"] = arch.activation
        options["stem"] = "identity" if arch.skip(1) else "dense"
    if isinstance(arch, Chain):
        factors = [block for block in arch.blocks if isinstance(block, NMFBlock)]
        if target.classes is None and list(arch.blocks) == factors[:1]:
            return NMF, _factorisation(network, factors[0])
        if target.classes is not None and len(factors) == 1:
            deep = _deep(arch, factors[0])
            made = [*DeepFacto(**deep)._layers(), Dense(arch.widths[-1], "identity")]
            # The factors may have options that the estimator has not.
            if [factors[0] if isinstance(b, NMFBlock) else b for b in made] == list(arch.blocks):
                return DeepFacto, {**deep, "loss": target.loss}
    return ADMMRegressor if target.classes is None else ADMMClassifier, options


def _deep(chain: Chain, factors: NMFBlock) -> dict[str, Any]:
    """Return the options of a `DeepFacto` that has the blocks of a chain, if one can have them."""
    at = chain.blocks.index(factors)
    layers = [block for block in chain.blocks[:-1] if isinstance(block, Dense)]
    return {
        "n_components": factors.n_components,
        "hidden_layer_sizes": chain.widths[1 : at + 1],
        "head_layer_sizes": chain.widths[at + 2 : -1],
        "activation": layers[0].activation if layers else "relu",
        "factor_weight": factors.weight,
        "sparsity": factors.l1,
        "overlap": factors.overlap,
        "factor_init": factors.init,
        "code_sweeps": factors.sweeps,
    }


def _factorisation(network: Network, factors: NMFBlock) -> dict[str, Any]:
    """Return the options of an `NMF` that has a network."""
    penalty = factors.l1 + factors.l2
    shifted = network.inputs.centre.any() or (network.inputs.scale != 1).any()
    return {
        "n_components": factors.n_components,
        "alpha_W": penalty / network.architecture.widths[0],
        "l1_ratio": factors.l1 / penalty if penalty else 0.0,
        "dtype": network.dtype.name,
        "shift": bool(shifted),
    }


def resume(
    path: str | Path,
    *,
    max_iter: int | None = None,
    verbose: bool = False,
    callback: loop.Callback | None = None,
    solver: Solver | None = None,
    force: bool = False,
) -> Estimator:
    """Go on with a stored run from its last committed iteration, to the same bits.

    Where bytes of the store are damaged, it goes back to what is intact, and warns
    (`RecoveryWarning`).

    Parameters
    ----------
    path : path or URL
    max_iter : int or None
        A new limit on the iterations in all; None keeps the run's own.  A learning-rate schedule
        is stretched to it from then on.
    solver : solver object or None
        As for `load`.

    force : bool
        Take the run from another driver that seems to be at work on it.

    Raises
    ------
    StoreError
        If there is no run, it was killed before its data was stored, or another driver is at work
        on it.
    """
    run = Run.open(path)
    plan = open_plan(run, solver)
    with run.locked(force):
        if not run.has_data:
            raise StoreError(
                f"{path} was stopped before its data was stored: start the fit again, over it "
                "(overwrite=True, --overwrite)"
            )
        estimator = _stored_estimator(run, plan.solver)
        estimator.verbose = verbose
        if max_iter is not None:
            estimator.max_iter = max_iter
            estimator._check_options()
        # The chunks are what they are: workers that are too small for them are refused here.
        memory, threads = resources(current_client(), None)
        size = run.attributes["input_bytes"]
        in_place = bool(run.attributes.get("sources"))
        chunk_rows(plan.solver, plan.problem, plan.chunks, memory, threads, size, in_place=in_place)
        check_forms(plan)
        last_record(run)  # goes back to the one before, if that one is damaged
        if is_done(run, estimator.max_iter):
            # A finished network that is damaged is made again.
            with suppress(DamageError):
                estimator._take(plan)
                return estimator
        return estimator._train(plan, callback)


def _stored_estimator(run: Run, solver: Solver) -> Any:
    config = run.attributes["config"]
    try:
        if str(config["estimator"]) not in ESTIMATORS:
            raise unknown("estimator", config["estimator"], ESTIMATORS)
        params = dict(config["params"])
        for name in params:
            if name.endswith("_layer_sizes"):
                params[name] = tuple(params[name])
        if isinstance(params.get("class_weight"), list):
            params["class_weight"] = dict(params["class_weight"])
        if isinstance(params.get("sample_dims"), list):
            params["sample_dims"] = tuple(params["sample_dims"])
        kind = ESTIMATORS[config["estimator"]]
        blocks = frozen(getattr(solver, "blocks", ()))
        factors = isinstance(blocks, tuple) and any(isinstance(b, NMFBlock) for b in blocks)
        if (kind is NMF) != isinstance(solver, Factorization) or (
            kind is DeepFacto and not factors
        ):
            raise ValueError(f"its network is not one of {kind.__name__}")
        if "solver" in signature(kind).parameters:
            params["solver"] = solver
        made = kind(run=run.url, **params)
        made._check_options()
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{run.url} cannot be used: {error}") from error
    return made
