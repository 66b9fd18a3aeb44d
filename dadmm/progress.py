"""One tidy line of progress in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(
    total: int, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Show a bar while the block runs; what it yields takes (iteration, row of history)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("objective {task.fields[objective]}"),
        TextColumn("residual {task.fields[residual]}"),
        TextColumn("score {task.fields[score]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, disable=not enabled, expand=True) as bar:
        task = bar.add_task("iteration", total=total, objective="-", residual="-", score="-")

        def show(iteration: int, row: Mapping[str, float]) -> None:
            shown = (
                {
                    "objective": f"{row['objective']:.4g}",
                    "residual": f"{row['primal_residual']:.2g}",
                    "score": f"{row['train_score']:.4f}",
                }
                if row
                else {}
            )
            bar.update(task, completed=iteration, **shown)

        yield show
