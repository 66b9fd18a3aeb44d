"""Make estimators from configs, and read the config of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import numpy as np

from dadmm.app.config import check_config, differences
from dadmm.data.table import Table, reading_of
from dadmm.engine.session import Session
from dadmm.errors import InputError, OptionError, StoreError
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.deepfacto import DeepFacto
from dadmm.estimators.nmf import NMF
from dadmm.estimators.problem import Trainable
from dadmm.estimators.regressor import ADMMRegressor
from dadmm.solvers.registry import make_solver

# The tables of a config that a run keeps.
KEPT = ("data", "model", "solver", "cluster")

KINDS: dict[str, Any] = {
    "classification": ADMMClassifier,
    "regression": ADMMRegressor,
    "factorization": NMF,
}

# Where a key of [model] belongs, in words.
HOMES = {
    **{f"task={task!r}": kind for task, kind in KINDS.items()},
    "task='classification' with n_components": DeepFacto,
}


def make_estimator(config: Mapping[str, Any], path: str, overwrite: bool = False) -> Any:
    """Return the estimator that a checked config describes, with its run at `path`."""
    model = dict(config.get("model", {}))
    task = model.pop("task", "classification")
    kind = KINDS[task]
    if kind is ADMMClassifier and "n_components" in model:
        kind = DeepFacto
    known = signature(kind).parameters
    for key in model:
        if key not in known:
            here = next(home for home, has in HOMES.items() if has is kind)
            homes = [home for home, has in HOMES.items() if key in signature(has).parameters]
            raise OptionError(f"[model] {key} is no key of {here}: it is for {' or '.join(homes)}")
    if "solver" in known:
        model["solver"] = make_solver(config.get("solver", {}))
    elif config.get("solver"):
        raise OptionError(f"[solver] is for networks, not for task={task!r}: leave it out")
    made = kind(
        run=path,
        overwrite=overwrite,
        memory_limit=config.get("cluster", {}).get("memory_limit"),
        **model,
    )
    made.pipeline = {table: config[table] for table in KEPT if table in config}
    return made


def refuse_other(session: Session, estimator: Trainable, cure: str) -> None:
    """Raise `StoreError` if a run's config differs from that of the estimator to continue it."""
    run, here = session.run, estimator.config(estimator.make_solver())
    changed = differences(run.attributes["config"], here)
    # A run that the library began has no [data] to compare.
    stored, given = session.pipeline, estimator.pipeline or {}
    if "data" in stored and "data" in given:
        changed += differences(stored["data"], given["data"], "data.")
    if changed:
        raise StoreError(f"{run.url} exists with another config ({'; '.join(changed[:3])}): {cure}")


def stored_config(path: str) -> dict[str, Any]:
    """Return the config that a run was started with; {} if there was none."""
    table = Session.open(path).pipeline
    if table:
        check_config(table, path)  # the store may come from somebody else
    return table


def source_of(path: str, source: str, said: Mapping[str, Any]) -> Table:
    """Return the table to predict for: read as `said`, or else as the config of a run says."""
    try:
        stored = reading_of(stored_config(path).get("data", {}))
    except StoreError:
        stored = {}  # a network without a run
    return Table(source, **{**stored, **said})


def parameter_digest(estimator: Any) -> str:
    """Return a SHA-256 over names, shapes, dtypes and bytes of the network's parameters."""
    found = hashlib.sha256()
    for name, array in sorted(estimator.network_.params.items()):
        found.update(f"{name} {array.dtype.str} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def method_of(model: Any, path: str, proba: bool, codes: bool) -> Callable[[Any], Any]:
    """Return the method that predicts labels or numbers, probabilities, or codes.

    Raises
    ------
    InputError
        If the network of a run gives none of that kind.
    """
    if proba and codes:
        raise InputError("both proba and codes are asked for: leave out one")
    if proba and not hasattr(model, "predict_proba"):
        kind = "factorization" if isinstance(model, NMF) else "regression"
        raise InputError(f"{path} is a {kind}: it has no probabilities; leave out proba")
    if codes and not hasattr(model, "transform"):
        raise InputError(f"{path} has no factors: it has no codes; leave out codes")
    if codes or isinstance(model, NMF):
        return model.transform
    return model.predict_proba if proba else model.predict
