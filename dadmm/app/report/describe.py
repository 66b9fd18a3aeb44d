"""Describe a run and its progress, in words and in a table of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dadmm.engine.session import Session
from dadmm.networks.architecture import Architecture
from dadmm.networks.chain import Chain
from dadmm.networks.network import Network

COLUMNS = {
    "objective": ("objective", ".5g"),
    "forward_loss": ("loss", ".5g"),
    "train_score": ("score", ".4f"),
    "validation_score": ("validation", ".4f"),
    "primal_residual": ("residual", ".1e"),
    "stationarity": ("gradient", ".1e"),
    "reconstruction_error": ("reconstruction", ".4f"),
    "reseeded": ("reseeded", ".0f"),
    "step": ("step", ".1e"),
    "seconds": ("seconds", ".2f"),
}


def summary(estimator: Any, session: Session) -> dict[str, str]:
    """Return the main facts of a run, by name; `estimator` comes from `dadmm.load`."""
    run, history = session.run, estimator.history_
    attributes = run.attributes
    solver = attributes["config"]["solver"]
    chunks = len(attributes["chunks"])
    facts = {
        "run": str(run.url),
        "network": network(estimator.network_),
        "solver": ", ".join(f"{k}={v}" if k != "name" else str(v) for k, v in solver.items()),
        "data": f"{attributes['problem']['rows']:,} rows in {chunks} chunk{'s' * (chunks > 1)}",
        "status": f"{history.attrs['status']}, {estimator.n_iter_} iterations",
    }
    if chunks > 1 and "chunk_difference" in history.attrs:
        facts["order"] = order(session.run.attributes)
    if "train_score" in history.attrs:
        facts["train score"] = f"{history.attrs['train_score']:.4f}"
    if np.isfinite(history.attrs.get("rate", np.nan)):
        facts["convergence"] = (
            f"the step shrinks to {history.attrs['rate']:.4f} of the one before it "
            f"(R2 of that fit {history.attrs['rate_r2']:.3f})"
        )
    return facts


def order(attributes: Mapping[str, Any]) -> str:
    """Return in words which rows the chunks of a run have, and how different the chunks are."""
    pieces = attributes.get("sources", {}).get("x", {}).get("unit")
    how = "dealt by stored chunks" if pieces else "dealt at random"
    if not attributes.get("dealt"):
        how = "in contiguous ranges"
    apart = attributes["chunk_difference"]
    return f"rows {how}; {apart:.1%} of the variance lies between chunks"


def network(network: Network) -> str:
    """Return a network's widths, its kind, and its number of parameters."""
    arch = network.architecture
    if isinstance(arch, Architecture):
        layers = f"{sum(arch.skips)} of {arch.depth - 1} hidden layers residual"
        kind = f"{arch.activation}, {layers}"
    else:
        assert isinstance(arch, Chain)
        kind = f"a chain of {len(arch.blocks)} blocks, {len(arch.constraints)} constrained"
    count = sum(array.size for array in network.params.values())
    return f"{' - '.join(map(str, arch.widths))}, {kind}, {count:,} parameters"


def history_rows(history: xr.Dataset, most: int) -> list[list[str]]:
    """Return a header, and up to `most` rows spread over the history, as text."""
    shown = [name for name in COLUMNS if name in history]
    found = [["iteration", *(COLUMNS[name][0] for name in shown)]]
    count = history.sizes["iteration"]
    for i in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)):
        cells = [format(float(history[name][i]), COLUMNS[name][1]) for name in shown]
        found.append([str(int(history["iteration"][i])), *cells])
    return found
