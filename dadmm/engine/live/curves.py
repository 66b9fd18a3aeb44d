"""Which columns of history are drawn, in which colours: in reports, files and live displays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.numerics.types import Array

# Lines differ on white and on black, and by their dashes.
COLOURS = (
    "#3b82c4", "#d9772b", "#3f9b5f", "#b4548f", "#8a7ac8", "#b09023", "#c25450", "#4f959c",
)  # fmt: skip
DASHES = ((), (6, 3), (2, 3), (9, 3, 2, 3))


@dataclass(frozen=True)
class Curves:
    """The curves of one chart.

    Parameters
    ----------
    title : str
    series : dict of str to str
        Label to column of history.
    log : bool
        Whether the vertical axis is logarithmic, for which an exact 0 counts as missing.
    """

    title: str
    series: Mapping[str, str]
    log: bool = False

    def of(self, columns: Mapping[Any, Any]) -> dict[str, Array]:
        """Return the values, (iterations,), by label, of the columns that are there."""
        return {
            label: np.asarray(columns[name], float)
            for label, name in self.series.items()
            if name in columns
        }


OBJECTIVE = Curves(
    "objective",
    {"objective": "objective", "loss": "forward_loss", "validation loss": "validation_loss"},
)
RESIDUALS = Curves(
    "residuals",
    {
        "constraints": "primal_residual",
        "stationarity": "stationarity",
        "reconstruction": "reconstruction_error",
        "step": "step",
    },
    log=True,
)
SCORE = Curves("score", {"training data": "train_score", "held out": "validation_score"})
CONVERGENCE = (OBJECTIVE, RESIDUALS, SCORE)


def number(value: float) -> str:
    """Return a number in a few characters."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
