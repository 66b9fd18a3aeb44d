"""Consensus over chunks: averages, multipliers, and what does not depend on anything else."""

from dataclasses import replace

import numpy as np
import pytest

from dadmm.engine.eager import iterate
from dadmm.solvers.sums import combine
from support.block import begin, block, go, problem


def test_an_average_is_weighted_by_rows():
    p = problem(n=60)
    solver = block(agents=2, batch_size=16, learning_rate=1e-2)
    params, chunks = begin(solver, p)
    whole = chunks[0]
    cut = [
        replace(whole, inputs=whole.inputs[:45], y=whole.y[:45], seed=(0, 0, 0)),
        replace(whole, inputs=whole.inputs[45:], y=whole.y[45:], seed=(0, 0, 1)),
    ]
    alone = [iterate(solver, p, params, {}, [chunk])[0] for chunk in cut]
    together, _ = iterate(solver, p, params, {}, cut)
    for kind in ("theta_1", "m_1", "v_1"):
        expected = 0.75 * alone[0][kind] + 0.25 * alone[1][kind]
        np.testing.assert_allclose(together[kind], expected, atol=1e-12)
    assert together["count_1"] == max(a["count_1"] for a in alone) == 3


def test_agents_that_agree_change_nothing():
    """Two agents with the same rows are one."""
    p = problem(n=30)
    solver = block(agents=2, batch_size=99)
    params, (chunk,) = begin(solver, p)
    one, _ = iterate(solver, p, params, {}, [chunk])
    two, _ = iterate(solver, replace(p, rows=60), params, {}, [chunk, chunk])
    np.testing.assert_allclose(one["theta_1"], two["theta_1"], atol=1e-12)


@pytest.mark.parametrize("agents", [4, 2])
@pytest.mark.parametrize("schedule", ["fused", "grid"])
def test_admm_keeps_the_consensus_equal_to_its_definition(agents, schedule):
    """w = sum_c rows_c/n (w_c + pi_c/sigma) over all chunks, however many were visited."""
    p = problem(n=70)
    solver = block(
        consensus="admm", agents=agents, sigma=0.2, batch_size=8, learning_rate=1e-2, blocks=3,
        schedule=schedule,
    )  # fmt: skip
    params, chunks, _ = go(solver, p, passes=4, chunks=4)
    for t in (1, 2, 3):
        sent = sum(c.rows / p.rows * c.state[f"sent_{t}"][0] for c in chunks)
        np.testing.assert_allclose(params[f"theta_{t}"], sent, atol=1e-10)
        assert any(c.state[f"pi_{t}"].any() for c in chunks)


def test_a_multiplier_adds_up_how_far_the_copy_was_from_the_consensus():
    p = problem(n=40)
    solver = block(consensus="admm", agents=2, sigma=0.3, batch_size=99, learning_rate=1e-2)
    params, chunks = begin(solver, p, chunks=2)
    for _ in range(3):
        w = params["theta_1"].copy()
        before = [c.state["pi_1"][0].copy() for c in chunks]
        params, _ = iterate(solver, p, params, {}, chunks)
        for c, pi in zip(chunks, before, strict=True):
            copy = c.state["sent_1"][0] - c.state["pi_1"][0] / 0.3
            np.testing.assert_allclose(c.state["pi_1"][0], pi + 0.3 * (copy - w), atol=1e-12)


def test_local_training_minimises_the_augmented_objective():
    """A step from w itself sees <pi, theta - w>, and not sigma, which is flat there."""
    p = problem(n=40)
    options = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 99, "learning_rate": 0.1}
    solver = block(consensus="admm", agents=1, sigma=0.5, **options)
    params, (chunk,) = begin(solver, p)
    pi = np.random.default_rng(0).standard_normal(chunk.state["pi_1"].shape)
    plain, _ = iterate(block(**options), p, params, {}, [replace(chunk, state={})])
    (each,) = solver.passes(p, 1).iteration
    state = {name: array.copy() for name, array in chunk.state.items()}
    state["pi_1"][...] = pi
    sums = combine([solver.visit(p, each.parts[0], params, replace(chunk, state=state))])
    copy = state["sent_1"][0] - state["pi_1"][0] / 0.5
    np.testing.assert_allclose(copy, plain["theta_1"] - 0.1 * pi[0], atol=1e-12)
    assert sums["rows"] == 40


def test_admm_reaches_agreement_on_a_smooth_problem():
    """The copies of two agents with different data come together; averaging lets them drift."""
    p = problem("squared", n=60, hidden=(4,))
    options = {"agents": 2, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.05}
    spread = {}
    for consensus in ("average", "admm"):
        solver = block(consensus=consensus, sigma=0.5, batch_size=99, local_epochs=40, **options)
        params, chunks, _ = go(solver, p, passes=60, chunks=2)
        copies = []
        (each,) = solver.passes(p, 2).iteration
        for c in chunks:
            state = {name: array.copy() for name, array in c.state.items()}
            sums = solver.visit(p, each.parts[0], params, replace(c, state=state))
            if consensus == "average":
                copies.append(sums["theta_1"] / sums["rows"])
            else:
                copies.append(state["sent_1"][0] - state["pi_1"][0] / 0.5)
        spread[consensus] = np.linalg.norm(copies[0] - copies[1])
    assert spread["admm"] < 0.2 * spread["average"]


def test_rounds_see_the_consensus_of_the_round_before():
    p = problem(n=40)
    solver = block(agents=1, batch_size=99, optimizer="sgd", momentum=0.0, learning_rate=0.1)
    params, chunks = begin(solver, p, chunks=2)
    both, _ = iterate(solver, p, params, {}, chunks)
    first, _ = iterate(solver, p, params, {}, chunks[:1])
    second, _ = iterate(solver, p, first, {}, chunks[1:])
    np.testing.assert_allclose(both["theta_1"], second["theta_1"], atol=1e-12)
