"""Draw what each factor responds to (needs matplotlib, the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from dadmm.engine.live.charts import figure_class
from dadmm.errors import OptionError
from dadmm.numerics.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 12


def factors(
    x: Array,
    codes: Array,
    image_shape: Sequence[int] | None = None,
    columns: int = 8,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw what factors respond to, as `dadmm.DeepFacto.plot_factors` says.

    Parameters
    ----------
    x : (rows, features) array
    codes : (rows, factors) array
    names : sequence of str or None
        Names of the features, for bars.
    """
    new_figure = figure_class()
    if columns < 1:
        raise OptionError(f"columns={columns}: use 1 or more")
    shape = picture_shape(x.shape[1], image_shape)
    found = responses(x, codes)
    count = len(found)
    wide = min(columns, count)
    tall = -(-count // wide)
    size = (1.5, 1.7) if shape else (3.0, 2.6)
    figure: Figure = new_figure(figsize=(size[0] * wide, size[1] * tall), layout="constrained")
    places = figure.subplots(tall, wide, squeeze=False).ravel()
    most = np.abs(found).max() or 1.0
    for k, place in enumerate(places):
        if k >= count:
            place.set_axis_off()
            continue
        used = float((codes[:, k] > 0).mean())
        place.set_title(f"{k}: in {used:.0%} of rows", fontsize=8)
        if shape is None:
            _bars(place, found[k], names)
            continue
        place.set_axis_off()
        picture = found[k].reshape(shape)
        if len(shape) == 2:
            place.imshow(picture, cmap="RdBu_r", vmin=-most, vmax=most)
        else:
            place.imshow(np.clip(0.5 + 0.5 * picture / (np.abs(picture).max() or 1.0), 0, 1))
    return figure


def responses(x: Array, codes: Array) -> Array:
    """Return the mean of the inputs weighted by each factor's codes, less the plain mean.

    The shape is (factors, features), in float64; a factor that no row uses has zeros.
    """
    weights = codes.astype(np.float64)
    mass = weights.sum(axis=0)
    mean = x.mean(axis=0, dtype=np.float64)
    found = (weights.T @ x.astype(np.float64)) / np.where(mass > 0, mass, 1.0)[:, None] - mean
    return np.asarray(np.where((mass > 0)[:, None], found, 0.0))


def picture_shape(features: int, given: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the shape of the inputs as images, or None if they are no images.

    Raises
    ------
    OptionError
        If the given shape does not fit.
    """
    if given is not None:
        shape = tuple(int(size) for size in given)
        if prod(shape) != features or len(shape) not in (2, 3) or min(shape) < 1:
            raise OptionError(f"image_shape={tuple(given)} does not fit {features} features")
        if len(shape) == 3 and shape[2] not in (1, 3):
            raise OptionError(f"image_shape={tuple(given)}: use 1 or 3 channels, the last number")
        return shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
    side = isqrt(features)
    return (side, side) if side**2 == features and side > 3 else None


def _bars(place: Any, response: Array, names: Sequence[str] | None) -> None:
    """Draw the features that a factor responds to most."""
    order = np.argsort(-np.abs(response), kind="stable")[:MOST_BARS][::-1]
    labels = [str(i) if names is None else str(names[i]) for i in order]
    place.barh(range(len(order)), response[order])
    place.set_yticks(range(len(order)), labels, fontsize=7)
    place.tick_params(axis="x", labelsize=7)
