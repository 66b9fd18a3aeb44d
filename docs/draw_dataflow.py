"""Draw the dataflow of one iteration: ``python docs/draw_dataflow.py [docs/dataflow.svg]``.

The picture brings its own light background, so it reads the same on white and on dark pages.
It needs the extra ``plot``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, PathPatch
from matplotlib.path import Path as Outline

WIDTH, HEIGHT = 1180, 616
PAPER, PAPER_EDGE, INK, QUIET = "#fbfaf7", "#d9d4c7", "#22303c", "#566470"
STORE, STORE_EDGE, CELL, ARRAY = "#f2e8d3", "#cdb88a", "#e8cf8d", "#94701f"
VISIT, VISITS_FACE, VISITS_EDGE = "#2c6aa8", "#e4edf6", "#a9c3de"
SUM, UPDATE, WEIGHTS_FACE = "#17796b", "#7a4fa3", "#dfd0eb"
RECORD, RECORD_FACE = "#a8442f", "#f3d5cd"

# Columns, from left to right, and heights: pixels, downwards.
OLD, VISITS, LEAVES, ROOT, SOLVE, NEW = 128, 330, 492, 592, 774, 1052
LANES, MIDDLE, WEIGHTS, FLOOR = (196, 266, 336, 406), 301, 122, 515
TOWER = 94  # half the width of a generation

Point = tuple[float, float]


class Picture:
    """A page, and what is drawn on it; places are pixels."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(HEIGHT, 0)
        self.axes.axis("off")

    def box(
        self, x: float, y: float, width: float, height: float, face: str, edge: str, radius: float
    ) -> None:
        """Draw a rounded box around its centre."""
        right, low = x + width / 2, y + height / 2
        left, high = x - width / 2, y - height / 2
        self.shape([(left, high), (right, high), (right, low), (left, low)], face, edge, radius)

    def shape(self, corners: Sequence[Point], face: str, edge: str, radius: float) -> None:
        """Draw a polygon with rounded corners."""
        points = np.array(corners, float)
        vertices, codes = [], []
        for before, corner, after in zip(
            np.roll(points, 1, 0), points, np.roll(points, -1, 0), strict=True
        ):
            ends = [
                corner + radius * (other - corner) / np.linalg.norm(other - corner)
                for other in (before, after)
            ]
            vertices += [ends[0], corner, ends[1]]
            codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
        codes[0] = Outline.MOVETO
        outline = Outline([*vertices, vertices[0]], [*codes, Outline.CLOSEPOLY])
        self.axes.add_patch(PathPatch(outline, facecolor=face, edgecolor=edge, lw=1.3))

    def text(self, x: float, y: float, words: str, size: float = 11, **how: object) -> None:
        """Write words, centred on a place unless told otherwise."""
        options = {"color": INK, "ha": "center", "va": "center", "zorder": 6, **how}
        self.axes.text(x, y, words, fontsize=size, **options)

    def heading(self, x: float, title: str, below: str, **how: object) -> None:
        """Write the heading of a column."""
        self.text(x, 71, title, 13, weight="bold", va="baseline")
        self.text(x, 90, below, 9.5, color=QUIET, va="baseline", **how)

    def flow(self, points: Sequence[Point], color: str, width: float = 1.7) -> None:
        """Draw a line through points, with an arrow head at the last."""
        *_, before, last = points
        style = "-|>,head_length=5.5,head_width=3"
        options = {"color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        arrow = FancyArrowPatch(before, last, arrowstyle=style, joinstyle="miter", **options)
        arrow.set_zorder(4)
        self.axes.add_patch(arrow)
        self.line(points[:-1], color, width)

    def line(self, points: Sequence[Point], color: str, width: float = 1.7) -> None:
        """Draw a line through points."""
        x, y = zip(*points, strict=True)
        ends = {"solid_capstyle": "round", "solid_joinstyle": "round"}
        self.axes.plot(x, y, color=color, linewidth=width, zorder=3, **ends)


def draw_store(page: Picture) -> None:
    """Draw the store as a trough: two generations, and under the tasks what all of them share."""
    inner, outer = (OLD + TOWER, NEW - TOWER), (OLD - TOWER, NEW + TOWER)
    top, floor, bottom = 40, 471, 559
    trough = [
        (outer[0], top), (inner[0], top), (inner[0], floor), (inner[1], floor),
        (inner[1], top), (outer[1], top), (outer[1], bottom), (outer[0], bottom),
    ]  # fmt: skip
    page.shape(trough, STORE, STORE_EDGE, 12)
    page.heading(OLD, "generation k", "read, never changed")
    page.heading(NEW, "generation k + 1", "written in whole chunks")
    for x in (OLD, NEW):
        page.box(x, WEIGHTS, 150, 34, WEIGHTS_FACE, UPDATE, 9)
        page.text(x, WEIGHTS, "weights")
        for number, y in enumerate(LANES, 1):
            page.box(x, y, 150, 46, CELL, ARRAY, 9)
            draw_rows(page, x - 50, y)
            page.text(x + 16, y, f"chunk {number}")
    page.text(OLD, FLOOR - 10, "run store", 13, weight="bold")
    page.text(OLD, FLOOR + 11, "zarr, checksums, no pickle", 9.5, color=QUIET)
    for x, words in ((VISITS, "data x, y"), (LEAVES + 50, "history")):
        page.box(x, FLOOR, 118, 38, CELL, ARRAY, 9)
        page.text(x, FLOOR, words)
    page.box(SOLVE, FLOOR, 128, 38, RECORD_FACE, RECORD, 9)
    page.text(SOLVE, FLOOR, "commit.json", 10, family="DejaVu Sans Mono")


def draw_rows(page: Picture, x: float, y: float) -> None:
    """Draw a small matrix."""
    right, bottom = x + 15, y + 13
    for at in np.linspace(y - 13, bottom, 5):
        page.line([(x - 15, at), (right, at)], ARRAY, 0.8)
    for at in np.linspace(x - 15, right, 4):
        page.line([(at, y - 13), (at, bottom)], ARRAY, 0.8)


def draw_tasks(page: Picture) -> None:
    """Draw the tasks of an iteration: visits, the tree of sums, the update."""
    names = {"family": "DejaVu Sans Mono"}
    page.heading(VISITS, "visits", "visit-chunk", **names)
    page.heading((LEAVES + ROOT) / 2, "tree of sums", "sum-grams", **names)
    page.heading(SOLVE, "update", "solve-weights", **names)

    page.box(VISITS, MIDDLE, 136, 284, VISITS_FACE, VISITS_EDGE, 12)
    pairs = [(LANES[0] + LANES[1]) / 2, (LANES[2] + LANES[3]) / 2]
    for number, y in enumerate(LANES):
        page.box(VISITS, y, 108, 46, VISIT, VISIT, 9)
        page.text(VISITS, y, f"visit {number + 1}", 11.5, color="white", weight="bold")
        into = pairs[number // 2]
        page.flow([(VISITS + 54, y), (LEAVES - 17, into + np.sign(y - into) * 6)], SUM)
    for y in pairs:
        page.flow([(LEAVES + 16, y), (ROOT - 16, MIDDLE + np.sign(y - MIDDLE) * 9)], SUM)
    for x, y in ((LEAVES, pairs[0]), (LEAVES, pairs[1]), (ROOT, MIDDLE)):
        page.axes.add_patch(Circle((x, y), 18, facecolor=SUM, edgecolor="none", zorder=5))
        for way in ((7, 0), (0, 7)):
            ends = zip(*[(x - way[0], y - way[1]), (x + way[0], y + way[1])], strict=True)
            page.axes.plot(*ends, color="white", lw=2.6, zorder=6, solid_capstyle="round")
    page.flow([(ROOT + 18, MIDDLE), (SOLVE - 64, MIDDLE)], SUM)

    page.box(SOLVE, MIDDLE, 128, 64, UPDATE, UPDATE, 9)
    page.text(SOLVE, MIDDLE - 10, "update", 11.5, color="white", weight="bold")
    page.text(SOLVE, MIDDLE + 11, "layer by layer", 9.5, color="white")


def draw_flows(page: Picture) -> None:
    """Draw what goes between the store and the tasks, and from one iteration to the next."""
    for y in LANES:
        page.flow([(OLD + 75, y), (VISITS - 54, y)], ARRAY)
    page.flow([(OLD + 75, WEIGHTS), (VISITS, WEIGHTS), (VISITS, MIDDLE - 142)], UPDATE)
    page.flow([(VISITS, WEIGHTS), (SOLVE, WEIGHTS), (SOLVE, MIDDLE - 32)], UPDATE)
    turn = 890
    page.flow([(SOLVE + 64, MIDDLE), (turn, MIDDLE), (turn, WEIGHTS), (NEW - 75, WEIGHTS)], UPDATE)

    page.flow([(VISITS - 28, FLOOR - 19), (VISITS - 28, MIDDLE + 142)], ARRAY)
    low, comb = MIDDLE + 156, 928
    corners = [(VISITS + 28, MIDDLE + 142), (VISITS + 28, low), (comb, low), (comb, LANES[0])]
    page.line(corners, ARRAY)
    for y in LANES:
        page.flow([(comb, y), (NEW - 75, y)], ARRAY)

    page.flow([(SOLVE + 64, FLOOR), (NEW, FLOOR), (NEW, LANES[-1] + 29)], RECORD)
    below = HEIGHT - 29
    page.flow([(NEW, 559), (NEW, below), (OLD, below), (OLD, 561)], QUIET)


def draw_notes(page: Picture) -> None:
    """Write what the arrows say."""
    page.text((LEAVES + ROOT) / 2, WEIGHTS + 14, "weights", 9.5, color=UPDATE)
    page.text(657, MIDDLE - 13, "one total", 9.5, color=SUM)
    page.text(LEAVES + 50, 412, "the number of chunks\nalone decides its shape", 9.5, color=QUIET)
    page.text(SOLVE, 382, "weights and small sums\ntravel between workers", 9.5, color=QUIET)
    page.text(632, 444, "state goes through the store", 9.5, color=ARRAY)
    page.text(914, FLOOR + 15, "says: k + 1 is valid", 9.5, color=RECORD)
    words = "next iteration: k + 1 becomes k, and generation k - 1 is deleted"
    patch = {"facecolor": PAPER, "edgecolor": "none", "pad": 5}
    page.text(WIDTH / 2, HEIGHT - 29, words, 10, color=QUIET, bbox=patch)


def draw() -> Figure:
    """Return the picture."""
    page = Picture()
    page.box(WIDTH / 2, HEIGHT / 2, WIDTH - 4, HEIGHT - 4, PAPER, PAPER_EDGE, 16)
    draw_store(page)
    draw_tasks(page)
    draw_flows(page)
    draw_notes(page)
    return page.figure


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "dadmm"  # the same bytes each time
    mpl.rcParams["font.family"] = "DejaVu Sans"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("dataflow.svg")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    draw().savefig(path, transparent=True, metadata=metadata)
