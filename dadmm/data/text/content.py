"""Give the columns of CSV as pandas and Arrow read them: as numbers where they can, or as text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from dadmm.data.table import Table
from dadmm.data.text.blocks import no_text
from dadmm.data.text.cells import MISSING
from dadmm.data.text.dialect import Dialect

# pandas 3 does so anyway: numbers are read as written, to the last bit.
EXACT: Any = {} if version("pandas") >= "3" else {"float_precision": "round_trip"}
# pandas takes long over a dtype for one column if there are more columns than this.
WIDE = 1000


@dataclass
class Content:
    """Whole records of a file, without the header; what was read once is kept.

    Parameters
    ----------
    text : bytes
        In UTF-8.
    dialect : Dialect
    table : Table
        What was said of the file.
    where : str
        Its name in errors.
    """

    text: bytes
    dialect: Dialect
    table: Table
    where: str
    _numbers: Any = field(default=None, repr=False)
    _texts: Any = field(default=None, repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is no record."""
        return not self.text or self.text.isspace()

    @property
    def words(self) -> list[str]:
        """The words that mean a missing value in columns of numbers."""
        return [*MISSING, *self.table.missing]

    def columns(self, numbers: Sequence[int], texts: Sequence[int]) -> tuple[Any, Any]:
        """Return two frames of columns, named by their positions.

        Parameters
        ----------
        numbers : sequence of int
            Positions of columns to read as pandas finds them, with missing words as NaN.
        texts : sequence of int
            Positions of columns to read as text without the spaces around it; empty cells are
            missing.
        """
        more_numbers = [i for i in numbers if self._numbers is None or i not in self._numbers]
        more_texts = [i for i in texts if self._texts is None or i not in self._texts]
        together = not self.dialect.quoted and len(self.dialect.names) <= WIDE
        if together and more_numbers and more_texts and not set(more_numbers) & set(more_texts):
            usual, empty = self.words, ["", *self.table.missing]
            words = dict.fromkeys(more_numbers, usual) | dict.fromkeys(more_texts, empty)
            both = self._read([*words], words, dict.fromkeys(more_texts, str))
            self._numbers = _beside(self._numbers, both[more_numbers])
            self._texts = _beside(self._texts, self._stripped(both[more_texts]))
        else:
            if more_numbers:
                found = self._read(more_numbers, self.words)
                self._numbers = _beside(self._numbers, found)
            if more_texts:
                self._texts = _beside(self._texts, self._as_text(more_texts))
        return _picked(self._numbers, numbers), _picked(self._texts, texts)

    def _as_text(self, columns: Sequence[int]) -> Any:
        words = ["", *self.table.missing]
        if self.dialect.quoted:
            return self._stripped(self._unquoted_missing(columns, words))
        return self._stripped(self._read(columns, words, str))

    def _stripped(self, frame: Any) -> Any:
        import pandas as pd

        tabs = self.dialect.delimiter != "\t" and b"\t" in self.text
        if not tabs and b" " not in self.text:
            return frame
        words = ["", *self.table.missing]
        columns = [frame.iloc[:, k].str.strip() for k in range(len(frame.columns))]
        return pd.concat([values.mask(values.isin(words)) for values in columns], axis=1)

    def _read(
        self,
        columns: Sequence[int],
        words: Sequence[str] | Mapping[int, Sequence[str]],
        dtype: Any = None,
    ) -> Any:
        import pandas as pd

        dialect = self.dialect
        width = len(dialect.names)
        try:
            found = pd.read_csv(
                io.BytesIO(self.text),
                sep=dialect.delimiter,
                names=range(width),
                header=None,
                index_col=False,
                usecols=None if len(columns) == width else sorted(columns),
                skipinitialspace=dialect.delimiter != " ",
                low_memory=False,
                keep_default_na=False,
                na_values=words,
                decimal=self.table.mark,
                dtype=dtype,
                **EXACT,
            )
        except UnicodeDecodeError as error:
            raise no_text(self.where, None) from error
        # What follows is slow on thousands of columns, unless they are few arrays.
        return _picked(found.copy() if width > WIDE else found, columns)

    def _unquoted_missing(self, columns: Sequence[int], words: Sequence[str]) -> Any:
        """Return text in which words without quotes are missing values, as R writes them."""
        import pyarrow as pa
        from pyarrow import csv

        names = [str(i) for i in range(len(self.dialect.names))]
        found = csv.read_csv(
            pa.BufferReader(self.text),
            read_options=csv.ReadOptions(column_names=names, block_size=max(len(self.text), 2)),
            parse_options=csv.ParseOptions(
                delimiter=self.dialect.delimiter, newlines_in_values=True
            ),
            convert_options=csv.ConvertOptions(
                include_columns=[str(i) for i in columns],
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[*MISSING, *words],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ).to_pandas()
        return found.set_axis(list(columns), axis=1)


def _beside(frame: Any, more: Any) -> Any:
    import pandas as pd

    return more if frame is None else pd.concat([frame, more], axis=1)


def _picked(frame: Any, columns: Sequence[int]) -> Any:
    if frame is None or list(frame.columns) == list(columns):
        return frame
    return frame[list(columns)]
