"""Refine how data are scaled, batch by batch, while too little of them has been seen.

`partial_fit` and warm starts keep the scaling of what came first.  What does not vary there, such
as the sales of a day on which nothing was sold, has no scale yet; and a few rows give a poor one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from dask.delayed import delayed

from dadmm.cluster.slot import compute
from dadmm.data.arrays import computing, is_dask
from dadmm.data.moments import Moments, sum_moments
from dadmm.data.weights import pieces
from dadmm.estimators.problem import Posed
from dadmm.networks.blocks import Dense
from dadmm.networks.chain import as_chain
from dadmm.networks.scaling import Scaling
from dadmm.numerics.types import Array, Arrays

# Deviations of so many rows are right to about a quarter.
ENOUGH = 10


def refine(posed: Posed, seen: Mapping[str, Moments]) -> Posed:
    """Return what goes on from earlier batches, with scalings that heed this batch too.

    Parameters
    ----------
    posed : Posed
        The batch; its `units` are the scalings so far.
    seen : dict of str to Moments
        The moments of what was seen before, of inputs ("x") and targets ("y"); empty if the
        scalings were given.
    """
    for which, old in posed.units.items():
        how = posed.standardize
        if which == "y" and how != "none":
            how = "feature"
        if which not in seen or (seen[which].count >= ENOUGH and seen[which].scaled(how).all()):
            continue
        array, weight = posed.x if which == "x" else posed.y, posed.weight
        if which == "x" and posed.solver.heeds_rows_of_weight_0(posed.problem):
            weight = None
        total = seen[which] + _look(array, weight, which)
        new = refined(old, seen[which], total, how, centred=which == "y")
        posed = replace(posed, units={**posed.units, which: new})
        posed = replace(posed, initial=_following(posed, which, old, new, seen[which].scaled(how)))
    return posed


def refined(old: Scaling, seen: Moments, total: Moments, how: str, centred: bool) -> Scaling:
    """Return the scaling of columns after more rows.

    Columns that have not varied before keep their centre, where inputs are 0 so far, unless they
    are `centred` anew.  Of `ENOUGH` rows on, others keep their scaling.
    """
    new, still = total.scaling(how), ~seen.scaled(how)
    if not centred:
        spread = total.squares / total.count + (total.mean - old.centre) ** 2
        size = np.sqrt(spread if how == "feature" else np.full_like(spread, spread.mean()))
        varies = total.scaled(how)
        about = Scaling(old.centre, np.where(varies, size, old.scale))
        new = Scaling(*_chosen(still, about, new))
    if seen.count >= ENOUGH:
        new = Scaling(*_chosen(still, new, old))
    return new


def _chosen(mask: Array, a: Scaling, b: Scaling) -> tuple[Array, Array]:
    return np.where(mask, a.centre, b.centre), np.where(mask, a.scale, b.scale)


def _look(array: Any, weight: Any, name: str) -> Moments:
    """Return the moments of a batch, NumPy or dask."""
    weight = None if weight is None else weight[:, 0]
    if not is_dask(array):
        with computing("sample_weight"):
            (weight,) = compute(weight)
        return Moments.of(array, weight)
    array = array.rechunk({1: -1})
    pairs = zip(array.to_delayed()[:, 0], pieces(weight, array.chunks[0]), strict=True)
    with computing(name):
        return sum_moments(compute(*(delayed(Moments.of)(block, each) for block, each in pairs)))


def _following(posed: Posed, which: str, old: Scaling, new: Scaling, known: Array) -> Arrays:
    """Return the parameters in new units, so that the network's function does not jump.

    Inputs that did not vary so far were 0 at their centre, which stays: their weights have learnt
    nothing and are those of new inputs.  The weights of other inputs, and those of targets, follow;
    but none grows, for deviations of few rows may be far too small.  Then the function is what it
    was at the old centre alone.  Where weights have followed, the optimiser starts anew: gradients
    are in other units.  The weights of a layer that is not affine, such as a residual one, stay.
    """
    assert posed.initial is not None
    layout = posed.solver.layout(posed.problem)
    chain = as_chain(layout.network)
    at = 1 if which == "x" else chain.depth
    block = chain.blocks[at - 1]
    moved = (new.centre != old.centre) | (new.scale != old.scale)
    if which == "x":
        moved &= known
    affine = isinstance(block, Dense) and not block.skip
    affine = affine and (which == "x" or getattr(block, "activation", "") == "identity")
    if not affine or not moved.any():
        return dict(posed.initial)
    shown = {name for names in layout.exported.values() for name in names}
    fresh = posed.solver.initial(posed.problem, 0)
    found = {n: (a if n in shown else fresh[n]).copy() for n, a in posed.initial.items()}
    params: Arrays = {}
    for layer in layout.exported:
        params |= posed.solver.export(posed.problem, layer, found)
    w, b = params[f"w_{at}"], params[f"b_{at}"]
    if which == "x":
        w *= np.where(moved, np.minimum(new.scale / old.scale, 1.0), 1.0)[:, None]
        b += ((new.centre - old.centre) / new.scale * moved) @ w
    else:
        ratio = np.minimum(old.scale / new.scale, 1.0)
        w *= ratio
        b *= ratio
        b += (old.centre - new.centre) / new.scale
    return found
