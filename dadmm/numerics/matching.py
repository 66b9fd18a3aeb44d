"""How well factors match known attributes of the samples.

A factor matches an attribute by the absolute Pearson correlation over samples.  An attribute's
score is that of its best factor, or of the factor that a one-to-one assignment of all attributes
gives it (Hungarian method).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dadmm.errors import DataError, ShapeError
from dadmm.numerics.types import Array


@dataclass(frozen=True)
class AttributeScores:
    """How well the factors match each attribute.

    Parameters
    ----------
    names : tuple of str
        Names of the attributes.
    correlation : (factors, attributes) float64 array
        Absolute Pearson correlations; 0 if either is constant.
    factors, assigned_factors : (attributes,) int arrays
        The factor that matches each attribute best, and the one assigned to it; -1 for an
        attribute without one, if there are more attributes than factors.
    best, assigned : (attributes,) float64 arrays
        Their correlations.
    """

    names: tuple[str, ...]
    correlation: Array
    factors: Array
    best: Array
    assigned_factors: Array
    assigned: Array

    @property
    def mean_best(self) -> float:
        """The mean of `best`."""
        return float(self.best.mean())

    @property
    def mean_assigned(self) -> float:
        """The mean of `assigned`."""
        return float(self.assigned.mean())

    def __str__(self) -> str:
        width = max(map(len, (*self.names, "attribute")))
        lines = [f"{'attribute':<{width}}  factor  best   assigned"]
        rows = zip(self.names, self.factors, self.best, self.assigned, strict=True)
        lines += [f"{n:<{width}}  {k:>6}  {b:.3f}  {a:.3f}" for n, k, b, a in rows]
        lines.append(f"{'mean':<{width}}  {'':>6}  {self.mean_best:.3f}  {self.mean_assigned:.3f}")
        return "\n".join(lines)


def match(codes: Any, attributes: Any, names: Sequence[str] | None = None) -> AttributeScores:
    """Score how well factors match attributes.

    Parameters
    ----------
    codes : (rows, factors) array-like
    attributes : (rows,) or (rows, attributes) array-like or data frame
        Numbers; pass categories as columns of 0 and 1.
    names : sequence of str or None
        Names of the attributes; None takes a data frame's columns, or numbers.

    Raises
    ------
    ShapeError
        If the numbers of rows differ, or the numbers of names and attributes.
    DataError
        For attributes that are not finite numbers, or fewer than 2 rows.
    """
    if names is None and hasattr(attributes, "columns"):
        names = [str(name) for name in attributes.columns]
    try:
        wide = [np.asarray(given, np.float64) for given in (codes, attributes)]
    except (TypeError, ValueError) as error:
        raise DataError(f"attributes are not numbers ({error}): encode them") from error
    m, a = (array[:, None] if array.ndim == 1 else array for array in wide)
    if m.ndim != 2 or a.ndim != 2 or len(m) != len(a):
        raise ShapeError(f"attributes have shape {a.shape}, codes {m.shape}: their rows must agree")
    named = tuple(map(str, range(a.shape[1]) if names is None else names))
    if len(named) != a.shape[1]:
        raise ShapeError(f"{len(named)} names for {a.shape[1]} attributes: name each")
    if len(m) < 2:
        raise DataError(f"a correlation over {len(m)} row(s) means nothing: give 2 or more")
    if not np.isfinite(a).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(a))[0])
        raise DataError(
            f"attributes are not finite in row {row}, column {column} ({named[column]}): score the "
            "rows that have them"
        )
    found = correlation(m, a)
    best = found.argmax(axis=0)
    rows, columns = linear_sum_assignment(-found)
    assigned_factors = np.full(a.shape[1], -1)
    assigned_factors[columns] = rows
    assigned = np.where(assigned_factors >= 0, found[assigned_factors, np.arange(a.shape[1])], 0.0)
    return AttributeScores(
        named, found, best, found[best, np.arange(a.shape[1])], assigned_factors, assigned
    )


def correlation(m: Array, a: Array) -> Array:
    """Return the absolute Pearson correlation of each column of `m` with each of `a`."""
    centred = [array - array.mean(axis=0) for array in (m, a)]
    sizes = [np.sqrt((array**2).sum(axis=0)) for array in centred]
    # A column that is constant to rounding correlates with nothing.
    noise = [1e-12 * np.sqrt((array**2).sum(axis=0)) for array in (m, a)]
    left, right = (
        array / np.where(size > least, size, np.inf)
        for array, size, least in zip(centred, sizes, noise, strict=True)
    )
    return np.abs(left.T @ right).clip(max=1.0)
