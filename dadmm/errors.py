"""Errors that say what is wrong, where, and what to do about it.

Everything dadmm raises on purpose derives from `DadmmError`, so that the command line can
print one line instead of a traceback.  Errors about what the caller passed also derive from
`ValueError`, as scikit-learn's users expect.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

LONGEST = 1000
T = TypeVar("T")


class DadmmError(Exception):
    """Base of every error that dadmm raises on purpose: one line, whatever is quoted in it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class InputError(DadmmError, ValueError):
    """Bad input: data, an option, a config key or a path that the user gave."""


class ShapeError(InputError):
    """Arrays whose shapes do not fit together."""


class DataError(InputError):
    """Values that cannot be trained on: NaN, infinity, text, no rows, a single class."""


class CellError(DataError, TypeError):
    """A cell that is no number, nor the text of one: a dict, a list, nothing."""


class OptionError(InputError):
    """An option, or an option's value, that does not exist."""


class StoreError(DadmmError):
    """A run store that cannot be used: missing, damaged, in the way, or of another version."""


class TakenError(StoreError):
    """A place where a run is already."""


class LockedError(StoreError):
    """A run that another driver is at work on: the same may work later."""


class DamageError(StoreError):
    """Bytes of a run store that are not what was written, or are gone.

    Parameters
    ----------
    url : str
        The run.
    name : str
        The array, such as ``state/12/v_1`` (generation 12), or the file.
    chunk : int or None
        The chunk; None for the whole of `name`.
    what : str
        What is wrong with it.
    """

    def __init__(self, url: str, name: str, chunk: int | None, what: str) -> None:
        Exception.__init__(self, url, name, chunk, what)  # what it is pickled as
        self.url, self.name, self.chunk, self.what = url, name, chunk, what

    def __str__(self) -> str:
        kind, _, rest = self.name.partition("/")
        which = "" if self.chunk is None else f"chunk {self.chunk} of "
        cure = ""
        if kind in ("state", "params"):
            generation = rest.partition("/")[0]
            cure = f"; dadmm resume goes back to what is intact before generation {generation}"
        return one_line(f"{self.url}: {which}{self.name} {self.what}{cure}")


class FactorWarning(UserWarning):
    """Factors that no row used any more were seeded again."""


class RecoveryWarning(UserWarning):
    """A run that goes on from an earlier iteration, because something in its store was damaged."""


class SecurityWarning(UserWarning):
    """Something that others could reach, and should not."""


class RunError(DadmmError):
    """A run that could not go on: a worker lost for good, a disk that is full."""


class DivergenceError(RunError):
    """Training that left the finite numbers; the last good iteration is kept."""


def one_line(text: str) -> str:
    """Return a text as one line for a terminal: no control characters, its middle cut if long."""
    text = re.sub(r"\s*\n\s*", " ", text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) > LONGEST:  # what is wrong comes first, the cure last
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"
    return text


def nearest(name: object, known: Iterable[object]) -> str | None:
    """Return the member of `known` that is spelled most like `name`, or None if none is close."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(kind: str, name: object, known: Iterable[object]) -> OptionError:
    """Build the error for a `kind` (say "activation") that is called `name` and is not `known`."""
    names = [str(k) for k in known]
    guess = nearest(name, names)
    cure = f"did you mean {guess!r}? " if guess else ""
    return OptionError(f"no {kind} is called {name!r}: {cure}known: {', '.join(sorted(names))}")


def named(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``; raise `unknown` if there is none."""
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]
