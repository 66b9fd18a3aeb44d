"""Charts of runs and plans, drawn by matplotlib (the extra ``plot``): SVG for pages, or files.

Making a chart takes no matplotlib, which is slow to import and may be missing: only drawing does.
What the user has set in matplotlib has no effect here, and is left as it is.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dadmm.engine.live.curves import COLOURS, DASHES, number
from dadmm.errors import InputError, one_line
from dadmm.numerics.types import Array

# In points, which are the units of the SVG.
WIDTH, PLOT = 360.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 16.0, 6.0, 36.0
TITLE, LINE, FONT = 20.0, 16.0, 11.0
BUCKETS = 200  # most bars: those of a longer history are means
CELLS = (74, 36)
LOGS = (1e-100, 1e100)  # beyond, matplotlib's logarithmic axes overflow
INK = "#202122"  # in SVG, the colour of the text around it
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "font.size": FONT,
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "grid.color"], INK),
    **dict.fromkeys(["xtick.color", "ytick.color"], INK),
    **dict.fromkeys(["xtick.bottom", "ytick.left"], False),
    **dict.fromkeys(["axes.spines.top", "axes.spines.left", "axes.spines.right"], False),
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "lines.scale_dashes": False,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.fontsize": FONT,
    "legend.handlelength": 1.6,
    "legend.markerscale": 0,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0,
    "image.composite_image": False,  # cells stay cells, for the browser to enlarge
}


@dataclass(frozen=True)
class Chart:
    """A chart that can be drawn.

    Parameters
    ----------
    title : str
    words : str
        What it shows, for those who cannot see it.
    labels : sequence of str
        Of its legend; a single label needs none.
    marks : callable
        Puts lines, areas or an image on the axes that it gets.
    across : str
        What the horizontal axis is.
    log : bool
        Whether the vertical axis is logarithmic.
    """

    title: str
    words: str
    labels: Sequence[str]
    marks: Callable[[Any], None]
    across: str = "iteration"
    log: bool = False

    @property
    def box(self) -> str:
        """The viewBox of its SVG."""
        return f"0 0 {WIDTH:g} {_height(self, WIDTH):g}"

    @cached_property
    def svg(self) -> str:
        """The contents of its ``svg`` element, in the font and the colour of the text around it.

        The same chart gives the same bytes, and charts of different titles have no id in common.

        Raises
        ------
        InputError
            If matplotlib is missing.
        """
        height = _height(self, WIDTH)
        written = io.StringIO()
        with _drawing(**{"svg.hashsalt": self.title, "axes.facecolor": "none"}) as new_figure:
            figure = new_figure(figsize=(WIDTH / 72, height / 72), facecolor="none")
            _draw(figure, self, WIDTH, height)
            about = dict.fromkeys(["Creator", "Date", "Format", "Type"])
            figure.savefig(written, format="svg", metadata=about)
        return _inlined(written.getvalue())


def lines(
    title: str,
    x: Array,
    series: Mapping[str, Array],
    *,
    log: bool = False,
    zero: bool = False,
    unit: str = "",
    across: str = "iteration",
    doubling: bool = False,
) -> Chart | None:
    """Return a chart of lines over `x`; None if there is nothing to draw.

    Parameters
    ----------
    x : (points,) array
        Iterations, unless `across` says otherwise.
    series : dict of str to (points,) array
        Values by label; one that is not finite, or not on the axis, leaves a gap.
    zero : bool
        Whether the vertical axis starts at 0.
    doubling : bool
        Whether each step of the horizontal axis is twice the one before.
    """
    low, high = LOGS if log else (-np.inf, np.inf)
    shown = {}
    for label, values in series.items():
        known = np.where((values > low) & (values < high), values, np.nan)
        if np.isfinite(known).any():
            shown[one_line(label)] = known

    def marks(axes: Any) -> None:
        for label, values in shown.items():
            axes.plot(x, values, label=label, marker="o", markevery=_alone(values))
        if zero:
            axes.set_ylim(0, 1.06 * max(map(np.nanmax, shown.values())) or 1)
        if doubling:
            axes.set_xscale("log", base=2)
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)

    words = _words(shown, unit)
    return Chart(_titled(title, unit), words, list(shown), marks, across, log) if shown else None


def stacked(title: str, x: Array, series: Mapping[str, Array], unit: str = "") -> Chart | None:
    """Return a chart of bars on top of each other, of iterations; None if there is nothing to draw.

    Bars that dwarf the others, such as a first iteration's, are cut off; the axis says so.
    """
    known = {one_line(label): np.nan_to_num(values) for label, values in series.items()}
    shown = {label: values for label, values in known.items() if values.any()}
    if not shown:
        return None
    bounds = np.unique(np.linspace(0, len(x), min(BUCKETS, len(x)) + 1).astype(int))
    means = [np.add.reduceat(v, bounds[:-1]) / np.diff(bounds) for v in shown.values()]
    tops = np.vstack([np.zeros(len(bounds) - 1), np.cumsum(means, axis=0)])
    edges = np.append(x[bounds[:-1]], x[-1] + 1) - 0.5
    highest, usual = tops.max(), np.percentile(tops[-1], 90)
    cut = highest > 4 * usual > 0

    def marks(axes: Any) -> None:
        for label, lower, upper in zip(shown, tops[:-1], tops[1:], strict=True):
            axes.stairs(upper, edges, baseline=lower, fill=True, label=label)
        axes.set_ylim(0, 1.5 * usual if cut else None)
        axes.xaxis.get_major_locator().set_params(integer=True)

    across = f"iteration (cut off: up to {number(highest)} {unit})" if cut else "iteration"
    return Chart(_titled(title, unit), _words(shown, unit), list(shown), marks, across)


def density(title: str, x: Array, y: Array, across: str, up: str) -> Chart | None:
    """Return a chart of how many points (x, y) lie where, with a line at ``y = 0``."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return None
    x, y = x[known].astype(float), y[known].astype(float)

    def marks(axes: Any) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        reach = np.abs(y).max()
        axes.update_datalim([(x.min(), -reach), (x.max(), reach)])
        axes.autoscale_view()
        area = [axes.get_xlim(), axes.get_ylim()]
        counts = np.histogram2d(x, y, CELLS, area)[0].T
        axes.imshow(
            np.where(counts, np.log1p(counts), np.nan),
            cmap=LinearSegmentedColormap.from_list("", [COLOURS[0] + "60", COLOURS[0]]),
            extent=[*area[0], *area[1]],
            origin="lower",
            aspect="auto",
            interpolation="none",
        )

    words = f"{len(x):,} points; {up} {number(y.min())} to {number(y.max())}"
    return Chart(_titled(title, up), words, [], marks, across)


def save(charts: Sequence[Chart], path: str | Path, width: float = 300.0) -> None:
    """Draw charts side by side into a file of the kind that its name ends in.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file cannot be written.
    """
    height = TITLE + max(_height(chart, width) for chart in charts)
    with _drawing() as new_figure:
        figure = new_figure(figsize=(len(charts) * width / 72, height / 72))
        panels = figure.subfigures(1, len(charts), squeeze=False)[0]
        for panel, chart in zip(panels, charts, strict=True):
            _draw(panel, chart, width, height)
            panel.text(0, 1 - 14 / height, chart.title, weight="bold")
        try:
            figure.savefig(path, dpi=130, bbox_inches="tight")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{path} cannot be written: {why}") from error


def figure_class() -> Any:
    """Return matplotlib's class of figures that no window and no notebook shows by itself.

    Raises
    ------
    InputError
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'dadmm[plot]'") from error
    return Figure


@contextmanager
def _drawing(**more: Any) -> Iterator[Any]:
    """Yield the class of figures, in our style while the block runs."""
    figure = figure_class()
    from matplotlib import rcsetup, style

    dashes = [(0, dash) if dash else "-" for dash in DASHES]
    cycle = rcsetup.cycler(color=COLOURS, linestyle=dashes * (len(COLOURS) // len(dashes)))
    with style.context({**STYLE, **more, "axes.prop_cycle": cycle}, after_reset=True):
        yield figure


def _draw(panel: Any, chart: Chart, width: float, height: float) -> None:
    """Draw a chart into a figure, or a part of one, of a size."""
    from matplotlib.ticker import LogLocator, NullLocator

    box = (LEFT / width, BOTTOM / height, 1 - (LEFT + RIGHT) / width, PLOT / height)
    axes = panel.add_axes(box, xmargin=0.01)
    axes.locator_params("x", nbins=6)
    axes.locator_params("y", nbins=5)
    if chart.log:
        axes.set_yscale("log")
    chart.marks(axes)
    if chart.log:
        low, high = np.log10(axes.get_ylim())
        subs = [1.0] if high - low > 2 else [1.0, 2.0, 5.0]
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:,.6g}")
    axes.set_xlabel(chart.across)
    columns, rows = _legend(chart, width)
    if rows:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, (BOTTOM + PLOT + TOP) / height),
            bbox_transform=panel.transSubfigure,
            borderaxespad=0,
            ncols=columns,
        )


def _legend(chart: Chart, width: float) -> tuple[int, int]:
    """Return in how many columns and rows the legend fits above the plot."""
    widths = [FONT * (0.6 * len(label) + 3) for label in chart.labels]
    for columns in range(len(widths), 0, -1):
        parts = np.array_split(widths, columns)
        if len(widths) > 1 and (columns == 1 or sum(map(np.max, parts)) <= width):
            return columns, len(parts[0])
    return 0, 0


def _height(chart: Chart, width: float) -> float:
    return BOTTOM + PLOT + TOP + LINE * _legend(chart, width)[1]


def _inlined(svg: str) -> str:
    """Return the contents of a file's ``svg`` element, except what would change the page around it.

    Ids without use go; coordinates keep one digit behind the point.
    """
    inner = svg.partition("<svg")[2].partition(">")[2].rpartition("</svg>")[0]
    inner = re.sub(r"<style.*?</style>", "", inner)
    inner = re.sub(r">\s+<", "><", re.sub(r'<g id="[^"]*">', "<g>", inner))
    inner = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d)\d+", r"\1", d[0]), inner)
    inner = inner.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    return inner.replace(INK, "currentColor").replace("xlink:href", "href")


def _alone(values: Array) -> list[int]:
    """Return where a value has no neighbour, so that no line goes through it."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def _titled(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _words(series: Mapping[str, Array], unit: str) -> str:
    """Return where each line begins and ends."""
    known = {label: values[np.isfinite(values)] for label, values in series.items()}
    return "; ".join(
        f"{label} from {number(values[0])} to {number(values[-1])} {unit}".rstrip()
        for label, values in known.items()
    )
