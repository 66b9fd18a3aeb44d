"""Sorted rows train as well as shuffled ones, whatever holds them, and come back in order."""

import shutil
import warnings
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from dadmm import NMF, ADMMRegressor, BlockADMM, RelaxedADMM, load, resume
from dadmm.data import exchange
from dadmm.engine.session import Session
from dadmm.errors import OptionError, OrderWarning, StoreError
from dadmm.store import Run
from support.clusters import processes
from support.messages import naming
from support.runs import bits
from support.sorted_rows import NEW, NEW_LABELS, X, Y, model, save, small

# ------------------------------------------------------------ what is learnt from them


@pytest.mark.parametrize("agents", [2, 5])
def test_rows_sorted_by_class_train_as_well_as_random_ones(agents):
    options = {"max_iter": 12, "solver": BlockADMM(agents=agents)}
    mixed = np.random.default_rng(1).permutation(len(Y))
    random = model(**options, shuffle=False).fit(X[mixed], Y[mixed]).score(NEW, NEW_LABELS)
    dealt = model(**options).fit(X, Y).score(NEW, NEW_LABELS)
    with pytest.warns(OrderWarning):
        ranges = model(**options, shuffle=False).fit(X, Y).score(NEW, NEW_LABELS)
    assert dealt > random - 0.02
    assert ranges < dealt - 0.04


def test_rows_sorted_by_target_train_as_well_as_random_ones():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 6))
    y = np.tanh(x @ rng.standard_normal(6))
    train, test = np.arange(2400)[np.argsort(y[:2400])], np.arange(2400, 3000)
    options = {"max_iter": 10, "chunks": 300}
    random = model(ADMMRegressor, **options, shuffle=False).fit(x[:2400], y[:2400])
    dealt = model(ADMMRegressor, **options).fit(x[train], y[train])
    assert dealt.score(x[test], y[test]) > random.score(x[test], y[test]) - 0.01


def test_online_factors_of_sorted_rows_are_as_good():
    options = {"mode": "online", "max_iter": 4, "random_state": 0, "chunks": 150, "tol": 0}
    mixed = np.random.default_rng(1).permutation(len(Y))
    random = NMF(8, **options, shuffle=False).fit(X[mixed]).reconstruction_err_
    assert NMF(8, **options).fit(X).reconstruction_err_ < 1.01 * random


# ------------------------------------------------------------ what they are held in


CONTAINERS = {
    "numpy": lambda folder: X,
    "mapped file": lambda folder: mapped(folder),
    "frame": lambda folder: pd.DataFrame(X).rename(columns=str),
    "dask": lambda folder: da.from_array(X, chunks=(130, 64)),
    "ragged dask": lambda folder: da.from_array(X, chunks=((7, 900, 93, 500), (30, 34))),
    "dask frame": lambda folder: lazy_frame(),
    "xarray": lambda folder: xr.DataArray(X, dims=("sample", "pixel")),
    "lazy xarray": lambda folder: xr.DataArray(X, dims=("sample", "pixel")).chunk(sample=200),
    "sparse": lambda folder: sparse(),
    "zarr": lambda folder: save(folder, 130),
    "zarr, copied": lambda folder: save(folder, 3),
}


def mapped(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def lazy_frame():
    import dask.dataframe as dd

    return dd.from_pandas(pd.DataFrame(X).rename(columns=str), npartitions=4)


def sparse():
    import scipy.sparse as sp

    return sp.csr_array(X)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_rows_go_to_the_same_chunks_from_every_container(name, stored, tmp_path):
    weights = np.linspace(0.5, 1.5, len(Y))
    expected = bits(model().fit(X, Y, sample_weight=weights))
    given = CONTAINERS[name](tmp_path)
    shuffle = "copy" if name == "zarr, copied" else "auto"
    made = model(run=tmp_path / "run" if stored else None, shuffle=shuffle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OrderWarning)  # stored chunks are too large
        fitted = made.fit(given, Y, sample_weight=weights)
    assert bits(fitted) == expected
    assert fitted.history_.attrs["chunk_difference"] < 0.02
    if stored:
        run = Run.open(tmp_path / "run")
        assert run.blocks.names("data") == ["row", "weight", "x", "y"]
        assert not (tmp_path / "run" / "shuffle").exists()
        order = run.order()
        for c in range(10):
            own = order[150 * c : 150 * (c + 1)]
            np.testing.assert_array_equal(run.read_data("x", c), X[own])
            np.testing.assert_array_equal(run.read_data("y", c)[:, 0], Y[own])
            np.testing.assert_allclose(run.read_data("weight", c)[:, 0], weights[own])


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_lazy_targets_go_where_the_inputs_go(kind, tmp_path):
    lazy = da.from_array(Y, chunks=333)
    x = {"numpy": lambda: X, "dask": lambda: da.from_array(X, chunks=(500, 64))}.get(
        kind, lambda: save(tmp_path, 5)
    )()
    assert bits(small(run=tmp_path / "run").fit(x, lazy)) == bits(small().fit(x, Y))


def test_workers_in_processes_get_the_same_bits(tmp_path):
    lazy = da.from_array(X, chunks=(130, 64))
    stored = save(tmp_path, 5)
    there = bits(model().fit(lazy, Y)), bits(small().fit(stored, Y))
    with processes(2):
        assert (bits(model().fit(lazy, Y)), bits(small().fit(stored, Y))) == there


def test_a_bad_number_is_named_by_the_callers_row(tmp_path):
    x = X.astype(np.float32)
    x[1234, 7] = np.nan
    lazy = da.from_array(x, chunks=(100, 64))
    for given in (lazy, zarr.create_array(str(tmp_path / "x"), data=x, chunks=(5, 64))):
        with pytest.raises(ValueError, match=naming("x", "NaN", "row 1234", "column 7")):
            small(run=tmp_path / "run").fit(given, Y)
        assert not (tmp_path / "run" / "zarr.json").exists()


# ------------------------------------------------------------ zarr that stays put


def test_stored_chunks_are_dealt_whole_and_read_once_a_pass(tmp_path, monkeypatch):
    stored = save(tmp_path, 5)
    read = Counter()
    real = zarr.storage.LocalStore.get

    async def noted(self, key, *given, **options):
        read[key] += 1
        return await real(self, key, *given, **options)

    with dask.config.set(scheduler="sync"):
        session = Session.open(small(run=tmp_path / "run").fit(stored, Y).run_)
        monkeypatch.setattr(zarr.storage.LocalStore, "get", noted)
        for c in range(10):
            session.run.read_data("x", c)
    counts = {n for key, n in read.items() if "c/" in key}
    assert counts == {1}
    assert sum("c/" in key for key in read) == 300 * 2  # two columns of chunks
    assert session.run.blocks.names("data") == ["x_crc32c", "x_pieces", "y"]
    order = session.run.order()
    assert (order.reshape(-1, 5) % 5 == np.arange(5)).all()
    for c in range(10):
        own = order[150 * c : 150 * (c + 1)]
        np.testing.assert_array_equal(session.run.read_data("x", c), X[own])
        np.testing.assert_array_equal(session.run.read_data("y", c)[:, 0], Y[own])
        assert len(np.unique(Y[own])) == 10


def test_sorted_rows_in_place_train_as_well(tmp_path):
    solver = BlockADMM()
    dealt = model(max_iter=12, solver=solver).fit(save(tmp_path, 5), Y)
    assert dealt.score(NEW, NEW_LABELS) > 0.88
    assert dealt.history_.attrs["chunk_difference"] < 0.02


@pytest.mark.parametrize("options", [{"shards": (50, 80)}, {"zarr_format": 2}])
def test_shards_and_the_older_format_are_read_in_place_too(options, tmp_path):
    stored = save(tmp_path, 5, **options)
    fitted = small(run=tmp_path / "run").fit(stored, Y)
    assert "x" not in Run.open(tmp_path / "run").blocks.names("data")
    assert bits(fitted) == bits(small().fit(save(tmp_path, 5, "plain.zarr"), Y))


def test_whole_shards_are_dealt_if_they_are_small_enough(tmp_path):
    stored = save(tmp_path, 1, shards=(5, 80))
    small(run=tmp_path / "run").fit(stored, Y)
    order = Run.open(tmp_path / "run").order().reshape(-1, 5)
    assert (np.diff(order, axis=1) == 1).all()
    assert (order[:, 0] % 5 == 0).all()


def test_the_next_chunk_is_read_ahead_piece_by_piece(tmp_path, monkeypatch):
    ahead = []
    monkeypatch.setattr("dadmm.store.sources.read_ahead", ahead.append)
    stored = save(tmp_path, 5)
    with dask.config.set(scheduler="sync"):
        small(run=tmp_path / "run", max_iter=1).fit(stored, Y)
    run = Run.open(tmp_path / "run")
    wanted = {tmp_path / "x.zarr" / "c" / str(r // 5) / str(j) for r in run.order() for j in (0, 1)}
    assert set(ahead) <= wanted
    assert len(set(ahead)) > len(wanted) / 2
    assert all(path.exists() for path in ahead)


def test_a_run_with_pieces_resumes_to_the_same_bits(tmp_path):
    stored = save(tmp_path, 5)
    steady = BlockADMM(batch_size=16, learning_rate_schedule="constant")
    model(solver=steady, max_iter=2, run=tmp_path / "run").fit(stored, Y)
    again = resume(tmp_path / "run", max_iter=4)
    assert bits(again) == bits(model(solver=steady, max_iter=4).fit(stored, Y))
    assert bits(load(tmp_path / "run")) == bits(again)


def test_a_changed_stored_chunk_is_named_by_its_rows(tmp_path):
    stored = save(tmp_path, 5)
    small(run=tmp_path / "run").fit(stored, Y)
    other = zarr.open_array(str(tmp_path / "x.zarr"), mode="r+")
    other[700, 3] = X[700, 3] ^ 1
    with pytest.raises(StoreError, match=naming("rows", "pieces", str(tmp_path / "x.zarr"))):
        resume(tmp_path / "run", max_iter=5)


def test_forged_pieces_are_refused(tmp_path):
    small(run=tmp_path / "run").fit(save(tmp_path, 5), Y)
    run = Run.open(tmp_path / "run")
    pieces = run.blocks.get("data/x_pieces")
    for bad in (pieces[1:], pieces + 10**6, pieces * -1):
        run.blocks.put("data/x_pieces", bad, ("piece", "edge"))
        fresh = Run.open(tmp_path / "run")
        fresh.attributes["id"] += "x"  # not what this process has read before
        with pytest.raises(StoreError, match=r"x_pieces|not what they were"):
            [fresh.read_data("x", c) for c in range(10)]


# ------------------------------------------------------------ what is decided


def test_too_large_stored_chunks_are_copied_and_it_says_so(tmp_path):
    with pytest.warns(OrderWarning, match=naming("50", "150", "30", "93.75 kiB", "copied")):
        model(run=tmp_path / "run").fit(save(tmp_path, 50), Y)
    assert "x" in Run.open(tmp_path / "run").blocks.names("data")


@pytest.mark.parametrize("shuffle", [True, "copy"])
def test_a_copy_needs_room(shuffle, tmp_path, monkeypatch):
    monkeypatch.setattr("dadmm.estimators.order.room", lambda *_: (1000.0, "the disk"))
    made = model(run=tmp_path / "run", shuffle=shuffle)
    with pytest.raises(OptionError, match=naming("187.50 kiB", "0.98 kiB", "the disk")):
        made.fit(save(tmp_path, 50), Y)
    assert not (tmp_path / "run").exists()


def test_without_room_pieces_are_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("dadmm.estimators.order.room", lambda *_: (1000.0, "the disk"))
    with pytest.warns(OrderWarning, match=naming("50", "187.50 kiB", "0.98 kiB", "stay")):
        model(run=tmp_path / "run").fit(save(tmp_path, 50), Y)
    run = Run.open(tmp_path / "run")
    assert "x_pieces" in run.blocks.names("data")
    order = run.order().reshape(-1, 50)
    assert (np.diff(order, axis=1) == 1).all()
    with pytest.raises(OptionError, match=naming("500", "larger disk")):
        model(run=tmp_path / "other").fit(save(tmp_path, 500, "large.zarr"), Y)


def test_room_is_asked_for_where_the_run_will_be(tmp_path):
    from dadmm.store.room import room

    free, where = room(tmp_path / "not" / "there" / "yet")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert where == str(tmp_path / "not" / "there" / "yet")
    assert room("s3://bucket/run")[0] == float("inf")
    assert 0 < room(None, in_memory=True)[0] < 2**50
    assert room(None)[0] > 0


@pytest.mark.parametrize("value", ["sometimes", 1, None])
def test_other_ways_to_shuffle_are_refused(value):
    with pytest.raises(OptionError, match=naming("shuffle", "auto", "copy")):
        model(shuffle=value).fit(X, Y)


def test_rows_stay_for_chunks_that_are_visited_in_a_scattered_order(tmp_path):
    solver = BlockADMM(batch_size=16, chunk_order="scattered")
    model(solver=solver, run=tmp_path / "run").fit(save(tmp_path, 5), Y)
    assert Run.open(tmp_path / "run").order() is None
    with pytest.warns(OrderWarning, match=naming("200", "150", "copied", "in their order")):
        model(solver=solver).fit(save(tmp_path, 200, "large.zarr"), Y)


def test_a_run_that_is_overwritten_makes_room(tmp_path):
    from dadmm.store.room import room

    free, _ = room(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_bytes(bytes(2**24))
    assert room(tmp_path / "run")[0] > free - 2**22


@pytest.mark.parametrize("how", [{"shuffle": "copy"}, {"copy_data": True}])
def test_copies_have_the_chunks_of_arrays_in_memory(how, tmp_path):
    stored = save(tmp_path, 7)
    options = {"max_iter": 1, "chunks": "auto"}
    model(**options, **how, run=tmp_path / "run").fit(stored, Y)
    model(**options, run=tmp_path / "plain").fit(X, Y)
    chunks = [Run.open(tmp_path / name).attributes["chunks"] for name in ("run", "plain")]
    assert chunks[0] == chunks[1]


def test_very_small_stored_chunks_are_dealt_some_at_a_time(tmp_path):
    x, y = np.tile(X, (2, 1)), np.tile(Y, 2)
    zarr.create_array(str(tmp_path / "x"), data=x, chunks=(1, 64))
    made = model(run=tmp_path / "run", chunks=1500, max_iter=1)
    made.fit(zarr.open_array(str(tmp_path / "x"), mode="r"), y)
    order = Run.open(tmp_path / "run").order().reshape(-1, 5)
    assert (np.diff(order, axis=1) == 1).all()


def test_chunks_that_differ_are_warned_of_once_with_the_cure():
    with pytest.warns(OrderWarning, match=naming("shuffle='auto'")) as caught:
        fitted = model(shuffle=False).fit(X, Y)
    assert [each.category for each in caught].count(OrderWarning) == 1
    assert fitted.history_.attrs["chunk_difference"] > 0.5
    mixed = np.random.default_rng(0).permutation(len(Y))
    alike = model(shuffle=False).fit(X[mixed], Y[mixed])  # a warning would fail the test
    assert alike.history_.attrs["chunk_difference"] < 0.02


def test_inputs_that_drift_differ_too():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 3)) + 3 * np.linspace(0, 1, 1000)[:, None]
    y = rng.standard_normal(1000)
    with pytest.warns(OrderWarning):
        model(ADMMRegressor, shuffle=False, chunks=100).fit(x, y)


@pytest.mark.parametrize("made", ["relaxed", "nmf"])
def test_methods_whose_sums_are_of_all_rows_leave_them_in_order(made, tmp_path):
    stored = save(tmp_path, 50)
    if made == "relaxed":
        fitted = model(solver=RelaxedADMM(), run=tmp_path / "run").fit(stored, Y)
        assert bits(fitted) == bits(model(solver=RelaxedADMM(), shuffle=False).fit(X, Y))
    else:
        NMF(4, max_iter=2, chunks=150, run=tmp_path / "run", random_state=0).fit(stored)
    assert Run.open(tmp_path / "run").order() is None


def test_partial_fit_takes_rows_as_they_come():
    dealt, ranges = model(shuffle=True), model(shuffle=False)
    for rows in (slice(0, 700), slice(700, 1500)):
        dealt.partial_fit(X[rows], Y[rows], classes=range(10))
        ranges.partial_fit(X[rows], Y[rows], classes=range(10))
    assert bits(dealt) == bits(ranges)


def test_a_warm_start_deals_anew_and_a_seed_repeats_it():
    first, second = model(warm_start=True), model(warm_start=True)
    for each in (first, second):
        each.fit(X, Y)
    once = bits(first)
    assert bits(first.fit(X, Y)) == bits(second.fit(X, Y)) != once


# ------------------------------------------------------------ in the caller's order


@pytest.mark.parametrize("where", ["copied", "in place"])
def test_state_comes_back_in_the_callers_order(where, tmp_path):
    solver = BlockADMM(mode="batch", blocks=2, batch_size=16)
    given = X if where == "copied" else save(tmp_path, 5)
    fitted = model(solver=solver, run=tmp_path / "run").fit(given, Y)
    session = Session.open(tmp_path / "run")
    found = session.state()
    assert set(found) == {"z_1", "u_1"}
    assert found["z_1"].dims == ("sample", "z_1_unit")
    assert isinstance(found["z_1"].data, da.Array)
    order = session.run.order()
    generation = session.position.generation
    raw = [session.run.blocks.read(f"state/{generation}/z_1", c).copy() for c in range(10)]
    np.testing.assert_array_equal(found["z_1"].values[order], np.concatenate(raw))
    # Z is near what the first block makes of each row.
    assert fitted.network_.architecture.widths[1] == found["z_1"].shape[1]


def test_codes_of_batch_factors_come_back_in_the_callers_order(tmp_path):
    made = NMF(6, max_iter=60, chunks=150, run=tmp_path / "run", random_state=0, shuffle=True)
    codes = made.fit_transform(X)
    kept = Session.open(tmp_path / "run").state()["m"].values
    assert np.abs(kept - codes).max() < 0.05 * codes.max()
    ordered = NMF(6, max_iter=60, chunks=150, random_state=0, shuffle=False).fit_transform(X)
    np.testing.assert_allclose(codes, ordered, atol=0.02 * codes.max())


# ------------------------------------------------------------ odd sizes


@pytest.mark.parametrize("chunks", [1, 7, 149, 1499, 1500])
def test_rows_that_do_not_divide(chunks):
    rows = 60 if chunks == 1 else len(Y)
    picked = np.linspace(0, len(Y) - 1, rows).astype(int)
    options = {"max_iter": 1, "chunks": chunks, "solver": BlockADMM(batch_size=8)}
    fitted = model(**options).fit(X[picked], Y[picked])
    assert np.isfinite(fitted.loss_curve_).all()


def test_a_stored_array_of_three_chunks(tmp_path):
    with pytest.warns(OrderWarning, match=naming("500", "copied")):
        fitted = model(max_iter=12).fit(save(tmp_path, 500), Y)
    assert fitted.score(NEW, NEW_LABELS) > 0.88


def test_stored_chunks_of_one_row(tmp_path):
    picked = np.arange(0, len(Y), 10)
    zarr.create_array(str(tmp_path / "x"), data=X[picked], chunks=(1, 64))
    stored = zarr.open_array(str(tmp_path / "x"), mode="r")
    fitted = small(run=tmp_path / "run", chunks=40).fit(stored, Y[picked])
    assert fitted.history_.attrs["chunk_difference"] < 0.1


def test_a_mapped_file_is_read_forwards(tmp_path, monkeypatch):
    """Not row by row for every chunk: it may be larger than memory."""
    cut = []
    real = exchange.InFiles.put
    monkeypatch.setattr(
        exchange.InFiles, "put", lambda self, *given: (cut.append(given[0]), real(self, *given))
    )
    model(run=tmp_path / "run").fit(mapped(tmp_path), Y)
    assert cut == list(range(10))


def test_empty_blocks_of_dask():
    lazy = da.concatenate([da.from_array(X[:0]), da.from_array(X, chunks=400), da.zeros((0, 64))])
    lazy = lazy.astype(np.uint8)
    assert bits(model().fit(lazy, Y)) == bits(model().fit(X, Y))
