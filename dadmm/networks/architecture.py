"""The shape of a network of dense and residual layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dadmm.errors import OptionError, unknown
from dadmm.numerics.activations import get_activation
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import Workspace

STEMS = ("dense", "identity")


@dataclass(frozen=True)
class Architecture:
    """The shape of a network: everything but the values of its parameters.

    Parameters
    ----------
    widths : tuple of int
        Features, hidden widths, outputs: ``(p, d_1, ..., d_{N-1}, k)``.
    skips : tuple of bool
        ``s_1 .. s_N``; that of the head, the last, is always False.
    activation : str
        A name in `dadmm.numerics.activations.ACTIVATIONS`.
    """

    widths: tuple[int, ...]
    skips: tuple[bool, ...]
    activation: str

    @classmethod
    def build(
        cls,
        n_features: int,
        hidden: tuple[int, ...],
        n_outputs: int,
        activation: str = "relu",
        stem: str = "dense",
    ) -> Architecture:
        """Lay out a network; a hidden layer as wide as the one before it becomes residual.

        Raises
        ------
        OptionError
            For no hidden layer, a width below 1, an unknown activation or stem, or an identity
            stem whose width is not the number of features.
        """
        get_activation(activation)
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        if not hidden or min(hidden) < 1:
            raise OptionError(
                f"hidden_layer_sizes={hidden}: give at least one hidden layer, each 1 or wider"
            )
        if stem == "identity" and hidden[0] != n_features:
            raise OptionError(
                f"stem='identity' needs a first hidden layer as wide as the {n_features} features, "
                f"not {hidden[0]}: change hidden_layer_sizes or use stem='dense'"
            )
        widths = (int(n_features), *(int(h) for h in hidden), int(n_outputs))
        equal = [a == b for a, b in pairwise(hidden)]
        return cls(widths, (stem == "identity", *equal, False), activation)

    @property
    def depth(self) -> int:
        """The number of layers N, the head included."""
        return len(self.skips)

    @property
    def n_parameters(self) -> int:
        """The number of parameters."""
        return sum((a + 1) * b for a, b in pairwise(self.widths))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all parameters."""
        found: dict[str, tuple[int, ...]] = {}
        for i, (a, b) in enumerate(pairwise(self.widths), start=1):
            found |= {f"w_{i}": (a, b), f"b_{i}": (b,)}
        return found

    def skip(self, i: int) -> bool:
        """Whether layer i (from 1) adds its input to its output."""
        return self.skips[i - 1]

    def forward(self, params: Mapping[str, Array], x: Array) -> Array:
        """Return the outputs for scaled inputs, (rows, widths[-1])."""
        *_, out = layers(self, params, x)
        return out

    def initial(self, seed: int, dtype: Any = np.float32) -> Arrays:
        """Draw starting parameters: He's scale for ReLU-like layers, Glorot-like for the others.

        Residual layers are scaled down by the root of their number R.  Then the signal grows with
        depth by at most the root of e for tanh and identity, and like exp(sqrt(R / pi)) for ReLU,
        whose output has a mean.  Each layer has a generator of its own, seeded by (seed, layer), so
        its start does not depend on the layers before it.
        """
        residual = max(1, sum(self.skips))
        params: Arrays = {}
        for i in range(1, self.depth + 1):
            activation = self.activation if i < self.depth else "identity"
            shrink = residual if self.skip(i) else 1
            w = draw(self.widths[i - 1], self.widths[i], activation, shrink, (seed, i))
            params[f"w_{i}"] = w.astype(dtype)
            params[f"b_{i}"] = np.zeros(self.widths[i], dtype)
        return params


def draw(
    fan_in: int, fan_out: int, activation: str, residual: int, seed: Sequence[int]
) -> NDArray[np.float64]:
    """Draw the weights of one layer, scaled for `residual` residual layers (1 if it is not one)."""
    gain = np.sqrt(2.0) if get_activation(activation).name.endswith("relu") else 1.0
    rng = np.random.default_rng(list(seed))
    return gain / np.sqrt(fan_in) / np.sqrt(residual) * rng.standard_normal((fan_in, fan_out))


def layers(
    arch: Architecture,
    params: Mapping[str, Array],
    x: Array,
    to: int | None = None,
    work: Workspace | None = None,
) -> Iterator[Array]:
    """Yield ``V_1, ..., V_to``, each computed from the one before it.

    Parameters
    ----------
    arch : Architecture
    params : mapping
        ``w_1, b_1, ..., w_N, b_N``; ``w_i`` is (width_{i-1}, width_i).
    x : (rows, features) array
        Scaled inputs in the dtype of the parameters.
    to : int or None
        The last layer; None for all N.
    work : Workspace or None
        Where to compute; each array is then overwritten two layers later.
    """
    activation = get_activation(arch.activation)
    v = x
    for i in range(1, (to or arch.depth) + 1):
        w = params[f"w_{i}"]
        shape = (len(v), w.shape[1])
        out = None if work is None else work.take(f"layer {i % 2}", shape, v.dtype)
        a = np.matmul(v, w, out=out)
        a += params[f"b_{i}"]
        if i < arch.depth:
            activation.value(a, out=a)
            if arch.skip(i):
                a += v
        v = a
        yield v


class Model(Protocol):
    """The shape of a network: everything but the values of its parameters."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Features, widths in between, outputs."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all parameters."""

    def forward(self, params: Mapping[str, Array], x: Array) -> Array:
        """Return the outputs for scaled inputs."""
