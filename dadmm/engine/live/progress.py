"""Progress: one tidy line in a terminal, curves in a notebook, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dadmm.engine.live import charts
from dadmm.engine.live.curves import CONVERGENCE
from dadmm.engine.live.templates import render
from dadmm.errors import InputError

Show = Callable[[int, Mapping[str, float]], None]

LINES = 10
SEND = 0.5  # seconds between updates of a notebook's display
SHARE = 0.05  # of the time, at most, goes into drawing curves


@contextmanager
def progress(
    total: int, enabled: bool = True, console: Console | None = None, link: str | None = None
) -> Iterator[Show]:
    """Show progress while the block runs; yield a function of (iteration, row of history).

    A terminal shows a bar; a notebook also curves and a link to the dashboard; a log gets a line
    for about every tenth iteration.  It goes to the standard error unless a console is given.
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
    """Return the main numbers of an iteration as a line of text."""
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
    display = _Display(total, link)
    try:
        yield display.show
    finally:
        display.curves()
        display.send()


class _Display:
    """The display of a run in a notebook, which is replaced as the run goes on."""

    def __init__(self, total: int, link: str | None) -> None:
        from IPython.display import display

        self.total, self.link, self.at = total, link, 0
        self.rows: dict[int, Mapping[str, float]] = {}
        self.charts: list[charts.Chart | None] = []
        self.sent = self.due = time.monotonic()
        self.handle = display(self.content(), raw=True, display_id=True)

    def show(self, iteration: int, row: Mapping[str, float]) -> None:
        """Keep an iteration, and show it unless another was shown just now."""
        self.at = iteration
        if row:
            self.rows[iteration] = dict(row)
        now = time.monotonic()
        if now - self.sent < SEND:
            return
        if now >= self.due:
            self.curves()
        self.send()
        self.sent = time.monotonic()
        self.due = max(self.due, self.sent + (self.sent - now) / SHARE)

    def curves(self) -> None:
        """Renew the curves; there are none if matplotlib is missing."""
        with suppress(InputError):
            charts.figure_class()
            names = {name for row in self.rows.values() for name in row}
            columns = {n: [row.get(n, np.nan) for row in self.rows.values()] for n in names}
            x = np.array(list(self.rows))
            self.charts = [charts.lines(c.title, x, c.of(columns), log=c.log) for c in CONVERGENCE]

    def send(self) -> None:
        """Replace the display."""
        self.handle.update(self.content(), raw=True)

    def content(self) -> dict[str, str]:
        """Return the display as HTML and as plain text, by media type."""
        line = f"iteration {self.at}/{self.total}  {numbers(self.rows.get(self.at, {}))}".strip()
        page = render("engine/live/progress.html.jinja", display=self, line=line)
        return {"text/plain": line, "text/html": page}
