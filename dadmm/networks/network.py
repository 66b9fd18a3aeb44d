"""The network: its architecture, its parameters and its forward pass, in plain NumPy.

Samples are rows.  With ``V_0 = x``::

    A_i = V_{i-1} W_i + b_i                          pre-activation of layer i
    V_i = s_i V_{i-1} + act(A_i)    i = 1 .. N-1     hidden layers, s_i in {0, 1}
    V_N = V_{N-1} W_N + b_N                          linear head

A hidden layer is *residual* (``s_i = 1``) if its width equals the width before it.  The first one,
the *stem*, is so only with ``stem="identity"``: the fully connected residual net of arXiv
2310.15334.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dadmm.errors import InputError, ShapeError
from dadmm.networks.architecture import Model
from dadmm.networks.form import Form
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target
from dadmm.numerics.types import Array, Arrays


@dataclass(frozen=True)
class Network:
    """A trained network, with inputs and outputs in the units of the data.

    Parameters
    ----------
    architecture : Architecture or Chain
    params : dict of str to array
        ``w_1, b_1, ..., w_N, b_N``; other blocks have other names.
    inputs, outputs : Scaling
        The scaling before the first layer and, for regression, after the last.
    target : Target
        What the outputs mean.
    form : Form or None
        How an estimator reads columns: names, categories, fills for missing numbers.  None for
        plain numbers.
    """

    architecture: Model
    params: Arrays
    inputs: Scaling
    outputs: Scaling | None = None
    target: Target = field(default_factory=Target)
    form: Form | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters."""
        return next(iter(self.params.values())).dtype

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype of the outputs: float64 where that of the parameters is too coarse for them."""
        return self.dtype if self.outputs is None else self.outputs.wide_enough(self.dtype)

    def forward(self, x: Array) -> Array:
        """Return the outputs for `x`.

        Parameters
        ----------
        x : (rows, features) array

        Returns
        -------
        (rows, outputs) array
            Of `output_dtype`; infinite where it overflows.

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


def network_of(model: Any) -> Network:
    """Return the network of a fitted estimator, or a network as it is.

    Raises
    ------
    InputError
        If it is neither.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, Network):
        raise InputError(f"{model!r} is neither a network nor a fitted estimator: fit it first")
    return network
