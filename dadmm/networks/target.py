"""What a network was trained to predict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.errors import StoreError
from dadmm.numerics.types import Array

LABEL_DTYPE = re.compile(r"object|[<>|][biufU][0-9]{1,9}")
MOST_LABELS = 2**28  # bytes


def labels_to_json(classes: Array) -> dict[str, Any]:
    """Return class labels as JSON values."""
    return {
        "dtype": classes.dtype.str if classes.dtype.kind != "O" else "object",
        "labels": classes.tolist(),
    }


def labels_from_json(stored: Mapping[str, Any]) -> Array:
    """Return class labels from JSON values; raise `StoreError` if they are not labels."""
    try:
        labels = stored["labels"]
        plain = isinstance(labels, list) and LABEL_DTYPE.fullmatch(stored["dtype"])
        if not plain or not all(isinstance(label, (str, int, float)) for label in labels):
            raise ValueError("they are not labels")
        dtype = np.dtype(stored["dtype"])
        if dtype.itemsize * len(labels) > MOST_LABELS:  # forged, and maybe more than the memory
            raise ValueError(f"{len(labels)} labels of {dtype.itemsize} bytes each are too many")
        classes = np.array(labels, dtype=dtype)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"the classes of the run cannot be used: {error}") from error
    return classes


@dataclass(frozen=True)
class Target:
    """What the outputs of a network mean.

    Parameters
    ----------
    loss : str
        A name in `dadmm.numerics.losses.LOSSES`; it decides whether classes have probabilities.
    classes : (outputs,) array or None
        The label of each output; None if the outputs are numbers.
    flat : bool
        Whether the targets had one dimension; predictions then have one too.
    """

    loss: str = "squared"
    classes: Array | None = None
    flat: bool = False
