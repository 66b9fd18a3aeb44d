"""What is drawn of a run's history: the same curves in pictures, reports and live displays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.numerics.types import Array


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
        """Return label to values, (iterations,), for those columns that there are."""
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
