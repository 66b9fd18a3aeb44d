"""A block of factors in a network: its codes, its dictionary, and what it asks of what it reads."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dadmm import DeepFacto, Dense, NMFBlock
from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.numerics import nonnegative
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.nmf.dictionary import Dictionary
from dadmm.solvers.problem import Problem
from support.block import block, go
from support.messages import naming

DIGITS, LABELS = load_digits(return_X_y=True)


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


def test_codes_of_a_visit_are_those_of_prediction():
    model = DeepFacto(6, (16,), max_iter=3, random_state=0).fit(DIGITS, LABELS)
    network = model.network_
    z = np.maximum(
        network.inputs.apply(DIGITS, np.float32) @ network.params["w_1"] + network.params["b_1"], 0
    )
    arch = Architecture.build(64, (16, 6), 10)
    problem = Problem(arch, "cross_entropy", 0.0, len(z), 10)
    solver = model.make_solver()
    weights = solver.initial(problem, 0) | {"theta_2": network.params["s_2"].reshape(-1)}
    made = FactorSpan(solver, problem, weights, 2)
    np.testing.assert_allclose(made.forward(z), model.transform(DIGITS), rtol=1e-4, atol=1e-4)


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
        (lambda: NMFBlock(0), ["n_components=0"]),
        (lambda: NMFBlock(4, weight=0), ["weight=0"]),
        (lambda: NMFBlock(4, l1=-1.0), ["l1=-1.0"]),
        (lambda: NMFBlock(4, rho=0.0), ["rho=0.0"]),
        (lambda: NMFBlock(4, overlap=-1.0), ["overlap=-1.0"]),
        (lambda: NMFBlock(4, init="nnsvd"), ["init", "'nnsvd'", "'nndsvd'"]),
    ],
)
def test_options_of_a_block_are_checked(make, words):
    with pytest.raises(OptionError, match=naming(*words)):
        make()
