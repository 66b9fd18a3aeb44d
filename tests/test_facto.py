"""Factorisations, alone and inside networks: what is minimised, and what is asked below."""

from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from block_helpers import block, go
from helpers import processes
from sklearn import decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from dadmm import NMF, ADMMClassifier, BlockADMM, DeepFacto, Dense, NMFBlock, load, resume
from dadmm.errors import DataError, FactorWarning, OptionError, ShapeError
from dadmm.networks.architecture import Architecture
from dadmm.numerics import nonnegative
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.nmf.dictionary import Dictionary
from dadmm.solvers.problem import Chunk, Problem
from dadmm.store import Run

DIGITS, LABELS = load_digits(return_X_y=True)


def low_rank(rows=300, d=20, r=5, seed=0):
    rng = np.random.default_rng(seed)
    s = rng.exponential(size=(r, d)) * (rng.random((r, d)) < 0.6)
    return rng.exponential(size=(rows, r)) @ s + 0.1 * rng.random((rows, d))


# ------------------------------------------------------------------------------------------ alone


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
    with pytest.warns(FactorWarning, match="no row uses any factor"):
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
    solver = NMF(2, mode="online")._make_solver()
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
    with pytest.raises(DataError, match=r"as low as -.*NMF: shift=True"):
        NMF(4).fit(x)
    fitted = NMF(6, shift=True, max_iter=100, tol=0).fit(x)
    back = fitted.inverse_transform(fitted.transform(x))
    assert np.abs(back - x).mean() < 0.1
    assert (fitted.transform(x) >= 0).all()


@pytest.mark.parametrize(
    ("options", "x", "error", "words"),
    [
        ({"n_components": 21}, None, OptionError, "n_components=21: use at most 20"),
        ({"n_components": 0}, None, OptionError, "n_components=0"),
        ({"n_components": 2.5}, None, OptionError, "n_components=2.5"),
        ({"init": "nndsvdar"}, None, OptionError, "init"),
        ({"init": np.ones((3, 20))}, None, ShapeError, r"\(3, 20\).*\(4, 20\)"),
        ({"init": -np.ones((4, 20))}, None, OptionError, "below 0"),
        ({"init": np.zeros((4, 20))}, None, OptionError, "all zeros"),
        ({"init": np.ones((4, 20))}, -low_rank(), DataError, "as low as -"),
        ({"init": np.ones((4, 20))}, np.zeros((30, 20)), DataError, "all zeros"),
        ({"mode": "bach"}, None, OptionError, "batch"),
        ({"l1_ratio": 2.0}, None, OptionError, "l1_ratio"),
        ({"alpha_W": -1.0}, None, OptionError, "alpha_W"),
        ({}, np.zeros((30, 20)), DataError, "all zeros"),
        ({}, np.full((30, 20), np.nan), DataError, "NaN"),
        ({}, np.zeros((30,)), ShapeError, "dimension"),
    ],
)
def test_what_cannot_be_factorised_is_refused_in_one_line(options, x, error, words):
    with pytest.raises(error, match=words) as caught:
        NMF(**{"n_components": 4, **options}).fit(low_rank() if x is None else x)
    assert "\n" not in str(caught.value)


def test_factors_that_die_are_seeded_again_and_said():
    x = low_rank(r=3)
    start = np.zeros((5, 20))
    start[:2] = low_rank(rows=2)
    with pytest.warns(FactorWarning, match="factors died.*in iteration 1$"):
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
    with pytest.raises(DataError, match="no finite prediction in row 0"):
        fitted.transform(1e39 * low_rank())


def test_codes_of_another_number_of_factors_are_no_codes():
    fitted = NMF(4, max_iter=5).fit(low_rank())
    with pytest.raises(ShapeError, match=r"\(2, 3\): there are 4 factors"):
        fitted.inverse_transform(np.ones((2, 3)))


def test_rows_of_zeros_have_codes_of_zeros():
    x = low_rank()
    x[[3, 200]] = 0
    codes = NMF(4, max_iter=10).fit_transform(x)
    assert not codes[[3, 200]].any()


# ----------------------------------------------------------------------------- the same everywhere


def digest(model):
    return {name: array.tobytes() for name, array in model.network_.params.items()}


FACTORISERS = {
    "batch": NMF(4, max_iter=4, tol=0, random_state=0, chunks=64),
    "online": NMF(4, mode="online", max_iter=4, tol=0, random_state=0, chunks=64),
    "online, in rounds": NMF(4, mode="online", max_iter=4, tol=0, random_state=0, chunks=16),
    "network": DeepFacto(6, (12,), max_iter=3, tol=0, random_state=0, chunks=64),
    "network, from its data": DeepFacto(
        6, (12,), factor_init="nndsvd", max_iter=3, tol=0, random_state=0, chunks=64
    ),
    "network, batch": DeepFacto(
        6, (12,), solver=BlockADMM(mode="batch"), max_iter=3, tol=0, random_state=0, chunks=64
    ),
    "network, grid": DeepFacto(
        6, (12,), (8,), solver=BlockADMM(schedule="grid"), max_iter=3, tol=0, random_state=0,
        chunks=64,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def expected():
    found = {}
    for name, model in FACTORISERS.items():
        with dask.config.set(scheduler="synchronous"):
            found[name] = digest(clone(model).fit(DIGITS[:300], LABELS[:300]))
    return found


@pytest.mark.parametrize("name", FACTORISERS)
def test_threads_give_the_same_bits(name, expected):
    assert digest(clone(FACTORISERS[name]).fit(DIGITS[:300], LABELS[:300])) == expected[name]


@pytest.mark.processes
def test_worker_processes_give_the_same_bits(expected):
    with processes(2):
        for name, model in FACTORISERS.items():
            assert digest(clone(model).fit(DIGITS[:300], LABELS[:300])) == expected[name], name


@pytest.mark.parametrize("name", FACTORISERS)
def test_a_run_that_stops_goes_on_to_the_same_bits(name, expected, tmp_path):
    class KilledError(Exception):
        pass

    def kill(k, row):
        if k == 2:
            raise KilledError

    model = clone(FACTORISERS[name]).set_params(run=str(tmp_path / "run"))
    with pytest.raises(KilledError):
        model.fit(DIGITS[:300], LABELS[:300], callback=kill)
    resumed = resume(tmp_path / "run")
    assert digest(resumed) == expected[name]
    assert type(resumed) is type(model)
    loaded = load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.transform(DIGITS), resumed.transform(DIGITS))


# ------------------------------------------------------------------------------------- in networks


def span(rho=1e-4, weight=1.0, seed=0, r=4, d=9, **options):
    """Return a factorisation in a network, and features for it."""
    rng = np.random.default_rng(seed)
    arch = Architecture.build(d, (r,), 2)
    problem = Problem(arch, "squared", 0.0, 30, dtype="float64")
    part = NMFBlock(r, weight=weight, rho=rho, sweeps=4000, overlap=0.0, **options)
    solver = block(blocks=[part])
    weights = solver.initial(problem, seed)
    made = FactorSpan(solver, problem, weights, 1)
    s = weights["theta_1"].reshape(r, d)
    return made, rng.exponential(size=(30, r)) @ s + 0.05 * rng.random((30, d)), s


def test_what_is_asked_of_the_features_is_the_gradient_through_the_codes():
    """For a small rho: of <g, codes(Z)>, and of the reconstruction; by finite differences."""
    made, z, s = span(rho=1e-6)
    made.forward(z)
    g = 1e-9 * np.random.default_rng(1).normal(size=(30, 4))
    asked = (made.pull(g) - made.pull(np.zeros_like(g))) / 1e-9
    g /= 1e-9

    def value(z):
        return float((g * nonnegative.codes(z, s, 4000)).sum())

    slope = np.zeros_like(z)
    for i, j in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[i, j] = 1e-6
        slope[i, j] = (value(z + step) - value(z - step)) / 2e-6
    np.testing.assert_allclose(asked, slope, atol=2e-3 * np.abs(slope).max())


def test_without_a_gradient_the_features_are_asked_to_be_what_can_be_reconstructed():
    made, z, s = span(weight=0.5)
    m = made.forward(z)
    np.testing.assert_allclose(made.pull(np.zeros_like(m)), 0.5 * (z - m @ s), atol=1e-6)


def test_codes_drawn_to_a_target_are_the_best_of_their_problem():
    made, z, s = span(rho=2.0, weight=0.5, l1=0.1)
    m = made.forward(z)
    g = np.random.default_rng(1).normal(size=m.shape)
    drawn = made._drawn(g)
    target = m - g / 2.0
    wanted = nonnegative.codes(z, s, 4000, target=target, rho=2.0, l1=0.1)
    np.testing.assert_allclose(drawn, wanted, atol=1e-8)


def test_the_dictionary_is_swept_on_the_sums_of_what_the_codes_are_drawn_to():
    made, z, s = span(rho=1.0)
    m = made.forward(z)
    g = np.random.default_rng(1).normal(size=m.shape) / len(m)
    drawn = made._drawn(g * len(m))
    made.learn(g, 0.1, 0.9, pull=False)
    wanted = nonnegative.dictionary(drawn.T @ drawn / 30, drawn.T @ z / 30, s, 1, unit=True)
    np.testing.assert_allclose(made.theta.reshape(s.shape), wanted, atol=1e-12)


def test_sums_forget_what_is_long_ago():
    s, z, m = np.ones((1, 2)), np.ones((5, 2)), np.ones((5, 1))
    own = Dictionary(s, np.zeros((1, 1)), np.zeros((1, 2)), 0, 4, unit=True)
    for _ in range(3):
        own.absorb(z, m)
    np.testing.assert_allclose(own.gram, 1)
    for _ in range(40):
        own.absorb(z, 3 * m)
    np.testing.assert_allclose(own.gram, 9, rtol=1e-4)


@pytest.mark.parametrize("mode", ["online", "batch"])
@pytest.mark.parametrize("schedule", ["fused", "grid"])
def test_a_network_learns_through_its_factors(mode, schedule):
    passes = 60 if mode == "online" else 150
    solver = BlockADMM(mode=mode, schedule=schedule, batch_size=32)
    model = DeepFacto(16, (64,), solver=solver, max_iter=passes, random_state=0, tol=0)
    model.fit(DIGITS[:1200], LABELS[:1200])
    assert model.score(DIGITS[1200:], LABELS[1200:]) > 0.85
    codes = model.transform(DIGITS)
    assert codes.shape == (len(DIGITS), 16)
    assert (codes >= 0).all()
    assert (model.components_ >= 0).all()
    assert model.history_["reconstruction_error"].values[-1] < 0.6
    if mode == "online":
        frozen = model.history_["objective"].values
        assert frozen[-1] < 0.2 * frozen[0]


def test_layers_below_that_learn_make_codes_that_tell_more(monkeypatch):
    model = DeepFacto(6, (32,), max_iter=40, random_state=0, tol=0)
    learnt = clone(model).fit(DIGITS[:1200], LABELS[:1200]).loss_curve_[-1]
    monkeypatch.setattr(FactorSpan, "_asked", lambda span, m, missed: 0 * missed)
    drawn = clone(model).fit(DIGITS[:1200], LABELS[:1200]).loss_curve_[-1]
    assert learnt < 0.5 * drawn


@pytest.mark.parametrize(
    "options",
    [
        {"inner_steps": 2},
        {"z_steps": 2},
        {"schedule": "grid", "inner_steps": 2},
        {"mode": "batch", "constraints": ["k_sparse:9", ""]},
        {"mode": "batch", "schedule": "grid", "constraints": ["box:1", ""]},
        {"constraints": ["", "k_sparse:3"]},
        {"optimizer": "sgd", "learning_rate": 0.05},
        {"consensus": "admm"},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_every_way_to_train_goes_through_factors(options):
    model = DeepFacto(6, (16,), solver=BlockADMM(**options), max_iter=6, random_state=0, tol=0)
    model.fit(DIGITS[:300], LABELS[:300])
    curve = model.loss_curve_
    assert np.isfinite(curve).all()
    assert min(curve[1:]) < curve[0]
    assert (model.transform(DIGITS) >= 0).all()


def test_codes_of_a_visit_are_those_of_prediction():
    model = DeepFacto(6, (16,), max_iter=3, random_state=0).fit(DIGITS, LABELS)
    network = model.network_
    z = np.maximum(
        network.inputs.apply(DIGITS, np.float32) @ network.params["w_1"] + network.params["b_1"], 0
    )
    arch = Architecture.build(64, (16, 6), 10)
    problem = Problem(arch, "cross_entropy", 0.0, len(z), 10)
    solver = model._make_solver()
    weights = solver.initial(problem, 0) | {"theta_2": network.params["s_2"].reshape(-1)}
    made = FactorSpan(solver, problem, weights, 2)
    np.testing.assert_allclose(made.forward(z), model.transform(DIGITS), rtol=1e-4, atol=1e-4)


def test_a_block_of_factors_goes_anywhere_in_a_list():
    blocks = [Dense(32), NMFBlock(12), Dense(24), NMFBlock(8), Dense(16)]
    model = ADMMClassifier(
        solver=BlockADMM(blocks=blocks), standardize="scale", max_iter=40, random_state=0
    ).fit(DIGITS[:600], LABELS[:600])
    assert model.score(DIGITS[:600], LABELS[:600]) > 0.6
    assert np.isfinite(model.history_["reconstruction_error"].values).all()


def test_the_first_block_may_be_one_of_factors():
    model = DeepFacto(16, (), (64,), max_iter=30, random_state=0).fit(DIGITS, LABELS)
    assert model.score(DIGITS, LABELS) > 0.9
    # The dictionary is in the units of the inputs.
    error = np.linalg.norm(DIGITS - model.transform(DIGITS) @ model.components_)
    assert error < 0.6 * np.linalg.norm(DIGITS)


@pytest.mark.parametrize("consensus", ["average", "admm"])
def test_chunks_meet_in_one_dictionary(consensus):
    solver = block(blocks=[Dense(6), NMFBlock(3)], consensus=consensus, agents=2)
    arch = Architecture.build(5, (6, 3), 3)
    problem = Problem(arch, "cross_entropy", 0.0, 40, 3, dtype="float64")
    params, chunks, rows = go(solver, problem, passes=3, chunks=2)
    assert (params["theta_2"] >= 0).all()
    assert params["gram_2"].shape == (3, 3)
    assert set(chunks[0].state) == (
        {"pi_1", "pi_3", "sent_1", "sent_3"} if consensus == "admm" else set()
    )
    assert 0 < rows[-1]["reconstruction_error"] < 1.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NMFBlock(0), "n_components=0"),
        (lambda: NMFBlock(4, weight=0), "weight=0"),
        (lambda: NMFBlock(4, l1=-1.0), "l1=-1.0"),
        (lambda: NMFBlock(4, rho=0.0), "rho=0.0"),
        (lambda: NMFBlock(4, overlap=-1.0), "overlap=-1.0"),
        (lambda: NMFBlock(4, init="nnsvd"), "nndsvd"),
    ],
)
def test_options_of_a_block_are_checked(make, words):
    with pytest.raises(OptionError, match=words):
        make()


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (DeepFacto(13, (12,)), OptionError, "n_components=13 of 12 features"),
        (DeepFacto(4, (12,), activation="tanh"), OptionError, "tanh.*relu"),
        (DeepFacto(4, ()), DataError, r"as low as -.*standardize='shift'"),
        (DeepFacto(4, solver="relaxed"), OptionError, "solver='block'"),
        (DeepFacto(4, (2.5,)), OptionError, "hidden_layer_sizes"),
        (DeepFacto(4, head_layer_sizes=3), OptionError, "head_layer_sizes"),
        (DeepFacto(4, factor_weight=0), OptionError, "weight=0"),
        (ADMMClassifier(solver="nmf"), OptionError, "dadmm.NMF"),
    ],
)
def test_networks_that_cannot_be_are_refused(model, error, words):
    with pytest.raises(error, match=words):
        model.fit(DIGITS[:50] - 3.0, LABELS[:50])


@pytest.mark.parametrize("stopping", [False, True])
def test_rows_without_a_label_shape_the_factors_and_what_stands_there_does_not_matter(stopping):
    seen = np.arange(600) % 5 == 0
    solver = BlockADMM(early_stopping=stopping)
    model = DeepFacto(12, (32,), solver=solver, max_iter=8, tol=0, random_state=0)

    def fitted(labels, rows=slice(600)):
        weight = seen[rows].astype(float)
        return clone(model).fit(DIGITS[:600][rows], labels[rows], sample_weight=weight)

    one = fitted(LABELS[:600])
    other = fitted(np.where(seen, LABELS[:600], (LABELS[:600] + 1) % 10))
    assert digest(one) == digest(other)
    few = fitted(LABELS[:600], slice(0, 600, 5))
    assert np.abs(one.components_ - few.components_).max() > 0.1


def test_the_dictionary_of_a_network_may_be_given():
    theirs = decomposition.NMF(8, init="nndsvd", max_iter=100, tol=0.05).fit(DIGITS)
    model = DeepFacto(8, (), (32,), factor_init=theirs, max_iter=1, random_state=0)
    model.fit(DIGITS, LABELS)
    drawn = clone(model).set_params(factor_init="random").fit(DIGITS, LABELS)
    error = [float(m.history_["reconstruction_error"][0]) for m in (model, drawn)]
    assert error[0] < error[1]
    with pytest.raises(ShapeError, match=r"factor_init has shape \(8, 64\).*\(9, 64\)"):
        model.set_params(n_components=9).fit(DIGITS, LABELS)
    with pytest.raises(OptionError, match="factor_init is a NMF that is not fitted"):
        clone(model).fit(DIGITS, LABELS)


# ------------------------------------------------------------------------------- what users see


def test_factors_are_scored_against_attributes():
    model = DeepFacto(12, (32,), max_iter=15, random_state=0).fit(DIGITS, LABELS)
    attributes = np.stack([DIGITS.sum(1), LABELS == 0], axis=1)
    found = model.score_attributes(DIGITS, attributes, ["ink", "0"])
    assert found.names == ("ink", "0")
    assert (found.best > 0).all()
    assert (found.best >= found.assigned).all()


def test_factors_are_drawn(tmp_path):
    model = DeepFacto(6, (32,), max_iter=5, random_state=0).fit(DIGITS, LABELS)
    figure = model.plot_factors(DIGITS, columns=4)
    assert len(figure.axes) == 8
    assert sum(bool(axes.images) for axes in figure.axes) == 6
    figure.savefig(tmp_path / "factors.png")
    bars = DeepFacto(2, (8,), max_iter=2, random_state=0).fit(DIGITS[:, :30], LABELS)
    assert all(axes.patches for axes in bars.plot_factors(DIGITS[:, :30]).axes)
    with pytest.raises(OptionError, match="does not fit 64"):
        model.plot_factors(DIGITS, image_shape=(7, 7))
    assert len(model.plot_factors(DIGITS, image_shape=(8, 8, 1)).axes) == 6


def test_a_chunk_of_fewer_rows_than_a_mini_batch_is_no_fault():
    arch = Architecture((5, 2), (False,), "identity")
    problem = Problem(arch, "squared", 0.0, 3, supervised=False)
    solver = replace(NMF(2)._make_solver(), mode="online")
    x = np.abs(np.random.default_rng(0).normal(size=(3, 5))).astype(np.float32)
    weights = solver.initial(problem, 0)
    part = solver.passes(problem, 1).iteration[0].parts[0]
    found = solver.visit(problem, part, weights, Chunk(x, None, {}))
    assert np.isfinite(found["gram"]).all()
