"""A page on the Dask dashboard, at ``/dadmm``, that shows how the runs of a cluster converge.

The scheduler serves it, with bokeh, as it does its own pages.  The driver tells the scheduler of
each committed iteration as an event; the page reads the events, of which the scheduler keeps the
last thousand or so, and what the scheduler knows of its workers.  No error here stops a run: it is
only logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from dadmm.engine.live.curves import COLOURS, CONVERGENCE, DASHES, Curves, number
from dadmm.engine.live.progress import Show, nothing, numbers

if TYPE_CHECKING:
    from dadmm.engine.plan import Plan

PATH, TOPIC = "/dadmm", "dadmm"
PERIOD = 1000  # milliseconds between updates of the page
EARLIER = 500  # iterations of earlier sessions, at most, that the page shows
MOST_WORKERS = 40
MIB = 2**20
NEWEST = "newest"
RATE = Curves("training rows per second", {"rows": "rate"})
PEAK = Curves(
    "memory of the fullest worker, MiB",
    {"peak": "memory_peak", "planned": "memory_planned", "limit": "memory_limit"},
)
CHARTS = (*CONVERGENCE, RATE, PEAK)

logger = logging.getLogger(__name__)


def open_page(client: Any) -> str | None:
    """Put the page on a cluster's dashboard, if there is one; return the page's address.

    This and `telling` run in the driver, all else in the scheduler.
    """
    try:
        if client is None or not client.run_on_scheduler(install):
            return None
        return re.sub(r"status$", PATH.strip("/"), str(client.dashboard_link))
    except Exception:  # no bokeh or dadmm there, pickles refused, a scheduler of another version
        logger.info("the page %s is not there", PATH, exc_info=True)
        return None


def telling(client: Any, plan: Plan, total: int, earlier: Sequence[Mapping[str, float]]) -> Show:
    """Return a function that sends each iteration to a cluster's page; send the earlier ones.

    Parameters
    ----------
    client : distributed.Client or None
    total : int
        Iterations in all.
    earlier : sequence of dict
        The history so far.
    """
    if client is None:
        return nothing
    about = {
        "session": plan.session,
        "run": PurePosixPath(str(plan.run.url)).name if plan.run.durable else "not stored",
        "total": total,
        "data": plan.problem.rows,
    }

    def tell(first: int, rows: Sequence[Mapping[str, float]]) -> None:
        plain = [{name: float(value) for name, value in row.items()} for row in rows]
        try:
            client.log_event(TOPIC, {**about, "first": first, "rows": plain})
        except Exception:  # the next graph reports what happened to the cluster
            logger.info("iteration %d was not sent", first, exc_info=True)

    kept = earlier[-EARLIER:]
    tell(len(earlier) - len(kept) + 1, kept)
    return lambda iteration, row: tell(iteration, [row])


def install(dask_scheduler: Any) -> bool:
    """Add the page to a scheduler's dashboard, unless it is there; return whether it is now."""
    from bokeh.server.tornado import BokehTornado
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from tornado.ioloop import IOLoop

    served = dask_scheduler.http_application.applications
    pages = [application for application in served if isinstance(application, BokehTornado)]
    if not pages:
        return False
    if any(PATH in page.app_paths for page in pages):
        return True
    variables = template_variables(dask_scheduler)
    made = BokehApplication(
        {PATH: _page}, dask_scheduler, prefix=pages[0].prefix, template_variables=variables
    )
    dask_scheduler.http_application.add_application(made)
    made.initialize(IOLoop.current())
    made.start()
    variables["pages"].append(PATH.strip("/"))  # in the bar at the top of every page
    return True


class Told:
    """One run, as the events describe it.

    Attributes
    ----------
    name : str
    total, data : int
        Iterations, and rows of data.
    rows : dict of int to dict
        Iteration to row of history.
    """

    def __init__(self) -> None:
        self.name, self.total, self.data = "", 0, 0
        self.rows: dict[int, Mapping[str, float]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        self.name, self.total, self.data = event["run"], event["total"], event["data"]
        for i, row in enumerate(event["rows"]):
            self.rows[event["first"] + i] = row

    @property
    def title(self) -> str:
        """The run, and how far it is."""
        return f"{self.name}: iteration {max(self.rows, default=0)} of {self.total}"

    def line(self) -> str:
        """Return the numbers of the last iteration, as the terminal shows them."""
        last = self.rows[max(self.rows)] if self.rows else {}
        rate = self.data / last["seconds"] if last.get("seconds") else 0.0
        parts = [numbers(last), f"{number(rate)} rows/s" if rate else ""]
        return "  ".join(part for part in [self.title, *parts] if part)

    def columns(self) -> dict[str, list[float]]:
        """Return the columns of all charts, NaN where there is no number (or no logarithm)."""
        found: dict[str, list[float]] = {"iteration": [float(k) for k in sorted(self.rows)]}
        rows = [self.rows[k] for k in sorted(self.rows)]
        for chart in CHARTS:
            for name in chart.series.values():
                values = np.array([row.get(name, np.nan) for row in rows], float)
                if name.startswith("memory_"):
                    values /= MIB
                elif name == "rate":
                    seconds = np.array([row.get("seconds", np.nan) for row in rows], float)
                    values = self.data / np.where(seconds > 0, seconds, np.nan)
                if chart.log:
                    values = np.where(values > 0, values, np.nan)
                found[name] = values.tolist()
        return found


def told(events: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Told]:
    """Return the runs that the events describe, by session, the newest last."""
    found: dict[str, Told] = {}
    for _, event in events:
        found.setdefault(event["session"], Told()).add(event)
    return found


class _Page:
    """The models of one visitor's page, which follow the scheduler."""

    def __init__(self, scheduler: Any) -> None:
        from bokeh.models.sources import ColumnDataSource
        from bokeh.models.widgets import Div, Select

        self.scheduler = scheduler
        self.source = ColumnDataSource(Told().columns())
        self.workers = ColumnDataSource({name: [] for name in ("worker", "memory", "limit")})
        self.select = Select(title="run", value=NEWEST, width=320)
        self.select.on_change("value", lambda attr, old, new: self.update())
        self.line = Div(
            text="no run yet",
            render_as_text=True,
            sizing_mode="stretch_width",
            styles={"white-space": "pre-wrap", "font-size": "14px"},
        )
        self.items: list[tuple[str, Any]] = []
        self.figures = [self._chart(chart) for chart in CHARTS]
        self.bars = self._bars()
        self.update()

    @property
    def root(self) -> Any:
        """Return all of the page: as many charts beside each other as have room."""
        from bokeh.layouts import column, row

        flow = {"flex-wrap": "wrap", "gap": "12px", "width": "100%"}
        charts = row([*self.figures, self.bars], styles=flow, sizing_mode="stretch_width")
        return column(self.select, self.line, charts, sizing_mode="stretch_width")

    def update(self) -> None:
        """Show what is new."""
        runs = told(self.scheduler.get_events(TOPIC))
        options: list[Any] = [(NEWEST, "the newest run")]
        options += [(session, run.title) for session, run in reversed(runs.items())]
        if self.select.options != options:
            self.select.options = options
        chosen = self.select.value if self.select.value in runs else next(reversed(runs), None)
        if chosen is not None:
            run = runs[chosen]
            columns = run.columns()
            self.source.data = columns
            for name, item in self.items:
                item.visible = bool(np.isfinite(columns[name]).any())
            self.line.text = run.line()
        self._update_workers()

    def _update_workers(self) -> None:
        states = list(self.scheduler.workers.values())
        used = {state: (state.metrics or {}).get("memory", 0) for state in states}
        fullest = sorted(states, key=used.__getitem__, reverse=True)[:MOST_WORKERS]
        fullest.sort(key=lambda state: str(state.name))
        names = [f"worker {state.name}" for state in fullest]
        self.bars.y_range.factors = names[::-1]
        self.workers.data = {
            "worker": names,
            "memory": [used[state] / MIB for state in fullest],
            "limit": [(state.memory_limit or np.nan) / MIB for state in fullest],
        }

    def _figure(self, title: str, **options: Any) -> Any:
        from bokeh.plotting import figure

        made = figure(
            title=title,
            height=240,
            frame_align=False,
            min_width=300,
            sizing_mode="stretch_width",
            styles={"flex": "1 1 340px"},
            tools="",
            toolbar_location=None,
            **options,
        )
        made.axis.minor_tick_line_color = None
        return made

    def _chart(self, chart: Curves) -> Any:
        from bokeh.models.annotations import Legend, LegendItem

        made = self._figure(chart.title, y_axis_type="log" if chart.log else "linear")
        made.xaxis.axis_label = "iteration"
        legend: list[Any] = []
        # The first curve is the result: it lies on top of those that it is compared with.
        for i, (label, name) in reversed(list(enumerate(chart.series.items()))):
            line = made.line(
                "iteration",
                name,
                source=self.source,
                color=COLOURS[i],
                line_width=2,
                line_dash=list(DASHES[i]),
            )
            # A single iteration makes no line.
            dots = made.scatter("iteration", name, source=self.source, color=COLOURS[i], size=4)
            legend.insert(0, LegendItem(label=label, renderers=[line, dots]))
            self.items.append((name, legend[0]))
        if len(legend) > 1:
            look: dict[str, Any] = {
                "padding": 0,
                "margin": 0,
                "spacing": 12,
                "border_line_alpha": 0,
            }
            above = Legend(items=legend, orientation="horizontal", location="left", **look)
            made.add_layout(above, "above")
        return made

    def _bars(self) -> Any:
        made = self._figure("memory of each worker now, MiB", y_range=[])
        made.hbar(y="worker", right="memory", height=0.6, source=self.workers, color=COLOURS[0])
        made.scatter(
            "limit", "worker", source=self.workers, marker="dash", angle=np.pi / 2, size=18,
            line_width=3, color=COLOURS[6],
        )  # fmt: skip
        made.x_range.start = 0
        return made


def _page(scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    """Fill a visitor's document."""
    from distributed.dashboard.components import add_periodic_callback
    from distributed.dashboard.components.scheduler import env

    page = _Page(scheduler)
    add_periodic_callback(doc, page, PERIOD)
    doc.title = "dadmm: convergence"
    doc.add_root(page.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
