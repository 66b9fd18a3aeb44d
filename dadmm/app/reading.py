"""The options of the command line that say how a table is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import click

from dadmm.data.table import READING


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each option of `dadmm.Table` to a command."""
    for name, known in reversed(READING.items()):
        flag = f"--{name.replace('_', '-')}"
        given: dict[str, Any] = {"help": f"{known.means.split('. ')[0].removesuffix('.')}."}
        kinds = set(known.kinds) - {NoneType}
        if kinds == {bool}:
            flag, given["default"] = f"{flag}/--no-{name}", None
        elif dict in kinds:
            given |= {
                "multiple": True,
                "metavar": "COLUMN=TYPE",
                "help": "Type of a column: str, "
                "int64, float64, bool or percent; may come more than once.",
            }
        elif list in kinds:
            given |= {"multiple": True, "metavar": "CELL"}
            given["help"] = "A cell that means a missing value; may come more than once."
        elif known.choices:
            given["type"] = click.Choice(list(known.choices))
        else:
            given["metavar"] = name.upper()
        command = click.option(flag, name, **given)(command)
    return command


def said(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the command line says, as `dadmm.Table` takes them."""
    found = {name: value for name, value in given.items() if value not in (None, ())}
    if found.get("delimiter") == "\\t":  # shells do not make it a tab
        found["delimiter"] = "\t"
    if "na_values" in found:
        found["na_values"] = list(found["na_values"])
    if "dtype" in found:
        pairs = [text.rpartition("=") for text in found["dtype"]]
        for text, (column, _, _) in zip(found["dtype"], pairs, strict=True):
            if not column:
                raise click.UsageError(f"--dtype {text}: write COLUMN=TYPE, such as zip=str.")
        found["dtype"] = {column: kind for column, _, kind in pairs}
    return found
