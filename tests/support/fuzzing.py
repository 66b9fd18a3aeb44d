"""What the fuzz tests share: their seeds, guards, mutations, and what counts as a clean end."""

import os
import random
import re
import resource
import signal
import tomllib
from contextlib import contextmanager

import pytest

from dadmm.errors import DadmmError
from support.terminal import command

# Mutations of each family: so many in every run of the tests, and so many more in the long set.
SHORT, LONG, BATCH = 75, 925, 25
# Seconds that one case may compute, and that it may last on a machine however busy.
BUSY, WAITING = 60, 900
# Options of which larger values are valid, and only take long.
COUNTS = {"max_iter", "local_epochs", "inner_steps", "z_steps"}
SPARE = 4 * 2**30  # address space that one case may take beside what is taken already


def seeds():
    """Parametrize a test with batches of seeds; ``FUZZ_SEED=7`` leaves only the seed 7."""
    if only := os.environ.get("FUZZ_SEED"):
        return pytest.mark.parametrize("batch", [[int(only)]], ids=[only])
    batches = [range(first, first + BATCH) for first in range(0, SHORT + LONG, BATCH)]
    return pytest.mark.parametrize(
        "batch",
        [
            pytest.param(b, id=f"{b[0]}-{b[-1]}", marks=[pytest.mark.long] * (b[0] >= SHORT))
            for b in batches
        ],
    )


def survive(case, batch):
    """Run a case, ``case(rng, seed)``, for each seed; report all that ended badly.

    A case returns what it did, in words, and what was wrong with how it ended, or None.
    """
    bad = []
    for seed in batch:
        rng = random.Random(f"{case.__name__} {seed}")
        with guard():
            did, wrong = case(rng, seed)
        if wrong:
            bad.append(f"FUZZ_SEED={seed}: {wrong}\n{did}")
    assert not bad, "\n\n".join([f"{len(bad)} of {len(batch)} ended badly", *bad])


class HangError(BaseException):
    """No `Exception`: nothing that is under test may take it for an error of its own."""


def _ring(number, frame):
    what = f"computed for {BUSY} s" if number == signal.SIGPROF else f"lasted {WAITING} s"
    raise HangError(f"nothing came of it: it {what}")


# Timers, their signals, and when they ring: the first counts the seconds of this process alone.
TIMERS = [
    (signal.ITIMER_PROF, signal.SIGPROF, BUSY),
    (signal.ITIMER_REAL, signal.SIGALRM, WAITING),
]


@contextmanager
def guard():
    """Stop a case that hangs; let an allocation that is out of bounds fail instead of the machine.

    Tests that use it switch pytest-timeout off: that wants the same timer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    before = {number: signal.signal(number, _ring) for _, number, _ in TIMERS}
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE, hard))
    for timer, _, seconds in TIMERS:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, number, _ in TIMERS:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# ---------------------------------------------------------------------------------- clean ends


def run_command(*arguments):
    """Run ``dadmm ARGUMENTS``; return its exit code, its errors, and what is wrong with them."""
    try:
        done = command(*arguments)
    except Exception as error:
        return None, "", f"{type(error).__name__} came out of the command line: {error}"
    return done.code, done.err, _wrong(done)


def _wrong(done):
    lines = done.err.splitlines(keepends=True)
    said = [line.removesuffix("\n") for line in lines if line.startswith("warning: ")]
    if bad := [wrong for wrong in map(_bad_words, said) if wrong]:
        return bad[0]
    text = "".join(line for line in lines if not line.startswith("warning: "))
    if done.code == 0:
        return f"it went well and said {text!r}" if text else None
    if done.code == 2 and text.startswith(("Usage: ", "Error: ")):
        return None  # click's own
    start = {1: "failed: ", 2: "error: "}.get(done.code)
    if start is None or not text.startswith(start):
        return f"exit code {done.code} with {text!r}"
    if text.count("\n") != 1 or not text.endswith("\n"):
        return f"more than one line: {text!r}"
    return _bad_words(text.removesuffix("\n"))


def _bad_words(line):
    """Say what shows that a message is not the project's own, or not fit for a terminal."""
    inside = "DADMM_DEBUG|Traceback|a task failed for good|^failed: \\[Errno"
    if re.search(inside, line):
        return f"an error from inside: {line}"
    if not line.isprintable():
        return f"control characters in {line!r}"
    if len(line) > 1500:
        return f"a line of {len(line)} characters: {line[:300]}"
    return None


def own_error(error):
    """Return what is wrong with an exception that Python code is given, or None."""
    if isinstance(error, DadmmError):
        return _bad_words(str(error))
    return f"{type(error).__name__}: {str(error)[:500]}"


# ----------------------------------------------------------------------------------- mutations


def mutate_bytes(rng, content, most=3):
    """Flip, cut, repeat, insert or remove a few bytes."""
    content = bytearray(content)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(content) + 1)
        length = rng.choice([1, 1, 2, 8, 64])
        match rng.randrange(6):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(content):
                content[at] = rng.randrange(256)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case _:
                content[at:at] = rng.choice([b"\0", b"\xff", b"\xe9", b"\n", b'"', b"]", b"9"])
    return bytes(content)


def mutate_lines(rng, content, most=3):
    """Delete, repeat, swap or cut lines."""
    lines = content.split(b"\n")
    for _ in range(rng.randint(1, most)):
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0 if len(lines) > 1:
                del lines[a]
            case 1:
                lines.insert(b, lines[a])
            case 2:
                lines[a], lines[b] = lines[b], lines[a]
            case _:
                lines[a] = lines[a][: rng.randrange(len(lines[a]) + 1)]
    return b"\n".join(lines)


def flip_file(rng, path):
    """Change some bytes of a file."""
    path.write_bytes(mutate_bytes(rng, path.read_bytes()))


# ---------------------------------------------------------------------------------------- TOML


class Raw(str):
    """Text that stands in a config as it is."""


def toml(config):
    """Write a config, a dict of tables or of values, as TOML."""
    lines = []
    for name, table in config.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {toml_value(v)}" for key, v in table.items())]
        else:
            lines.insert(0, f"{name} = {toml_value(table)}")
    return "\n".join(lines) + "\n"


def toml_value(value):
    match value:
        case Raw():
            return str(value)
        case bool():
            return str(value).lower()
        case str():
            plain = value.replace("\\", "\\\\").replace('"', '\\"')
            escaped = (c if c.isprintable() else f"\\U{ord(c):08X}" for c in plain)
            return f'"{"".join(escaped)}"'
        case list():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            return f"{{{', '.join(f'{k} = {toml_value(v)}' for k, v in value.items())}}}"
    return str(value)


def takes_long(content):
    """Whether a config is valid and asks for more work than a test should do."""
    try:
        config = tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        return False
    return any(
        key in COUNTS and isinstance(value, int) and value > 3
        for table in config.values()
        if isinstance(table, dict)
        for key, value in table.items()
    ) or config.get("data", {}) == {"dataset": "mnist"}


def shortened(content):
    text = repr(content) if len(content) < 3000 else f"{content[:1500]!r}...{content[-1500:]!r}"
    return text.replace("\\n", "\n")
