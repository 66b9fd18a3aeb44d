"""Pictures of a run's history (needs matplotlib, the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dadmm.engine.live.curves import OBJECTIVE, RESIDUALS, SCORE, Curves
from dadmm.errors import InputError


def plot_history(history: xr.Dataset, path: str | Path) -> None:
    """Draw the objective and the losses, the residuals, and the score over iterations into a file.

    Raises
    ------
    InputError
        If matplotlib is missing, there is nothing to draw, or the file cannot be written.
    """
    if not Path(path).suffix:
        raise InputError(f"{path}: end the picture's name in .png, .pdf or .svg")
    if not history.sizes["iteration"]:
        raise InputError("there is no iteration to draw yet")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'dadmm[plot]'") from error
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _lines(left, history, OBJECTIVE)
    # A logarithm has no place for an exact 0, such as the head's residual at the start.
    positive = history.where(history > 0)
    _lines(middle, positive, RESIDUALS)
    if any(np.isfinite(values).any() for values in RESIDUALS.of(positive).values()):
        middle.set_yscale("log")
    rate = history.attrs.get("rate", np.nan)
    if np.isfinite(rate):
        middle.set_title(f"{RESIDUALS.title} (step x {rate:.3f} per iteration)")
    _lines(right, history, SCORE)
    for axes in (left, middle, right):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _lines(axes: Any, history: xr.Dataset, curves: Curves) -> None:
    for label, values in curves.of(history).items():
        axes.plot(history["iteration"].values, values, label=label, linewidth=1.6)
    axes.set_title(curves.title)
