"""The form of the inputs at training, for prediction: names, categories, fills."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dadmm.errors import InputError, ShapeError
from dadmm.networks.names import Name, alike, from_json, is_text, to_json
from dadmm.numerics.types import Array

LISTED = 5  # names in an error about names that do not match, as in scikit-learn


@dataclass(frozen=True)
class Form:
    """The form of the inputs at training.

    Parameters
    ----------
    names : tuple of names or None
        The columns' names, in order: text, numbers, dates, or tuples of these.
    columns : tuple of Column
        How each is encoded; empty if all are numbers and none may be missing.
    targets : tuple of names or None
        The names of the targets.
    dims : tuple of str
        The dimensions of xarray that hold samples.
    features : mapping of str to sequence or None
        The other dimensions, in order, each with its coordinates if it has any.
    reading : mapping
        How its files were read: options of `dadmm.Table`.
    """

    names: tuple[Name, ...] | None = None
    columns: tuple[Column, ...] = ()
    targets: tuple[Name, ...] | None = None
    dims: tuple[str, ...] = ()
    features: Mapping[str, Sequence[Label] | None] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encodes(self) -> bool:
        """Whether any column holds categories."""
        return any(column.categories is not None for column in self.columns)

    @property
    def fills(self) -> Array | None:
        """The fill of missing numbers per column; None if none may be missing."""
        filled = self.columns and not self.encodes and self.columns[0].fill is not None
        return np.array([c.fill for c in self.columns], np.float64) if filled else None

    def fits(self, features: int) -> bool:
        """Whether these columns match a network of this input width."""
        named = self.names is None or bool(self.columns) or len(self.names) == features
        return named and (not self.columns or sum(c.width for c in self.columns) == features)

    def order(self, names: Sequence[Name], where: str) -> list[int]:
        """Return the place in `names` of each column of training.

        Raises
        ------
        ShapeError
            If columns are missing, or there are others than these and the targets.
        """
        assert self.names is not None
        if tuple(names) == self.names:
            return list(range(len(names)))
        wanted, found, targets = alike(self.names, names, self.targets or ())
        place = {name: i for i, name in enumerate(found)}
        text = ""
        for words, listed in (
            ("unseen at fit time", sorted(place.keys() - {*wanted, *targets})),
            ("seen at fit time, yet now missing", sorted(set(wanted) - place.keys())),
        ):
            if listed:
                more = ", ..." if len(listed) > LISTED else ""
                text += f" Feature names {words}: {', '.join(listed[:LISTED])}{more}."
        if text:
            raise ShapeError(
                f"The feature names should match those that were passed during fit.{text} "
                f"Add or drop columns of {where}"
            )
        return [place[name] for name in wanted]

    def to_json(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        return {
            "names": None if self.names is None else list(map(to_json, self.names)),
            "columns": [
                {"categories": c.categories and list(c.categories), "fill": c.fill}
                for c in self.columns
            ],
            "targets": None if self.targets is None else list(map(to_json, self.targets)),
            "dims": list(self.dims),
            # Pairs keep their order: the store sorts JSON by key.
            "features": [[dim, labels] for dim, labels in self.features.items()],
            "reading": dict(self.reading),
        }

    @classmethod
    def from_json(cls, table: Any) -> Form:
        """Return the form from JSON values, which may be forged.

        Raises
        ------
        InputError
            For values that no fit stores.
        """
        try:
            names, targets = _names(table["names"]), _names(table["targets"])
            columns = tuple(_column(c) for c in _sequence(table["columns"]))
            dims = _names(table["dims"])
            if (
                dims is None
                or not is_text(dims)
                or (names and columns and len(names) != len(columns))
            ):
                raise ValueError("its columns do not fit its names")
            features = dict(_feature(pair) for pair in _sequence(table["features"]))
            reading = table.get("reading", {})  # older runs have none
            if not isinstance(reading, Mapping):
                raise ValueError("how its files were read is not a table")
            return cls(names, columns, targets, dims, features, reading)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"it does not describe its inputs: {error}") from error


def _sequence(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")
    return value


def _names(value: Any) -> tuple[Name, ...] | None:
    if value is None:
        return None
    names = tuple(map(from_json, _sequence(value)))
    if len(set(names)) != len(names):
        raise ValueError("a name appears twice")
    return names


def _feature(pair: Any) -> tuple[str, list[Label] | None]:
    dim, labels = pair
    if not isinstance(dim, str):
        raise ValueError("a dimension's name is not text")
    if labels is not None and not all(
        isinstance(label, (str, int, float)) for label in _sequence(labels)
    ):
        raise ValueError(f"the coordinates of {dim!r} cannot be used")
    return dim, labels


def _column(table: Any) -> Column:
    if not isinstance(table, Mapping):
        raise ValueError("a column is not a table")
    categories, fill = table["categories"], table["fill"]
    for label in [*(_sequence(categories) if categories is not None else []), fill]:
        if label is not None and not isinstance(label, (str, int, float)):
            raise ValueError(f"{label!r} is not a label")
    if categories is None:
        plain = isinstance(fill, (int, float)) and math.isfinite(fill)
        if fill is not None and (not plain or isinstance(fill, bool)):
            raise ValueError(f"the fill {fill!r} is not a number")
        return Column(None, fill)
    if not categories or None in categories or (fill is not None and fill not in categories):
        raise ValueError("a column's categories cannot be used")
    return Column(tuple(categories), fill)


Label = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """How one column is encoded.

    Parameters
    ----------
    categories : tuple or None
        The values, each of which becomes a column of 0 and 1; None for numbers.
    fill : number, category or None
        The replacement of a missing value; None if none may be missing.
    """

    categories: tuple[Label, ...] | None = None
    fill: Label | None = None

    @property
    def width(self) -> int:
        """The number of encoded columns."""
        return 1 if self.categories is None else len(self.categories)
