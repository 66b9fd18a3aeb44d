"""Networks with factors: trained in every way, to the same bits everywhere."""

import dask
import numpy as np
import pytest
from sklearn import decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits

from dadmm import NMF, ADMMClassifier, BlockADMM, DeepFacto, Dense, NMFBlock, load, resume
from dadmm.errors import DataError, OptionError, ShapeError
from dadmm.networks.architecture import Architecture
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.problem import Problem
from support.block import block
from support.clusters import processes
from support.messages import naming
from support.runs import bits, stop_at

DIGITS, LABELS = load_digits(return_X_y=True)


# ----------------------------------------------------------------------------- the same everywhere


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
            found[name] = bits(clone(model).fit(DIGITS[:300], LABELS[:300]))
    return found


@pytest.mark.parametrize("name", FACTORISERS)
def test_threads_give_the_same_bits(name, expected):
    assert bits(clone(FACTORISERS[name]).fit(DIGITS[:300], LABELS[:300])) == expected[name]


@pytest.mark.processes
def test_worker_processes_give_the_same_bits(expected):
    with processes(2):
        for name, model in FACTORISERS.items():
            assert bits(clone(model).fit(DIGITS[:300], LABELS[:300])) == expected[name], name


@pytest.mark.parametrize("name", FACTORISERS)
def test_a_run_that_stops_goes_on_to_the_same_bits(name, expected, tmp_path):
    model = clone(FACTORISERS[name]).set_params(run=str(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        model.fit(DIGITS[:300], LABELS[:300], callback=stop_at(2))
    resumed = resume(tmp_path / "run")
    assert bits(resumed) == expected[name]
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
    model = DeepFacto(6, (16,), solver=BlockADMM(**options), max_iter=20, random_state=0, tol=0)
    model.fit(DIGITS[:300], LABELS[:300])
    curve = model.loss_curve_
    assert np.isfinite(curve).all()
    assert min(curve[1:]) < 0.95 * curve[0]
    assert (model.transform(DIGITS) >= 0).all()


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


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (DeepFacto(13, (12,)), OptionError, ["n_components=13", "12"]),
        (
            DeepFacto(4, (12,), activation="tanh"),
            OptionError,
            ["block 2", "tanh", "activation='relu'"],
        ),
        (DeepFacto(4, ()), DataError, ["x", "standardize='shift'"]),
        (DeepFacto(4, solver="relaxed"), OptionError, ["solver='block'", "'relaxed'"]),
        (DeepFacto(4, (2.5,)), OptionError, ["hidden_layer_sizes=(2.5,)"]),
        (DeepFacto(4, head_layer_sizes=3), OptionError, ["head_layer_sizes=3"]),
        (DeepFacto(4, factor_weight=0), OptionError, ["factor_weight=0"]),
        (ADMMClassifier(solver="nmf"), OptionError, ["solver='nmf'", "dadmm.NMF"]),
    ],
)
def test_networks_that_cannot_be_are_refused(model, error, words):
    with pytest.raises(error, match=naming(*words)):
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
    assert bits(one) == bits(other)
    few = fitted(LABELS[:600], slice(0, 600, 5))
    assert np.abs(one.components_ - few.components_).max() > 0.1


def test_the_dictionary_of_a_network_may_be_given():
    theirs = decomposition.NMF(8, init="nndsvd", max_iter=100, tol=0.05).fit(DIGITS)
    model = DeepFacto(8, (), (32,), factor_init=theirs, max_iter=1, random_state=0)
    model.fit(DIGITS, LABELS)
    drawn = clone(model).set_params(factor_init="random").fit(DIGITS, LABELS)
    error = [float(m.history_["reconstruction_error"][0]) for m in (model, drawn)]
    assert error[0] < error[1]
    with pytest.raises(ShapeError, match=naming("factor_init", "(8, 64)", "(9, 64)")):
        model.set_params(n_components=9).fit(DIGITS, LABELS)
    with pytest.raises(OptionError, match=naming("factor_init", "NMF", "fitted")):
        clone(model).fit(DIGITS, LABELS)


# ---------------------------------------------------------------------------------- what users see


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
    with pytest.raises(OptionError, match=naming("image_shape=(7, 7)", "64")):
        model.plot_factors(DIGITS, image_shape=(7, 7))
    assert len(model.plot_factors(DIGITS, image_shape=(8, 8, 1)).axes) == 6
