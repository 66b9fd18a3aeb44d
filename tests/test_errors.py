"""Errors are of one family, and one line whatever they quote."""

from dadmm.errors import DadmmError, DataError, InputError, OptionError, ShapeError, StoreError


def test_an_error_is_one_line_whatever_it_quotes():
    assert str(InputError("a\n  b\x1b[31m\tc\udcff é")) == "a b\\x1b[31m\\tc\\udcff é"
    long = str(InputError("what " + "x" * 10_000 + " cure"))
    assert len(long) < 1000
    assert long.startswith("what ")
    assert long.endswith(" cure")


def test_every_error_on_purpose_is_of_one_family():
    for error in (InputError, ShapeError, DataError, OptionError):
        assert issubclass(error, DadmmError)
        assert issubclass(error, ValueError)
    assert issubclass(StoreError, DadmmError)
