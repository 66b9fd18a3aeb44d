"""`load` and `resume`: from a stored run, or a network's file, back to an estimator."""

from __future__ import annotations

from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

from dadmm.cluster.connection import current_client, resources
from dadmm.engine import loop
from dadmm.engine.memory import check_workers
from dadmm.engine.session import Session
from dadmm.errors import DamageError, StoreError, unknown
from dadmm.estimators.base import Trained
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.deepfacto import DeepFacto
from dadmm.estimators.nmf import NMF
from dadmm.estimators.regressor import ADMMRegressor
from dadmm.estimators.start import go_on
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Block, Dense, NMFBlock
from dadmm.networks.chain import Chain
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.solvers.block.cut import frozen
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.solver import Solver
from dadmm.store.place import absolute

ESTIMATORS: dict[str, type[Trained]] = {
    kind.__name__: kind for kind in (ADMMClassifier, ADMMRegressor, DeepFacto, NMF)
}
# What loading a run gives.
Estimator = ADMMClassifier | ADMMRegressor | DeepFacto | NMF


def load(path: str | Path, *, solver: Solver | None = None) -> Estimator:
    """Return the fitted estimator of a stored run, or of a network's file.

    A run gives the estimator of its last committed iteration.  A ``.safetensors`` file gives an
    estimator that predicts; the file has neither the history of training nor its options.

    Parameters
    ----------
    path : path or URL
        A run, or a file that `Network.save` wrote.
    solver : solver object or None
        The solver of the run; needed if it has blocks of torch modules, because a store holds no
        code.

    Raises
    ------
    StoreError
        If there is no run, or it has not finished its first step.
    InputError
        If there is no file, or dadmm did not write it.
    """
    if str(path).endswith(".safetensors"):
        return _from_file(absolute(path), solver)
    return trained(Session.open(path, solver))


def trained(session: Session) -> Estimator:
    """Return the fitted estimator of a run's last committed iteration.

    Raises
    ------
    StoreError
        If the run has not finished its first step, or its config is of another version.
    """
    estimator = untrained(session)
    if session.record is None:
        url = session.run.url
        raise StoreError(f"{url} has no committed iteration yet: dadmm resume {url}")
    estimator.adopt(session)
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
    estimator.adopt_network(network)
    return estimator


def _kind_of(network: Network) -> tuple[Any, dict[str, Any]]:
    """Return the class of a file's network, and the options that the network tells."""
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
            made = [*DeepFacto(**deep).layers(), Dense(arch.widths[-1], "identity")]
            # The factors may have options that the estimator lacks.
            if [factors[0] if isinstance(b, NMFBlock) else b for b in made] == list(arch.blocks):
                return DeepFacto, {**deep, "loss": target.loss}
    return ADMMRegressor if target.classes is None else ADMMClassifier, options


def _deep(chain: Chain, factors: NMFBlock) -> dict[str, Any]:
    """Return options of a `DeepFacto` for the blocks of a chain; the caller checks the fit."""
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
    """Return the options of the `NMF` of a network."""
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
    """Continue a stored run from its last committed iteration, to the same bits.

    If bytes of the store are damaged, the run goes back to its last intact iteration and warns
    (`RecoveryWarning`).

    Parameters
    ----------
    path : path or URL
    max_iter : int or None
        A new limit on all iterations together; None keeps the run's own.  A learning-rate schedule
        stretches to it from then on.
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
    session = Session.open(path, solver)
    plan = session.plan  # refuses an unusable run before locking it
    with session.run.locked(force):
        estimator = untrained(session)
        estimator.verbose = verbose
        if max_iter is not None:
            estimator.max_iter = max_iter
            estimator.check_options()
        # The chunks are fixed, so workers that are too small for them are refused here.
        check_workers(plan, *resources(current_client(), None))
        if not session.run.has_data and not go_on(session):
            raise StoreError(
                f"{path} was stopped before its data was stored: start the fit again, over it "
                "(overwrite=True, --overwrite)"
            )
        session.check_forms()
        session.mend()
        if session.is_done(estimator.max_iter):
            # A damaged network of a finished run is trained again.
            with suppress(DamageError):
                estimator.adopt(session)
                return estimator
        return estimator.train(session, callback)


def untrained(session: Session) -> Estimator:
    """Return an estimator with the options that a run keeps.

    Raises
    ------
    StoreError
        If the options are of another version, or do not fit the run's solver.
    """
    run, solver = session.run, session.solver
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
        made: Estimator = kind(run=run.url, **params)
        made.check_options()
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{run.url} cannot be used: {error}") from error
    return made
