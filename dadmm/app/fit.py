"""Train as a config says, and report in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dadmm.app.build import make_estimator, refuse_other
from dadmm.app.terminal import err, say
from dadmm.cluster import connection
from dadmm.datasets import load_data
from dadmm.engine.live.dashboard import open_page
from dadmm.engine.session import Session
from dadmm.errors import StoreError
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.nmf import NMF


def run_config(
    table: Mapping[str, Any], path: str, overwrite: bool = False, quiet: bool = False
) -> Any:
    """Train as a checked config says, print the scores, and return the estimator and its data."""
    estimator = make_estimator(table, path, overwrite)
    if not overwrite:
        _refuse_existing(path, estimator)
    data = load_data(table["data"], supervised=not isinstance(estimator, NMF))
    estimator.verbose = not quiet
    with connection.connect(table.get("cluster", {})) as client:
        say_where(open_page(client), path, quiet)
        try:
            estimator.fit(data[0], data[1])
        except KeyboardInterrupt:
            say_interrupted(path)
            raise
    if not quiet:
        say_scores(estimator, data)
        say_next_steps(path)
    return estimator, data


def placed(table: Mapping[str, Any], place: str | None, workers: int | None) -> dict[str, Any]:
    """Return a config's [cluster] table with the command line's place and workers (0: threads)."""
    found = dict(table)
    if place is not None or workers == 0:
        found = {k: v for k, v in found.items() if k not in ("profile", "scheduler")}
        found |= {} if place is None else connection.as_table(place)
    return found if workers is None else {**found, "workers": workers}


def _refuse_existing(path: str, estimator: Any) -> None:
    """Raise `StoreError`, before any work, if a run exists; say how its config differs."""
    try:
        session = Session.open(path)
    except StoreError:
        return  # nothing is there, or no run: creating the store then raises the error
    refuse_other(session, estimator, "choose another path, or replace it with --overwrite")
    raise StoreError(f"{path} exists: go on with `dadmm resume {path}`, or use --overwrite")


def say_where(dashboard: str | None, path: str, quiet: bool) -> None:
    """Print the address of the dashboard, if there is one, and of the run."""
    if quiet:
        return
    if dashboard:
        say("dashboard", dashboard)
    say("run", path)


def say_interrupted(path: str) -> None:
    """Print how far a stopped run has come, and how to go on with it."""
    try:
        session = Session.open(path)
        reached = session.iteration
        if session.can_go_on:
            err.print(f"stopped; iteration {reached} is stored. Go on with: dadmm resume {path}")
            return
    except (StoreError, OSError):
        pass  # there is no run yet, or its disk is gone
    err.print("stopped before the data was stored; start it again")


def say_scores(estimator: Any, data: Any) -> None:
    """Print scores and status; `data` is (x, y, x_test, y_test), or None if it is out of reach."""
    history = estimator.history_
    if data is None:
        parts = [f"train score {history.attrs.get('train_score', np.nan):.4f}"]
    else:
        name = "accuracy" if isinstance(estimator, ADMMClassifier) else "R2"
        name = "explained" if isinstance(estimator, NMF) else name
        parts = [f"train {name} {estimator.score(data[0], data[1]):.4f}"]
        if data[2] is not None:
            parts.append(f"test {name} {estimator.score(data[2], data[3]):.4f}")
    say("scores", ", ".join(parts))
    seconds = float(history["seconds"].sum()) if "seconds" in history else 0.0
    say("status", f"{history.attrs['status']}, {estimator.n_iter_} iterations in {seconds:.1f} s")


def say_next_steps(path: str) -> None:
    """Print how to look at a run."""
    say("look at it", f"dadmm show {path} --plot convergence.png")
