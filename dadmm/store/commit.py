"""Check the commit record: a store may come from somebody else."""

from __future__ import annotations

import re
from typing import Any

from dadmm.errors import DamageError

# Names of the history's columns, which are names of folders.
COLUMN = re.compile(r"[a-z][a-z0-9_]{0,99}")
# A record that claims more was forged.
MOST_ITERATIONS = 10**6


def checked(record: dict[str, Any] | None, url: str | None, name: str) -> dict[str, Any] | None:
    """Return a commit record, or None if there is none.

    Raises
    ------
    DamageError
        If a key is missing, or its value has another form.
    """
    if record is None:
        return None
    counts = [record.get(key) for key in ("iteration", "generation", "flushed", "next")]
    columns = record.get("columns")
    rows = record.get("rows")
    whole = (
        all(type(n) is int and 0 <= n < 2**53 for n in counts)
        and record["iteration"] <= MOST_ITERATIONS
        and all(
            record.get(key) is None or type(record[key]) is int
            for key in ("previous", "network", "started")
        )
        and isinstance(columns, list)
        and all(isinstance(name, str) and COLUMN.fullmatch(name) for name in columns)
        and isinstance(rows, list)
        and all(map(_is_numbers, rows))
        and record["flushed"] + len(rows) == record["iteration"]
        and isinstance(record.get("status"), str)
        and _is_numbers(record.get("final") or {})
    )
    if not whole or not {"previous", "network", "final"} <= record.keys():
        raise DamageError(str(url), name, None, "is damaged (it is not a commit record)")
    return record


def _is_numbers(row: Any) -> bool:
    """Whether a value is a dict of numbers, none too large for a float."""
    return isinstance(row, dict) and all(
        type(v) is float or (type(v) is int and abs(v) < 2**53) for v in row.values()
    )
