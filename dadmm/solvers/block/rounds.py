"""Which chunks meet in which round of a pass."""

from __future__ import annotations

import numpy as np

ORDERS = ("stored", "scattered")
GOLDEN = (5**0.5 - 1) / 2


def rounds(chunks: int, agents: int, order: str = "stored") -> list[tuple[int, ...]]:
    """Return the chunks of each round: `agents` of them, in the order of visits.

    Parameters
    ----------
    order : str
        "stored", as they lie in the data, or "scattered".
    """
    visits = scattered(chunks) if order == "scattered" else tuple(range(chunks))
    return [visits[first : first + agents] for first in range(0, chunks, agents)]


def scattered(chunks: int) -> tuple[int, ...]:
    """Return an order in which any chunks that follow each other lie all over the data.

    Chunk by chunk it goes on by the golden section of the data's length, and begins again at the
    front after the end.  Of such sequences this is the most even (Steinhaus's three-gap theorem).
    """
    at = np.arange(chunks) * GOLDEN % 1.0
    return tuple(int(rank) for rank in at.argsort().argsort())
