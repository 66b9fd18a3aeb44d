"""Dask frames made of delayed objects, whose tasks Dask files under other keys than they have."""

import dask
import numpy as np
import pandas as pd
import pytest

from dadmm import NMF
from dadmm.errors import DataError
from support.messages import naming
from support.runs import bits
from support.tables import ENCODED, FRAME, NAMES, PRICE, ROWS, X, by_hand, holed, regressor

dd = pytest.importorskip("dask.dataframe", reason="needs the extra 'tables'")

TABLE = FRAME.reset_index(drop=True).assign(price=PRICE)


def delayed_frame(table=TABLE, **options):
    """Return a frame of three partitions, one of them empty, whose meta is not verified."""
    parts = [
        dask.delayed(table.iloc[rows]) for rows in (slice(0, 25), slice(25, 25), slice(25, None))
    ]
    return dd.from_delayed(parts, meta=table.iloc[:0], verify_meta=False, **options)


def side_by_side():
    parts = [
        delayed_frame(TABLE[names], divisions=DIVISIONS)
        for names in (["a", "b"], ["c", "d", "price"])
    ]
    return dd.concat(parts, axis=1)


DIVISIONS = (0, 25, 25, ROWS - 1)
FRAMES = {
    "unknown divisions": delayed_frame,
    "known divisions": lambda: delayed_frame(divisions=DIVISIONS),
    "mapped": lambda: delayed_frame().map_partitions(lambda part: part),
    "fused": lambda: (
        delayed_frame().assign(a=lambda part: part["a"] + 1).assign(a=lambda part: part["a"] - 1)
    ),
    "one below the other": lambda: dd.concat(
        [delayed_frame(TABLE[:30]), delayed_frame(TABLE[30:])]
    ),
    "side by side": side_by_side,
    "fewer partitions": lambda: delayed_frame().repartition(npartitions=1),
    "of a function": lambda: dd.from_delayed(
        [dask.delayed(TABLE.iloc.__getitem__)(slice(i * 20, i * 20 + 20)) for i in range(3)],
        meta=TABLE.iloc[:0],
        verify_meta=False,
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_delayed_objects_trains_and_predicts_as_numpy(name):
    rounded = np.round(X, 12)
    frame, plain = FRAMES[name](), regressor().fit(X, PRICE)
    exact = name != "fused"  # adding 1 and taking it away rounds
    for model in (
        regressor().fit(frame, "price"),
        regressor().fit(frame[NAMES], frame["price"]),
        regressor().fit(X, frame["price"], sample_weight=frame["price"] * 0 + 1),
        regressor(missing="impute").fit(frame[NAMES], PRICE),
    ):
        if exact:
            assert bits(model) == bits(plain)
        np.testing.assert_allclose(model.predict(rounded), plain.predict(X), rtol=1e-4, atol=1e-5)
    predicted = model.predict(frame[NAMES[::-1]])
    for found in (predicted.compute(), predicted.to_dask_array(lengths=True).compute()):
        np.testing.assert_allclose(np.asarray(found), plain.predict(X), rtol=1e-4, atol=1e-5)
    assert model.score(frame[NAMES], frame["price"]) == pytest.approx(plain.score(X, PRICE), 1e-4)


def test_categories_and_gaps_of_delayed_frames_are_encoded():
    table = holed()
    plain = regressor().fit(by_hand(table), PRICE)
    model = regressor(**ENCODED).fit(delayed_frame(table), "price")
    np.testing.assert_allclose(
        np.asarray(model.predict(delayed_frame(table).drop(columns="price"))),
        plain.predict(by_hand(table)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_factorisation_reads_a_frame_of_delayed_objects():
    table = pd.DataFrame(np.abs(X), columns=NAMES)
    plain = NMF(2, max_iter=3, random_state=0).fit(np.abs(X))
    model = NMF(2, max_iter=3, random_state=0).fit(delayed_frame(table))
    found = np.asarray(model.transform(delayed_frame(table)))
    np.testing.assert_allclose(found, plain.transform(np.abs(X)), rtol=1e-4, atol=1e-5)


def test_an_array_of_such_a_frame_is_refused_with_the_cure():
    lost = delayed_frame()[NAMES].to_dask_array(lengths=(25, 0, 35))
    with pytest.raises(DataError, match=naming("verify_meta", "persist()")):
        regressor().fit(lost, PRICE)
    kept = delayed_frame().persist()[NAMES].to_dask_array(lengths=(25, 0, 35))
    assert bits(regressor().fit(kept, PRICE)) == bits(regressor().fit(X, PRICE))
