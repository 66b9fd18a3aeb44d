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


def still_better(rows: Rows, tol: float, patience: int = 10) -> bool:
    """Return whether the last iterations of a run lowered its loss by a good share of its fall.

    That share is a hundredth, within `patience` iterations, and more than `tol`.  The loss is that
    of rows held out, if there are any.
    """
    column = "validation_loss" if rows and "validation_loss" in rows[-1] else "objective"
    losses = [row[column] for row in rows if column in row]
    if len(losses) < 2:
        return False
    early = losses[:-patience] or losses[:1]
    fall = min(early) - min(losses[-patience:])
    return fall > max(tol, 0.01 * (losses[0] - min(losses)))


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

    Where scores tie, or are not defined because the targets held out do not vary, the loss decides.
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
        """Compare the columns `validation_score`, and `validation_loss` where scores tie.

        A loss is lower if it has fallen by `tol`.
        """
        found = [
            (row.get("validation_score", -np.inf), -row.get("validation_loss", np.inf))
            for row in rows
        ]
        late, early = found[-self.patience :], found[: -self.patience]
        stop = tol > 0 and bool(early)
        if stop:
            best, least = max(early)
            # A row of a damaged store may have no loss.
            stop = not any(
                s > best or (s == best and -np.inf < loss >= least + tol) for s, loss in late
            )
        known = bool(found) and max(found) > (-np.inf, -np.inf)
        return Verdict(stop, found.index(max(found)) + 1 if known else None, self.rate(rows))

    def split(self, problem: Problem, chunk: Chunk) -> tuple[Array, Array]:
        """Return the rows of a chunk to train on, and those that are held out.

        They are the same in every part of every iteration.  Each class has the same share of its
        rows held out, to within one row; rows of weight 0 count as a class of their own.  Where
        there are no classes, or several labels per row, the rows of a weight are drawn from all
        alike.  If the chunk has all rows, each class of several rows has at least one on either
        side, and where there are no classes at least two of four rows or more are held out.

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
        whole = rows == problem.rows
        codes = np.zeros(rows, np.int8)
        if (problem.one_class or unknown) and kept < rows:
            codes = _classes(problem, chunk)
            order = order[np.argsort(codes[order], kind="stable")]
            # Rows at equal distances from a random start: each is as likely as any other, however
            # few its class has.
            count = rows - kept
            held = (np.arange(1, count + 1) * rows - 1 - rng.integers(rows)) // count
        out = np.zeros(rows, bool)
        out[order[held]] = True
        if whole and kept < rows:
            _hold_some(out, order, codes, 1 if problem.one_class else 2)
        return np.flatnonzero(~out), np.flatnonzero(out)

    def kept(self, rows: int) -> int:
        """Return how many rows of a chunk of so many are trained on."""
        return max(1, min(round(rows * (1.0 - self.fraction)), rows - 1))


def _hold_some(out: Array, order: Array, codes: Array, least: int) -> None:
    """Have some rows of each group held out, and some trained on; change `out` in place.

    Parameters
    ----------
    out : (rows,) bool array
        Which rows are held out.
    order : (rows,) int array
        The rows in the order in which they are taken.
    codes : (rows,) int array
        The group of each row; -1 for rows that do not matter.
    least : int
        How many rows to hold out of a group that has twice as many; one of a smaller group.
    """
    known = codes >= 0
    sizes = np.bincount(codes[known])
    held = np.bincount(codes[known & out], minlength=len(sizes))
    wanted = np.where(sizes >= 2 * least, least, sizes >= 2)
    for group in np.flatnonzero(held < wanted):
        rows = order[(codes[order] == group) & ~out[order]]
        out[rows[: wanted[group] - held[group]]] = True
    for group in np.flatnonzero((held == sizes) & (held > 0)):
        row = order[codes[order] == group][0]
        out[row] = out[known].sum() == 1  # the only one that is held out stays so


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
