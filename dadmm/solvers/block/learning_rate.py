"""Learning-rate schedules: what the learning rate is multiplied by along a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, inf, pi

SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")

# One cycle (arXiv 1708.07120) as it is commonly run: up from 1/25 over the first 30 %, then down
# to next to nothing, both along half a cosine; Adam's momentum goes the other way.
WARM, START, END = 0.3, 1 / 25, 1e-5
HIGH, LOW = 0.95, 0.85
# Plateau: a tenth of the rate after so many passes without a better loss.
PATIENCE, FACTOR = 5, 0.1


def rate(schedule: str, done: float) -> float:
    """Return the multiplier of the learning rate when the share `done` of a run is behind it."""
    if schedule == "cosine":
        return 0.5 * (1.0 + cos(pi * done))
    if schedule == "one_cycle":
        return _between(START, 1.0, done / WARM) if done < WARM else _fall(1.0, END, done)
    return 1.0


def momentum(schedule: str, done: float, beta1: float) -> float:
    """Return Adam's beta1 at that point: `beta1`, except in one cycle."""
    if schedule != "one_cycle":
        return beta1
    return _between(HIGH, LOW, done / WARM) if done < WARM else _fall(LOW, HIGH, done)


def plateau(rows: Sequence[Mapping[str, float]]) -> float:
    """Return the multiplier after the passes whose rows of history are given."""
    factor, best, waited = 1.0, inf, 0
    for row in rows:
        loss = row.get("validation_loss", row.get("objective", inf))
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > PATIENCE:
            factor, waited = factor * FACTOR, 0
    return factor


def _between(a: float, b: float, share: float) -> float:
    return b + (a - b) * 0.5 * (1.0 + cos(pi * share))


def _fall(a: float, b: float, done: float) -> float:
    return _between(a, b, (done - WARM) / (1.0 - WARM))
