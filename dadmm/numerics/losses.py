"""Losses: value, gradient and proximal map of each.

Everywhere ``v`` are the network's outputs and ``y`` the targets as `Loss.encode` returns them: both
(rows, outputs), both float32 or both float64, like the results.  A row of a gradient or of a
proximal map depends on the same row of ``v`` and ``y`` alone.  ``out`` is an array for the result,
which may be ``v`` or ``y`` itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import expit

from dadmm.errors import DataError, OptionError, named
from dadmm.numerics.types import Array

AT_ONCE = 65536  # entries of one pass that needs several temporaries


class Loss(ABC):
    """A per-sample loss, summed over samples.

    Attributes
    ----------
    name : str
        Its name for `get_loss`.
    lipschitz : float
        The Lipschitz constant of a sample's gradient, or infinity if the gradient jumps.
    classification_only : bool
        Whether the targets must be classes.
    multi_label : bool
        Whether the targets are a yes or no per output, instead of one class.
    has_proba : bool
        Whether the outputs are log-odds, which `predict_proba` needs.
    """

    name: ClassVar[str]
    lipschitz: ClassVar[float]
    classification_only: ClassVar[bool] = False
    multi_label: ClassVar[bool] = False
    has_proba: ClassVar[bool] = False

    @abstractmethod
    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        """Return the sum of the rows' losses, each times its weight if given, in float64."""

    @abstractmethod
    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        """Return the gradient of each row's loss with respect to that row of `v`."""

    @abstractmethod
    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        """Return, row by row, ``argmin_z loss(z, y) + beta/2 |z - v|^2``, beta above 0."""

    def encode(self, codes: ArrayLike, n_outputs: int, dtype: DTypeLike = np.float32) -> Array:
        """Return the targets of samples by their classes: 1 for the class, 0 elsewhere.

        Parameters
        ----------
        codes : array_like of int, (rows,)
            The class of each sample, from 0 to ``n_outputs - 1``.
        n_outputs : int
            Number of classes.
        dtype : dtype
            The dtype of the result.

        Returns
        -------
        ndarray, (rows, n_outputs)
            The targets.

        Raises
        ------
        dadmm.errors.DataError
            If a code is out of range.
        """
        classes = np.asarray(codes)
        if classes.size and not (classes.min() >= 0 and classes.max() < n_outputs):
            raise DataError(
                f"class codes must be from 0 to {n_outputs - 1}, "
                f"not from {classes.min()} to {classes.max()}"
            )
        targets: Array = np.equal(classes[:, None], np.arange(n_outputs)).astype(dtype)
        return targets

    def decode(self, y: Array) -> Array:
        """Return the codes that `encode` was given; of smoothed labels, the likeliest class."""
        classes: Array = y.argmax(axis=1)
        return classes

    def right(self, v: Array, y: Array, weight: Array | None = None) -> float:
        """Return how many rows' outputs `v` predict the targets `y`; (rows,) weights count rows."""
        found = self._is_right(v, y)
        return float(found.sum() if weight is None else weight[found].sum(dtype=np.float64))

    def _is_right(self, v: Array, y: Array) -> Array:
        """Return whether each row's outputs predict its targets, (rows,)."""
        return np.equal(v.argmax(axis=1), self.decode(y))

    def predict_proba(self, v: Array, out: Array | None = None) -> Array:
        """Return the probability of each class; a row sums to 1, unless there are several labels.

        Raises
        ------
        dadmm.errors.OptionError
            If `has_proba` is false.
        """
        raise OptionError(
            f"outputs trained with the {self.name} loss are not probabilities: "
            "use the cross_entropy loss"
        )


@dataclass(frozen=True)
class Squared(Loss):
    """Half the squared distance, ``|v - y|^2 / 2``."""

    name = "squared"
    lipschitz = 1.0

    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        r = np.subtract(v, y, dtype=np.float64)
        return 0.5 * _total(np.square(r, out=r), weight)

    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        return np.subtract(v, y, out=out)

    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        near, far = float(1.0 / (1.0 + beta)), float(beta / (1.0 + beta))
        return np.add(near * y, far * v, out=out)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of the softmax of the outputs, ``-sum_j y_j log softmax(v)_j``.

    Every row of ``y`` is a probability distribution: one-hot, or smoothed labels.
    """

    name = "cross_entropy"
    lipschitz = 0.5
    classification_only = True
    has_proba = True

    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        v = np.subtract(v, np.max(v, axis=1, keepdims=True), dtype=np.float64)
        log_sum = np.log(np.sum(np.exp(v), axis=1, keepdims=True))
        terms = np.subtract(log_sum, v, out=v)
        return _total(np.multiply(y, terms, out=terms), weight)

    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        p = self.predict_proba(v)
        return np.subtract(p, y, out=p if out is None else out)

    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        """Return the minimisers of `Loss.prox` by a Newton iteration that cannot fail.

        Notes
        -----
        [derived here]  At the minimiser ``z = x - p / beta`` with ``x = v + y / beta`` and
        ``p = softmax(z)``.  Given the log of the normaliser, ``s = log sum_j exp(z_j)``, every
        ``p_j`` is the root of ``log p_j + p_j / beta = x_j - s``, that is
        ``p_j = beta W(exp(x_j - s) / beta)`` with Lambert's function ``W``.  One unknown per row is
        left, in ``sum_j p_j(s) = 1``, whose left-hand side is decreasing and convex in ``s``.
        At ``s = max(x) - 1 / beta`` it is at least 1 (the largest ``p_j`` alone is 1 there), and
        from such a point Newton's method climbs to the root without overshooting.

        Each step divides the product of error and slope by at least 4, so even 100 outputs and
        ``beta = 1e-3`` need less than 40 steps to float64 rounding, whatever their values; 5 to
        10 are typical.  The usual choice, Newton on the k unknowns of a row, needs a line search
        when softmax saturates, and inverts its Hessian, diagonal minus rank one, by just such an
        equation.  It computes in float64, whatever the dtype.
        """
        shift = np.divide(y, beta, dtype=np.float64)
        x = v + shift
        x -= np.max(x, axis=1, keepdims=True)
        s = np.full((len(x), 1), -1.0 / beta)
        p = np.empty_like(x)
        busy = np.arange(len(x))
        for _ in range(50):
            q = _wright_omega(x[busy] - s[busy] - np.log(beta))
            p[busy] = beta * q
            error = np.sum(p[busy], axis=1, keepdims=True) - 1.0
            step = error / np.sum(p[busy] / (1.0 + q), axis=1, keepdims=True)
            s[busy] += step
            busy = busy[step[:, 0] > 1e-14 * (1.0 + np.abs(s[busy, 0]))]
            if not busy.size:
                break
        if out is None:
            out = np.empty_like(v)
        return np.add(v, shift - p / beta, out=out, casting="same_kind")

    def predict_proba(self, v: Array, out: Array | None = None) -> Array:
        e = np.subtract(v, np.max(v, axis=1, keepdims=True), out=out)
        np.exp(e, out=e)
        result: Array = np.divide(e, np.sum(e, axis=1, keepdims=True), out=e)
        return result


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of each output by itself, ``sum_j log(1 + exp(v_j)) - y_j v_j``.

    For several labels per row: ``y_j`` is 1 if label j holds, 0 if not, or a number in between.
    """

    name = "binary_cross_entropy"
    lipschitz = 0.25
    classification_only = True
    multi_label = True
    has_proba = True

    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        terms = np.logaddexp(0.0, v, dtype=np.float64)
        return _total(np.subtract(terms, np.multiply(y, v, dtype=np.float64), out=terms), weight)

    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        return np.subtract(expit(v), y, out=out)

    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        """Return the minimisers of `Loss.prox`, entry by entry.

        Notes
        -----
        [derived here]  The minimiser is the root of ``sigmoid(z) + beta (z - x)``, with
        ``x = v + y / beta``.  If it is above 0 (``beta x > 1/2``), its mirror image is computed:
        ``-z`` is the root for ``-v`` and ``1 - y``.  Up to 0 the left-hand side is increasing and
        convex, and at ``min(x, 0)`` it is not negative.  From there Newton's method falls to the
        root without overshooting it, in steps of about 1 or more until it is near.  The root is
        hardly below ``log(beta)``: 10 steps are typical for a beta of 1e-3, fewer for a larger
        one.  It computes in float64, whatever the dtype.
        """
        if out is None:
            out = np.empty_like(v)
        rows = max(1, AT_ONCE // v.shape[1])
        for first in range(0, len(v), rows):
            here = slice(first, first + rows)
            out[here] = _sigmoid_prox(v[here], y[here], float(beta))
        return out

    def encode(self, codes: ArrayLike, n_outputs: int, dtype: DTypeLike = np.float32) -> Array:
        """Return labels, (rows, n_outputs), as `dtype`; raise `DataError` unless all are 0 or 1."""
        labels = np.asarray(codes)
        if (
            labels.ndim != 2
            or labels.shape[1] != n_outputs
            or ((labels != 0) & (labels != 1)).any()
        ):
            raise DataError(f"labels must be 0 or 1 in each of {n_outputs} columns")
        return labels.astype(dtype)

    def decode(self, y: Array) -> Array:
        """Return whether each label holds, (rows, outputs)."""
        return np.greater(y, 0.5)

    def _is_right(self, v: Array, y: Array) -> Array:
        found: Array = ((v > 0) == self.decode(y)).all(axis=1)
        return found

    def predict_proba(self, v: Array, out: Array | None = None) -> Array:
        result: Array = expit(v, out=out)
        return result


@dataclass(frozen=True)
class Hinge(Loss):
    """One-vs-rest hinge, ``sum_j max(0, 1 - y_j v_j)`` with ``y_j`` either +1 or -1.

    The gradient jumps where ``y_j v_j = 1``; `gradient` returns 0 there.
    """

    name = "hinge"
    lipschitz = float("inf")
    classification_only = True

    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        terms = np.multiply(y, v, dtype=np.float64)
        np.subtract(1.0, terms, out=terms)
        return _total(np.maximum(terms, 0.0, out=terms), weight)

    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        result: Array = np.multiply(y, -(y * v < 1).astype(v.dtype), out=out)
        return result

    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        # Margins y_j v_j above 1 stay; the others grow by 1 / beta but not beyond 1 [derived here].
        margin = y * v
        most = float(1.0 / beta)
        result: Array = np.multiply(y, np.maximum(margin, np.minimum(margin + most, 1.0)), out=out)
        return result

    def encode(self, codes: ArrayLike, n_outputs: int, dtype: DTypeLike = np.float32) -> Array:
        return 2 * super().encode(codes, n_outputs, dtype) - 1


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss: with ``r = v_j - y_j``, ``r^2 / 2`` up to ``|r| = delta``, then linear.

    Attributes
    ----------
    delta : float
        Beyond it, the loss is ``delta (|r| - delta / 2)``.

    Raises
    ------
    dadmm.errors.OptionError
        If `delta` is not above 0.
    """

    delta: float = 1.0

    name = "huber"
    lipschitz = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise OptionError(f"delta of the huber loss must be above 0, not {self.delta}")

    def value(self, v: Array, y: Array, weight: Array | None = None) -> float:
        r = np.subtract(v, y, dtype=np.float64)
        inner = np.minimum(np.abs(r, out=r), self.delta)
        r -= 0.5 * inner
        return _total(np.multiply(inner, r, out=r), weight)

    def gradient(self, v: Array, y: Array, out: Array | None = None) -> Array:
        return np.clip(v - y, -self.delta, self.delta, out=out)

    def prox(self, v: Array, y: Array, beta: float, out: Array | None = None) -> Array:
        # As for the squared loss, but no entry moves further than delta / beta [derived here].
        most = float(self.delta / beta)
        return np.subtract(v, np.clip((v - y) / float(1.0 + beta), -most, most), out=out)


#: Every loss by name.
LOSSES: dict[str, Loss] = {
    loss.name: loss for loss in (Squared(), CrossEntropy(), BinaryCrossEntropy(), Hinge(), Huber())
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss of that name in `LOSSES`, or a `Loss`, say ``Huber(0.5)``, as it is.

    Raises
    ------
    dadmm.errors.OptionError
        For an unknown name.
    """
    return loss if isinstance(loss, Loss) else named("loss", loss, LOSSES)


def _total(terms: Array, weight: Array | None) -> float:
    """Return the sum of (rows, outputs) terms, each row times its weight if weights are given."""
    return float(np.sum(terms if weight is None else terms * weight[:, None]))


def _sigmoid_prox(v: Array, y: Array, beta: float) -> Array:
    """Return the roots ``z`` of ``sigmoid(z) - y + beta (z - v)``: `BinaryCrossEntropy.prox`."""
    x = (v + np.divide(y, beta, dtype=np.float64)).ravel()
    mirrored = beta * x > 0.5
    x = np.where(mirrored, (np.divide(1.0 - y, beta, dtype=np.float64) - v).ravel(), x)
    z = np.minimum(x, 0.0)
    busy = np.arange(z.size)
    for _ in range(100):
        here = z[busy]
        p = expit(here)
        step = (p + beta * (here - x[busy])) / (p * (1.0 - p) + beta)
        z[busy] -= step
        busy = busy[step > 1e-15 * (1.0 + np.abs(here))]
        if not busy.size:
            break
    return np.where(mirrored, -z, z).reshape(v.shape)


def _wright_omega(x: Array) -> Array:
    """Return the root ``w`` of ``w + log w = x``, by Newton in ``log w``.

    ``exp(t) + t`` is increasing and convex, and ``t = min(x, log(max(x, 1)))`` is not left of its
    root: from there the iteration falls to it, and has float64's digits after 5 steps.
    """
    # scipy.special.wrightomega differs in the last bits, which would change some networks.
    t = np.minimum(x, np.log(np.maximum(x, 1.0)))
    for _ in range(5):
        w = np.exp(t)
        t -= (w + t - x) / (w + 1.0)
    return np.exp(t)
