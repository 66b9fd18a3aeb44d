"""Blocks: maps with parameters, chained into a network.

A block maps ``(rows, width)`` to ``(rows, width')``.  A `Differentiable` block computes its own
vector-Jacobian product, which is all the backpropagation inside a block.  `Dense` and `Residual`
are written in NumPy; `dadmm.TorchBlock` wraps any ``torch.nn.Module``.  `NMFBlock` solves a problem
of its own and has no such product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.architecture import draw
from dadmm.numerics import layer_kernels
from dadmm.numerics.activations import ACTIVATIONS, PIECEWISE, get_activation
from dadmm.numerics.nonnegative import SWEEPS, coded, exactly
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import Workspace
from dadmm.options import REQUIRED, check_options, documented, option, options_of

Params = Mapping[str, Array]
Shapes = dict[str, tuple[int, ...]]
# More is a mistake or a forged file; sweeps cannot be interrupted.
MOST_SWEEPS = 10_000


class Tape:
    """What a block's forward pass keeps for its backward pass, in memory that is reused.

    Parameters
    ----------
    work : Workspace
        The source of the buffers.
    name : str
        Keeps the buffers of different blocks apart.
    """

    def __init__(self, work: Workspace, name: str) -> None:
        self.saved: dict[str, Any] = {}
        self._work = work
        self._name = name
        self._last: dict[str, Array] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a buffer with undefined contents, valid until it is taken again."""
        last = self._last.get(name)
        if last is None or last.shape != shape or last.dtype != dtype:
            last = self._last[name] = self._work.take(f"{self._name} {name}", shape, dtype)
        return last


@runtime_checkable
class Block(Protocol):
    """A map with parameters; implementations hold no arrays of their own."""

    def output(self, width: int) -> int:
        """Return the output width for an input width; raise `OptionError` if that does not fit."""

    def shapes(self, width: int) -> Shapes:
        """Return the name and shape of each parameter for inputs of a width."""

    def initial(self, width: int, residual: int, seed: Sequence[int]) -> dict[str, Array]:
        """Draw starting parameters; `residual` counts the residual layers of the network."""

    def forward(self, params: Params, v: Array, tape: Tape) -> Array:
        """Return ``f(v)``, which must not change until the next call with this tape."""


class Differentiable(Block, Protocol):
    """A block that can be trained by gradients."""

    def backward(
        self, params: Params, g: Array, tape: Tape, gradients: Params | None, pull: bool
    ) -> Array | None:
        """Multiply by the transposed Jacobian at the point of the last `forward`.

        Parameters
        ----------
        g : (rows, width') array
            The vectors to multiply.
        gradients : mapping or None
            Arrays for the products of the parameters; None skips them.
        pull : bool
            Whether to compute the product of the input.

        Returns
        -------
        (rows, width) array or None
            ``J' g`` if `pull`; the next call with this tape may overwrite it.
        """


@documented
@dataclass(frozen=True)
class Dense(Differentiable):
    """``act(v W + b)``."""

    width: int = option(REQUIRED, least=1, means="Width of the output.")
    activation: str = option(
        "relu", choices=ACTIVATIONS, means='Activation; "identity" makes the layer linear.'
    )

    def __post_init__(self) -> None:
        check_options(self, f"{type(self).__name__} ")

    skip = False

    def output(self, width: int) -> int:
        return int(self.width)

    def shapes(self, width: int) -> Shapes:
        return {"w": (width, self.output(width)), "b": (self.output(width),)}

    def initial(self, width: int, residual: int, seed: Sequence[int]) -> dict[str, Array]:
        # Drawn as by `Architecture.initial`.
        shrink = max(1, residual) if self.skip else 1
        w = draw(width, self.output(width), self.activation, shrink, seed)
        return {"w": w, "b": np.zeros(w.shape[1])}

    def forward(self, params: Params, v: Array, tape: Tape) -> Array:
        w, bias = params["w"], params["b"]
        activation = get_activation(self.activation)
        shape = (len(v), w.shape[1])
        a = np.matmul(v, w, out=tape.take("a", shape, v.dtype))
        tape.saved["v"], tape.saved["a"] = v, a
        if activation.name == "identity" and not self.skip:
            a += bias
            return a
        out = tape.take("out", shape, v.dtype)
        if activation.kind == PIECEWISE:
            layer_kernels.bias_piecewise(a, bias, activation.slope, v, self.skip, out)
            return out
        a += bias
        activation.value(a, out=out)
        if self.skip:
            out += v
        return out

    def backward(
        self, params: Params, g: Array, tape: Tape, gradients: Params | None, pull: bool
    ) -> Array | None:
        v, a, w = tape.saved["v"], tape.saved["a"], params["w"]
        activation = get_activation(self.activation)
        into = tape.take("bias", (w.shape[1],), v.dtype) if gradients is None else gradients["b"]
        if activation.name == "identity" and not self.skip:
            through = g
            if gradients is not None:
                np.sum(g, axis=0, out=into)
        elif activation.kind == PIECEWISE:
            through = tape.take("through", a.shape, a.dtype)
            layer_kernels.gate_piecewise(a, activation.slope, g, through, into)
        else:
            through = activation.derivative(a, out=tape.take("through", a.shape, a.dtype))
            through *= g
            np.sum(through, axis=0, out=into)
        if gradients is not None:
            np.matmul(v.T, through, out=gradients["w"])
        if not pull:
            return None
        back = np.matmul(through, w.T, out=tape.take("back", v.shape, v.dtype))
        if self.skip:
            back += g
        return back


@documented
@dataclass(frozen=True)
class Residual(Dense):
    """``v + act(v W + b)``; as wide as its input."""

    width: int = field(default=1, init=False, repr=False)

    skip = True

    def output(self, width: int) -> int:
        return width


@documented
@dataclass(frozen=True)
class NMFBlock(Block):
    """Non-negative matrix factorisation: the codes ``argmin_{M >= 0} 1/2 |v - M S|^2``.

    The dictionary S (n_components, width) has no negative numbers, and rows of length 1.
    Block-ADMM trains it with the rest of the network (`dadmm.solvers.nmf`).  What it reads
    must not be negative, such as what relu gives.
    """

    n_components: int = option(
        REQUIRED, least=1, means="r, the number of factors: the width of the output."
    )
    weight: float = option(
        0.01,
        above=0,
        means="Weight of the reconstruction beside the loss, per sample. It is the weight of "
        "``1/2 |v - M S|^2`` in what the layers below learn. A large weight makes features that "
        "are few factors and nothing else.",
    )
    l1: float = option(
        0.0, least=0, means="Weight of the sum of the codes beside the reconstruction."
    )
    l2: float = option(
        0.0, least=0, means="Weight of half the codes' squares beside the reconstruction."
    )
    overlap: float = option(
        0.003,
        least=0,
        means="Weight of the products of the dictionary's rows with each other. It is relative to "
        "the mean square of the codes. The less the rows share features, the better codes are "
        "defined. With 0, features and factors soon become a few directions and nothing else; "
        "with 0.1, factors become single features.",
    )
    rho: float = option(
        0.3,
        above=0,
        means="Penalty on the distance of the codes from what the next block asks for, in the "
        "problem that trains the block. It damps what is asked of the layers below where factors "
        "are alike.",
    )
    sweeps: int = option(
        SWEEPS,
        least=1,
        most=MOST_SWEEPS,
        means="Sweeps over each row's codes. They are of coordinate descent, in training and at "
        "prediction alike.",
    )
    init: str = option(
        "random",
        choices=("random", "nndsvd"),
        means="Draw the first dictionary, or form it from two looks at the data (`nndsvd`).",
    )
    window: int = option(
        64, least=1, means="Mini-batches that the sums behind the dictionary remember."
    )

    def __post_init__(self) -> None:
        check_options(self, "NMFBlock ")

    def output(self, width: int) -> int:
        if self.n_components > width:
            raise OptionError(
                f"NMFBlock n_components={self.n_components} of {width} features: "
                f"use at most {width}"
            )
        return int(self.n_components)

    def shapes(self, width: int) -> Shapes:
        return {"s": (self.output(width), width)}

    def initial(self, width: int, residual: int, seed: Sequence[int]) -> dict[str, Array]:
        # Rows of length 1, uniform over the positive orthant.
        s = np.abs(np.random.default_rng(seed).normal(size=self.shapes(width)["s"]))
        return {"s": s / np.linalg.norm(s, axis=1, keepdims=True)}

    def forward(self, params: Params, v: Array, tape: Tape) -> Array:
        s = params["s"]
        return coded(s @ s.T, exactly(v, s), self.sweeps, l1=self.l1, l2=self.l2)


KINDS: dict[str, Any] = {"dense": Dense, "residual": Residual, "nmf": NMFBlock}


def block_to_table(block: Block) -> dict[str, Any]:
    """Return a description in plain values, from which `block_from_table` rebuilds some kinds."""
    for kind, made in KINDS.items():
        if type(block) is made:
            shown = {name: getattr(block, name) for name in options_of(made)}
            plain = {n: v.item() if isinstance(v, np.generic) else v for n, v in shown.items()}
            return {"kind": kind, **plain}
    # Extra entries distinguish blocks of the same kind.
    table = getattr(block, "table", dict)
    return {"kind": type(block).__name__, **table()}


def block_from_table(table: Mapping[str, Any]) -> Block:
    """Return the block that a table describes.

    Raises
    ------
    OptionError
        For a kind that is unknown or cannot be rebuilt, because a table holds no code; or for an
        unknown option.
    """
    options = dict(table)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise OptionError(
            f"a block of kind {kind!r} cannot be rebuilt from a stored table, which holds no code: "
            "pass the solver object, as solver="
        )
    known = options_of(KINDS[kind])
    for name in options:
        if name not in known:
            raise unknown(f"option of a {kind} block", name, known)
    found: Block = KINDS[kind](**options)
    return found
