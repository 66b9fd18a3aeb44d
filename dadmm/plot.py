"""Pictures of a run's history (needs matplotlib, the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dadmm.errors import InputError


def plot_history(history: xr.Dataset, path: str | Path) -> None:
    """Draw the Lagrangian and loss, the residuals, and the score over iterations into a file.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'dadmm[plot]'") from error
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    iteration = history["iteration"].values
    _lines(left, iteration, {"Lagrangian": history["objective"], "loss": history["forward_loss"]})
    left.set_title("objective")
    residuals: dict[str, Any] = {
        "head constraint": history["primal_residual"],
        "stationarity": history["stationarity"],
        "step": history["step"],
    }
    _lines(middle, iteration, residuals)
    _log(middle, residuals)
    rate = history.attrs.get("rate", np.nan)
    middle.set_title(
        f"residuals (step x {rate:.3f} per iteration)" if rate == rate else "residuals"
    )
    _lines(right, iteration, {"training data": history["train_score"]})
    right.set_title("score")
    for axes in (left, middle, right):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _lines(axes: Any, x: Any, series: dict[str, Any]) -> None:
    for name, values in series.items():
        axes.plot(x, values, label=name, linewidth=1.6)


def _log(axes: Any, series: dict[str, Any]) -> None:
    if any((values > 0).any() for values in series.values()):
        axes.set_yscale("log")
