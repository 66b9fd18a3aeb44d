"""A dictionary of non-negative factors, and how it learns."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from dadmm.errors import OptionError
from dadmm.numerics import nonnegative
from dadmm.numerics.types import Array
from dadmm.solvers.sums import Sums

# The looks at the data that a start from its singular vectors takes.
STAGES = ("gram", "signs")
RECENT = 16.0
# Sweeps over the dictionary per update.
SWEEPS = 4
# A start from the data's singular vectors needs the whole of Z'Z, (features, features).
MOST_FEATURES = 4096


class Dictionary:
    """S and the sums behind it during a visit: a copy that learns.

    Parameters
    ----------
    s : (r, d) array
    gram, cross : (r, r), (r, d) arrays
        Means over rows of M'M and M'Z, of the mini-batches so far.
    count : float
        How many mini-batches there were.
    window : int
        Mini-batches that the means remember, and a sixteenth of those so far: codes of long ago
        belong to another dictionary (Mairal et al. 2010, section 3.4.3).
    unit, penalty : bool, float
        See `dadmm.numerics.nonnegative.dictionary`.
    overlap : float
        See `dadmm.NMFBlock`.
    """

    def __init__(
        self,
        s: Array,
        gram: Array,
        cross: Array,
        count: float,
        window: int,
        unit: bool,
        overlap: float = 0.0,
        **penalty: float,
    ) -> None:
        self.overlap, self.penalty = overlap, penalty
        self.s, self.gram, self.cross = s.copy(), gram.copy(), cross.copy()
        self.count, self.window, self.unit = count, window, unit

    def absorb(self, z: Array, m: Array) -> None:
        """Take in a mini-batch and its codes, and sweep."""
        self.count += 1
        share = z.dtype.type(max(min(1.0, RECENT / self.count), 1.0 / self.window))
        mean = z.dtype.type(1.0 / len(z))
        for kept, new in ((self.gram, m.T @ m), (self.cross, m.T @ z)):
            new *= mean
            new -= kept
            new *= share
            kept += new
        self.s = swept(self.s, self.gram, self.cross, 1, self.unit, self.overlap, **self.penalty)


def swept(
    s: Array,
    gram: Array,
    cross: Array,
    sweeps: int,
    unit: bool,
    overlap: float = 0.0,
    **penalty: float,
) -> Array:
    """Return the dictionary after sweeps; `overlap` is in units of the mean use of a factor."""
    weight = overlap * float(np.trace(gram)) / len(gram)
    return nonnegative.dictionary(gram, cross, s, sweeps, unit, overlap=weight, **penalty)


def settled(
    s: Array, gram: Array, cross: Array, unit: bool, revive: bool = True, **penalty: float
) -> tuple[Array, int]:
    """Return the dictionary after sweeps on sums, and how many dead rows were seeded again."""
    wide = swept(np.asarray(s, np.float64), gram, cross, SWEEPS, unit, **penalty)
    if not revive:
        return wide.astype(s.dtype), 0
    # The dictionary is the seed: the draw is the same after a resume, and another one next time.
    wide, dead = nonnegative.revive(gram, wide, (crc32(s.tobytes()),))
    if unit and dead:
        wide[dead] /= np.maximum(np.linalg.norm(wide[dead], axis=1, keepdims=True), 1e-30)
    return wide.astype(s.dtype), len(dead)


def negative(z: Array, first: bool) -> str:
    """Return the message on features below 0 that the `first` block reads, or a later one."""
    if first:
        return (
            f"x has numbers as low as {z.min():.3g}, and a factorisation has none below 0: shift "
            "them (NMF: shift=True; a network whose first block is an NMFBlock: "
            "standardize='shift')"
        )
    return (
        f"an NMFBlock reads features as low as {z.min():.3g}, and factorises none below 0: put a "
        "relu, or constraints='non_negative', before it"
    )


def check_features(count: int) -> None:
    """Raise `OptionError` for more features than a start from the data can have."""
    if count > MOST_FEATURES:
        raise OptionError(
            f"init='nndsvd' needs the {count} x {count} products of all features: use init='random'"
        )


def look(features: Array, stage: object, s: Array) -> Sums:
    """Return what a start from the data needs of some rows, as sums: see `nonnegative.nndsvd`."""
    # Of some hundred rows: products are in the features' dtype, and are added up in float64.
    if stage == "gram":
        return {"look": (features.T @ features).astype(np.float64)}
    scores = (features @ s.T).astype(np.float64)
    above, below = np.maximum(scores, 0.0), np.minimum(scores, 0.0)
    return {"above": (above**2).sum(axis=0), "below": (below**2).sum(axis=0)}


def looked(s: Array, sums: Sums, unit: bool) -> Array:
    """Return the dictionary after a look at all rows, given the sums of `look`."""
    if "look" in sums:
        return nonnegative.leading(sums["look"], len(s)).astype(s.dtype)
    found = nonnegative.nndsvd(s, sums["above"], sums["below"])
    if unit:
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)
    return found.astype(s.dtype)
