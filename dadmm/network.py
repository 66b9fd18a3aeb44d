"""The network: its architecture, its parameters and its forward pass, in plain NumPy.

Samples are rows.  With ``V_0 = x``::

    A_i = V_{i-1} W_i + b_i                          pre-activation of layer i
    V_i = s_i V_{i-1} + act(A_i)    i = 1 .. N-1     hidden layers, s_i in {0, 1}
    V_N = V_{N-1} W_N + b_N                          linear head

A hidden layer is *residual* (``s_i = 1``) where its width equals the width before it; the first
one, the *stem*, only if asked for (``stem="identity"``: the fully connected residual net of
arXiv 2310.15334).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dadmm import kernels
from dadmm.activations import get_activation
from dadmm.errors import OptionError, ShapeError, unknown
from dadmm.workspace import Workspace

if TYPE_CHECKING:
    import torch

    from dadmm.inputs import Form

Array = NDArray[Any]
Params = dict[str, Array]

STEMS = ("dense", "identity")
# Rows that are scaled at once: what is wider than the result stays small.
SCALED = 256


@dataclass(frozen=True)
class Architecture:
    """The shape of a network: everything about it but its numbers.

    Parameters
    ----------
    widths : tuple of int
        Features, hidden widths, outputs: ``(p, d_1, ..., d_{N-1}, k)``.
    skips : tuple of bool
        ``s_1 .. s_N``; the head's, the last, is always False.
    activation : str
        A name in `dadmm.activations.ACTIVATIONS`.
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
        """Lay out a network; layers between equal widths become residual.

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
        """How many numbers a network of this shape learns."""
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

    def initial(self, seed: int, dtype: Any = np.float32) -> Params:
        """Draw starting parameters: He's scale for ReLU-like layers, Glorot-like for the others.

        Residual layers are scaled down by the root of their number R: then the signal's size
        grows with depth by at most the root of e for tanh and identity, and for ReLU, whose
        output has a mean, like exp(sqrt(R / pi)).  Each layer draws from a generator of its own,
        seeded by (seed, layer): a layer starts the same whatever stands before it.
        """
        residual = max(1, sum(self.skips))
        params: Params = {}
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
    """Draw the weights of one layer of a network with so many residual layers (1 for others)."""
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
    """Yield ``V_1, ..., V_to`` (all N unless told), each computed from the one before it.

    Parameters
    ----------
    arch : Architecture
    params : mapping
        ``w_1, b_1, ..., w_N, b_N``; ``w_i`` is (width_{i-1}, width_i).
    x : (rows, features) array
        Scaled inputs in the dtype of the parameters.
    to : int or None
        The last layer wanted.
    work : Workspace or None
        Where to compute; what is yielded is then overwritten two layers on.
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


@dataclass(frozen=True)
class Scaling:
    """An affine map of columns, ``(x - centre) / scale``, and back.

    Parameters
    ----------
    centre, scale : (columns,) float64 arrays
        `scale` has no zeros.
    """

    centre: Array
    scale: Array

    @classmethod
    def identity(cls, columns: int) -> Scaling:
        """Return the scaling that changes nothing."""
        return cls(np.zeros(columns), np.ones(columns))

    def apply(self, x: Array, dtype: Any, out: Array | None = None) -> Array:
        """Return `x` centred and scaled, (rows, columns), in `out` or as a new array of `dtype`.

        Numbers that `dtype` cannot hold are centred in one that can: what distinguishes them may
        be far smaller than they are.
        """
        wide = np.result_type(x.dtype, dtype)
        if out is None:
            out = np.empty(x.shape, dtype)
        centre, factor = self.centre.astype(wide), (1.0 / self.scale).astype(wide)
        for first in range(0, len(x), SCALED):
            rows = slice(first, first + SCALED)
            found = out[rows] if out.dtype == wide else None
            found = np.subtract(x[rows], centre, dtype=wide, out=found)
            found *= factor
            if out.dtype != wide:
                out[rows] = found
        return out

    def take(self, x: Array, rows: Array, out: Array) -> Array:
        """Return some rows of `x` scaled, in `out`, (rows, columns): what `apply` would give."""
        plain = x.dtype.isnative and x.dtype.kind in "iuf" and x.dtype.itemsize <= 8
        if not plain or x.dtype == np.float16:  # what compiled code does not know
            out[...] = self.apply(x[rows], out.dtype)
            return out
        wide = np.result_type(x.dtype, out.dtype)
        kernels.gather_scaled(
            x, rows, self.centre.astype(wide), (1.0 / self.scale).astype(wide), out
        )
        return out

    def undo(self, z: Array) -> Array:
        """Map scaled values back to the units of the data."""
        return z * self.scale.astype(z.dtype) + self.centre.astype(z.dtype)


class Model(Protocol):
    """The shape of a network: everything about it but its numbers."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Features, widths in between, outputs."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all parameters."""

    def forward(self, params: Mapping[str, Array], x: Array) -> Array:
        """Return the outputs for scaled inputs."""


@dataclass(frozen=True)
class Target:
    """What the outputs of a network stand for.

    Parameters
    ----------
    loss : str
        A name in `dadmm.losses.LOSSES`: whether classes have probabilities.
    classes : (outputs,) array or None
        The label of each output; None where the outputs are numbers.
    flat : bool
        Whether what was learnt had one dimension: predictions then have, too.
    """

    loss: str = "squared"
    classes: Array | None = None
    flat: bool = False


@dataclass(frozen=True)
class Network:
    """A trained network: inputs in the units of the data, outputs too.

    Parameters
    ----------
    architecture : Architecture or Chain
    params : dict of str to array
        ``w_1, b_1, ..., w_N, b_N``; of other blocks, whatever they have.
    inputs, outputs : Scaling
        What the data goes through before the first layer, and (regression) after the last.
    target : Target
        What the outputs stand for.
    form : Form or None
        What an estimator makes the columns of: names, categories, what stands for missing
        numbers.  None for plain numbers.
    """

    architecture: Model
    params: Params
    inputs: Scaling
    outputs: Scaling | None = None
    target: Target = field(default_factory=Target)
    form: Form | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters, and of the outputs."""
        return next(iter(self.params.values())).dtype

    def forward(self, x: Array) -> Array:
        """Return the outputs for `x`.

        Parameters
        ----------
        x : (rows, features) array

        Returns
        -------
        (rows, outputs) array
            In the dtype of the parameters; infinite where they cannot hold it.

        Raises
        ------
        ShapeError
            If `x` is not two-dimensional or has another number of features.
        """
        features = self.architecture.widths[0]
        if x.ndim != 2 or x.shape[1] != features:
            raise ShapeError(f"x has shape {x.shape}: this network reads (rows, {features})")
        with np.errstate(all="ignore"):
            out = self.architecture.forward(self.params, self.inputs.apply(x, self.dtype))
            return out if self.outputs is None else self.outputs.undo(out)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the network to a file: ``.safetensors``, which `dadmm.load` reads, or ``.onnx``.

        Parameters and errors are those of `dadmm.export.save`.
        """
        from dadmm.export import save

        save(self, path, overwrite=overwrite)

    def to_torch(self) -> torch.nn.Module:
        """Return the network as a torch module of its own, in the dtype of the parameters.

        It maps what `forward` maps, (rows, features) in the units of the data, to the same
        outputs, and can be trained on.

        Raises
        ------
        InputError
            If torch is not installed.
        """
        from dadmm.export.torch_module import to_torch

        return to_torch(self)
