"""A network as a chain of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture, Model
from dadmm.networks.blocks import Block, Dense, Params, Residual, Shapes, Tape
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.types import Array
from dadmm.numerics.workspace import Workspace

# Rows of one step of a forward pass.
ROWS = 1024


@dataclass(frozen=True)
class Chain:
    """A network as a chain of blocks: ``v_i = P_i(f_i(v_{i-1}))``.

    Parameters
    ----------
    blocks : tuple of Block
    widths : tuple of int
        Features, then the width of each block's output.
    constraints : tuple of (int, Constraint)
        P_i, by the number i of the block (from 1) whose output it projects.
    """

    blocks: tuple[Block, ...]
    widths: tuple[int, ...]
    constraints: tuple[tuple[int, Constraint], ...] = ()

    @classmethod
    def build(
        cls,
        n_features: int,
        blocks: Sequence[Block],
        constraints: Mapping[int, Constraint] | None = None,
    ) -> Chain:
        """Chain blocks; the output of each is the input of the next."""
        widths = [int(n_features)]
        for block in blocks:
            widths.append(block.output(widths[-1]))
        return cls(tuple(blocks), tuple(widths), tuple(sorted((constraints or {}).items())))

    @classmethod
    def of(cls, arch: Architecture, constraints: Mapping[int, Constraint] | None = None) -> Chain:
        """Return an architecture's layers as a chain."""
        made: list[Block] = []
        for i in range(1, arch.depth + 1):
            activation = arch.activation if i < arch.depth else "identity"
            made.append(Residual(activation) if arch.skip(i) else Dense(arch.widths[i], activation))
        return cls.build(arch.widths[0], made, constraints)

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    def up_to(self, last: int) -> Chain:
        """Return the chain that ends with block `last`, with its constraints."""
        kept = tuple(each for each in self.constraints if each[0] <= last)
        return Chain(self.blocks[:last], self.widths[: last + 1], kept)

    def constraint(self, i: int) -> Constraint | None:
        """Return the constraint on the output of block i (from 1), or None."""
        return dict(self.constraints).get(i)

    @property
    def shapes(self) -> Shapes:
        """Return the names and shapes of all parameters."""
        return {k: v for i in range(1, self.depth + 1) for k, v in self.shapes_of(i).items()}

    def shapes_of(self, i: int) -> Shapes:
        """Return the shapes of block i's parameters, by their names in the network, ``w_i``."""
        found = self.blocks[i - 1].shapes(self.widths[i - 1])
        return {f"{name}_{i}": shape for name, shape in found.items()}

    def initial(self, seed: int, dtype: Any = np.float32) -> dict[str, Array]:
        """Draw starting parameters; block i has a generator of its own, seeded by (seed, i)."""
        residual = sum(isinstance(block, Residual) for block in self.blocks)
        params = {}
        for i, block in enumerate(self.blocks, start=1):
            drawn = block.initial(self.widths[i - 1], residual, (seed, i))
            params.update({f"{name}_{i}": array.astype(dtype) for name, array in drawn.items()})
        return params

    def steps(self, params: Params, x: Array, tapes: Sequence[Tape]) -> Iterator[Array]:
        """Yield ``v_1, v_2, ...``, each computed from the one before it."""
        v = x
        for i, (block, tape) in enumerate(zip(self.blocks, tapes, strict=True), start=1):
            v = block.forward(own(params, i), v, tape)
            constraint = self.constraint(i)
            if constraint is not None:
                v = constraint.project(v)
            yield v

    def forward(self, params: Params, x: Array) -> Array:
        """Return the outputs for scaled inputs, (rows, widths[-1]).

        It takes a few rows at a time, so that what blocks keep does not grow with the rows.
        """
        work = Workspace()
        tapes = [Tape(work, str(i)) for i in range(self.depth)]
        outs = []
        for first in range(0, max(len(x), 1), ROWS):
            *_, out = self.steps(params, x[first : first + ROWS], tapes)
            outs.append(out.copy())
        return np.concatenate(outs)

    def backpropagate(
        self, params: Params, x: Array
    ) -> tuple[Array, Callable[[Array], dict[str, Array]]]:
        """Return the outputs for scaled inputs, and a function for the gradients of the parameters.

        Parameters
        ----------
        params : mapping
            The parameters of the network; others are ignored.
        x : (rows, features) array

        Returns
        -------
        outputs : (rows, widths[-1]) array
        back : callable
            Takes the gradient of each row's loss in the outputs; returns the gradient of their sum
            in each parameter, by name.

        Raises
        ------
        OptionError
            If the chain has constraints, which have no gradient.
        """
        if self.constraints:
            raise OptionError("backpropagation does not go through constraints: leave them out")
        work = Workspace()
        tapes = [Tape(work, str(i)) for i in range(self.depth)]
        *_, out = self.steps(params, x, tapes)

        def back(g: Array) -> dict[str, Array]:
            found: dict[str, Array] = {}
            for i in range(self.depth, 0, -1):
                block: Any = self.blocks[i - 1]
                given = {name: params[f"{name}_{i}"] for name in block.shapes(self.widths[i - 1])}
                into = {name: np.empty_like(array) for name, array in given.items()}
                g = block.backward(given, g, tapes[i - 1], into, i > 1)
                found |= {f"{name}_{i}": array for name, array in into.items()}
            return found

        return out, back


def as_chain(model: Model) -> Chain:
    """Return a network's shape as a chain of blocks with the same names of parameters."""
    if isinstance(model, Architecture):
        return Chain.of(model)
    assert isinstance(model, Chain)
    return model


def own(params: Params, i: int) -> dict[str, Array]:
    """Return the parameters of block i by the block's own names."""
    end = f"_{i}"
    return {name.removesuffix(end): array for name, array in params.items() if name.endswith(end)}


def size(shapes: Shapes) -> int:
    """Return the number of parameters."""
    return sum(prod(shape) for shape in shapes.values())


def views(flat: Array, shapes: Shapes) -> dict[str, Array]:
    """Return views of one flat array as arrays of the given shapes."""
    edges = np.cumsum([0, *(prod(shape) for shape in shapes.values())])
    return {
        name: flat[a:b].reshape(shape)
        for (name, shape), (a, b) in zip(shapes.items(), pairwise(edges), strict=True)
    }


def flatten(params: Params, shapes: Shapes, dtype: Any) -> Array:
    """Return parameters as one flat array, the inverse of `views`."""
    return np.concatenate([np.ravel(params[name]).astype(dtype) for name in shapes])
