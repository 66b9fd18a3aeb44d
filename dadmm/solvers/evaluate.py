"""The network that predicts, run forward on the training data: losses and scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dadmm.errors import OptionError
from dadmm.numerics import softmax_kernels
from dadmm.numerics.algebra import square
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import lasting
from dadmm.solvers.problem import Chunk, Problem, gather
from dadmm.solvers.rows import batches
from dadmm.solvers.sums import Sums

_work = lasting()
# Rows of a forward pass at once: its activations stay in a core's cache.
EVALUATED = 512


def scores(problem: Problem, out: Array, y: Array, weight: Array | None = None) -> Sums:
    """Return the loss and the score of some outputs, as sums.

    Parameters
    ----------
    out, y : (rows, outputs) arrays
        Outputs of the network, and targets in the loss's own encoding.
    weight : (rows,) array or None

    Returns
    -------
    dict
        "loss", weighted; "mass", the sum of the weights; "seen", the rows; and "correct", right
        answers, or "squared_error".
    """
    return measure(problem, out, y, weight)[0]


def measure(problem: Problem, out: Array, y: Array, weight: Array | None) -> tuple[Sums, Array]:
    """Return the sums of `scores`, and the gradient of each row's weighted loss in its outputs.

    The gradient may lie in memory that the next call uses again.
    """
    loss = get_loss(problem.loss)
    mass = len(out) if weight is None else float(weight.sum(dtype=np.float64))
    found: Sums = {"mass": mass, "seen": len(out)}
    if problem.loss == "cross_entropy":
        g = _work.take("gradient", out.shape, out.dtype)
        each = _ones(len(out), out.dtype) if weight is None else weight
        found["loss"], found["correct"] = softmax_kernels.softmax_gradient(out, y, each, g)
        return found, g
    g = loss.gradient(out, y)
    if weight is not None:
        g *= weight[:, None]
    found["loss"] = loss.value(out, y, weight)
    if problem.classes:
        found["correct"] = loss.right(out, y)
    else:
        found["squared_error"] = square(out - y)
    return found, g


def _ones(rows: int, dtype: np.dtype[Any]) -> Array:
    ones = _work.take("ones", (rows,), dtype)
    ones[...] = 1
    return ones


def training_row(problem: Problem, details: Sums) -> dict[str, float]:
    """Return the columns `objective` and `train_score` of a history from sums of `scores`."""
    seen = max(details["seen"], 1)
    row = {"objective": details["loss"] / max(details["mass"], 1e-300)}
    if problem.classes:
        row["train_score"] = details["correct"] / seen
    else:
        spread = max(problem.target_variation, 1e-300) / problem.rows
        row["train_score"] = 1.0 - details["squared_error"] / seen / spread
    return row


def forward(
    problem: Problem,
    predict: Callable[[Array], Array],
    chunk: Chunk,
    rows: Array | None = None,
) -> Sums:
    """Run a network forward on some rows of a chunk, or on all, and add up its scores.

    Parameters
    ----------
    predict : callable
        From scaled inputs, (rows, features), to outputs, (rows, outputs).

    Returns
    -------
    dict
        What `final_scores` takes: the sums of `scores` under "forward_loss", "forward_mass",
        "forward_rows" and "forward_correct"; or, for regression, "forward_error" and what the
        targets' variance is formed of.
    """
    assert chunk.y is not None
    picked = np.arange(chunk.rows) if rows is None else rows
    loss, mass, seen, hits = 0.0, 0.0, 0, 0.0
    moments = np.zeros((2, problem.architecture.widths[-1]))
    for part in batches(len(picked), EVALUATED):
        here = picked[part]
        out, y = predict(chunk.take(here)), gather("y", chunk.y, here)
        found = scores(problem, out, y, None if chunk.weight is None else chunk.weight[here])
        loss, mass, seen = loss + found["loss"], mass + found["mass"], seen + found["seen"]
        hits += found["correct"] if problem.classes else found["squared_error"]
        if not problem.classes:
            wide = y.astype(np.float64)
            moments += np.stack([wide.sum(axis=0), (wide**2).sum(axis=0)])
    sums: Sums = {"forward_loss": loss, "forward_mass": mass, "forward_rows": seen}
    if problem.classes:
        return sums | {"forward_correct": hits}
    first, second = moments
    sums |= {f"forward_first_{j}": float(total) for j, total in enumerate(first)}
    return sums | {"forward_error": hits, "forward_second": float(second.sum())}


def final_scores(problem: Problem, sums: Sums) -> dict[str, float]:
    """Return the mean loss, and the accuracy or R^2, from sums of `forward`.

    Raises
    ------
    dadmm.errors.OptionError
        If there are no rows, because none could be held out.
    """
    rows = sums["forward_rows"]
    if not rows:
        raise OptionError(
            "early_stopping holds no row out whose weight is above 0: use chunks of 2 rows or "
            "more, and hold a larger share out if most weights are 0"
        )
    if problem.classes:
        score = sums["forward_correct"] / rows
    else:
        outputs = problem.architecture.widths[-1]
        firsts = sum(sums[f"forward_first_{j}"] ** 2 for j in range(outputs))
        spread = sums["forward_second"] - firsts / rows
        score = 1.0 - sums["forward_error"] / spread if spread > 0 else 0.0
    mean = sums["forward_loss"] / max(sums["forward_mass"], 1e-300)
    return {"forward_loss": mean, "train_score": float(score)}
