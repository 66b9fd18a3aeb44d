"""Errors that say what is wrong, where, and what to do about it.

Every error that dadmm raises on purpose derives from `DadmmError`, so that the command line can
print one line instead of a traceback.  Errors about the caller's input also derive from
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
    """Base of every error that dadmm raises on purpose; its message is one line."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class InputError(DadmmError, ValueError):
    """Bad input: data, an option, a config key or a path that the user gave."""


class ShapeError(InputError):
    """Shapes of arrays that do not fit together."""


class DataError(InputError):
    """Data that cannot be trained on: NaN, infinity, text, no rows, a single class."""


class CellError(DataError, TypeError):
    """A cell that no number can be made of: a dict, a list, None."""


class OptionError(InputError):
    """An option that does not exist, or has a value that it cannot have."""


class StoreError(DadmmError):
    """A run store that cannot be used: missing, damaged, of another version, or in the way."""


class TakenError(StoreError):
    """A place that already holds a run."""


class LockedError(StoreError):
    """A run that another driver is training: the same command may work later."""


class DamageError(StoreError):
    """Bytes of a run store that have changed since they were written, or are gone.

    Parameters
    ----------
    url : str
        The run.
    name : str
        The array, such as ``state/12/v_1`` (generation 12), or the file.
    chunk : int or None
        The chunk; None for the whole of `name`.
    what : str
        The damage, such as "is missing".
    """

    def __init__(self, url: str, name: str, chunk: int | None, what: str) -> None:
        Exception.__init__(self, url, name, chunk, what)  # pickle calls it with these
        self.url, self.name, self.chunk, self.what = url, name, chunk, what

    def __str__(self) -> str:
        kind, _, rest = self.name.partition("/")
        which = "" if self.chunk is None else f"chunk {self.chunk} of "
        cure = ""
        if kind in ("state", "params"):
            generation = rest.partition("/")[0]
            cure = f"; dadmm resume goes back to what is intact before generation {generation}"
        return one_line(f"{self.url}: {which}{self.name} {self.what}{cure}")


class CacheWarning(UserWarning):
    """Compiled kernels that cannot be kept where numba would keep them."""


class FactorWarning(UserWarning):
    """Factors that no row used any more, and that were drawn again."""


class OrderWarning(UserWarning):
    """Rows whose order matters to training: chunks that differ, or a copy that mixes them."""


class RecoveryWarning(UserWarning):
    """A run that goes on from an earlier iteration, because its store was damaged."""


class SecurityWarning(UserWarning):
    """A port that others can reach, and should not."""


class ValidationWarning(UserWarning):
    """Too few rows held out for early stopping to go by."""


class RunError(DadmmError):
    """A run that cannot go on: a worker is lost for good, or the disk is full."""


class DivergenceError(RunError):
    """Training that reached NaN or infinity; the last good iteration is kept."""


def one_line(text: str) -> str:
    """Return a text as one line without control characters; cut the middle of a long one."""
    text = re.sub(r"\s*\n\s*", " ", text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if (
        len(text) > LONGEST
    ):  # keep the start, which names the error, and the end, which has the cure
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"
    return text


def nearest(name: object, known: Iterable[object]) -> str | None:
    """Return the member of `known` spelled most like `name`; None if none is close."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(kind: str, name: object, known: Iterable[object]) -> OptionError:
    """Return the error for an unknown `name` of a `kind` such as "activation"."""
    names = [str(k) for k in known]
    guess = nearest(name, names)
    cure = f"did you mean {guess!r}? " if guess else ""
    return OptionError(f"no {kind} is called {name!r}: {cure}known: {', '.join(sorted(names))}")


def named(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``; raise `unknown` if there is none."""
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]
