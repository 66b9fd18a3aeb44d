"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from dadmm.app.schema import example

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dadmm"
author = "The dadmm developers"
copyright = "The dadmm developers"  # noqa: A001
release = version = installed("dadmm")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # for its role `autolink`
    "sphinx_click",
    "numpydoc",
    "mathml",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Single backticks in docstrings: a link where there is something to link to.
default_role = "autolink"
autodoc_typehints = "none"  # the docstrings say shapes too
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]
numpydoc_show_class_members = False
# In docstrings, names without a dot are arguments as often as links; modules of the inside have
# no page; and what other packages offer would be known only from the network.
nitpick_ignore_regex = [
    ("py:obj", r"\w+"),
    ("py:obj", r"dadmm\.(engine|store|options|solvers\.nmf|solvers\.scores)(\..*)?"),
    ("py:obj", r"Chunk\.weight"),
    ("py:.*", r"(dask|distributed|numpy|sklearn|torch|xarray|zarr)\..*"),
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["formulas.css"]
html_title = f"dadmm {release}"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False


def _verbatim(app: Any, context: Any, lines: list[str]) -> None:
    """Show what stands below a command's options as a terminal does."""
    if any(lines):
        lines[:] = ["::", "", *(f"    {line.removeprefix('| ')}" for line in lines), ""]


def _example(app: Any, page: str, source: list[str]) -> None:
    """Put the example of a config, which comes from the schema, into its page."""
    if page == "reference/config":
        source[0] = source[0].replace("EXAMPLE", example())


def setup(app: Any) -> None:
    """Connect what the settings above cannot say."""
    app.connect("source-read", _example)
    app.connect("sphinx-click-process-epilog", _verbatim)
