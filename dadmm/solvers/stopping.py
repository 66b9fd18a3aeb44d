"""When training stops, which iteration is kept, and how the learning rate follows the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dadmm.errors import OptionError
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.solvers.problem import Chunk, Problem

Rows = Sequence[Mapping[str, float]]


def steady(rows: Rows) -> float:
    """Return 1: the learning rate does not depend on the history."""
    return 1.0


@dataclass(frozen=True)
class Verdict:
    """What the history of a run says.

    Parameters
    ----------
    stop : bool
        Whether more iterations would not help.
    keep : int or None
        The iteration, counted from 1, whose parameters to keep; None for the last.
    rate : float
        The multiplier of the learning rate from now on.
    """

    stop: bool = False
    keep: int | None = None
    rate: float = 1.0


class Stopping(Protocol):
    """How a method judges its history."""

    def judge(self, rows: Rows, tol: float) -> Verdict:
        """Judge the rows of history so far; 0 for `tol` never stops.

        A row may lack columns if the run's store was damaged.
        """


@dataclass(frozen=True)
class StepBelow:
    """Stop when an iteration moves all variables by at most `tol` times their norm."""

    rate: Callable[[Rows], float] = steady

    def judge(self, rows: Rows, tol: float) -> Verdict:
        """Compare the columns `step` and `size` of the last row."""
        last = rows[-1] if rows else {}
        stop = tol > 0 and last.get("step", np.inf) <= tol * last.get("size", 0.0)
        return Verdict(bool(stop), None, self.rate(rows))


@dataclass(frozen=True)
class NoBetterLoss:
    """Stop when the column `objective` has not fallen by `tol` for `patience` iterations."""

    patience: int = 10
    rate: Callable[[Rows], float] = steady

    def judge(self, rows: Rows, tol: float) -> Verdict:
        """Compare the lowest loss of the last iterations to the lowest before them."""
        losses = [row.get("objective", np.inf) for row in rows]
        late, early = losses[-self.patience :], losses[: -self.patience]
        stop = tol > 0 and bool(early) and min(late) > min(early) - tol
        return Verdict(stop, None, self.rate(rows))


@dataclass(frozen=True)
class HeldOut:
    """Hold rows out; stop when the network gets no better on them, and keep the best iteration.

    `Solver.visit` must learn from the first rows that `split` returns alone; the default passes
    evaluate the network on the others.

    Parameters
    ----------
    fraction : float
        Share of each chunk's rows that is held out, of every class alike, above 0 and below 1.
    patience : int
        Iterations without a better `validation_score`.
    rate : callable
    """

    fraction: float = 0.1
    patience: int = 10
    rate: Callable[[Rows], float] = steady

    def judge(self, rows: Rows, tol: float) -> Verdict:
        """Compare the column `validation_score`."""
        scores = [row.get("validation_score", -np.inf) for row in rows]
        late, early = scores[-self.patience :], scores[: -self.patience]
        stop = tol > 0 and bool(early) and max(late) <= max(early)
        known = bool(scores) and max(scores) > -np.inf
        return Verdict(stop, int(np.argmax(scores)) + 1 if known else None, self.rate(rows))

    def split(self, problem: Problem, chunk: Chunk) -> tuple[Array, Array]:
        """Return the rows of a chunk to train on, and those that are held out.

        They are the same in every part of every iteration.  Each class has the same share of its
        rows held out, to within one row; rows of weight 0 count as a class of their own.  Where
        there are no classes, or several labels per row, the rows of a weight are drawn from all
        alike.

        Raises
        ------
        dadmm.errors.OptionError
            If the problem has classes and the part does not read the targets.
        """
        rows, seed = chunk.rows, chunk.seed
        rng = np.random.default_rng([seed[0], 7, seed[-1]])  # not the iteration
        order = rng.permutation(np.arange(rows))
        kept = self.kept(rows)
        held = np.arange(kept, rows)
        unknown = chunk.weight is not None and not chunk.weight.all()
        if (problem.one_class or unknown) and kept < rows:
            order = order[np.argsort(_classes(problem, chunk)[order], kind="stable")]
            # Rows at equal distances from a random start: each is as likely as any other, however
            # few its class has.
            count = rows - kept
            held = (np.arange(1, count + 1) * rows - 1 - rng.integers(rows)) // count
        out = np.zeros(rows, bool)
        out[order[held]] = True
        return np.flatnonzero(~out), np.flatnonzero(out)

    def kept(self, rows: int) -> int:
        """Return how many rows of a chunk of so many are trained on."""
        return max(1, min(round(rows * (1.0 - self.fraction)), rows - 1))


def _classes(problem: Problem, chunk: Chunk) -> Array:
    """Return the class of each row, 0 where rows have none of one; -1 for rows of weight 0."""
    if not problem.one_class:
        codes = np.zeros(chunk.rows, np.int8)
    elif chunk.y is None:
        raise OptionError(
            "HeldOut.split holds out a share of each class: every part that calls it must read "
            "the targets, Part(y=True)"
        )
    else:
        codes = get_loss(problem.loss).decode(chunk.y)
        # The fewest bytes, which NumPy also sorts the fastest.
        codes = codes.astype(np.min_scalar_type(-problem.classes))
    if chunk.weight is not None:
        codes[chunk.weight == 0] = -1
    return codes


@dataclass(frozen=True)
class ObjectiveFlat:
    """Stop when `patience` iterations lower `objective` by less than `tol` of the first one's."""

    patience: int = 10
    rate: Callable[[Rows], float] = steady

    def judge(self, rows: Rows, tol: float) -> Verdict:
        """Compare the last objective to the one `patience` iterations before."""
        found = [row["objective"] for row in rows if "objective" in row]
        stop = (
            tol > 0
            and len(found) > self.patience
            and found[-1 - self.patience] - found[-1] < tol * found[0]
        )
        return Verdict(stop, None, self.rate(rows))
