"""Consensus over data chunks: every chunk trains a copy of the parameters, and the copies meet.

For a round in which the chunks S are visited, with ``a_c = rows_c / rows_S``::

    average    w  = sum_c a_c w_c
    admm       w_c = argmin-ish of F_c(v) + <pi_c, v - w> + sigma/2 |v - w|^2   from v = w
               pi_c += sigma (w_c - w)
               s_c  = w_c + pi_c / sigma
               w   += sum_c rows_c / n (s_c - s_c as it was last sent)

The second is consensus ADMM as in BADM (arXiv 2407.01640): after every round w is ``sum_c
rows_c/n (w_c + pi_c / sigma)`` over all chunks, however many were visited (as in FedADMM, arXiv
2204.03529, with its server step of |S| / C; a step of 1 counts the work of the others twice, and
diverged here).  Either way, Adam's moments are averaged over S, as are dictionaries of
factorisations and their sums, and the largest count of steps is kept.

The textbook's order, w_c, then w, then pi_c, and control variates as in SCAFFOLD were tried on
rows that are sorted: docs/how-to/order-of-rows.md has the figures.
Derived from the papers' abstracts, checked by tests/solvers/test_consensus.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dadmm.numerics.types import Arrays
from dadmm.solvers.block.minibatch import Learner
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.sums import Sums


def start(solver: BlockOptions, problem: Problem, weights: Arrays) -> Arrays:
    """Return what a chunk remembers at first: no multiplier, and the start as last sent."""
    state = {}
    for t in solver.multiplied(problem):
        theta = weights[f"theta_{t}"]
        state[f"pi_{t}"] = np.zeros((1, theta.size), theta.dtype)
        state[f"sent_{t}"] = theta[None].copy()
    return state


def contribution(solver: BlockOptions, spans: Sequence[Learner], rows: int, chunk: Chunk) -> Sums:
    """Return a chunk's part of the sums after local training on some of its rows.

    What the chunk remembers is updated in place.
    """
    state = chunk.state
    sums: Sums = {"rows": rows}
    for span in spans:
        t = span.number
        sums |= span.numbers()
        share = span.theta.dtype.type(rows)
        learnt = span.learnt()
        if f"pi_{t}" in state:
            del learnt["theta"]
            pi, sent = state[f"pi_{t}"][0], state[f"sent_{t}"][0]
            new = span.theta - span.anchor
            new *= solver.sigma
            pi += new
            np.divide(pi, span.theta.dtype.type(solver.sigma), out=new)
            new += span.theta
            sums[f"theta_{t}"] = change = new - sent
            change *= span.theta.dtype.type(chunk.rows)
            sent[...] = new
        sums |= {f"{kind}_{t}": array * share for kind, array in learnt.items()}
        sums[f"max_count_{t}"] = span.count
    return sums


def update(
    solver: BlockOptions, problem: Problem, layer: int, weights: Arrays, sums: Sums
) -> Arrays:
    """Return the consensus of a block's parameters and moments."""
    rows = sums["rows"]
    theta = weights[f"theta_{layer}"]
    found: Arrays = {}
    *names, count = solver.parameters(problem, layer)
    for name in names:
        if name not in sums or not sums["rows"]:  # no chunk of the round has a row that counts
            found[name] = weights[name]
            continue
        # In float64, rounded piece by piece: no array of float64 but the sums.
        found[name] = mean = np.empty_like(weights[name])
        total = np.asarray(sums[name], np.float64)
        if name.startswith("theta") and layer in solver.multiplied(problem):
            np.add(theta, total / problem.rows, out=mean, casting="same_kind")
        else:
            np.divide(total, rows, out=mean, casting="same_kind")
    found[count] = np.array(float(sums[f"max_{count}"]))
    return found
