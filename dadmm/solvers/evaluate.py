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
        "seen", the rows; "mass", the sum of their weights; and, weighted, "loss" and "correct",
        right answers, or "squared_error".
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
        found["correct"] = loss.right(out, y, weight)
    else:
        error = out - y
        found["squared_error"] = square(error if weight is None else error * _roots(weight))
    return found, g


def _ones(rows: int, dtype: np.dtype[Any]) -> Array:
    ones = _work.take("ones", (rows,), dtype)
    ones[...] = 1
    return ones


def _roots(weight: Array) -> Array:
    """Return a column that makes squares weighted."""
    return np.sqrt(weight)[:, None]


def training_row(problem: Problem, details: Sums) -> dict[str, float]:
    """Return the columns `objective` and `train_score` of a history from sums of `scores`."""
    mass = max(details["mass"], 1e-300)
    row = {"objective": details["loss"] / mass}
    if problem.classes:
        row["train_score"] = details["correct"] / mass
    else:
        spread = max(problem.target_variation, 1e-300) / problem.rows
        row["train_score"] = 1.0 - details["squared_error"] / mass / spread
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
        weight = None if chunk.weight is None else chunk.weight[here]
        found = scores(problem, out, y, weight)
        loss, mass, seen = loss + found["loss"], mass + found["mass"], seen + found["seen"]
        hits += found["correct"] if problem.classes else found["squared_error"]
        if not problem.classes:
            wide = y.astype(np.float64)
            each = 1.0 if weight is None else weight[:, None]
            moments += np.stack([(wide * each).sum(axis=0), (wide**2 * each).sum(axis=0)])
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
    if not sums["forward_rows"]:
        raise OptionError(
            "early_stopping holds no row out whose weight is above 0: use chunks of 2 rows or "
            "more, and hold a larger share out if most weights are 0"
        )
    mass = sums["forward_mass"]
    if problem.classes:
        score = sums["forward_correct"] / mass
    else:
        outputs = problem.architecture.widths[-1]
        firsts = sum(sums[f"forward_first_{j}"] ** 2 for j in range(outputs))
        spread = sums["forward_second"] - firsts / mass
        varies = spread > 1e-12 * sums["forward_second"]  # by more than the rounding of the sums
        score = 1.0 - sums["forward_error"] / spread if varies else 0.0
    return {"forward_loss": sums["forward_loss"] / mass, "train_score": float(score)}
