"""Metadata of arrays: what one store claims never changes what is written into another."""

import pytest

from dadmm.store import metadata

SHAPE, ROWS, DIMS = (1,), 1024, ("iteration",)


def forged(**changes):
    """Return the metadata of an array with something else in it, and a right checksum."""
    content = metadata._json(metadata.array_document(SHAPE, ROWS, "<f8", DIMS))
    content.pop("attributes")
    return metadata._document({**content, **changes}, {})


def grid(rows):
    return {"name": "regular", "configuration": {"chunk_shape": [rows]}}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [True]},
        {"shape": [1.0]},
        {"chunk_grid": grid(1024.0)},
        {"chunk_grid": grid(True)},
        {"chunk_grid": grid(0)},
        {"chunk_grid": grid(False)},
        {"shape": [-1]},
    ],
)
def test_forged_numbers_are_refused_and_not_remembered(changes):
    document = forged(**changes)
    metadata.array_document.cache_clear()  # as in a process that begins with the forged store
    with pytest.raises(ValueError, match="does not describe an array"):
        metadata.parse_array(document)
    for rows in (ROWS, 1):
        written = metadata.array_document(SHAPE, rows, "<f8", DIMS)
        assert metadata.parse_array(written).chunks == (rows,)
