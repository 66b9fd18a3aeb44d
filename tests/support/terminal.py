"""The command line without a process of its own."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest import mock

from dadmm.app import cli


@dataclass
class Done:
    code: int
    out: str
    err: str


def command(*arguments):
    """Run ``dadmm ARGUMENTS`` and return its exit code and what it printed."""
    out, err = StringIO(), StringIO()
    argv = ["dadmm", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            return Done(stop.code, out.getvalue(), err.getvalue())
    raise AssertionError("the command line did not exit")
