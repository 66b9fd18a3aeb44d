"""Compare a network's predictions with the targets of its training rows.

Rows are read chunk by chunk and predicted a few at a time, so memory stays bounded.  A large run is
sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dadmm.engine.plan import Plan
from dadmm.engine.session import Session
from dadmm.errors import StoreError
from dadmm.networks.network import Network
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array

MOST_ROWS = 100_000
MOST_PRODUCTS = 5e10  # multiplications by weights: some seconds on one core
BATCH = 1024
MOST_TARGETS = 6


@dataclass(frozen=True)
class Outcome:
    """Predictions for some rows, compared with the truth.

    Parameters
    ----------
    rows, chunks : int
        Numbers of rows and chunks that were predicted.
    confusion : (classes, classes) or (labels, 2, 2) int array or None
        Counts of rows by true and predicted class; for several labels per row, for each label, by
        whether it holds and whether it was predicted.
    predicted, residuals : (rows, outputs) arrays or None
        Regression: predictions of the first outputs, and the truth minus these.
    """

    rows: int
    chunks: int
    confusion: Array | None = None
    predicted: Array | None = None
    residuals: Array | None = None


def outcome(session: Session, network: Network) -> Outcome:
    """Run the network on stored rows, or on evenly spread ones if there are too many.

    Raises
    ------
    StoreError
        If the data is damaged, out of reach, has changed, or lies at a URL: a report never reads
        from a URL.
    """
    plan, run, problem = session.plan, session.run, session.problem
    if not problem.supervised:
        raise StoreError("a factorisation has no targets to compare its codes with")
    source = run.attributes.get("sources", {}).get("x")
    if source is not None and "://" in str(source.get("url")):
        raise StoreError(f"the inputs lie at {source['url']}, which is not read for a report")
    weights = sum(array.size for array in network.params.values())
    wanted = max(min(MOST_ROWS, int(MOST_PRODUCTS / max(weights, 1))), 1)
    count = min(len(plan.chunks), -(-wanted // plan.chunks[0]))
    chunks = np.unique(np.linspace(0, len(plan.chunks) - 1, count).astype(int))
    several = get_loss(problem.loss).multi_label
    shape = (problem.classes, 2, 2) if several else (problem.classes, problem.classes)
    rows, confusion = 0, np.zeros(shape, np.int64)
    found: list[tuple[Array, Array]] = []
    for c in chunks:
        for x, y in _batches(plan, int(c), -(-wanted // count)):
            outputs = network.forward(x)
            rows += len(x)
            if several:
                np.add.at(confusion, (np.arange(y.shape[1]), y.astype(int), (outputs > 0) * 1), 1)
            elif problem.classes:
                np.add.at(confusion, (y[:, 0].astype(int), outputs.argmax(axis=1)), 1)
            else:
                first = outputs[:, :MOST_TARGETS]
                found.append((first, y[:, :MOST_TARGETS] - first))
    if problem.classes:
        return Outcome(rows, len(chunks), confusion=confusion)
    predicted, residuals = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Outcome(rows, len(chunks), predicted=predicted, residuals=residuals)


def _batches(plan: Plan, chunk: int, most: int) -> Iterator[tuple[Array, Array]]:
    """Yield inputs and targets of about `most` rows of a chunk, a few at a time."""
    x, y = plan.run.read_data("x", chunk), plan.run.read_data("y", chunk)
    problem = plan.problem
    several = get_loss(problem.loss).multi_label
    outputs = 1 if problem.classes and not several else problem.architecture.widths[-1]
    if x.ndim != 2 or y.shape != (len(x), outputs):
        raise StoreError(f"{plan.run.url}: its data do not fit its config")
    if problem.classes and not ((y >= 0) & (y < (2 if several else problem.classes))).all():
        raise StoreError(f"{plan.run.url}: its data have classes that its config does not")
    picked = np.arange(0, len(x), max(1, len(x) // most))[:most]
    for i in range(0, len(picked), BATCH):
        rows = picked[i : i + BATCH]
        yield x[rows], y[rows]
