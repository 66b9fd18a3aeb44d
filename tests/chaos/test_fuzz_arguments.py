"""Whatever the command line is given: a clean run, or one line of the project's own.

``FUZZ_SEED=7 pytest tests/chaos/test_fuzz_arguments.py`` repeats one mutation.
"""

import contextlib
import shutil
from pathlib import Path

import pytest

from support.fuzz_ground import (
    CONFIGS,
)
from support.fuzzing import (
    run_command,
    seeds,
    survive,
    toml,
)

pytestmark = [
    pytest.mark.usefixtures("on_ground"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.FactorWarning"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.OrderWarning"),
    pytest.mark.timeout(0),  # fuzzing.guard watches every case
    pytest.mark.filterwarnings("ignore:A column-vector y"),
]


ARGUMENTS = [
    "labels", "numbers", "x.npy", "x.csv", "x.zarr", "y.npy", "table.csv", "out.npy", "out.csv",
    "out.zarr", "out.png", "out.pdf", "out.foo", "out", "", " ", ".", "..", "/", "/dev/null",
    "/dev/full",
    "/proc/self/mem", "nowhere", "nowhere/out.npy", "x.npy/out.npy", "nope://x", "memory://x.zarr",
    "memory://x.npy", "file://x.npy", "http://127.0.0.1:1/x.zarr", "é.npy", "\U0001f600.csv",
    "a b.npy",
    "a\nb.npy", "\x1b[31m.npy", "x" * 300 + ".npy", "x" * 5000, "-", "--", "-x", "--help",
    "--version",
    "--proba", "--overwrite", "--plot", "--digest", "--max-iter", "--max-iter=2", "--max-iter=0",
    "--max-iter=-1", "--max-iter=x", "--max-iter=1e3", "--max-iter=", "--workers", "--workers=0",
    "--workers=-1", "--workers=x", "--workers=99999999999999999999999", "--quiet", "--quiet=3",
    "--max-iter=3", "%s", "{}", "[bold]", "\udcff", "copy", "copy/zarr.json", "copy/data",
    "copy/data/x",
    "labels/commit.json", "*.npy", "~", "$HOME",
]  # fmt: skip


GOOD = [
    ["predict", "labels", "x.npy", "out.npy"],
    ["predict", "labels", "x.zarr", "out.zarr", "--proba"],
    ["predict", "numbers", "x.csv", "out.csv"],
    ["predict", "labels", "x.npy", "out.csv", "--overwrite"],
    ["show", "labels"],
    ["show", "numbers", "--digest"],
    ["show", "labels", "--plot", "out.png"],
    ["resume", "copy", "--max-iter", "3", "--quiet"],
    ["resume", "copy", "--workers", "0", "--quiet"],
    ["fit", "config.toml", "--run", "again", "--quiet"],
]


def lay_out(place, given):
    """Copy the files of the ground to a place, and the folders that the arguments name."""
    place.mkdir()
    for path in Path().iterdir():
        if path.is_file():
            shutil.copy(path, place)
    named = {argument.partition("/")[0] for argument in given}
    for name, source in {"copy": "labels", "labels": "labels", "numbers": "numbers"}.items():
        if name in named:
            shutil.copytree(source, place / name)
    for path in Path().glob("*.zarr"):
        shutil.copytree(path, place / path.name)
    (place / "config.toml").write_text(toml(CONFIGS["blocks"]))


def arguments(rng, seed):
    given = list(rng.choice(GOOD))
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(1, len(given) + 1)
        match rng.randrange(4):
            case 0 if at < len(given):
                del given[at]
            case 1:
                given.insert(at, rng.choice(ARGUMENTS))
            case _:
                given[at : at + 1] = [rng.choice(ARGUMENTS)]
    place = Path(f"case-{seed}")
    lay_out(place, given)
    with contextlib.chdir(place):
        code, _, wrong = run_command(*given)
    shutil.rmtree(place)
    # A chart may warn of a glyph; progress is told where --quiet went missing.
    return f"dadmm {given}", None if code == 0 else wrong


@seeds()
def test_arguments(batch):
    survive(arguments, batch)
