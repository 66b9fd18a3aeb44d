"""Options of estimators, solvers and blocks: each is described once, in a field of a dataclass.

    @dataclass(frozen=True)
    class Gradient:
        rate: float = option(0.5, above=0, means="Length of a step.")

The description makes the check of a value and its message (`check_options`), the section
Parameters of the class's docstring (`documented`), and the key of a config with its property in
the JSON Schema and its line in the example (`dadmm.app.schema`).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from inspect import cleandoc
from math import inf, log10
from types import NoneType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dadmm.errors import OptionError, nearest

T = TypeVar("T")
# Products of a few such numbers are still floats; seeds of 128 bits are below it.
MOST_WHOLE = 2**128
# The default of an option that must be given.
REQUIRED: Any = MISSING


class Kind(NamedTuple):
    """A kind of values: its types, and its names in messages, docstrings and JSON Schema.

    Messages speak of one value (`words`) and of several (`plural`).
    """

    types: tuple[type, ...]
    words: str
    plural: str
    python: str
    json: str | None


KINDS: dict[type, Kind] = {
    bool: Kind((bool, np.bool_), "true or false", "switches", "bool", "boolean"),
    int: Kind((int, np.integer), "a whole number", "whole numbers", "int", "integer"),
    float: Kind((int, float, np.integer, np.floating), "a number", "numbers", "float", "number"),
    str: Kind((str,), "text in quotes", "texts", "str", "string"),
    list: Kind((list, tuple), "a list", "lists", "sequence", "array"),
    dict: Kind((dict,), "a table", "tables", "dict", "object"),
    NoneType: Kind((NoneType,), "None", "None", "None", None),
}


@dataclass(frozen=True, eq=False)
class Option:
    """What an option may be, and what it means.

    Parameters
    ----------
    kinds : tuple of type
        Kinds of a value: keys of `KINDS`, or other types, which no config can have.
    means : str
        What the option does.  The first sentence stands alone in the example of a config.
    default : object
        None if there is none.
    above, least, below, most : number or None
        Bounds of a number, or of the length of a text or list; `above` and `below` are exclusive.
    choices : collection
        All allowed names or numbers; the collection may grow later.
    items : tuple of type
        Kinds of a list's items; () allows anything.
    use : str
        The cure in the message; "" makes it from the fields above.
    says : str
        The type in docstrings; "" makes it from the fields above.
    sample : object
        A value for the example of a config, if there is no default.
    """

    kinds: tuple[type, ...]
    means: str
    default: Any = None
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    choices: Collection[Any] = ()
    items: tuple[type, ...] = ()
    use: str = ""
    says: str = ""
    sample: Any = None

    def check(self, name: str, value: object) -> None:
        """Raise `OptionError` for a bad value; it names the option, the value and the cure."""
        kind = next((kind for kind in self.kinds if _is_a(value, kind)), None)
        _check_digits(name, value)
        if kind is float and isinstance(value, int) and abs(value) >= 2**63:
            # Compiled code has no larger whole numbers.
            raise OptionError(f"{name} has {_digits(value)} digits: write it as {float(value)}")
        if kind is None or not self._allows(kind, value):
            close = nearest(value, self.choices) if isinstance(value, str) else None
            guess = f"did you mean {close!r}? " if close and not self.use else ""
            raise OptionError(f"{name}={value!r}: {guess}use {self.wanted}")

    def _allows(self, kind: type, value: Any) -> bool:
        if known := self.choices_of(kind):
            return value in known
        if kind in (int, float):
            return self._holds(value)
        if kind is str:
            return self._holds(len(value))
        if kind in (list, Sequence, np.ndarray):
            of = self.items or (object,)
            flat = getattr(value, "ndim", 1) == 1
            good = all(any(_is_a(item, kind) for kind in of) for item in value)
            return flat and self._holds(len(value)) and good
        return True

    def _holds(self, size: float) -> bool:
        return (
            -inf < size < inf
            and (self.above is None or size > self.above)
            and (self.least is None or size >= self.least)
            and (self.below is None or size < self.below)
            and (self.most is None or size <= self.most)
        )

    def choices_of(self, kind: type) -> list[Any]:
        """Return the choices of a kind."""
        return [choice for choice in self.choices if kind is not object and _is_a(choice, kind)]

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.least is not None:
            tops = (("to", self.most), ("to below", self.below))
            top = next((f"{word} {end:g}" for word, end in tops if end is not None), "or more")
            return f"{self.least:g} {top}"
        known = (("above", self.above), ("below", self.below), ("at most", self.most))
        return " and ".join(f"{word} {end:g}" for word, end in known if end is not None)

    @property
    def wanted(self) -> str:
        """What to use, in words."""
        return self.use or either([self._wanted(kind) for kind in self.kinds if kind in KINDS])

    def _wanted(self, kind: type) -> str:
        if known := self.choices_of(kind):
            return either([repr(choice) for choice in known])
        words = KINDS[kind].words
        if kind is list and self.items:
            several = either([KINDS[item].plural for item in self.items if item in KINDS])
            return f"{words} of {several}"
        if kind in (int, float) and self.bounds:
            return f"{words}{', ' if self.least is not None else ' '}{self.bounds}"
        return words

    @property
    def type_text(self) -> str:
        """The type, as docstrings say it."""
        return self.says or either([self._python(kind) for kind in self.kinds if kind in KINDS])

    def _python(self, kind: type) -> str:
        if known := self.choices_of(kind):
            return f"{{{', '.join(json.dumps(choice) for choice in known)}}}"
        python = KINDS[kind].python
        if kind is list and self.items:
            return f"{python} of {either([KINDS[item].python for item in self.items])}"
        return f"{python}, {self.bounds}" if kind in (int, float) and self.bounds else python


def _check_digits(name: str, value: object, depth: int = 4) -> None:
    """Raise `OptionError` for a whole number that is too large, also in lists and tables."""
    if isinstance(value, int) and abs(value) >= MOST_WHOLE:
        raise OptionError(f"{name} has a number of {_digits(value)} digits: use one below 1e38")
    if depth and isinstance(value, dict):
        _check_digits(name, list(value), depth)
        for key, item in value.items():
            _check_digits(key if isinstance(key, str) else name, item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set)):
        for item in value:
            _check_digits(name, item, depth - 1)


def _digits(value: int) -> int:
    return int(log10(abs(value))) + 1


def _is_a(value: object, kind: type) -> bool:
    types = KINDS[kind].types if kind in KINDS else (kind,)
    return isinstance(value, types) and (not isinstance(value, bool) or kind in (bool, object))


def either(words: Sequence[str]) -> str:
    """Join words as English does: ``a``, ``a or b``, ``a, b, or c``."""
    *others, last = words or [""]
    comma = len(others) > 1 or any(", " in word for word in words)
    return f"{', '.join(others)}{',' if comma else ''} or {last}" if others else last


def option(
    default: T,
    *,
    means: str,
    kinds: tuple[type, ...] = (),
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: Collection[Any] = (),
    items: tuple[type, ...] = (),
    use: str = "",
    says: str = "",
    sample: Any = None,
) -> T:
    """Return a dataclass field for an option; `Option` documents the arguments.

    `kinds` may be left out if the annotation is ``bool``, ``int``, ``float`` or ``str``.
    `default` is `REQUIRED` if the option must be given.
    """
    shown = None if default is REQUIRED else default
    described = Option(
        kinds, means, shown, above, least, below, most, choices, items, use, says, sample
    )
    made: Any = field(default=default, metadata={"option": described})
    return made


def like(owner: type, name: str, **changes: Any) -> Any:
    """Return a field for another class's option, with changes to its description."""
    described = replace(options_of(owner)[name], **changes)
    return field(default=described.default, metadata={"option": described})


def options_of(owner: type) -> dict[str, Option]:
    """Return the options of a dataclass by name: first those by position, then its own."""
    given = {f.name: f for f in fields(owner) if f.init}
    by_position = [name for name, f in given.items() if not f.kw_only]
    by_class = [name for cls in owner.__mro__ for name in vars(cls) if name in given]
    names = dict.fromkeys([*by_position, *by_class, *given])
    return {name: _described(given[name]) for name in names}


def _described(given: Field[Any]) -> Option:
    """Return a field's description; its annotation, or else its default, gives a missing kind."""
    default = None if given.default is MISSING else given.default
    found = given.metadata.get("option") or Option((), "", default)
    if found.kinds:
        return found
    named = given.type if isinstance(given.type, str) else getattr(given.type, "__name__", "")
    known = {kind.__name__: kind for kind in (bool, int, float, str)}
    kind = known.get(named, type(default))
    return replace(found, kinds=(kind if kind in known.values() else object,))


def check_options(owner: object, prefix: str = "") -> None:
    """Check every option of a dataclass; messages put `prefix` before its name."""
    for name, described in options_of(type(owner)).items():
        described.check(f"{prefix}{name}", getattr(owner, name))


def check_type(name: str, value: object, kind: type) -> None:
    """Raise `OptionError` unless a value is of a kind."""
    Option((kind,), "").check(name, value)


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least`; raise `OptionError` for any other value."""
    Option((int,), "", least=least).check(name, value)
    return int(value)


def documented(cls: type[T]) -> type[T]:
    """Add a section Parameters, made from the options' descriptions, to a class's docstring."""
    lines = ["Parameters", "----------"]
    for name, described in options_of(cls).items():
        indent = " " * 4
        text = textwrap.fill(described.means, 96, initial_indent=indent, subsequent_indent=indent)
        lines += [f"{name} : {described.type_text}", *([text] if text else [])]
    head, *rest = re.split(r"\n\n(?=\w+\n-+\n)", cleandoc(cls.__doc__ or ""), maxsplit=1)
    cls.__doc__ = "\n\n".join([head, "\n".join(lines), *rest])
    return cls
