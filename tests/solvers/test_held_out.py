"""Rows held out: drawn from each class alike, once for the whole run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM
from dadmm.engine.eager import iterate
from dadmm.errors import OptionError, ValidationWarning
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers import Chunk, HeldOut, Problem
from dadmm.solvers.solver import HELD_OUT, evaluated
from support.block import begin, block, problem
from support.messages import naming

CODED = ("cross_entropy", "squared", "huber", "hinge")
SCHEDULES = [("fused", "online"), ("fused", "batch"), ("grid", "online"), ("grid", "batch")]
each_schedule = pytest.mark.parametrize(("schedule", "mode"), SCHEDULES)


def classes(codes, k=None, loss="cross_entropy", seed=(0, 0, 0), weight=None, more=0):
    """Return a problem, and a chunk of rows of some classes; there are so many rows more."""
    codes = np.asarray(codes)
    k = k or int(codes.max()) + 1
    arch = Architecture.build(2, (2,), k)
    y = get_loss(loss).encode(codes, k)
    return Problem(arch, loss, 0.0, len(codes) + more, k), Chunk(None, y, {}, seed, weight=weight)


def drawn_from_all(rows, seed, fraction):
    """Return the two sides of a plain draw."""
    order = np.random.default_rng([seed[0], 7, seed[-1]]).permutation(np.arange(rows))
    kept = max(1, min(round(rows * (1.0 - fraction)), rows - 1))
    return np.sort(order[:kept]), np.sort(order[kept:])


# --------------------------------------------------------------------------------- what is drawn


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any),
    fraction=st.floats(1e-6, 1 - 1e-6),
    seed=st.integers(0, 2**32 - 1),
    loss=st.sampled_from(CODED),
    unknown=st.floats(0, 0.9),
)
@example([1], 0.5, 0, "hinge", 0.0)
@example([1, 1], 1e-6, 0, "cross_entropy", 0.0)
@example([0, 40, 0], 1 - 1e-6, 0, "squared", 0.0)
@example([1] * 12, 0.1, 0, "cross_entropy", 0.0)
def test_every_class_has_its_share_to_within_one_row(sizes, fraction, seed, loss, unknown):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    weight = (rng.random(len(codes)) >= unknown).astype("f4")
    one, chunk = classes(codes, len(sizes), loss, (seed, 0, 0), weight, more=1)
    rows = len(codes)
    train, held = HeldOut(fraction).split(one, chunk)
    assert len(held) == len(drawn_from_all(rows, (seed, 0, 0), fraction)[1])
    assert len(train) >= 1
    assert len(held) >= min(1, rows - 1)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(rows))
    for side in (train, held):
        assert (np.diff(side) > 0).all()
    for group in np.unique(known := np.where(weight > 0, codes, -1)):
        size = (known == group).sum()
        assert abs((known[held] == group).sum() - size * len(held) / rows) < 1


def test_every_row_is_as_likely_to_be_held_out_as_any_other():
    """Those of a class of one row too, and those of the largest class."""
    codes = np.repeat([0, 1, 2, 3], [1, 3, 6, 30])
    counts = np.zeros(len(codes))
    for seed in range(2000):
        one, chunk = classes(codes, seed=(seed, 0, 0), more=1)
        counts[HeldOut(0.2).split(one, chunk)[1]] += 1
    # Six standard deviations of a binomial count.
    assert np.abs(counts - 400).max() < 6 * np.sqrt(2000 * 0.2 * 0.8)


def test_a_chunk_of_one_class_holds_its_share_out():
    one, chunk = classes(np.full(50, 3), 7)
    train, held = HeldOut(0.1).split(one, chunk)
    assert (len(train), len(held)) == (45, 5)


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
def test_a_chunk_of_one_row_is_trained_on(fraction):
    train, held = HeldOut(fraction).split(*classes([1], 3))
    assert (train.tolist(), held.tolist()) == ([0], [])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("loss", ["squared", "huber", "binary_cross_entropy"])
def test_where_no_row_has_one_class_rows_are_drawn_from_all_alike(loss, fraction):
    labels = 3 if loss == "binary_cross_entropy" else 0
    one = Problem(Architecture.build(2, (2,), 3), loss, 0.0, 1000, labels)
    for rows in (1, 2, 3, 40, 99):
        y = np.random.default_rng(rows).integers(2, size=(rows, 3)).astype("f4")
        expected = drawn_from_all(rows, (5, 1, 2), fraction)
        for chunk in (Chunk(None, y, {}, (5, 1, 2)), Chunk(y, None, {}, (5, 1, 2))):
            found = HeldOut(fraction).split(one, chunk)
            for side, known in zip(found, expected, strict=True):
                np.testing.assert_array_equal(side, known)


def test_the_iteration_changes_nothing_and_seed_and_chunk_do():
    codes = np.random.default_rng(0).integers(4, size=200)

    def held(*seed):
        return HeldOut(0.2).split(*classes(codes, seed=seed))[1].tolist()

    assert held(1, 0, 2) == held(1, 9, 2)
    assert held(1, 0, 2) != held(1, 0, 3)
    assert held(1, 0, 2) != held(2, 0, 2)


def test_smoothed_labels_are_of_their_likeliest_class():
    codes = np.random.default_rng(0).integers(4, size=60)
    one, chunk = classes(codes)
    smooth = replace(chunk, y=0.7 * chunk.y + 0.3 / 4)
    for a, b in zip(HeldOut().split(one, chunk), HeldOut().split(one, smooth), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_part_that_does_not_read_the_classes_is_told():
    one, chunk = classes([0, 1, 2] * 5)
    with pytest.raises(OptionError, match=naming("HeldOut.split", "targets", "y=True")):
        HeldOut().split(one, replace(chunk, inputs=np.zeros((15, 2)), y=None))


# --------------------------------------------------------------------- some rows of every class


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=12),
    fraction=st.floats(1e-6, 1 - 1e-6),
    seed=st.integers(0, 2**32 - 1),
    unknown=st.floats(0, 0.9),
)
@example([1, 1], 0.5, 0, 0.0)
@example([100, 2, 3], 0.01, 0, 0.0)
def test_a_chunk_of_all_rows_has_every_class_on_both_sides(sizes, fraction, seed, unknown):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    weight = (np.random.default_rng(seed).random(len(codes)) >= unknown).astype("f4")
    train, held = HeldOut(fraction).split(*classes(codes, seed=(seed, 0, 0), weight=weight))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(len(codes)))
    for code in range(len(sizes)):
        rows = np.flatnonzero((codes == code) & (weight > 0))
        if len(rows) >= 2:
            assert np.isin(rows, train).any()
            assert np.isin(rows, held).any()


@pytest.mark.parametrize("loss", ["squared", "binary_cross_entropy"])
@pytest.mark.parametrize(("rows", "least"), [(2, 1), (3, 1), (4, 2), (14, 2), (40, 4)])
@pytest.mark.parametrize("unknown", [0, 3])
def test_numbers_have_two_rows_held_out_of_a_weight(loss, rows, least, unknown):
    one = Problem(Architecture.build(2, (2,), 3), loss, 0.0, rows + unknown, 3 * (loss[0] == "b"))
    weight = np.r_[np.zeros(unknown, "f4"), np.ones(rows, "f4")]
    y = np.zeros((rows + unknown, 3), "f4")
    train, held = HeldOut(0.1).split(one, Chunk(None, y, {}, (5, 1, 0), weight=weight))
    assert weight[held].sum() == least
    assert weight[train].sum() == rows - least


# ------------------------------------------------------------- scores that tie, or say nothing


def verdict(rows, tol=1e-4, patience=2):
    names = ("validation_score", "validation_loss")
    return HeldOut(patience=patience).judge([dict(zip(names, r, strict=False)) for r in rows], tol)


def test_the_loss_decides_between_equal_scores():
    found = verdict([(0.5, 3.0), (1.0, 2.0), (1.0, 1.0), (1.0, 0.5)])
    assert (found.stop, found.keep) == (False, 4)
    assert verdict([(1.0, 2.0), (0.9, 0.1), (1.0, 2.0)]).keep == 1
    assert verdict([(1.0, 2.0), (0.9, 0.1), (1.0, 2.0)]).stop
    assert verdict([(1.0, 2.0), (0.9, 0.1), (1.0, 2.0 - 1e-6)]).stop
    assert not verdict([(1.0, 2.0), (1.1, 3.0), (0.5, 3.0)]).stop


def test_a_history_without_scores_goes_by_the_loss():
    assert verdict([(), (), ()]).keep is None
    assert HeldOut().judge([{"validation_loss": 2.0}, {"validation_loss": 1.0}], 0).keep == 2


@pytest.mark.parametrize("targets", ["alike", "varied"])
def test_a_few_rows_train_on_until_the_loss_is_no_lower(targets):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(14, 3))
    solver = BlockADMM(early_stopping=True)
    if targets == "alike":  # R^2 of what is held out is not defined
        shape = Architecture.build(3, (16,), 1)
        _, held = solver.split(Problem(shape, "squared", 0.0, 14), Chunk(x, None, {}, (0, 0, 0)))
        x[held] = x[held[0]]
    y = x @ [1, 2, 3.0]
    model = ADMMRegressor((16,), solver=solver, max_iter=300, random_state=0).fit(x, y)
    assert model.n_iter_ > 20
    assert model.score(x, y) > 0.5


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (ADMMRegressor, [1.0, 2.0, 3.0]),
        (ADMMClassifier, [0, 1, 1, 2, 0, 0]),
        (ADMMClassifier, [0, 1]),
    ],
)
def test_too_few_rows_to_hold_out_are_told(model, y):
    x = np.random.default_rng(0).normal(size=(len(y), 2))
    solver = BlockADMM(early_stopping=True)
    with pytest.warns(ValidationWarning, match=naming("early_stopping", "rows")) as told:
        model((3,), solver=solver, max_iter=2, tol=0, random_state=0).fit(x, y)
    assert len(told) == 1


# ------------------------------------------------------------------------------- rows of weight 0


def test_a_class_of_rows_of_weight_0_changes_nothing():
    """Whatever their labels, unknown rows are drawn alike, and none of them is scored."""
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=90)
    weight = np.ones(90, "f4")
    weight[::3] = 0
    found = []
    for label in (0, 3):  # one that others have, and one of their own
        codes[::3] = label
        one, chunk = classes(codes, 4, weight=weight)
        found.append(HeldOut(0.2).split(one, chunk))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    (part,) = block(early_stopping=True).passes(one, 1).iteration[-1].parts
    assert part.work == HELD_OUT
    scored = evaluated(block(early_stopping=True, validation_fraction=0.2), one, part, chunk)
    np.testing.assert_array_equal(scored, [row for row in found[0][1] if row % 3])
    assert len(scored) == 12


@each_schedule
def test_training_heeds_no_class_that_no_row_of_weight_has(schedule, mode):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 4)), rng.integers(3, size=80)
    weight = np.ones(80)
    y[:10], weight[:10] = 3, 0
    solver = BlockADMM(blocks=2, schedule=schedule, mode=mode, batch_size=8, early_stopping=True)
    clf = ADMMClassifier((6,), solver=solver, max_iter=3, tol=0, chunks=20, random_state=0)
    history = clf.fit(x, y, sample_weight=weight).history_
    for column in ("objective", "validation_loss", "validation_score"):
        assert np.isfinite(history[column]).all()


# ---------------------------------------------------------------------------- the same everywhere


@each_schedule
@pytest.mark.parametrize("weighted", [False, True])
def test_every_task_of_a_run_draws_the_same_rows(schedule, mode, weighted, monkeypatch):
    calls = []
    split = HeldOut.split

    def told(self, problem, chunk):
        found = split(self, problem, chunk)
        calls.append((*chunk.seed[1:], *(tuple(side) for side in found)))
        return found

    monkeypatch.setattr(HeldOut, "split", told)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((120, 4)), np.repeat([0, 1, 2], [90, 20, 10])
    order = rng.permutation(120)
    solver = BlockADMM(blocks=3, schedule=schedule, mode=mode, batch_size=8, early_stopping=True)
    clf = ADMMClassifier(
        (6, 6), solver=solver, max_iter=2, tol=0, chunks=60, random_state=4,
        class_weight={0: 1.0, 1: 0.0, 2: 3.0} if weighted else None,
    )  # fmt: skip
    clf.fit(x[order], y[order])
    # Two chunks, two iterations; of each the tasks that train, and one that scores.
    tasks = {"fused": 1, "grid online": 5, "grid batch": 8}
    wanted = tasks["fused" if schedule == "fused" else f"{schedule} {mode}"] + 1
    assert len(calls) == 2 * 2 * wanted
    assert {iteration for iteration, *_ in calls} == {0, 1}
    assert len({(chunk, *sides) for _, chunk, *sides in calls}) == 2


@each_schedule
def test_rows_held_out_do_not_matter_for_training(schedule, mode):
    solver = block(blocks=3, schedule=schedule, mode=mode, batch_size=8, early_stopping=True)
    p = problem(n=60)
    found = []
    for change in (0.0, 1e3):
        params, chunks = begin(solver, p, chunks=2)
        for chunk in chunks:
            chunk.inputs[solver.split(p, chunk)[1]] += change
        for k in range(2):
            moved = [replace(chunk, seed=(0, k, c)) for c, chunk in enumerate(chunks)]
            params, row = iterate(solver, p, params, {}, moved)
        found.append((params, row))
    (a, row), (b, other) = found
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert row["validation_loss"] != other["validation_loss"]


@pytest.mark.parametrize("mode", ["online", "batch"])
@pytest.mark.parametrize(
    ("loss", "early_stopping", "reads"),
    [
        ("cross_entropy", True, True),
        ("hinge", True, True),
        ("cross_entropy", False, False),
        ("squared", True, False),
        ("binary_cross_entropy", True, False),
    ],
)
def test_tasks_of_the_grid_read_the_targets_where_they_need_them(mode, loss, early_stopping, reads):
    solver = block(blocks=3, schedule="grid", mode=mode, early_stopping=early_stopping)
    parts = solver.passes(problem(loss), 1).iteration[0].parts
    for part in parts:
        last = part.work.block == 3
        assert part.y == (reads or last)
