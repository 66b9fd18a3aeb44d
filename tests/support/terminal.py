"""The command line without a process of its own."""

import re
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


def ok(*arguments):
    """Run a command that must go well; return what it printed."""
    done = command(*arguments)
    assert done.code == 0, done
    return done


def digest(run):
    """Return the digest that ``dadmm show`` prints."""
    text = ok("show", run, "--digest").out
    assert re.fullmatch(r"[0-9a-f]{64}\n", text)
    return text
