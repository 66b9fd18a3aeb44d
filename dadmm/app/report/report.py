"""The report of a run: one HTML file that needs nothing else, for a browser or an e-mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from dadmm.app.report.describe import history_rows, summary
from dadmm.app.report.outcome import MOST_TARGETS, Outcome, outcome
from dadmm.cluster.worker import MIB
from dadmm.engine.live import charts
from dadmm.engine.live.curves import CONVERGENCE
from dadmm.engine.live.markup import Content, Element, html, styled, tag
from dadmm.engine.memory import USABLE
from dadmm.engine.plan import Plan
from dadmm.engine.result import load_scaling
from dadmm.engine.timing import PREFIX
from dadmm.errors import DadmmError, InputError
from dadmm.numerics.types import Array

# The phases of an iteration in their order.  Whatever else a store tells of is none.
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


def write_report(estimator: Any, plan: Plan, path: str | Path) -> None:
    """Write the report of a stored run.

    Parameters
    ----------
    estimator : ADMMClassifier or ADMMRegressor
        As `dadmm.load` returns it.
    plan : Plan
        Of the same run.
    path : path
        A file that ends in .html; one that is there is replaced.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: end the report's name in .html")
    text = report(estimator, plan)
    try:
        # A lone surrogate, which no encoding has, can come from a store that others made.
        Path(path).write_bytes(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be written: {why}") from error


def report(estimator: Any, plan: Plan) -> str:
    """Return the report of a stored run as HTML."""
    run = plan.run
    history = run.history(mend=True)
    name = Path(str(run.url)).name
    body = tag(
        "body",
        tag("h1", f"Run {name}"),
        _facts(summary(estimator, run)),
        _section("Data", _facts(_data(plan))),
        _section("Convergence", _convergence(history), _history(history)),
        _section("Time", _time(history, plan.problem.rows)),
        _section("Memory", _memory(history)),
        _section("Predictions", _predictions(estimator, plan)),
        _section("Config", _facts(_flat(run.attributes["config"]))),
        _section("Versions", _facts(_versions(run.attributes))),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"dadmm run {name}"),
        styled(files("dadmm.engine.live").joinpath("report.css").read_text("utf-8")),
    )
    return f"<!DOCTYPE html>\n{html(tag('html', head, body, lang='en'))}\n"


# ---------------------------------------------------------------------------------------- sections


def _data(plan: Plan) -> dict[str, str]:
    stored, problem = plan.run.attributes, plan.problem
    sizes = f"{plan.chunks[0]:,} rows each" if len(plan.chunks) > 1 else "all rows"
    facts = {
        "rows": f"{problem.rows:,}",
        "chunks": f"{len(plan.chunks):,}, {sizes}",
        "features": f"{problem.architecture.widths[0]:,}",
        "inputs": f"{stored['input_bytes']} bytes a number, "
        f"{format_bytes(problem.rows * problem.architecture.widths[0] * stored['input_bytes'])}",
        "weights of samples": "yes" if problem.weighted else "no",
    }
    for which, source in stored.get("sources", {}).items():
        facts[f"{which} is read from"] = str(source.get("url") if source else None)
    if problem.classes:
        labels = stored["classes"]["labels"]
        shown = ", ".join(map(str, labels[:MOST_CLASSES]))
        facts["classes"] = f"{problem.classes}: {shown}" + ", ..." * (len(labels) > MOST_CLASSES)
    elif problem.supervised:
        facts["targets"] = f"{problem.architecture.widths[-1]:,}"
    scaling = load_scaling(plan.run)["x"]
    if not (scaling.scale == 1).all() or scaling.centre.any():
        least, most = (charts.number(f(scaling.centre)) for f in (np.min, np.max))
        low, high = (charts.number(f(scaling.scale)) for f in (np.min, np.max))
        facts["scaling"] = f"features less {least} to {most}, divided by {low} to {high}"
    return facts


def _convergence(history: xr.Dataset) -> Element:
    x = history["iteration"].values
    drawn = [charts.lines(c.title, x, c.of(history), log=c.log) for c in CONVERGENCE]
    layers = {
        str(name).removeprefix("residual_").replace("_", " "): history[name].values
        for name in history
        if str(name).startswith("residual_")
    }
    some = dict(list(layers.items())[: len(charts.COLOURS)])
    drawn.append(charts.lines("splitting residuals", x, some, log=True))
    return _charts(drawn)


def _history(history: xr.Dataset) -> Content:
    header, *rows = history_rows(history, HISTORY_ROWS)
    return _table("History", header, rows)


def _time(history: xr.Dataset, rows: int) -> Content:
    if "seconds" not in history:
        return _note("No times were kept.")
    x, wall = history["iteration"].values, history["seconds"].values
    spent = {
        name: np.nan_to_num(history[PREFIX + name].values)
        for name in MEANING
        if PREFIX + name in history
    }
    labels = {WORDS.get(name, name): values for name, values in spent.items()}
    with np.errstate(divide="ignore"):
        rate = rows / wall
    pictures = _charts(
        [
            charts.stacked("tasks' time by phase", x, labels, "s"),
            charts.lines("time of an iteration", x, {"seconds": wall}, zero=True, unit="s"),
            charts.lines("training rows per second", x, {"rows": rate}, zero=True),
        ]
    )
    if not spent:
        return pictures
    whole = sum(values.sum() for values in spent.values())
    table = [
        [
            WORDS.get(name, name),
            f"{values.sum():.3g}",
            f"{values.sum() / max(whole, 1e-12):.1%}",
            f"{np.median(values):.3g}",
            MEANING[name],
        ]
        for name, values in spent.items()
    ]
    header = ["phase", "seconds", "share", "median", "what it is"]
    return [
        tag(
            "p",
            f"{len(x):,} iterations took {wall.sum():,.1f} s. The time of tasks is added up over "
            "all workers, so it may be more than that; what is missing from it is the scheduler's "
            "work and waiting.",
        ),
        pictures,
        _table("Time of all tasks", header, table, words=1),
    ]


def _memory(history: xr.Dataset) -> Content:
    if "memory_peak" not in history:
        return _note("No memory was measured.")
    x = history["iteration"].values
    series = {
        label: history[f"memory_{name}"].values / MIB
        for label, name in (("peak", "peak"), ("planned", "planned"), ("limit", "limit"))
        if f"memory_{name}" in history
    }
    told = [f"The fullest process had {format_bytes(int(np.nanmax(series['peak']) * MIB))}"]
    if "planned" in series and np.isfinite(series["planned"][-1]):
        told.append(f"{format_bytes(int(series['planned'][-1] * MIB))} were planned for")
    if "limit" in series and np.isfinite(series["limit"][-1]):
        limit = format_bytes(int(series["limit"][-1] * MIB))
        told.append(f"its limit was {limit}, of which {USABLE:.0%} are planned with")
    return [
        tag("p", "; ".join(told), ". Peaks are those since a process began: they never fall."),
        _charts([charts.lines("memory of the fullest process", x, series, zero=True, unit="MiB")]),
    ]


def _predictions(estimator: Any, plan: Plan) -> Content:
    try:
        found = outcome(plan, estimator.network_)
    except (DadmmError, OSError) as error:
        return _note(f"There is nothing to show: {error}.")
    seen = f"{found.rows:,} of {plan.problem.rows:,} training rows"
    if found.rows < plan.problem.rows:
        seen += f", from {found.chunks:,} of {len(plan.chunks):,} chunks"
    if found.confusion is not None and found.confusion.ndim == 3:
        return _several(found.confusion, [str(c) for c in estimator.classes_], seen)
    if found.confusion is not None:
        return _confusion(found.confusion, [str(c) for c in estimator.classes_], seen)
    return _residuals(found, seen)


def _confusion(counts: Array, labels: Sequence[str], seen: str) -> Content:
    right = np.trace(counts) / max(counts.sum(), 1)
    words = tag("p", f"On {seen}, {right:.2%} are right.")
    if len(labels) > MOST_CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        worst = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CLASSES]
        pairs = [(i, j) for i, j in zip(*np.unravel_index(worst, counts.shape), strict=True)]
        rows = [[labels[i], labels[j], f"{wrong[i, j]:,}"] for i, j in pairs if wrong[i, j]]
        header = ["class", "taken for", "rows"]
        return [words, _table("What is confused most", header, rows)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = tag("tr", tag("th", "class"), [tag("th", label, scope="col") for label in labels])
    body = []
    for i, label in enumerate(labels):
        cells = [
            tag("td", f"{count:,}", style=f"background: rgb(59 130 196 / {0.75 * part:.2f})")
            for count, part in zip(counts[i], share[i], strict=True)
        ]
        body.append(tag("tr", tag("th", label, scope="row"), cells))
    caption = tag(
        "caption", "Confusion matrix: a row for each class, a column for what it was taken for"
    )
    return [words, _box(tag("table", caption, head, body, class_="numbers matrix"))]


def _several(counts: Array, labels: Sequence[str], seen: str) -> Content:
    rows = [
        [label, *(f"{n:,}" for n in (found + missed, found, missed, wrong))]
        for label, ((_, wrong), (missed, found)) in zip(labels, counts.tolist(), strict=True)
    ]
    header = ["label", "rows that have it", "found", "missed", "wrongly found"]
    return [tag("p", f"On {seen}."), _table("Each label by itself", header, rows)]


def _residuals(found: Outcome, seen: str) -> Content:
    assert found.predicted is not None
    assert found.residuals is not None
    drawn, rows = [], []
    for k in range(found.predicted.shape[1]):
        predicted, residual = found.predicted[:, k], found.residuals[:, k]
        variance = np.var(predicted + residual)
        r2 = 1 - np.mean(residual**2) / variance if variance else np.nan
        rms = np.sqrt(np.mean(residual**2))
        rows.append([str(k + 1), f"{r2:.4f}", charts.number(float(rms))])
        title = f"residuals of target {k + 1}"
        drawn.append(charts.density(title, predicted, residual, "predicted", "truth - predicted"))
    return [
        tag("p", f"On {seen}; darker is where more rows lie. Up to {MOST_TARGETS} targets."),
        _charts(drawn),
        _table("Fit", ["target", "R2", "root mean square"], rows),
    ]


def _versions(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {**_flat(attributes.get("versions")), **_flat(attributes.get("machine"))}


# ------------------------------------------------------------------------------------------ pieces


def _section(title: str, *content: Content) -> Element:
    return tag("section", tag("h2", title), content)


def _note(text: str) -> Element:
    return tag("p", text, class_="note")


def _charts(drawn: Sequence[Element | None]) -> Element:
    return tag("div", [tag("div", each) for each in drawn if each is not None], class_="charts")


def _box(table: Element) -> Element:
    """Let a table that is too wide scroll by itself, with the keyboard too."""
    return tag("div", table, class_="box", tabindex="0")


def _facts(facts: Mapping[str, str]) -> Element:
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value))
        for name, value in list(facts.items())[:MOST_ROWS]
    ]
    return _box(tag("table", rows, class_="facts"))


def _table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 0
) -> Element:
    """Return a table of numbers, whose last columns may be words."""
    kinds = ["number"] * (len(header) - words) + ["words"] * words
    both = list(zip(header, kinds, strict=True))
    head = tag("tr", [tag("th", name, scope="col", class_=kind) for name, kind in both])
    body = [
        tag("tr", [tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)])
        for row in rows
    ]
    return _box(tag("table", tag("caption", caption), head, body, class_="numbers"))


def _flat(value: Any, prefix: str = "", depth: int = 0) -> dict[str, str]:
    """Return nested tables as one, with dotted names."""
    if not isinstance(value, Mapping) or depth > DEPTH:
        return {prefix or "value": str(value)} if value is not None or prefix else {}
    found: dict[str, str] = {}
    for name, part in value.items():
        found |= _flat(part, f"{prefix}.{name}" if prefix else str(name), depth + 1)
    return found
