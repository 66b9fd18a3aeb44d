"""Non-negative matrix factorisation on arrays: codes, dictionary, objective, start.

``Z`` (rows, d) is approximated by ``M S`` with codes ``M >= 0`` (rows, r) and a dictionary
``S >= 0`` (r, d)::

    min  1/2 |Z - M S|^2 + l1_M sum M + l2_M/2 |M|^2 + l1_S sum S + l2_S/2 |S|^2

Coordinate descent (HALS: Cichocki and Phan 2009; the solver "cd" of scikit-learn's NMF) minimises
exactly over one column of M, or one row of S, at a time.  A row of M needs only ``S S'`` and its
own ``Z S'``.  S needs only the sums ``M'M`` and ``M'Z``, which add up over chunks of rows.

Everything computes in the dtype of its arguments; the two sweeps are compiled.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.linalg import eigh

from dadmm.numerics.kernels import COMPILED
from dadmm.numerics.types import Array

TILE = 64  # rows that SIMD code sweeps side by side
SWEEPS = 30  # of a row's codes, from their start
AT_ONCE = 2**20  # numbers that are converted to float64 at once
ALIVE = 1e-10  # least use of a factor that is alive, relative to the largest use


def codes(
    z: Array,
    s: Array,
    sweeps: int = SWEEPS,
    start: Array | None = None,
    target: Array | None = None,
    rho: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
) -> Array:
    """Return ``argmin_{M >= 0} 1/2 |Z - M S|^2 + rho/2 |M - T|^2 + l1 sum M + l2/2 |M|^2``.

    The result is that of some sweeps of coordinate descent.  A row's codes do not depend on other
    rows, nor on their number, but for the order in which BLAS adds up ``Z S'`` (see `exactly`).

    Parameters
    ----------
    z : (rows, d) array
    s : (r, d) array
        Not negative.
    sweeps : int
        Number of sweeps of each row over its r codes.
    start : (rows, r) array or None
        The start, not negative; None starts along the gradient at 0.
    target : (rows, r) array or None
        T, to which `rho` draws the codes.
    rho, l1, l2 : float
        Not negative.

    Returns
    -------
    (rows, r) array
        Of the dtype of `z`.
    """
    gram = s @ s.T
    cross = z @ s.T
    if target is not None and rho:
        cross += cross.dtype.type(rho) * target
    return coded(gram, cross, sweeps, start, l1, l2 + (rho if target is not None else 0.0))


def exactly(z: Array, s: Array) -> Array:
    """Return ``Z S'``, (rows, r), added up in float64 and rounded to the dtype of `z`.

    BLAS adds up in an order that depends on a row's place among others.  In float64 that order
    changes what is rounded once in many millions of numbers, so a row's result is its own.
    """
    wide = s.T.astype(np.float64)
    out = np.empty((len(z), len(s)), z.dtype)
    step = max(1, AT_ONCE // max(z.shape[1], 1))
    for first in range(0, len(z), step):
        out[first : first + step] = z[first : first + step].astype(np.float64) @ wide
    return out


def coded(
    gram: Array,
    cross: Array,
    sweeps: int,
    start: Array | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
) -> Array:
    """Return the codes of `codes` from ``S S'`` (r, r) and ``Z S' + rho T`` (rows, r).

    `l2` is all that is added to the diagonal, including `rho`.
    """
    kind = cross.dtype
    m = np.empty_like(cross) if start is None else start.astype(kind, order="C")
    ridge = gram + kind.type(l2) * np.eye(len(gram), dtype=kind)
    # A factor of zeros reconstructs nothing: its codes are 0, not 0/0.
    _sweep_codes(ridge, cross, kind.type(l1), m, sweeps, start is None)
    return m


@njit(**COMPILED)
def _sweep_codes(gram: Array, cross: Array, l1: float, m: Array, sweeps: int, fresh: bool) -> None:
    """Sweep over the codes of every row, in place; `fresh` computes their start first."""
    rows, r = cross.shape
    zero, one = cross.dtype.type(0), cross.dtype.type(1)
    most = np.finfo(cross.dtype).max
    b = np.zeros((r, TILE), cross.dtype)
    v = np.zeros((r, TILE), cross.dtype)
    inverse = np.zeros(r, cross.dtype)
    for k in range(r):
        if gram[k, k] > zero:
            inverse[k] = one / gram[k, k]
    up = np.zeros(TILE, cross.dtype)
    down = np.zeros(TILE, cross.dtype)
    acc = np.zeros(TILE, cross.dtype)
    for first in range(0, rows, TILE):
        count = min(TILE, rows - first)
        # A tile is always full, so that a row's arithmetic does not depend on its place.
        for i in range(count):
            for k in range(r):
                b[k, i] = cross[first + i, k] - l1
                v[k, i] = m[first + i, k]
        if fresh:
            # The start is the multiple of max(b, 0) with the lowest objective.
            for k in range(r):
                for i in range(TILE):
                    v[k, i] = max(b[k, i], zero) if inverse[k] > zero else zero
            for i in range(TILE):
                up[i] = zero
                down[i] = zero
            for k in range(r):
                for i in range(TILE):
                    acc[i] = zero
                for j in range(r):
                    g = gram[k, j]
                    for i in range(TILE):
                        acc[i] += g * v[j, i]
                for i in range(TILE):
                    up[i] += v[k, i] * b[k, i]
                    down[i] += v[k, i] * acc[i]
            for i in range(TILE):
                # Fourth powers of the data may overflow where sweeps do not: these start at 0.
                known = down[i] > zero and up[i] <= most
                up[i] = up[i] / down[i] if known else zero
            for k in range(r):
                for i in range(TILE):
                    v[k, i] *= up[i]
        for _ in range(sweeps):
            for k in range(r):
                for i in range(TILE):
                    acc[i] = b[k, i]
                for j in range(r):
                    g = gram[k, j]
                    for i in range(TILE):
                        acc[i] -= g * v[j, i]
                share = inverse[k]
                for i in range(TILE):
                    t = v[k, i] + acc[i] * share
                    v[k, i] = zero if t <= zero or share <= zero else t  # NaN stays NaN
        for i in range(count):
            for k in range(r):
                m[first + i, k] = v[k, i]


def dictionary(
    gram: Array,
    cross: Array,
    s: Array,
    sweeps: int = 1,
    unit: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    overlap: float = 0.0,
) -> Array:
    """Return a dictionary improved by exact coordinate sweeps on the sums.

    Over ``S >= 0``, one row at a time, they minimise, without ever raising it,
    ``1/2 <M'M, S S'> - <M'Z, S> + l1 sum S + l2/2 |S|^2 + overlap sum_{i<j} s_i s_j'``.

    Parameters
    ----------
    gram, cross : (r, r), (r, d) arrays
        ``M'M`` and ``M'Z``.
    s : (r, d) array
        The start; it is not changed.
    sweeps : int
    unit : bool
        Keep each row at length 1, so that codes have the scale of the data.  It is still the exact
        minimum over the row, because in one row the objective grows alike in all directions.

    Returns
    -------
    (r, d) array
        In the dtype of `s`.
    """
    s = s.copy()
    _sweep_dictionary(
        np.ascontiguousarray(gram, s.dtype),
        np.ascontiguousarray(cross, s.dtype),
        s,
        sweeps,
        unit,
        s.dtype.type(l1),
        s.dtype.type(l2),
        s.dtype.type(overlap),
        np.finfo(s.dtype).tiny,
    )
    return s


@njit(**COMPILED)
def _sweep_dictionary(
    gram: Array,
    cross: Array,
    s: Array,
    sweeps: int,
    unit: bool,
    l1: float,
    l2: float,
    overlap: float,
    tiny: float,
) -> None:
    """Sweep over the rows of `s` in place, but for rows that no code uses."""
    r, d = s.shape
    zero, one = s.dtype.type(0), s.dtype.type(1)
    acc = np.empty(d, s.dtype)
    for _ in range(sweeps):
        for k in range(r):
            bend = gram[k, k] + l2
            if not bend > zero:
                continue
            for j in range(d):
                acc[j] = cross[k, j] - l1 - l2 * s[k, j]
            for i in range(r):
                g = gram[k, i] + (overlap if i != k else zero)
                if g != zero:
                    for j in range(d):
                        acc[j] -= g * s[i, j]
            share = one / bend
            total = zero
            for j in range(d):
                t = s[k, j] + acc[j] * share
                t = t if t > zero else zero
                acc[j] = t
                total += t * t
            if unit and not total > tiny:
                continue  # such a row cannot have length 1: one over a subnormal number is infinite
            scale = one / np.sqrt(total) if unit else one
            for j in range(d):
                s[k, j] = acc[j] * scale


def objective(energy: float, gram: Array, cross: Array, s: Array) -> float:
    """Return ``1/2 |Z - M S|^2`` from ``|Z|^2``, ``M'M`` and ``M'Z``, in float64; at least 0."""
    wide = np.asarray(s, np.float64)
    linear = float(np.vdot(np.asarray(cross, np.float64), wide))
    square = float(np.vdot(np.asarray(gram, np.float64), wide @ wide.T))
    return max(0.5 * float(energy) - linear + 0.5 * square, 0.0)


def revive(gram: Array, s: Array, seed: tuple[int, ...]) -> tuple[Array, list[int]]:
    """Return the dictionary with its dead rows seeded again, and their numbers.

    A factor is dead if no row of the data uses it.  It becomes a disturbed copy of a used factor,
    the most used first.  As its codes are 0, the reconstruction changes only when they move.
    """
    use = np.diagonal(gram)
    dead = np.flatnonzero(~(use > ALIVE * max(float(use.max()), 1e-300)))
    alive = np.setdiff1d(np.arange(len(s)), dead)
    if not len(dead) or not len(alive):
        return s, []
    s = s.copy()
    order = alive[np.argsort(-use[alive], kind="stable")]
    for i, k in enumerate(dead):
        rng = np.random.default_rng([*seed, int(k)])
        s[k] = s[order[i % len(order)]] * rng.uniform(0.0, 2.0, (s.shape[1],)).astype(s.dtype)
    return s, dead.tolist()


def leading(second: Array, r: int) -> Array:
    """Return the first right singular vectors of Z from ``Z'Z``, (r, d), in float64.

    The largest entry of each is positive.
    """
    d = len(second)
    _, vectors = eigh(second, subset_by_index=[d - r, d - 1])
    found = vectors[:, ::-1].T
    at = np.abs(found).argmax(axis=1)
    signs = np.sign(found[np.arange(r), at])
    return np.ascontiguousarray(found * signs[:, None])


def nndsvd(v: Array, above: Array, below: Array) -> Array:
    """Return the dictionary of NNDSVD (Boutsidis and Gallopoulos 2008), (r, d), in float64.

    Of each pair of singular vectors it takes the positive or the negative halves: those with the
    larger product.  It does not form the codes, which follow from a sweep.

    Parameters
    ----------
    v : (r, d) array
        The first right singular vectors.
    above, below : (r,) arrays
        Squared norms of the positive and of the negative parts of ``Z v_k``, over all rows; they
        replace the left vectors.
    """
    v = np.asarray(v, np.float64)
    s = np.zeros_like(v)
    for k, row in enumerate(v):
        sigma = np.sqrt(above[k] + below[k])
        if not sigma > 0:
            continue
        if k == 0:
            s[k] = np.sqrt(sigma) * np.abs(row)
            continue
        up, down = np.maximum(row, 0.0), np.maximum(-row, 0.0)
        terms = [
            (np.sqrt(left) / sigma * np.linalg.norm(half), half)
            for left, half in ((above[k], up), (below[k], down))
        ]
        size, half = max(terms, key=lambda term: term[0])
        if size > 0:
            s[k] = np.sqrt(sigma * size) * half / np.linalg.norm(half)
    return s
