"""Constraints on the outputs of a block, by name: projections and proximal maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dadmm.errors import OptionError, named
from dadmm.numerics import prox
from dadmm.numerics.types import Array

# Name: (projection of (values, number), what the number means; "" if it takes none).
CONSTRAINTS: dict[str, tuple[Callable[[Array, float], Array], str]] = {
    "non_negative": (lambda v, _: prox.non_negative(v), ""),
    "binary": (lambda v, _: prox.binary(v), ""),
    "simplex": (lambda v, _: prox.simplex(v), ""),
    "k_sparse": (lambda v, k: prox.k_sparse(v, int(k)), "entries kept in a row"),
    "l2_ball": (lambda v, radius: prox.l2_ball(v, radius), "the radius"),
    "l1": (lambda v, weight: prox.l1(v, weight), "the weight"),
    "squared_l2": (lambda v, weight: prox.squared_l2(v, weight), "the weight"),
    "box": (lambda v, half: prox.box(v, -half, half), "the largest absolute value"),
}


@dataclass(frozen=True, order=True)
class Constraint:
    """A projection onto a set, or a proximal map, of each row of a block's output.

    Parameters
    ----------
    name : str
        A name in `CONSTRAINTS`.
    number : float or None
        The number of those that have one: ``k_sparse:8`` keeps 8 entries.
    above : bool
        Whether negative entries become 0 first.
    """

    name: str
    number: float | None = None
    above: bool = False

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse a text such as "binary", "k_sparse:8" or "l2_ball:1.5".

        Raises
        ------
        OptionError
            For an unknown name, or a number that is missing, superfluous or not positive.
        """
        if not isinstance(text, str):
            raise OptionError(f"constraint {text!r}: use a name in quotes")
        name, colon, rest = text.partition(":")
        _, meaning = named("constraint", name, CONSTRAINTS)
        if not meaning:
            if colon:
                raise OptionError(f"constraint {text!r}: {name} takes no number")
            return cls(name)
        try:
            number = float(rest)
        except ValueError:
            number = np.nan
        whole = name != "k_sparse" or number % 1 == 0
        if not (0 < number < np.inf and whole):
            raise OptionError(f"constraint {text!r}: write {name}:<{meaning}>, such as {name}:8")
        return cls(name, number)

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}:{self.number:g}"

    @property
    def convex(self) -> bool:
        """Whether projected short steps lead to the best point of the set."""
        return self.name not in ("binary", "k_sparse")

    def project(self, v: Array) -> Array:
        """Return the nearest point of the set for each row of `v`."""
        v = np.maximum(v, 0) if self.above else v
        return CONSTRAINTS[self.name][0](v, 0.0 if self.number is None else self.number)
