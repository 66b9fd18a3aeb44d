"""The method of docs/how-to/write-a-method.md, as a module that worker processes can import too."""

import importlib
import re
import sys
import tempfile
from pathlib import Path

from support.places import ROOT

PAGE = ROOT / "docs" / "how-to" / "write-a-method.md"
NAME = "method_of_the_page"


def code():
    """Return the page's first block of Python."""
    return re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


def folder():
    """Write the method into a folder that is removed at exit; return its path."""
    if NAME not in sys.modules:
        kept = folder.kept = tempfile.TemporaryDirectory()
        Path(kept.name, f"{NAME}.py").write_text(code())
        sys.path.append(kept.name)
        importlib.import_module(NAME)
    return folder.kept.name


def method():
    """Return the class."""
    folder()
    return sys.modules[NAME].Gradient
