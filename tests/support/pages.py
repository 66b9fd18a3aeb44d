"""Code blocks of the pages that people read: found, run in order, compared to what is said of them.

A fence's first word is its language; what follows says what becomes of it::

    ```python                 run, in one namespace per page
    ```sh                     run, in the page's folder
    ```toml my.toml           written to that file
    ```sh no-run: a reason    only checked: commands, options and files exist

A comment behind a ``print(...)`` says what is printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from dadmm.app.cli import commands
from support.places import ROOT

FENCE = re.compile(r"^```(\w+)[ \t]*(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(ROOT.glob("*/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if FENCE.search(page.read_text())
]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A code block: its language, the rest of the fence's first line, its lines."""

    where: str
    language: str
    tag: str
    code: str

    @property
    def runs(self) -> bool:
        return not self.tag.startswith("no-run")


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start()].count("\n") + 1
        found.append(Block(f"{page.relative_to(ROOT)}:{line}", *match.groups()))
    return found


def run_page(page: Path, capsys) -> None:
    """Run a page's blocks in the current folder."""
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if not block.runs:
            check(block)
        elif block.language == "python":
            exec(compile("\n" + block.code, block.where, "exec"), names)
            compare(block, capsys.readouterr().out)
        elif block.language == "sh":
            shell(block)
        elif block.tag:
            Path(block.tag).write_text(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)


def shell(block: Block) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block.code]
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, f"{block.where}: {done.stdout[-500:]}{done.stderr[-500:]}"


def compare(block: Block, printed: str) -> None:
    """What a comment says is printed, is; numbers to two hundredths."""
    lines = printed.splitlines()
    for said in re.findall(r"^ *print\(.*\)  # (.+)$", block.code, re.MULTILINE):
        assert any(alike(said, line) for line in lines), f"{block.where}: {said!r} not in {lines}"


def alike(said: str, line: str) -> bool:
    numbers = [float(n) for n in NUMBER.findall(said)]
    found = [float(n) for n in NUMBER.findall(line)]
    return NUMBER.sub("", said) == NUMBER.sub("", line) and found == pytest.approx(
        numbers, abs=0.02
    )


# ------------------------------------------------------------------------------- what is not run


def check(block: Block) -> None:
    assert re.fullmatch(r"no-run: \S.*", block.tag), f"{block.where}: say why it is not run"
    if block.language == "python":
        compile(block.code, block.where, "exec")
        return
    subprocess.run(["bash", "-n", "-c", block.code], check=True, timeout=30)
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if words:
            assert known(*words), f"{block.where}: {line}"


def known(command: str, *rest: str) -> bool:
    """Whether what is ours exists: commands with these options, files, targets, extras."""
    arguments = list(rest)
    if command == "dadmm":
        with click.Context(commands) as context:
            name, found, arguments = commands.resolve_command(context, arguments)
            found.make_context(name, arguments)
        return True
    if command == "make":
        text = (ROOT / "Makefile").read_text()
        return all(re.search(rf"^{target}:", text, re.MULTILINE) for target in arguments)
    if command == "python":
        return arguments[0] == "-m" or (ROOT / arguments[0]).exists()
    if command == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        named = [name for word in arguments for name in re.findall(r"\[(.*)\]", word)]
        return all(extra in extras for group in named for extra in group.split(","))
    return True
