"""Write to the terminal: facts, warnings and tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Paths and messages are printed as they are: brackets in them are no markup.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
err = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_warning(text: str) -> None:
    """Print a warning to the standard error."""
    err.print(Text.assemble(("warning:", "bold yellow"), f" {text}"))


def say(name: str, value: object) -> None:
    """Print a fact by its name."""
    out.print(f"{name:<11}{value}")


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of numbers; a column called "what it is" holds words."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in header:
        words = name == "what it is"
        left = words or name == "phase"
        table.add_column(name, justify="left" if left else "right", no_wrap=not words)
    for row in rows:
        table.add_row(*row)
    return table
