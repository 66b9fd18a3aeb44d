"""What a method is given: the problem, and one chunk of data at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dadmm.networks.architecture import Architecture
from dadmm.networks.scaling import Scaling
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import lasting
from dadmm.solvers.parts import Pace

_work = lasting()


@dataclass(frozen=True)
class Problem:
    """The problem to minimise, apart from the data.

    Parameters
    ----------
    architecture : Architecture
    loss : str
        A name in `dadmm.numerics.losses.LOSSES`.
    alpha : float
        lambda, the weight of ``|W|^2 / 2`` per sample; biases are free.
    rows : int
        n, the number of samples.
    classes : int
        Number of classes, or of labels if each row may have several; 0 for regression.
    target_variation : float
        Regression: the sum of squares of the scaled targets about their mean, for R^2.
    dtype : str
        Dtype of the state and of the weights during a visit.
    weighted : bool
        Whether the samples have weights.
    supervised : bool
        Whether there are targets.
    """

    architecture: Architecture
    loss: str
    alpha: float
    rows: int
    classes: int = 0
    target_variation: float = 0.0
    dtype: str = "float32"
    weighted: bool = False
    supervised: bool = True

    @property
    def one_class(self) -> bool:
        """Whether each row has one class, and not numbers or several labels."""
        return self.classes > 0 and not get_loss(self.loss).multi_label


@dataclass(frozen=True)
class Chunk:
    """One chunk of data as a visit gets it: rows of everything, in one order.

    Parameters
    ----------
    inputs : (rows, features) array or None
        Inputs as they are stored: `x` and `take` scale them.
    y : (rows, outputs) array or None
        Targets in the loss's own encoding.
    state : dict of str to (rows, width) array
        Owned by the visit, which updates it in place.  What is kept per chunk has one row.
    seed : tuple of int
        (seed, iteration, chunk), the seed of all that a visit draws at random.
    pace : Pace
        How much of the run is done, for methods that slow down.
    weight : (rows,) array or None
        Weights of the samples, whose mean over all is 1.
    scaling : Scaling or None
        How the inputs are scaled; None for inputs that are scaled already.
    dtype : str
        Of the scaled inputs.
    """

    inputs: Array | None
    y: Array | None
    state: Arrays
    seed: tuple[int, ...] = (0,)
    pace: Pace = field(default_factory=Pace)
    weight: Array | None = None
    scaling: Scaling | None = None
    dtype: str = "float32"

    @property
    def rows(self) -> int:
        """The number of samples in the chunk."""
        given = (self.inputs, self.y, *self.state.values())
        return max((len(block) for block in given if block is not None), default=0)

    @cached_property
    def x(self) -> Array | None:
        """The inputs of all rows, scaled on first use."""
        if self.scaling is None or self.inputs is None:
            return self.inputs
        out = _work.take("x", self.inputs.shape, self.dtype)
        return self.scaling.apply(self.inputs, self.dtype, out)

    def take(self, rows: Array) -> Array:
        """Return the inputs of some rows, scaled, in memory that the next call uses again."""
        assert self.inputs is not None
        if self.scaling is None:
            return gather("x", self.inputs, rows)
        out = _work.take("batch x", (len(rows), self.inputs.shape[1]), self.dtype)
        return self.scaling.take(self.inputs, rows, out)


def gather(name: str, block: Array, rows: Array) -> Array:
    """Return some rows of a block, in memory that the next call with this name uses again."""
    out = _work.take(f"batch {name}", (len(rows), *block.shape[1:]), block.dtype)
    # "clip" because numpy buffers the output otherwise; the rows are in range.
    return np.take(block, rows, axis=0, out=out, mode="clip")
