"""Draw a run's history (needs matplotlib, the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from dadmm.engine.live import charts
from dadmm.engine.live.curves import CONVERGENCE, RESIDUALS
from dadmm.errors import InputError


def plot_history(history: xr.Dataset, path: str | Path) -> None:
    """Draw the objective and losses, the residuals, and the score over iterations into a file.

    Raises
    ------
    InputError
        If matplotlib is missing, there is nothing to draw, or the file cannot be written.
    """
    if not Path(path).suffix:
        raise InputError(f"{path}: end the picture's name in .png, .pdf or .svg")
    x, rate = history["iteration"].values, history.attrs.get("rate", np.nan)
    drawn = []
    for curves in CONVERGENCE:
        told = f" (step x {rate:.3f} per iteration)" if curves is RESIDUALS else ""
        title = curves.title + told * bool(np.isfinite(rate))
        drawn.append(charts.lines(title, x, curves.of(history), log=curves.log))
    known = [chart for chart in drawn if chart is not None]
    if not known:
        raise InputError("there is no iteration to draw yet")
    charts.save(known, path)
