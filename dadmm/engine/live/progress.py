"""Progress: one tidy line in a terminal, curves in a notebook, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from dadmm.engine.live import charts
from dadmm.engine.live.curves import CONVERGENCE
from dadmm.engine.live.markup import html, tag

Show = Callable[[int, Mapping[str, float]], None]

LINES = 10
# Seconds between pictures in a notebook: each is sent to the browser whole.
REDRAW = 0.5


@contextmanager
def progress(
    total: int, enabled: bool = True, console: Console | None = None, link: str | None = None
) -> Iterator[Show]:
    """Show progress while the block runs; what it yields takes (iteration, row of history).

    A bar on a terminal; in a notebook the same with curves and a link to the dashboard; a line for
    about every tenth iteration elsewhere.  It goes to the standard error unless a console is given.
    """
    console = console or Console(stderr=True, highlight=False)
    if not enabled:
        yield nothing
    elif console.is_jupyter:
        with _curves(total, link) as show:
            yield show
    elif console.is_terminal and not console.is_dumb_terminal:
        with _bar(total, console) as show:
            yield show
    else:
        yield _lines(total, console)


def nothing(iteration: int, row: Mapping[str, float]) -> None:
    """Show nothing."""


def numbers(row: Mapping[str, float]) -> str:
    """Return the main numbers of an iteration in words."""
    shown = {"objective": ".4g", "primal_residual": ".2g", "train_score": ".4f"}
    words = {"primal_residual": "residual", "train_score": "score"}
    return "  ".join(
        f"{words.get(name, name)} {row[name]:{spec}}" for name, spec in shown.items() if name in row
    )


def _lines(total: int, console: Console) -> Show:
    every = max(1, total // LINES)

    def show(iteration: int, row: Mapping[str, float]) -> None:
        if row and (iteration % every == 0 or iteration in (1, total)):
            console.print(f"iteration {iteration}/{total}  {numbers(row)}", soft_wrap=True)

    return show


@contextmanager
def _bar(total: int, console: Console) -> Iterator[Show]:
    columns = (
        TextColumn("iteration {task.completed}/{task.total}"),
        BarColumn(bar_width=None),
        TextColumn("{task.description}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("", total=total)

        def show(iteration: int, row: Mapping[str, float]) -> None:
            bar.update(task, completed=iteration, description=numbers(row) or None)

        yield show


@contextmanager
def _curves(total: int, link: str | None) -> Iterator[Show]:
    from IPython.display import display

    rows: dict[int, Mapping[str, float]] = {}
    at, drawn = 0, time.monotonic()
    handle = display(_picture(0, total, rows, link), raw=True, display_id=True)

    def show(iteration: int, row: Mapping[str, float]) -> None:
        nonlocal at, drawn
        at = iteration
        if row:
            rows[iteration] = dict(row)
        if time.monotonic() - drawn >= REDRAW:
            handle.update(_picture(at, total, rows, link), raw=True)
            drawn = time.monotonic()

    try:
        yield show
    finally:
        handle.update(_picture(at, total, rows, link), raw=True)


def _picture(
    iteration: int, total: int, rows: Mapping[int, Mapping[str, float]], link: str | None
) -> dict[str, str]:
    """Return the display of a notebook, by type: for a browser, and for what shows only text."""
    line = f"iteration {iteration}/{total}  {numbers(rows.get(iteration, {}))}".strip()
    x = np.array(list(rows))
    drawn: list[Any] = []
    for chart in CONVERGENCE:
        known = {
            name for name in chart.series.values() if any(name in row for row in rows.values())
        }
        columns = {name: [row.get(name, np.nan) for row in rows.values()] for name in known}
        drawn.append(charts.lines(chart.title, x, chart.of(columns), log=chart.log))
    cells = [tag("div", each, style="flex:1 1 280px;max-width:420px") for each in drawn if each]
    page = tag(
        "div",
        tag("progress", value=iteration, max=total, style="width:100%", aria_label="iterations"),
        tag("div", line),
        tag("div", tag("a", "dashboard", href=link, target="_blank")) if link else None,
        tag("div", cells, style="display:flex;flex-wrap:wrap;gap:16px;margin-top:8px"),
        style="max-width:1300px",
    )
    return {"text/plain": line, "text/html": html(page)}
