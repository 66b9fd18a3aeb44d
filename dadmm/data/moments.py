"""Measure data chunk by chunk: how to scale it, and how different the chunks are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dadmm.data.arrays import NUMBERS_AT_ONCE
from dadmm.networks.scaling import Scaling
from dadmm.numerics.types import Array

# Convert at least so many columns to float64 at once.
COLUMNS = 16
EPS = np.finfo(np.float64).eps
# A column that differs from its mean by less, relative to the mean, is constant but for the
# rounding of whatever computed its numbers.  Of 1e8 this is 2e-6.
ROUNDING = 100 * EPS


@dataclass
class Moments:
    """Count, mean, squared deviations and minimum of columns; those of chunks add up.

    Where rows have weights, they are counted by these, and rows of weight 0 are as if not there.
    """

    count: float
    mean: Array
    squares: Array
    least: Array

    @classmethod
    def of(cls, block: Array, weight: Array | None = None) -> Moments:
        """Return the moments of a block, (rows, columns), in float64; weights are (rows,)."""
        if weight is not None and not weight.all():
            block, weight = block[weight > 0], weight[weight > 0]
        mean, squares = np.zeros((2, block.shape[1]))
        if not len(block):
            return cls(0, mean, squares, np.full_like(mean, np.inf))
        count = len(block) if weight is None else float(weight.sum())
        column = None if weight is None else weight[:, None]
        # A few columns at a time, but not one alone: NumPy adds those up in another order.
        groups = max(1, block.shape[1] // max(COLUMNS, NUMBERS_AT_ONCE // max(len(block), 1)))
        for columns in np.array_split(np.arange(block.shape[1]), groups):
            here = slice(columns[0], columns[-1] + 1)
            wide = block[:, here].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                mean[here] = _sum(wide, column) / count
                wide -= mean[here]
                squares[here] = _sum(np.square(wide, out=wide), column)
        with np.errstate(over="ignore", invalid="ignore"):
            # The rounding of a sum grows with its rows.  This bound on it is scikit-learn's.
            lost = squares / count < (len(block) * EPS * mean) ** 2
        if lost.any():
            mean[lost], squares[lost] = _from_first(block, np.flatnonzero(lost), weight)
        return cls(count, mean, squares, block.min(axis=0).astype(np.float64))

    def __add__(self, other: Moments) -> Moments:
        """Add by Chan, Golub and LeVeque's pairwise update (1979)."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            shift = other.mean - self.mean
            mean = self.mean + shift * (other.count / count)
            squares = self.squares + other.squares + shift**2 * (self.count * other.count / count)
        return Moments(count, mean, squares, np.minimum(self.least, other.least))

    def scaling(self, how: str) -> Scaling:
        """Return the scaling to zero mean and unit variance, per column or over all columns.

        "scale" only divides by the root mean square of all numbers, so 0 stays 0 and signs stay;
        "shift" first moves the minimum of every column to 0.
        """
        if how == "none":
            return Scaling.identity(len(self.mean))
        if how in ("scale", "shift"):
            centre = self.least if how == "shift" else np.zeros_like(self.mean)
            spread = (self.squares / self.count + (self.mean - centre) ** 2).mean()
            size = np.sqrt(spread) if spread > _rounding(self.mean).mean() else 1.0
            return Scaling(centre, np.full_like(centre, size))
        if how == "global":
            spread = (self.squares / self.count).mean() + self.mean.var()
            size = np.sqrt(spread) if spread > _rounding(self.mean).mean() else 1.0
            return Scaling(self.mean, np.full_like(self.mean, size))
        scale = np.where(self.varying, np.sqrt(self.squares / self.count), 1.0)
        return Scaling(self.mean, scale)

    def scaled(self, how: str) -> Array:
        """Whether `scaling` has a scale for each column, and not 1 for want of one, (columns,)."""
        if how == "feature":
            return self.varying
        return np.full(len(self.mean), how == "none" or bool(self.scaling(how).scale[0] != 1.0))

    @property
    def varying(self) -> Array:
        """Whether each column differs from its mean by more than rounding, (columns,)."""
        return self.squares / self.count > _rounding(self.mean)


def _rounding(mean: Array) -> Array:
    """Return the variance that rounding gives to columns of one number."""
    return np.square(ROUNDING * mean)


def _sum(block: Array, weight: Array | None) -> Array:
    """Return the sums of columns, (columns,), of rows with weights (rows, 1)."""
    total: Array = block.sum(axis=0) if weight is None else (block * weight).sum(axis=0)
    return total


def _from_first(block: Array, columns: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return the mean and squared deviations of columns that hardly differ from their first row.

    The differences are exact, and their sum rounds off only a share of the variation.
    """
    mean, squares = np.empty((2, len(columns)))
    for i, column in enumerate(columns):
        values = block[:, column].astype(np.float64)
        first = values[0]
        values -= first
        shift = np.average(values, weights=weight)
        values -= shift
        mean[i] = first + shift
        squares[i] = values @ (values if weight is None else values * weight)
    return mean, squares


def sum_moments(found: Sequence[Moments]) -> Moments:
    """Add moments up in their order."""
    total = found[0]
    for moments in found[1:]:
        total = total + moments
    return total


def shares(codes: Array, classes: int, weight: Array | None = None) -> Moments:
    """Return the moments of the classes' indicators, (classes,), for labels as codes, (rows, 1)."""
    count = len(codes) if weight is None else float(weight.sum())
    share = np.bincount(codes[:, 0], weight, minlength=classes) / max(count, 1e-300)
    return Moments(count, share, count * share * (1 - share), np.zeros(classes))


def difference(found: Sequence[Moments], alike: bool = False) -> float:
    """Return how different chunks are: the share of the variance that lies between their means.

    0 is what random rows give, 1 is a chunk for each value.  What chance gives is taken off, as in
    epsilon squared (Kelley, 1935).

    Parameters
    ----------
    alike : bool
        Whether the columns have one unit: the share of their variances together, not the mean of
        the columns' shares.
    """
    total = sum_moments(found)
    varying = total.varying
    if len(found) == 1 or total.count <= len(found) or not varying.any():
        return 0.0
    between = np.sum([each.count * (each.mean - total.mean) ** 2 for each in found], axis=0)
    squares = total.squares
    share = between.sum() / squares.sum()
    if not alike:
        share = np.minimum(between[varying] / squares[varying], 1.0).mean()
    chance = (len(found) - 1) / (total.count - 1)
    return float(max((share - chance) / (1 - chance), 0.0))
