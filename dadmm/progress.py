"""Progress: one tidy line in a terminal or a notebook, now and then a line in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

Show = Callable[[int, Mapping[str, float]], None]

LINES = 10


@contextmanager
def progress(total: int, enabled: bool = True, console: Console | None = None) -> Iterator[Show]:
    """Show progress while the block runs; what it yields takes (iteration, row of history).

    A bar on a terminal or in a notebook; a line for about every tenth iteration elsewhere.  It
    goes to the standard error unless a console is given.
    """
    console = console or Console(stderr=True, highlight=False)
    if not enabled:
        yield _nothing
    elif console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal):
        with _bar(total, console) as show:
            yield show
    else:
        yield _lines(total, console)


def _nothing(iteration: int, row: Mapping[str, float]) -> None:
    pass


def _numbers(row: Mapping[str, float]) -> str:
    shown = {"objective": ".4g", "primal_residual": ".2g", "train_score": ".4f"}
    words = {"primal_residual": "residual", "train_score": "score"}
    return "  ".join(
        f"{words.get(name, name)} {row[name]:{spec}}" for name, spec in shown.items() if name in row
    )


def _lines(total: int, console: Console) -> Show:
    every = max(1, total // LINES)

    def show(iteration: int, row: Mapping[str, float]) -> None:
        if row and (iteration % every == 0 or iteration in (1, total)):
            console.print(f"iteration {iteration}/{total}  {_numbers(row)}", soft_wrap=True)

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
            bar.update(task, completed=iteration, description=_numbers(row) or None)

        yield show
