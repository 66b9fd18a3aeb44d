"""Small data for every loss, which a small network can learn but not quite."""

import numpy as np

from dadmm.numerics.losses import get_loss

REGRESSION = ("squared", "huber")


def data(loss, n=30, p=5, k=3, seed=0):
    """Inputs and targets, in the loss's encoding, that a small network can learn but not quite."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    signal = np.tanh(x @ rng.standard_normal((p, k))) + 0.1 * rng.standard_normal((n, k))
    if loss in REGRESSION:
        return x, 2.0 * signal
    if get_loss(loss).multi_label:
        return x, (signal > 0).astype(np.float64)
    return x, get_loss(loss).encode(signal.argmax(1), k, np.float64)
