"""Factorisations: what is minimised, where they start, and what cannot be factorised."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from sklearn import decomposition
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from dadmm import NMF, ADMMClassifier
from dadmm.errors import DataError, FactorWarning, OptionError, ShapeError
from dadmm.networks.architecture import Architecture
from dadmm.solvers.problem import Chunk, Problem
from dadmm.store import Run
from support.messages import naming

DIGITS, LABELS = load_digits(return_X_y=True)


def low_rank(rows=300, d=20, r=5, seed=0):
    rng = np.random.default_rng(seed)
    s = rng.exponential(size=(r, d)) * (rng.random((r, d)) < 0.6)
    return rng.exponential(size=(rows, r)) @ s + 0.1 * rng.random((rows, d))


# ------------------------------------------------------------------------------------------- alone


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_objective_is_that_of_scikit_learn_at_the_same_rank_and_iterations(seed):
    x = low_rank(seed=seed)
    ours = NMF(4, max_iter=40, tol=0, dtype="float64", chunks=90).fit(x)
    theirs = decomposition.NMF(4, init="nndsvd", max_iter=40, tol=0).fit(x)
    assert 2 * ours.loss_curve_[-1] * len(x) < 1.01 * theirs.reconstruction_err_**2


def test_digits_are_factorised_as_well_as_scikit_learn_does():
    ours = NMF(16, max_iter=60, tol=0).fit(DIGITS)
    theirs = decomposition.NMF(16, init="nndsvd", max_iter=60, tol=0).fit(DIGITS)
    assert 2 * ours.loss_curve_[-1] * len(DIGITS) < 1.01 * theirs.reconstruction_err_**2
    assert ours.components_.shape == (16, 64)
    assert (ours.components_ >= 0).all()


@pytest.mark.parametrize("penalty", [{}, {"alpha_W": 1e-3, "alpha_H": 2e-3, "l1_ratio": 0.5}])
@pytest.mark.parametrize("init", ["nndsvd", "random"])
def test_the_objective_never_rises(penalty, init):
    fitted = NMF(
        5, init=init, max_iter=30, tol=0, dtype="float64", chunks=77, random_state=0, **penalty
    ).fit(low_rank())
    curve = np.array(fitted.loss_curve_)
    assert (np.diff(curve) <= 1e-12 * curve[0]).all()
    assert curve[-1] < 0.9 * curve[0]


def test_penalties_are_those_of_scikit_learn():
    x = low_rank()
    options = {"alpha_W": 1e-2, "alpha_H": 2e-2, "l1_ratio": 0.7, "max_iter": 300, "tol": 0}
    ours = NMF(4, dtype="float64", **options).fit(x)
    theirs = decomposition.NMF(4, init="nndsvd", **options)
    m = theirs.fit_transform(x)
    s, (n, d) = theirs.components_, x.shape
    value = 0.5 * ((x - m @ s) ** 2).sum()
    for part, size, alpha in ((m, d, 1e-2), (s, n, 2e-2)):
        value += alpha * size * (0.7 * part.sum() + 0.15 * (part**2).sum())
    assert ours.loss_curve_[-1] * n == pytest.approx(value, rel=0.01)


def test_factors_that_a_penalty_switches_off_stay_off():
    """The objective does not rise, and comes to where scikit-learn's does."""
    x = low_rank(r=3)
    options = {"alpha_W": 0.02, "alpha_H": 0.1, "l1_ratio": 1.0, "max_iter": 100, "tol": 0}
    ours = NMF(10, init="random", dtype="float64", random_state=0, **options).fit(x)
    assert (np.diff(ours.loss_curve_) <= 1e-12 * ours.loss_curve_[0]).all()
    assert not ours.history_["reseeded"].any()
    theirs = decomposition.NMF(10, init="random", random_state=0, **options)
    m, s = theirs.fit_transform(x), theirs.components_
    value = 0.5 * ((x - m @ s) ** 2).sum() + 0.02 * 20 * m.sum() + 0.1 * len(x) * s.sum()
    assert ours.loss_curve_[-1] * len(x) < 1.05 * value


def test_penalties_that_leave_nothing_are_told_of():
    with pytest.warns(FactorWarning, match=naming("factor")):
        NMF(3, alpha_W=1e4, l1_ratio=1.0, max_iter=5).fit(low_rank())


def test_codes_at_prediction_are_those_of_training():
    x = low_rank()
    fitted = NMF(4, max_iter=300, tol=0, dtype="float64", run=None).fit(x)
    m = fitted.transform(x)
    # At a stationary point both solve the same least squares.
    error = np.linalg.norm(x - m @ fitted.components_)
    assert error == pytest.approx(fitted.reconstruction_err_, rel=1e-9)
    assert error**2 / 2 == pytest.approx(fitted.loss_curve_[-1] * len(x), rel=1e-3)
    assert (m >= 0).all()


def test_codes_kept_are_those_that_prediction_finds(tmp_path):
    x = low_rank()
    fitted = NMF(4, max_iter=400, tol=0, dtype="float64", run=tmp_path / "run").fit(x)
    run = Run.open(tmp_path / "run")
    generation = run.committed()["generation"]
    kept = run.blocks.read(f"state/{generation}/m", 0)
    np.testing.assert_allclose(fitted.transform(x)[: len(kept)], kept, atol=2e-3 * kept.max())


def test_online_needs_fewer_passes_than_batch():
    x = low_rank(rows=4000)
    options = {"tol": 0, "random_state": 0, "chunks": 1000}
    batch = NMF(5, max_iter=6, **options).fit(x)
    online = NMF(5, mode="online", max_iter=4, **options).fit(x)
    assert online.reconstruction_err_ < batch.reconstruction_err_


@pytest.mark.parametrize("chunks", [1, 8, 9, 64, 100, 1000])
def test_rounds_take_every_chunk_once_and_many_side_by_side(chunks):
    solver = NMF(2, mode="online").make_solver()
    arch = Architecture((5, 2), (False,), "identity")
    problem = Problem(arch, "squared", 0.0, 9 * chunks, supervised=False)
    passes = solver.passes(problem, chunks).iteration
    taken = [range(chunks) if each.chunks is None else each.chunks for each in passes]
    assert sorted(c for each in taken for c in each) == list(range(chunks))
    sizes = [len(each) for each in taken]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(chunks, 4)
    assert len(passes) == 1 or max(sizes) <= max(8, chunks**0.5)


def test_a_pass_in_rounds_learns_more_and_tells_its_whole_objective(monkeypatch):
    # In the order of one factor, so that chunks next to each other are alike.
    x = low_rank(rows=4800)
    x = x[np.argsort(x[:, 0])]
    options = {"mode": "online", "tol": 0, "random_state": 0, "chunks": 100, "init": "random"}
    penalty = {"alpha_W": 1e-3, "l1_ratio": 1.0}
    once = NMF(5, max_iter=1, **options).fit(x)
    with monkeypatch.context() as patch:
        patch.setattr("dadmm.solvers.nmf.options.TOGETHER", 10_000)
        averaged = NMF(5, max_iter=1, **options).fit(x)
    assert once.reconstruction_err_ < 0.7 * averaged.reconstruction_err_
    fitted = NMF(5, max_iter=30, **options, **penalty).fit(x)
    m = fitted.transform(x)
    whole = 0.5 * ((x - m @ fitted.components_) ** 2).sum() / len(x)
    whole += 1e-3 * x.shape[1] * m.sum() / len(x) + 1e-3 * fitted.components_.sum()
    assert fitted.loss_curve_[-1] == pytest.approx(whole, rel=0.02)


def test_a_dictionary_may_be_given():
    x = low_rank()
    theirs = decomposition.NMF(4, init="nndsvd", max_iter=100, tol=0.1).fit(x)
    warm = NMF(4, init=theirs, max_iter=1, tol=0, dtype="float64").fit(x)
    same = NMF(4, init=theirs.components_, max_iter=1, tol=0, dtype="float64").fit(x)
    np.testing.assert_array_equal(warm.components_, same.components_)
    cold = NMF(4, max_iter=1, tol=0, dtype="float64").fit(x)
    assert warm.loss_curve_[0] < cold.loss_curve_[0]
    assert warm.reconstruction_err_ <= theirs.reconstruction_err_ * 1.001


def test_more_training_starts_where_the_last_ended():
    x = low_rank()
    one = NMF(4, max_iter=5, tol=0, warm_start=True).fit(x)
    first = one.loss_curve_
    assert one.fit(x).loss_curve_[0] < first[-1]


def test_it_stops_when_ten_iterations_have_gained_little():
    fitted = NMF(4, tol=1e-3).fit(low_rank())
    assert fitted.history_.attrs["status"] == "converged"
    assert 10 < fitted.n_iter_ < 200


def test_lazy_inputs_give_lazy_codes_with_the_same_numbers():
    x = low_rank()
    fitted = NMF(4, max_iter=10).fit(da.from_array(x, chunks=(70, 20)))
    codes = fitted.transform(da.from_array(x, chunks=(70, 20)))
    assert isinstance(codes, da.Array)
    np.testing.assert_array_equal(codes.compute(), fitted.transform(x))


def test_it_is_a_transformer_in_a_pipeline():
    model = make_pipeline(NMF(16, max_iter=30), ADMMClassifier((64,), max_iter=15, random_state=0))
    model.fit(DIGITS[:1200], LABELS[:1200])
    assert model.score(DIGITS[1200:], LABELS[1200:]) > 0.8
    names = model[0].get_feature_names_out()
    assert names.tolist() == [f"nmf{k}" for k in range(16)]


def test_a_shift_moves_what_is_negative():
    x = low_rank() - 3
    with pytest.raises(DataError, match=naming("x", "-3", "shift=True")):
        NMF(4).fit(x)
    fitted = NMF(6, shift=True, max_iter=100, tol=0).fit(x)
    back = fitted.inverse_transform(fitted.transform(x))
    assert np.abs(back - x).mean() < 0.1
    assert (fitted.transform(x) >= 0).all()


@pytest.mark.parametrize(
    ("options", "x", "error", "words"),
    [
        ({"n_components": 21}, None, OptionError, ["n_components=21", "20"]),
        ({"n_components": 0}, None, OptionError, ["n_components=0"]),
        ({"n_components": 2.5}, None, OptionError, ["n_components=2.5"]),
        ({"init": "nndsvdar"}, None, OptionError, ["init", "'nndsvdar'", "'nndsvd'"]),
        ({"init": np.ones((3, 20))}, None, ShapeError, ["init", "(3, 20)", "(4, 20)"]),
        ({"init": -np.ones((4, 20))}, None, OptionError, ["init", "below 0"]),
        ({"init": np.zeros((4, 20))}, None, OptionError, ["init", "zeros"]),
        ({"init": np.ones((4, 20))}, -low_rank(), DataError, ["x", "shift=True"]),
        ({"init": np.ones((4, 20))}, np.zeros((30, 20)), DataError, ["x", "zeros"]),
        ({"mode": "bach"}, None, OptionError, ["mode", "'bach'", "'batch'"]),
        ({"l1_ratio": 2.0}, None, OptionError, ["l1_ratio=2.0"]),
        ({"alpha_W": -1.0}, None, OptionError, ["alpha_W=-1.0"]),
        ({}, np.zeros((30, 20)), DataError, ["x", "zeros"]),
        ({}, np.full((30, 20), np.nan), DataError, ["x", "NaN", "row 0", "column 0"]),
        ({}, np.zeros((30,)), ShapeError, ["x", "1 dimension"]),
    ],
)
def test_what_cannot_be_factorised_is_refused_in_one_line(options, x, error, words):
    with pytest.raises(error, match=naming(*words)) as caught:
        NMF(**{"n_components": 4, **options}).fit(low_rank() if x is None else x)
    assert "\n" not in str(caught.value)


def test_factors_that_die_are_seeded_again_and_said():
    x = low_rank(r=3)
    start = np.zeros((5, 20))
    start[:2] = low_rank(rows=2)
    with pytest.warns(FactorWarning, match=r"factors.*\biteration 1\b"):
        fitted = NMF(5, init=start, max_iter=200, tol=0).fit(x)
    assert fitted.history_["reseeded"].values[0] > 0
    two = NMF(2, max_iter=200, tol=0).fit(x)
    assert fitted.reconstruction_err_ < 0.5 * two.reconstruction_err_


def test_a_given_dictionary_says_how_many_factors_there_are():
    x = low_rank()
    assert NMF(init=x[:3], max_iter=2).fit(x).components_.shape == (3, 20)
    assert NMF(max_iter=2).fit(x[:10]).components_.shape == (10, 20)


def test_numbers_too_large_have_no_codes():
    fitted = NMF(4, max_iter=5).fit(low_rank())
    with pytest.raises(DataError, match=naming("x", "row 0", "float32")):
        fitted.transform(1e39 * low_rank())


def test_codes_of_another_number_of_factors_are_no_codes():
    fitted = NMF(4, max_iter=5).fit(low_rank())
    with pytest.raises(ShapeError, match=naming("(2, 3)", "4")):
        fitted.inverse_transform(np.ones((2, 3)))


def test_rows_of_zeros_have_codes_of_zeros():
    x = low_rank()
    x[[3, 200]] = 0
    codes = NMF(4, max_iter=10).fit_transform(x)
    assert not codes[[3, 200]].any()


# ---------------------------------------------------------------------------------- what users see


def test_a_chunk_of_fewer_rows_than_a_mini_batch_is_no_fault():
    arch = Architecture((5, 2), (False,), "identity")
    problem = Problem(arch, "squared", 0.0, 3, supervised=False)
    solver = replace(NMF(2).make_solver(), mode="online")
    x = np.abs(np.random.default_rng(0).normal(size=(3, 5))).astype(np.float32)
    weights = solver.initial(problem, 0)
    part = solver.passes(problem, 1).iteration[0].parts[0]
    found = solver.visit(problem, part, weights, Chunk(x, None, {}))
    assert np.isfinite(found["gram"]).all()


# ------------------------------------------------------------------------------- sizes of the data


@pytest.mark.parametrize("mode", ["batch", "online"])
@pytest.mark.parametrize("init", ["nndsvd", "random"])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float32", 1e-21),
        ("float32", 1e-12),
        ("float32", 1e12),
        ("float32", 1e15),
        ("float64", 1e-150),
        ("float64", 1e-25),
        ("float64", 1e20),
        ("float64", 1e150),
    ],
)
def test_data_of_any_size_that_the_dtype_holds_is_factorised_alike(mode, init, dtype, size):
    x = low_rank()
    options = {"max_iter": 5, "mode": mode, "init": init, "random_state": 0}
    usual = NMF(4, dtype="float64", **options).fit(x).score(x)
    fitted = NMF(4, dtype=dtype, **options).fit(size * x)
    assert fitted.score(size * x) == pytest.approx(usual, abs=2e-3)
    assert np.isfinite(fitted.loss_curve_).all()


@pytest.mark.parametrize(
    ("mode", "init", "lazy"),
    [
        ("batch", "nndsvd", False),
        ("batch", low_rank(rows=4), True),
        ("online", "random", True),
        ("online", low_rank(rows=4), False),
    ],
    ids=["batch-nndsvd", "batch-given-lazy", "online-random-lazy", "online-given"],
)
@pytest.mark.parametrize(
    ("dtype", "size", "words"),
    [
        ("float32", 1e-60, ["x", "near to 0", "float32", "scale", "dtype='float64'"]),
        ("float32", 1e-25, ["x", "near to 0", "float32", "scale", "dtype='float64'"]),
        ("float32", 1e20, ["x", "overflow", "float32", "scale", "dtype='float64'"]),
        ("float32", 1e60, ["x", "overflow", "float32", "scale", "dtype='float64'"]),
        ("float64", 1e-165, ["x", "near to 0", "float64", "scale"]),
        ("float64", 1e165, ["x", "overflow", "scale"]),
    ],
)
def test_data_too_small_or_large_for_the_dtype_is_refused(mode, init, lazy, dtype, size, words):
    x = size * low_rank()
    x = da.from_array(x, chunks=(100, -1)) if lazy else x
    with pytest.raises(DataError, match=naming(*words)) as caught:
        NMF(4, mode=mode, init=init, dtype=dtype, max_iter=3).fit(x)
    assert "\n" not in str(caught.value)
    assert (dtype == "float64") == ("dtype='float64'" not in str(caught.value))


def test_codes_of_rows_far_from_the_size_of_training_follow_it():
    x = low_rank()
    fitted = NMF(4, max_iter=5).fit(x)
    usual = fitted.transform(x)
    for size in (1e-20, 1e12, 1e25):
        np.testing.assert_allclose(fitted.transform(size * x) / size, usual, rtol=1e-2, atol=1e-2)
