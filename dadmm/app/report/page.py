"""Write the report of a run: one self-contained HTML file, for a browser or an e-mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from dadmm.app.report.describe import history_rows, order, summary
from dadmm.app.report.outcome import MOST_TARGETS, Outcome, outcome
from dadmm.cluster.worker import MIB
from dadmm.engine.live import charts
from dadmm.engine.live.curves import COLOURS, CONVERGENCE, number
from dadmm.engine.live.templates import render, write_page
from dadmm.engine.memory import USABLE
from dadmm.engine.session import Session
from dadmm.engine.timing import PREFIX
from dadmm.errors import DadmmError
from dadmm.numerics.types import Array

# The phases of an iteration in their order.  Other columns of a store are not phases.
MEANING = {
    "load": "reading the weights and making them ready",
    "read": "reading a chunk's data and state, scaling, encoding",
    "visit": "training on a chunk",
    "forward": "running a block forward",
    "train": "training a block",
    "pull": "pulling gradients back through a block",
    "move": "moving the variables between two blocks",
    "couple": "forming the sums that couple two regions",
    "evaluate": "running the network forward",
    "validate": "scoring the rows held out",
    "write": "writing a chunk's state",
    "add": "adding up what the visits returned",
    "solve": "updating the weights, and storing them",
    "settle": "the driver's wait for the disk before the commit",
}
WORDS = {"load": "weights", "add": "add up", "settle": "sync"}
MOST_CLASSES = 30
MOST_ROWS = 200
HISTORY_ROWS = 25
DEPTH = 6


def write_report(estimator: Any, session: Session, path: str | Path) -> None:
    """Write the report of a stored run.

    Parameters
    ----------
    estimator : ADMMClassifier or ADMMRegressor
        As `dadmm.load` returns it.
    session : Session
        Of the same run.
    path : path
        A file that ends in .html; it is replaced if it exists.

    Raises
    ------
    InputError
        If the file cannot be written, or matplotlib is missing.
    """
    write_page(path, lambda: report(estimator, session))


def report(estimator: Any, session: Session) -> str:
    """Return the report of a stored run as HTML."""
    run, history = session.run, session.history(mend=True)
    header, *rows = history_rows(history, HISTORY_ROWS)
    return render(
        "app/report/page.html.jinja",
        name=Path(str(run.url)).name,
        summary=summary(estimator, session),
        data=_data(session),
        convergence=_convergence(history),
        history={"header": header, "rows": rows},
        time=_time(history, session.problem.rows),
        memory=_memory(history),
        predictions=_predictions(estimator, session),
        config=_flat(run.attributes["config"]),
        versions=_flat(run.attributes.get("versions")) | _flat(run.attributes.get("machine")),
    )


def _data(session: Session) -> dict[str, str]:
    stored, problem, plan = session.run.attributes, session.problem, session.plan
    sizes = f"{plan.chunks[0]:,} rows each" if len(plan.chunks) > 1 else "all rows"
    facts = {
        "rows": f"{problem.rows:,}",
        "chunks": f"{len(plan.chunks):,}, {sizes}",
        "features": f"{problem.architecture.widths[0]:,}",
        "inputs": f"{stored['input_bytes']} bytes a number, "
        f"{format_bytes(problem.rows * problem.architecture.widths[0] * stored['input_bytes'])}",
        "weights of samples": "yes" if problem.weighted else "no",
    }
    if len(plan.chunks) > 1 and "chunk_difference" in stored:
        facts["order of the rows"] = order(stored)
    for which, source in stored.get("sources", {}).items():
        facts[f"{which} is read from"] = str(source.get("url") if source else None)
    if problem.classes:
        labels = stored["classes"]["labels"]
        shown = ", ".join(map(str, labels[:MOST_CLASSES]))
        facts["classes"] = f"{problem.classes}: {shown}" + ", ..." * (len(labels) > MOST_CLASSES)
    elif problem.supervised:
        facts["targets"] = f"{problem.architecture.widths[-1]:,}"
    scaling = session.scaling["x"]
    if not (scaling.scale == 1).all() or scaling.centre.any():
        least, most = (number(f(scaling.centre)) for f in (np.min, np.max))
        low, high = (number(f(scaling.scale)) for f in (np.min, np.max))
        facts["scaling"] = f"features less {least} to {most}, divided by {low} to {high}"
    return facts


def _convergence(history: xr.Dataset) -> list[charts.Chart | None]:
    x = history["iteration"].values
    layers = {
        str(name).removeprefix("residual_").replace("_", " "): history[name].values
        for name in history
        if str(name).startswith("residual_")
    }
    some = dict(list(layers.items())[: len(COLOURS)])
    return [
        *(charts.lines(c.title, x, c.of(history), log=c.log) for c in CONVERGENCE),
        charts.lines("splitting residuals", x, some, log=True),
    ]


def _time(history: xr.Dataset, rows: int) -> dict[str, Any] | None:
    """Return the section on time, or None if the run kept no times."""
    if "seconds" not in history:
        return None
    x, wall = history["iteration"].values, history["seconds"].values
    spent = {
        name: np.nan_to_num(history[PREFIX + name].values)
        for name in MEANING
        if PREFIX + name in history
    }
    labels = {WORDS.get(name, name): values for name, values in spent.items()}
    with np.errstate(divide="ignore"):
        rate = rows / wall
    drawn = [
        charts.stacked("tasks' time by phase", x, labels, "s"),
        charts.lines("time of an iteration", x, {"seconds": wall}, log=True, unit="s"),
        charts.lines("training rows per second", x, {"rows": rate}, zero=True),
    ]
    whole = max(sum(values.sum() for values in spent.values()), 1e-12)
    phases = [
        [
            WORDS.get(name, name),
            f"{values.sum():.3g}",
            f"{values.sum() / whole:.1%}",
            f"{np.median(values):.3g}",
            MEANING[name],
        ]
        for name, values in spent.items()
    ]
    return {
        "iterations": f"{len(x):,}",
        "seconds": f"{wall.sum():,.1f}",
        "charts": drawn,
        "phases": phases,
    }


def _memory(history: xr.Dataset) -> dict[str, Any] | None:
    """Return the section on memory, or None if none was measured."""
    if "memory_peak" not in history:
        return None
    x = history["iteration"].values
    series = {
        name: history[f"memory_{name}"].values / MIB
        for name in ("peak", "planned", "limit")
        if f"memory_{name}" in history
    }
    told = {"peak": np.nanmax(series["peak"])}
    told |= {name: values[-1] for name, values in series.items() if name != "peak"}
    chart = charts.lines("memory of the fullest process", x, series, zero=True, unit="MiB")
    return {
        "told": {n: format_bytes(int(v * MIB)) for n, v in told.items() if np.isfinite(v)},
        "usable": f"{USABLE:.0%}",
        "charts": [chart],
    }


def _predictions(estimator: Any, session: Session) -> dict[str, Any]:
    """Return the section on predictions: its `kind`, and the numbers."""
    try:
        found = outcome(session, estimator.network_)
    except (DadmmError, OSError) as error:
        return {"kind": "nothing", "why": str(error)}
    seen = f"{found.rows:,} of {session.problem.rows:,} training rows"
    if found.rows < session.problem.rows:
        seen += f", from {found.chunks:,} of {len(session.plan.chunks):,} chunks"
    if found.confusion is None:
        return {"seen": seen, **_residuals(found)}
    labels = [str(c) for c in estimator.classes_]
    several = found.confusion.ndim == 3
    return {"seen": seen, **(_several if several else _confusion)(found.confusion, labels)}


def _confusion(counts: Array, labels: Sequence[str]) -> dict[str, Any]:
    right = f"{np.trace(counts) / max(counts.sum(), 1):.2%}"
    if len(labels) > MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        worst = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CLASSES]
        pairs = [(i, j) for i, j in zip(*np.unravel_index(worst, counts.shape), strict=True)]
        rows = [[labels[i], labels[j], f"{wrong[i, j]:,}"] for i, j in pairs if wrong[i, j]]
        return {"kind": "worst", "right": right, "rows": rows}
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        [(f"{count:,}", f"{share:.0%}") for count, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    return {"kind": "matrix", "right": right, "labels": labels, "cells": cells}


def _several(counts: Array, labels: Sequence[str]) -> dict[str, Any]:
    rows = [
        [label, *(f"{n:,}" for n in (found + missed, found, missed, wrong))]
        for label, ((_, wrong), (missed, found)) in zip(labels, counts.tolist(), strict=True)
    ]
    return {"kind": "labels", "rows": rows}


def _residuals(found: Outcome) -> dict[str, Any]:
    assert found.predicted is not None
    assert found.residuals is not None
    drawn, rows = [], []
    for k in range(found.predicted.shape[1]):
        predicted, residual = found.predicted[:, k], found.residuals[:, k]
        variance = np.var(predicted + residual)
        r2 = 1 - np.mean(residual**2) / variance if variance else np.nan
        rms = np.sqrt(np.mean(residual**2))
        rows.append([str(k + 1), f"{r2:.4f}", number(float(rms))])
        title = f"residuals of target {k + 1}"
        drawn.append(charts.density(title, predicted, residual, "predicted", "truth - predicted"))
    return {"kind": "residuals", "most": MOST_TARGETS, "charts": drawn, "rows": rows}


def _flat(value: Any, prefix: str = "", depth: int = 0) -> dict[str, str]:
    """Return nested tables as one, with dotted names."""
    if not isinstance(value, Mapping) or depth > DEPTH:
        return {prefix or "value": str(value)} if value is not None or prefix else {}
    found: dict[str, str] = {}
    for name, part in value.items():
        found |= _flat(part, f"{prefix}.{name}" if prefix else str(name), depth + 1)
    return found
