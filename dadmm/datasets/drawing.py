"""Figures: small images drawn from known attributes, to test whether a model's factors find them.

An image shows one figure.  Its shape, colour, texture, position and size are drawn independently;
the class depends on shape and colour alone.  Each block of rows has a random stream of its own, so
any range of rows can be drawn by itself, and chunks do not matter.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dadmm.errors import InputError
from dadmm.numerics.types import Array
from dadmm.options import whole
from dadmm.store.replace import writing

SIDE = 16
IMAGE = (SIDE, SIDE, 3)
SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue")
TEXTURES = ("plain", "striped", "checked", "dotted")
NAMES = (
    *(f"shape_{name}" for name in SHAPES),
    *(f"colour_{name}" for name in COLOURS),
    "position_x",
    "position_y",
    "size",
    *(f"texture_{name}" for name in TEXTURES),
)

BLOCK = 256  # rows that share a random stream: they fit into the processor's cache
ROWS_PER_CHUNK = 16384  # 12 MiB of pixels
CENTRES = (5.5, 10.5)
SIZES = (2.5, 4.0)
LIGHTS = (144.0, 224.0)
NOISE = 32  # above the noise of every pixel
TINTS = np.array([[1.0, 0.2, 0.2], [0.2, 1.0, 0.2], [0.2, 0.2, 1.0]], np.float32)
# Half a side of the square and the inner radius of the triangle with the area of the unit circle:
# the amount of ink depends on the size, not on the shape.
HALF_SIDE = math.sqrt(math.pi) / 2
INNER_RADIUS = math.sqrt(math.pi / math.sqrt(27))
KIND = "figures"  # an attribute of the written groups, so that nothing else is overwritten


class Figures(NamedTuple):
    """Images of figures, their classes and the attributes behind them.

    Attributes
    ----------
    x : (rows, 768) uint8 array
        Pixels of (16, 16, 3) images, flattened in C order: row, column, channel.
    y : (rows,) int64 array
        Classes, 0 to 8.
    attributes : (rows, 13) float32 array
        One column for each of `names`.
    names : tuple of str
        Names of the attributes.
    shape : tuple of int
        Shape of one image.
    """

    x: Array
    y: Array
    attributes: Array
    names: tuple[str, ...] = NAMES
    shape: tuple[int, ...] = IMAGE


def figures(rows: int, seed: int = 0, start: int = 0) -> Figures:
    """Draw images of one figure each, and return them with the attributes behind them.

    All attributes are independent of each other.  Shape (circle, square or triangle: 0 to 2),
    colour (red, green or blue: 0 to 2) and texture (plain, striped, checked or dotted) are uniform
    on their names.  The centre of mass is uniform on [5.5, 10.5] in either direction, in pixels
    rightwards and downwards from the upper left corner.  The size, uniform on [2.5, 4], is the
    radius, in pixels, of a circle of the figure's area.  The class depends on nothing else:

        y = 3 shape + colour

    On the figure, a pixel is light times texture in the figure's channel, and a fifth of that in
    the other two.  The light is uniform on [144, 224]; the mean of every texture is 0.7.  The light
    is a nuisance, and so is the noise: a whole number, uniform on 0 to 31, is added to each channel
    of each pixel.

    Parameters
    ----------
    rows : int
        At least 1.
    seed : int
        At least 0.  The bits of a row depend on the seed and the row's number alone.
    start : int
        The number of the first row.

    Returns
    -------
    Figures
        Names of shape, colour and texture have one attribute each, 0 or 1; position and size are
        numbers.

    Raises
    ------
    OptionError
        If a number is not whole, or too small.

    Examples
    --------
    >>> from dadmm.datasets import figures
    >>> drawn = figures(1000)
    >>> drawn.x.shape, drawn.x.dtype.name, drawn.attributes.shape
    ((1000, 768), 'uint8', (1000, 13))
    >>> drawn.names[:4]
    ('shape_circle', 'shape_square', 'shape_triangle', 'colour_red')
    """
    rows, seed, start = whole("rows", rows, 1), whole("seed", seed, 0), whole("start", start, 0)
    x = np.empty((rows, math.prod(IMAGE)), np.uint8)
    y = np.empty(rows, np.int64)
    attributes = np.empty((rows, len(NAMES)), np.float32)
    stop = start + rows
    for first in range(start - start % BLOCK, stop, BLOCK):
        low, high = max(first, start), min(first + BLOCK, stop)
        drawn = _draw(seed, first // BLOCK)
        arrays: tuple[Array, ...] = (x, y, attributes)
        for array, part in zip(arrays, drawn, strict=True):
            array[low - start : high - start] = part[low - first : high - first]
    return Figures(x, y, attributes)


def write_figures(
    path: str | os.PathLike[str],
    rows: int,
    seed: int = 0,
    chunk_rows: int = ROWS_PER_CHUNK,
    overwrite: bool = False,
) -> None:
    """Write the arrays of `figures` into a zarr v3 group, chunk by chunk.

    Only some chunks are in memory at a time.  The group is written beside `path` and renamed when
    it is complete.  Its arrays are ``x`` (rows, 768) uint8, ``y`` (rows,) int64 and ``attributes``
    (rows, 13) float32, in chunks of the same rows, not compressed.  Its attributes include
    ``names``, ``shape`` (of an image), ``seed`` and ``rows``.

    Parameters
    ----------
    path : str or path
        A local folder that does not exist yet.
    rows : int
        At least 1.
    seed : int
        At least 0.
    chunk_rows : int
        At least 1; the values do not depend on it.
    overwrite : bool
        Whether to replace figures at `path`; nothing else is replaced.

    Raises
    ------
    InputError
        If `path` exists, has no folder, or is a URL.
    OptionError
        If a number is not whole, or too small.
    RunError
        If the disk is full or gone.
    """
    rows, seed = whole("rows", rows, 1), whole("seed", seed, 0)
    chunk_rows = min(whole("chunk_rows", chunk_rows, 1), rows)
    if "://" in os.fspath(path):
        raise InputError(f"{path}: figures are written to a local folder; copy them from there")
    target = Path(path)
    with writing(target):
        _check_target(target, overwrite)
        aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            _write(aside, rows, seed, chunk_rows)
            if target.exists():
                shutil.rmtree(target)
            aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _draw(seed: int, block: int) -> tuple[Array, Array, Array]:
    """Return x, y and attributes of the rows of a block."""
    # NumPy may change its default generator, so this one is named.
    stream = np.random.SeedSequence(seed, spawn_key=(block,))
    rng = np.random.Generator(np.random.PCG64(stream))
    kinds = [rng.integers(len(of), size=BLOCK) for of in (SHAPES, COLOURS, TEXTURES)]
    shape, colour, texture = kinds
    ranges = (CENTRES, CENTRES, SIZES, LIGHTS)
    numbers = [rng.uniform(*of, size=BLOCK).astype(np.float32) for of in ranges]
    centre_x, centre_y, size, light = numbers
    noise = rng.integers(NOISE, size=(BLOCK, *IMAGE), dtype=np.uint8)

    ink = _cover(shape, centre_x, centre_y, size) * PATTERNS[texture] * light[:, None, None]
    image = ink[..., None] * TINTS[colour][:, None, None, :]
    image += np.float32(0.5)  # the nearest whole number
    x = image.astype(np.uint8)
    x += noise

    one_hot = [np.eye(len(of), dtype=np.float32) for of in (SHAPES, COLOURS, TEXTURES)]
    shapes, colours, textures = (rows[kind] for rows, kind in zip(one_hot, kinds, strict=True))
    place = np.stack([centre_x, centre_y, size], axis=1)
    attributes = np.concatenate([shapes, colours, place, textures], axis=1)
    return x.reshape(BLOCK, -1), len(COLOURS) * shape + colour, attributes


def _cover(shape: Array, centre_x: Array, centre_y: Array, size: Array) -> Array:
    """Return the share of each pixel that a figure covers: (rows, 16, 16) float32, from 0 to 1.

    A pixel at signed distance d from the outline has the share 1/2 - d, clipped to [0, 1].
    """
    middles = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    across = np.abs(middles - centre_x[:, None])[:, None, :]
    down = (middles - centre_y[:, None])[:, :, None]
    distance = np.empty((len(shape), SIDE, SIDE), np.float32)
    for kind, name in enumerate(SHAPES):
        of = shape == kind
        a, d, s = across[of], down[of], size[of][:, None, None]
        if name == "circle":
            distance[of] = np.sqrt(a * a + d * d) - s
        elif name == "square":
            distance[of] = np.maximum(a, np.abs(d)) - np.float32(HALF_SIDE) * s
        else:  # equilateral, one side below: the largest of the distances from its three sides
            slope = np.float32(math.sqrt(0.75)) * a - np.float32(0.5) * d
            distance[of] = np.maximum(slope, d) - np.float32(INNER_RADIUS) * s
    return np.clip(np.float32(0.5) - distance, 0, 1)


def _patterns() -> Array:
    """Return the brightness of each texture: (textures, 16, 16) float32, of mean 0.7."""
    row, column = np.indices((SIDE, SIDE))
    light, dark = 1.0, 0.4
    return np.stack(
        [
            np.full((SIDE, SIDE), 0.7),
            np.where(row % 2 == 0, light, dark),
            np.where((row + column) % 2 == 0, light, dark),
            np.where((row % 2 == 0) & (column % 2 == 0), 0.1, 0.9),
        ]
    ).astype(np.float32)


PATTERNS = _patterns()


def _write(path: Path, rows: int, seed: int, chunk_rows: int) -> None:
    import zarr

    about = {"kind": KIND, "names": NAMES, "shape": IMAGE, "seed": seed, "rows": rows}
    group = zarr.create_group(path, zarr_format=3, attributes=about)
    arrays = {
        name: group.create_array(
            name,
            shape=(rows, *shape),
            chunks=(chunk_rows, *shape),
            dtype=dtype,
            compressors=None,
            config={"write_empty_chunks": True},  # saves a comparison with the fill value
        )
        for name, shape, dtype in (
            ("x", (math.prod(IMAGE),), "uint8"),
            ("y", (), "int64"),
            ("attributes", (len(NAMES),), "float32"),
        )
    }
    for start in range(0, rows, chunk_rows):
        part = figures(min(chunk_rows, rows - start), seed, start)
        for name, array in arrays.items():
            array[start : start + len(part.x)] = getattr(part, name)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(f"{target} exists: choose another name, or pass overwrite=True")
    try:
        ours = json.loads((target / "zarr.json").read_bytes())["attributes"]["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours or target.is_symlink():
        raise InputError(f"{target} holds no figures, so it is not overwritten: remove it first")
