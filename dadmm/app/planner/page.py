"""Write a plan as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dadmm.app.planner import words
from dadmm.engine.live import charts
from dadmm.engine.live.templates import render, write_page


def write_plan(plan: words.Planned, path: str | Path) -> None:
    """Write a plan into a file that ends in .html; replace the file if it exists.

    Raises
    ------
    InputError
        If the file cannot be written, or matplotlib is missing.
    """
    write_page(path, lambda: page(plan))


def page(plan: words.Planned) -> str:
    """Return a plan as HTML."""
    workers = np.array([each.workers for each in plan.scaling])
    seconds = np.array([each.seconds for each in plan.scaling])
    chart = charts.lines(
        "time of an iteration",
        workers,
        {"planned": seconds, "if nobody waited": seconds[0] * workers[0] / workers},
        log=True,
        unit="s",
        across="workers",
        doubling=True,
    )
    return render(
        "app/planner/page.html.jinja",
        words=words,
        plan=plan,
        charts=[chart],
    )
