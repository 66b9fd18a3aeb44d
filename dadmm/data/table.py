"""A table in files, and how to read it: what files do not say themselves."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from types import NoneType
from typing import Any

from dadmm.data.files import PACKED
from dadmm.errors import InputError, OptionError
from dadmm.options import check_options, documented, option, options_of

# What a column of CSV may be read as.
TYPES = ("str", "int64", "float64", "bool", "percent")


@documented
@dataclass(frozen=True)
class Table:
    """A table in CSV or Parquet files, and how to read it, for `fit`, `predict` and `score`.

    What is left out is found in the file, or is as it was for the table that was trained on.  All
    options but `index` are for CSV::

        model.fit(Table("houses.csv", decimal=",", index="id"), "price")
        model.predict("more-houses.csv")  # has decimal commas too
    """

    path: Any = option(
        None,
        kinds=(str, os.PathLike, list),
        items=(str, os.PathLike),
        least=1,
        means="A path, glob, folder or URL, or a list of these.",
        use="a path, or a list of paths",
        says="str, path, or list of them",
    )
    _: KW_ONLY
    index: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Column that names the rows: no input, kept with predictions.",
        sample="id",
    )
    header: bool | None = option(
        None,
        kinds=(bool, NoneType),
        means="Whether the first row of CSV names the columns.",
        sample=True,
    )
    delimiter: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Character between the cells of CSV.",
        sample=";",
    )
    decimal: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Decimal mark of numbers in CSV.",
        choices=(".", ","),
        sample=",",
    )
    thousands: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Mark between thousands in CSV, such as a point or a space.",
        sample=".",
    )
    encoding: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Encoding of CSV; UTF-8, or what its first bytes say, if left out.",
        sample="latin-1",
    )
    na_values: Any = option(
        None,
        kinds=(str, list, NoneType),
        items=(str,),
        means="More cells that mean a missing value in CSV. The empty cell does anyway; in a "
        "column of numbers the usual words do too, such as NA and NaN.",
        sample=["-"],
    )
    dtype: Any = option(
        None,
        kinds=(dict, NoneType),
        means='Types of columns of CSV, as in {zip = "str", rate = "percent"}: str, int64, '
        'float64, bool or percent. "12 %" as percent is 0.12.',
        use=f"a table of column and type, which is one of {', '.join(TYPES)}",
        says="dict of str to str",
        sample={"zip": "str"},
    )
    compression: str | None = option(
        None,
        kinds=(str, NoneType),
        means="Compression of CSV, if its ending does not say it.",
        choices=(*PACKED.values(), "none"),
        sample="gzip",
    )

    def __post_init__(self) -> None:
        if isinstance(self.path, tuple):
            object.__setattr__(self, "path", list(self.path))
        check_options(self)
        for name, kind in (self.dtype or {}).items():
            if kind not in TYPES:
                raise OptionError(f"dtype of {name!r} is {kind!r}: use {', '.join(TYPES)}")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise OptionError(
                    f"encoding={self.encoding!r} is unknown: use a name such as utf-8, latin-1, "
                    "cp1252 or utf-16"
                ) from None
        for name in ("delimiter", "thousands"):
            mark = getattr(self, name)
            if mark is not None and (len(mark) != 1 or mark.isalnum() or mark in '"+-\r\n'):
                raise OptionError(f"{name}={mark!r}: use one character that no number or name has")
        marks = {"delimiter": self.delimiter, "decimal": self.decimal, "thousands": self.thousands}
        given = [name for name, mark in marks.items() if mark is not None]
        for i, name in enumerate(given):
            for other in given[:i]:
                if marks[name] == marks[other]:
                    raise OptionError(
                        f"{other} and {name} are both {marks[name]!r}: use two characters"
                    )

    @property
    def options(self) -> dict[str, Any]:
        """Return what was said, without the path: plain values, which a run can keep."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def missing(self) -> list[str]:
        """The cells that were said to mean a missing value."""
        return [self.na_values] if isinstance(self.na_values, str) else list(self.na_values or ())

    @property
    def mark(self) -> str:
        """The decimal mark: a point, but a comma where points stand between thousands."""
        return self.decimal or ("," if self.thousands == "." else ".")

    @property
    def says_text(self) -> bool:
        """Whether something was said that only text has."""
        return any(name != "index" for name in self.options)


# The options by name, for configs and the command line.
READING = {name: known for name, known in options_of(Table).items() if name != "path"}


def reading_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a table among the keys of a config's table."""
    return {name: config[name] for name in READING if name in config}


def table_at(path: Any, known: Mapping[str, Any]) -> Table:
    """Return the table at a path, or a table, with the options `known` where it says nothing.

    Parameters
    ----------
    path : str, path, list of them, or Table
    known : mapping
        Options that a run keeps; they may be forged.

    Raises
    ------
    InputError
        If an option is unknown or has a bad value.
    """
    given = path if isinstance(path, Table) else Table(path)
    strange = set(known) - set(READING)
    if strange:
        raise InputError(f"a table has no option {sorted(strange)[0]!r}: leave it out")
    said = {**known, **given.options}
    if known.get("dtype") and given.dtype:
        said["dtype"] = {**known["dtype"], **given.dtype}
    return Table(given.path, **said)


def options_help(cure: str) -> str:
    """Return a cure that names options of a table, with where to say them."""
    return f"{cure} (said in dadmm.Table, in [data], or as --option)"
