"""Steps of Adam and of SGD on flat arrays of parameters, and the gradient of a penalty."""

from __future__ import annotations

import math

from numba import njit

from dadmm.numerics.kernels import COMPILED
from dadmm.numerics.types import Array


@njit(**COMPILED)
def adam(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: float,
    beta1: float,
    beta2: float,
    correction: float,
    eps: float,
    l2: float,
    shrink: float,
) -> None:
    """Take one step of Adam (Kingma and Ba 2015) with decoupled weight decay, in place.

    Vanishing numbers, such as the weights of dead units, become 0: matrix products with subnormal
    numbers are many times slower.

    Parameters
    ----------
    theta, g, m, v : (size,) arrays
        Parameters, their gradient, and the two moments.
    rate : float
        The learning rate over ``1 - beta1^t``.
    correction : float
        ``1 / sqrt(1 - beta2^t)``.
    l2 : float
        Weight of ``|theta|^2 / 2``, added to the gradient.
    shrink : float
        Factor of `theta` before the step: 1 minus learning rate times weight decay.
    """
    one = theta.dtype.type(1)
    r, b1, b2 = theta.dtype.type(rate), theta.dtype.type(beta1), theta.dtype.type(beta2)
    c, e, s = theta.dtype.type(correction), theta.dtype.type(eps), theta.dtype.type(shrink)
    decay = theta.dtype.type(l2)
    zero, tiny, least = theta.dtype.type(0), theta.dtype.type(1e-30), theta.dtype.type(1e-37)
    for i in range(theta.size):
        d = g[i] + decay * theta[i]
        first = b1 * m[i] + (one - b1) * d
        second = b2 * v[i] + (one - b2) * d * d
        moved = s * theta[i] - r * first / (math.sqrt(second) * c + e)
        m[i] = zero if abs(first) < tiny else first
        v[i] = zero if second < least else second
        theta[i] = zero if abs(moved) < tiny else moved


@njit(**COMPILED)
def sgd(
    theta: Array, g: Array, m: Array, rate: float, momentum: float, l2: float, shrink: float
) -> None:
    """Take one step of gradient descent with momentum, ``m = momentum m + g``, in place."""
    r, b = theta.dtype.type(rate), theta.dtype.type(momentum)
    decay, s = theta.dtype.type(l2), theta.dtype.type(shrink)
    for i in range(theta.size):
        m[i] = b * m[i] + (g[i] + decay * theta[i])
        theta[i] = s * theta[i] - r * m[i]


@njit(**COMPILED)
def augment(g: Array, multiplier: Array, theta: Array, anchor: Array, sigma: float) -> None:
    """Add the gradient of ``<pi, theta - w> + sigma/2 |theta - w|^2`` to `g`, in place."""
    s = g.dtype.type(sigma)
    for i in range(g.size):
        g[i] += multiplier[i] + s * (theta[i] - anchor[i])
