"""Progress in a terminal is one line that fits; elsewhere it is a few plain ones."""

import re
from io import StringIO

import pytest
from rich.console import Console

from dadmm.engine.live.progress import progress


def draw(console, iterations):
    row = {"objective": 1.23456e-5, "primal_residual": 1e-9, "train_score": -0.5}
    with progress(iterations, console=console) as show:
        for k in range(1, iterations + 1):
            show(k, row)
    return console.file.getvalue()


def test_progress_in_a_terminal_is_one_line_that_fits():
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    text = draw(console, 1000)
    last = [line for line in re.split(r"[\r\n]", text) if "1000/1000" in line][-1]
    assert len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last)) <= 80
    assert "objective 1.235e-05  residual 1e-09  score -0.5000" in last
    assert text.count("\n") == 1


@pytest.mark.parametrize("iterations", [1, 3, 10, 95])
def test_progress_elsewhere_is_some_plain_lines(iterations):
    text = draw(Console(file=StringIO(), width=80), iterations)
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert 1 <= len(lines) <= 12
    assert lines[0].startswith(f"iteration 1/{iterations}  objective 1.235e-05")
    assert lines[-1].startswith(f"iteration {iterations}/{iterations}  ")
