"""Flipped bits and forged numbers anywhere in a store: never a silently different result."""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from dadmm import load, resume
from dadmm.engine.session import Session
from dadmm.errors import DadmmError, RecoveryWarning
from dadmm.store import metadata
from support.runs import all_bits

# Mutations of each solver's run: so many in every run of the tests, and so many in the long set.
SHORT, LONG = 25, 400


def sets():
    return pytest.mark.parametrize(
        "seeds", [range(SHORT), pytest.param(range(SHORT, LONG), marks=pytest.mark.long)]
    )


def outcome(run):
    """Return the bits that a run ends with, or the error; and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = all_bits(resume(run))
        except DadmmError as error:
            found = error
    assert not isinstance(found, DadmmError) or "\n" not in str(found)
    said = [str(w.message) for w in caught if issubclass(w.category, RecoveryWarning)]
    return found, said


@sets()
def test_a_flipped_bit_is_found_or_changes_nothing(made, seeds, tmp_path):
    ends = {"same": 0, "same, and said": 0, "other, and said": 0, "refused": 0}
    for seed in seeds:
        rng = random.Random(f"{made.solver} {seed}")
        run = Path(made.copy(rng.choice(["stopped", "finished"]), tmp_path / "run"))
        files = sorted(path for path in run.rglob("*") if path.is_file())
        victim = rng.choice(files)
        content = bytearray(victim.read_bytes())
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        content[at] ^= 1 << bit
        victim.write_bytes(content)
        what = f"seed {seed}: bit {bit} of byte {at} of {victim.relative_to(run)}"
        try:
            whole = not Session.open(run).examine().damaged
        except DadmmError:
            whole = False
        found, said = outcome(run)
        if isinstance(found, DadmmError):
            ends["refused"] += 1
        elif found[0] == made.bits[0]:
            ends["same, and said" if said else "same"] += 1
        else:
            assert said, f"{what}: silently another result"
            words = " ".join(said)
            assert any(w in words for w in ("will differ", "history", "takes the place")), what
            ends["other, and said"] += 1
        # What a check calls whole is whole: white space and the order of keys do not count.
        assert not whole or (found == made.bits and not said), what
    assert ends["same, and said"] >= len(seeds) // 20
    print(made.solver, ends)


def numbers(node, path=()):
    """Yield the path of everything in a JSON value."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*path, key))


ODD = [
    *(None, True, -1, 0, 1, 2, 3, 40, 10**6, 10**15, 10**30, 0.5, -0.0, float("nan"), float("inf")),
    *("", "x", "nan", "../..", "/etc/passwd", "a" * 10_000, [], {}, [[]], [1], {"a": 1}),
]


# Many of these are not wrong, and only take long.
WORK = ("inner_steps", "z_steps", "local_epochs", "max_iter")


def forge(rng, path):
    """Change something in a JSON file, and make its checksum right."""
    document = json.loads(path.read_text())
    where = rng.choice(list(numbers(document)))
    node = document
    for key in where[:-1]:
        node = node[key]
    if rng.random() < 0.2 and isinstance(node, dict):
        del node[where[-1]]
    else:
        value = rng.choice(ODD)
        node[where[-1]] = 2 if where[-1] in WORK and value in (40, 10**6, 10**15) else value
    if path.name == "zarr.json" and isinstance(document.get("attributes"), dict):
        attributes = document.pop("attributes")
        attributes.pop(metadata.CHECKSUM, None)
        text = metadata._document(document, attributes)
    else:
        document.pop(metadata.CHECKSUM, None)
        text = metadata.record(document)
    path.write_bytes(text)
    return where


@sets()
@pytest.mark.filterwarnings("ignore::dadmm.errors.RecoveryWarning")
def test_a_forged_store_is_one_line_or_a_clean_run(made, seeds, tmp_path):
    """Somebody who knows about the checksums made it; whatever it says, nothing from inside."""
    for seed in seeds:
        rng = random.Random(f"forged {made.solver} {seed}")
        run = Path(made.copy(rng.choice(["stopped", "finished"]), tmp_path / "run"))
        if rng.random() < 0.5:
            path = run / rng.choice(["zarr.json", "commit.json"])
        else:
            path = rng.choice(sorted(run.rglob("*.json")))
        where = forge(rng, path)
        what = f"seed {seed}: {path.relative_to(run)} at {where}"
        for use in (load, resume):
            said = complaint(use, run)
            assert "\n" not in said, what
            assert len(said) < 1500, what


def complaint(use, run):
    """Return what the project says of a store; nothing, if it can be used."""
    try:
        params = use(run).network_.params
    except DadmmError as error:
        return str(error)
    except Exception as error:
        return f"from inside:\n{type(error).__name__}: {error}"
    return "" if all(np.isfinite(a).all() for a in params.values()) else "not finite\n"
