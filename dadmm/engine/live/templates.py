"""HTML from the templates that lie beside the code, ``*.html.jinja``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dadmm.errors import InputError, one_line
from dadmm.store.replace import replace_file


def render(template: str, **values: Any) -> str:
    """Return a template, named by its path in the package, with values filled in.

    Text among the values is never taken for markup.  It becomes one line without control
    characters, cut if it is long.
    """
    return str(_templates().get_template(template).render(values))


def write_page(path: str | Path, page: Callable[[], str]) -> None:
    """Write the text that `page` returns into a file that ends in .html.

    Raises
    ------
    InputError
        If its name ends in something else, or it cannot be written.
    """
    if not str(path).lower().endswith((".html", ".htm")):
        raise InputError(f"{path}: end the page's name in .html")
    replace_file(path, page().encode())


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("dadmm", "."),
        autoescape=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
