"""Small charts as SVG, for the report of a run and its live display in a notebook.

They need no script, no style sheet and no fonts, take the colour of the text around them, and say
in words, for those who cannot see them, what they show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dadmm.engine.live.markup import Element, tag
from dadmm.numerics.types import Array

WIDTH, HEIGHT = 360.0, 190.0  # of the plot with its axes; the legend's lines come on top
LEFT, RIGHT, TOP, BOTTOM = 50.0, 12.0, 28.0, 34.0
TITLE, LINE = 13.0, 16.0  # where the title stands, and how far below it each line of the legend
LETTER = 6.3  # about what a character of the legend is wide
# Told apart on white and on black, and by their dashes.
COLOURS = (
    "#3b82c4", "#d9772b", "#3f9b5f", "#b4548f", "#8a7ac8", "#b09023", "#c25450", "#4f959c",
)  # fmt: skip
DASHES = ("", "6 3", "2 3", "9 3 2 3")
BUCKETS = 200  # a longer history is drawn by the extremes, or means, of so many parts
CELLS = (44, 22)


def lines(
    title: str,
    x: Array,
    series: Mapping[str, Array],
    *,
    log: bool = False,
    zero: bool = False,
    unit: str = "",
    across: str = "iteration",
) -> Element | None:
    """Return a chart of lines over `x`; None if there is nothing to draw.

    Parameters
    ----------
    x : (points,) array
        Iterations, unless `across` says otherwise.
    series : dict of str to (points,) array
        Label to values; what is not finite (or, if `log`, not positive) leaves a gap.
    zero : bool
        Whether the vertical axis starts at 0.
    """
    drawn = {}
    for label, values in series.items():
        known = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
        if np.isfinite(known).any():
            drawn[label] = known
    if not drawn:
        return None
    every = np.concatenate(list(drawn.values()))
    frame = _Frame((x[0], x[-1]), (0.0 if zero else np.nanmin(every), np.nanmax(every)), log)
    marks = []
    for i, values in enumerate(drawn.values()):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        thin_x, thin_y = _thinned(np.asarray(x, float), values)
        marks.append(frame.line(thin_x, thin_y, colour, dash))
    told = "; ".join(f"{label} {_told(values, unit)}" for label, values in drawn.items())
    return frame.drawn(title, list(drawn), marks, across, unit, told)


def stacked(title: str, x: Array, series: Mapping[str, Array], unit: str = "") -> Element | None:
    """Return a chart of areas on top of each other; None if there is nothing to draw."""
    drawn = {label: np.nan_to_num(values) for label, values in series.items()}
    drawn = {label: values for label, values in drawn.items() if values.any()}
    if not drawn:
        return None
    bounds = np.unique(np.linspace(0, len(x), min(BUCKETS, len(x)) + 1).astype(int))
    sizes = np.diff(bounds)
    means = [np.add.reduceat(values, bounds[:-1]) / sizes for values in drawn.values()]
    tops = np.vstack([np.zeros(len(sizes)), np.cumsum(means, axis=0)])
    # A bar for each iteration, or part of them, from half a step before it to half a step after.
    edges = np.append(x[bounds[:-1]], x[-1] + 1) - 0.5
    frame = _Frame((edges[0], edges[-1]), (0.0, tops.max()), False)
    across = np.repeat(edges, 2)[1:-1]
    marks = []
    for i in range(len(drawn)):
        upper, lower = np.repeat(tops[i + 1], 2), np.repeat(tops[i], 2)
        corners = zip(
            frame.x(np.concatenate([across, across[::-1]])),
            frame.y(np.concatenate([upper, lower[::-1]])),
            strict=True,
        )
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        marks.append(tag("polygon", points=points, fill=COLOURS[i % len(COLOURS)]))
    told = "; ".join(f"{label} {_told(values, unit)}" for label, values in drawn.items())
    return frame.drawn(title, list(drawn), marks, "iteration", unit, told, filled=True)


def density(title: str, x: Array, y: Array, across: str, up: str) -> Element | None:
    """Return a chart of how many points (x, y) lie where, with a line at ``y = 0``."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return None
    x, y = x[known], y[known]
    reach = max(float(np.abs(y).max()), 1e-12)
    frame = _Frame((x.min(), x.max()), (-reach, reach), False)
    counts, right, top = np.histogram2d(x, y, CELLS, [frame.across, frame.up])
    marks = []
    for i, j in np.argwhere(counts):
        left, upper = frame.x(right[i]), frame.y(top[j + 1])
        marks.append(
            tag(
                "rect",
                x=left,
                y=upper,
                width=frame.x(right[i + 1]) - left,
                height=frame.y(top[j]) - upper,
                fill=COLOURS[0],
                fill_opacity=0.2 + 0.8 * math.log1p(counts[i, j]) / math.log1p(counts.max()),
            )
        )
    marks.append(frame.line(np.array(frame.across), np.zeros(2), "currentColor", "4 3"))
    told = f"{len(x):,} points; {up} {number(y.min())} to {number(y.max())}"
    return frame.drawn(title, [], marks, across, up, told)


def number(value: float) -> str:
    """Return a number in a few characters."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


class _Frame:
    """Axes: from the units of the data to those of the picture."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float], log: bool) -> None:
        self.log = log
        self.across = _apart(*across)
        low, high = (math.log10(v) for v in up) if log else up
        low, high = _apart(low, high)
        pad = 0.04 * (high - low)
        self.up = (low - pad if up[0] != 0 else low, high + pad)

    def x(self, value: Any) -> Any:
        low, high = self.across
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: Any) -> Any:
        low, high = self.up
        value = np.log10(value) if self.log else value
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(self, x: Array, y: Array, colour: str, dash: str) -> Element:
        """Return a line with a gap where a value is missing; a point alone becomes a dot."""
        path, known = [], np.isfinite(y)
        for i in np.flatnonzero(known):
            begins = i == 0 or not known[i - 1]
            at = f"{self.x(x[i]):.1f} {self.y(y[i]):.1f}"
            path.append(f"M{at}" if begins else f"L{at}")
            if begins and (i + 1 == len(y) or not known[i + 1]):
                path.append("h0.01")
        return tag(
            "path",
            d="".join(path),
            fill="none",
            stroke=colour,
            stroke_width=1.8,
            stroke_linecap="round",
            stroke_linejoin="round",
            stroke_dasharray=dash or "none",
        )

    def drawn(
        self,
        title: str,
        labels: Sequence[str],
        marks: Sequence[Element],
        across: str,
        up: str,
        told: str,
        filled: bool = False,
    ) -> Element:
        """Return the whole picture: title, legend, axes and marks."""
        legend, height = _legend(labels, filled)
        described = f"{title}: {told}"
        return tag(
            "svg",
            tag(
                "text",
                f"{title} ({up})" if up else title,
                x=0,
                y=TITLE - height,
                font_size=13,
                font_weight="600",
            ),
            legend,
            self._axes(across),
            marks,
            viewBox=f"0 {-height:g} {WIDTH:g} {HEIGHT + height:g}",
            role="img",
            aria_label=described,
            font_family="system-ui, sans-serif",
            font_size=11,
            fill="currentColor",
            width="100%",
            style=f"max-width:{1.5 * WIDTH:g}px;display:block",
        )

    def _axes(self, across: str) -> Element:
        bottom = HEIGHT - BOTTOM
        made = []
        for value in _log_ticks(*self.up) if self.log else _ticks(*self.up):
            at = self.y(value)
            rule = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}
            made.append(tag("line", stroke="currentColor", stroke_opacity=0.18, **rule))
            made.append(tag("text", number(value), x=LEFT - 6, y=at + 4, text_anchor="end"))
        for value in _ticks(*self.across, most=6):
            at = {"x": self.x(value), "y": bottom + 15}
            made.append(tag("text", number(value), text_anchor="middle", **at))
        middle = (LEFT + WIDTH - RIGHT) / 2
        made.append(tag("text", across, x=middle, y=HEIGHT - 5, text_anchor="middle"))
        return tag("g", made)


def _legend(labels: Sequence[str], filled: bool) -> tuple[Element, float]:
    """Return a legend above the plot, in as many lines as it takes, and its height."""
    made, at, row = [], 0.0, 0
    for i, label in enumerate(labels if len(labels) > 1 else []):
        width = 22 + LETTER * len(label) + 12
        if at and at + width > WIDTH:
            at, row = 0.0, row + 1
        y = TITLE + LINE * (row + 1)
        colour = COLOURS[i % len(COLOURS)]
        if filled:
            made.append(tag("rect", x=at, y=y - 8, width=14, height=9, fill=colour))
        else:
            dash = DASHES[i % len(DASHES)] or "none"
            ends = {"x1": at, "x2": at + 18, "y1": y - 4, "y2": y - 4}
            made.append(tag("line", stroke=colour, stroke_width=2.2, stroke_dasharray=dash, **ends))
        made.append(tag("text", label, x=at + 22, y=y))
        at += width
    height = LINE * (row + 1) if made else 0.0
    return tag("g", made, transform=f"translate(0 {-height:g})"), height


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis, which must not be one."""
    low, high = float(low), float(high)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    half = 0.5 * abs(low) or 0.5
    return low - half, high + half


def _ticks(low: float, high: float, most: int = 5) -> Array:
    """Return round numbers from `low` to `high`, `most` of them or fewer."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough * (1 - 1e-9))
    return step * np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def _log_ticks(low: float, high: float) -> Array:
    """Return powers of ten, or 1, 2 and 5 times these, between those of `low` and `high`."""
    powers = np.arange(max(math.ceil(low), -300), min(math.floor(high), 300) + 1)
    if len(powers) > 1:
        return 10.0 ** powers[:: -(-len(powers) // 5)]
    between = 10.0 ** np.arange(math.floor(low), math.ceil(high) + 1)[:, None] * [1, 2, 5]
    found = between[(between >= 10.0**low) & (between <= 10.0**high)]
    return found if len(found) else np.array([10.0 ** ((low + high) / 2)])


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest value of each part of a long line."""
    if len(y) <= 2 * BUCKETS:
        return x, y
    bounds = np.linspace(0, len(y), BUCKETS + 1).astype(int)
    kept = []
    for first, last in pairwise(bounds):
        part = y[first:last]
        ends = (np.nanargmin(part), np.nanargmax(part)) if np.isfinite(part).any() else (0,)
        kept += sorted({int(first + end) for end in ends})
    return x[kept], y[kept]


def _told(values: Array, unit: str) -> str:
    known = values[np.isfinite(values)]
    return f"from {number(known[0])} to {number(known[-1])} {unit}".rstrip()
