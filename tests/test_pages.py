"""What a reader is told to run, runs: README, pages and pipelines."""

import os
import re
import subprocess
import sys

import click
import pytest

from support.pages import PAGES, Block, blocks, check, compare, run_page
from support.places import ROOT


@pytest.mark.processes
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    run_page(page, capsys)


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_first_pages_have_code_that_runs(page):
    assert {"python", "sh"} <= {block.language for block in blocks(ROOT / page) if block.runs}


def test_pages_that_are_wrong_are_found_out():
    with pytest.raises(AssertionError, match=r"'0\.98' not in \['0\.91'\]"):
        compare(Block("page:1", "python", "", "print(clf.score(x, y))  # 0.98\n"), "0.91\n")
    for code in (
        "dadmm fit --no-such-option",
        "dadmm no-such-command",
        "make no-such-target",
        "python no/such/file.py",
        "pip install 'dadmm[no-such-extra]'",
    ):
        with pytest.raises((AssertionError, click.UsageError), match=r"no-such|no/such"):
            check(Block("page:1", "sh", "no-run: it is wrong", code))
    with pytest.raises(AssertionError, match="say why"):
        check(Block("page:1", "sh", "no-run", "dadmm demo"))


def test_what_is_said_against_torch_was_measured():
    """Every figure of that page, and of the README's section, is among those measured."""
    pages = ("docs/when.md", "README.md", "docs/measured.md")
    when, readme, measured = ((ROOT / page).read_text() for page in pages)
    section = readme.partition("## What was measured")[2].partition("\n## ")[0]
    said = [set(re.findall(r"\d+\.\d+", text)) for text in (when, section)]
    assert all(said)
    assert set.union(*said) <= set(re.findall(r"\d+\.\d+", measured))


@pytest.mark.processes
def test_the_digits_script_trains_then_goes_on_from_its_store(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "pipelines" / "examples" / "digits.py"),
        str(tmp_path / "run"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    scores = [re.findall(r"accuracy +([\d.]+)", text.stdout) for text in (first, again)]
    assert scores[0] == scores[1]
    assert float(scores[0][1]) > 0.965


def script(name, *arguments):
    """Run a pipeline's script; return what it prints."""
    command = [sys.executable, str(ROOT / "pipelines" / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    return done.stdout


def test_the_codes_script_trains_bits_that_backpropagation_cannot():
    scores = [float(score) for score in re.findall(r" ([\d.]+)$", script("codes.py"), re.MULTILINE)]
    trained, drawn, free = scores
    assert trained > 0.92
    assert drawn < 0.8
    assert free >= trained - 0.01


needs_data = pytest.mark.skipif(
    "DADMM_DATA" not in os.environ,
    reason="set DADMM_DATA to a folder with mnist.npz and winequality-white.csv to run on them",
)


@needs_data
def test_the_wine_script_beats_ridge(tmp_path):
    found = re.search(r"dadmm ([\d.]+)  ridge ([\d.]+)", script("wine.py", tmp_path / "run"))
    ours, ridge = map(float, found.groups())
    assert ours > ridge + 0.05


@needs_data
@pytest.mark.processes
def test_the_mnist_script_reads_digits(tmp_path):
    score = re.search(r"test accuracy +([\d.]+)", script("mnist.py", tmp_path / "run"))
    assert float(score.group(1)) >= 0.983
