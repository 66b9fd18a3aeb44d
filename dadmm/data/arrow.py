"""Types of Arrow that are objects in pandas, though they are numbers."""

from __future__ import annotations

from typing import Any

# Whole numbers of so many digits fit into 64 bits.
DIGITS = 18


def numbers(table: Any, nulls: bool = False) -> Any:
    """Return a table of pyarrow with decimals as numbers.

    They become int64 if they are whole numbers of at most 18 digits, else float64.

    Parameters
    ----------
    nulls : bool
        Whether columns without any value become float64 too.
    """
    import pyarrow as pa

    def number(kind: Any) -> Any:
        if pa.types.is_decimal(kind):
            return pa.int64() if kind.scale == 0 and kind.precision <= DIGITS else pa.float64()
        return pa.float64() if nulls and pa.types.is_null(kind) else kind

    kinds = table.schema.types
    plain = list(map(number, kinds))
    if plain == kinds:
        return table
    fields = list(map(pa.field, table.schema.names, plain))
    return table.cast(pa.schema(fields, table.schema.metadata))
