"""Stochastic Block-ADMM: what its updates are, and what they are not."""

from dataclasses import replace

import numpy as np
import pytest

from dadmm.engine.eager import iterate
from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Dense, Residual
from dadmm.networks.chain import views
from dadmm.numerics.losses import get_loss
from dadmm.solvers.block.minibatch import Local, Span
from dadmm.solvers.parts import Pace
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.stopping import Verdict
from dadmm.solvers.sums import combine
from support.block import begin, block, go, gradient, loss_of, network, problem
from support.messages import naming
from support.problems import data

LOSSES = ("squared", "huber", "hinge", "cross_entropy", "binary_cross_entropy")


# --------------------------------------------------------------------------------- one mini-batch


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_one_z_step_moves_every_block_along_the_gradient_of_the_loss(loss, blocks):
    """The residuals of one Z step obey backpropagation's recursion, whatever the cut."""
    solver = block(blocks=blocks, optimizer="sgd", momentum=0.0, learning_rate=1e-3, batch_size=99)
    p = problem(loss)
    start, chunks = begin(solver, p)
    expected = gradient(solver, p, start, chunks[0].x, chunks[0].y)
    after, _ = iterate(solver, p, start, {}, chunks)
    for t, slope in expected.items():
        moved = (start[f"theta_{t}"] - after[f"theta_{t}"]) / 1e-3
        np.testing.assert_allclose(moved, slope, atol=2e-8)


def test_residuals_at_the_minimum_over_z_obey_the_recursion():
    """rho e_{t-1} = J_t' rho e_t: with many Z steps the general path finds the same directions."""
    p = problem("squared")
    many = block(
        blocks=3, z_steps=20, rho=1000.0, optimizer="sgd", momentum=0.0, learning_rate=1e-3,
        batch_size=99,
    )  # fmt: skip
    start, chunks = begin(many, p)
    expected = gradient(many, p, start, chunks[0].x, chunks[0].y)
    after, _ = iterate(many, p, start, {}, chunks)
    for t, slope in expected.items():
        moved = (start[f"theta_{t}"] - after[f"theta_{t}"]) / 1e-3
        cosine = moved @ slope / np.linalg.norm(moved) / np.linalg.norm(slope)
        assert cosine > 0.999
        assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(slope), rel=0.02)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_few_z_steps_point_downhill_in_every_block(steps):
    solver = block(
        blocks=4, z_steps=steps, inner_steps=1, optimizer="sgd", momentum=0.0, learning_rate=1e-3,
        batch_size=99,
    )  # fmt: skip
    p = problem()
    start, chunks = begin(solver, p)
    slopes = gradient(solver, p, start, chunks[0].x, chunks[0].y)
    after, _ = iterate(solver, p, start, {}, chunks)
    for t, slope in slopes.items():
        assert (start[f"theta_{t}"] - after[f"theta_{t}"]) @ slope > 0


def test_z_steps_lower_the_augmented_lagrangian():
    p = problem("squared")
    x, y = data("squared", p.rows)
    solver = block(blocks=3, mode="batch", z_rate=1.0)
    params, (chunk,) = begin(solver, p)
    spans = [Span(solver, p, params, t, slot=t) for t in solver.layout(p).layers]
    rng = np.random.default_rng(1)
    z = [
        chunk.state[f"z_{t}"] + 0.3 * rng.standard_normal(chunk.state[f"z_{t}"].shape)
        for t in (1, 2)
    ]
    u = [0.1 * rng.standard_normal(block.shape) for block in z]

    def lagrangian():
        outs = [s.forward(v).copy() for s, v in zip(spans, [x, *z], strict=True)]
        total = get_loss("squared").value(outs[-1], y)
        return total + sum(
            ((a - b + c) ** 2).sum() / 2 for a, b, c in zip(z, outs[:-1], u, strict=True)
        )

    values = [lagrangian()]
    for _ in range(10):
        Local(solver, p, spans)._move(x, y, None, z, u)
        values.append(lagrangian())
    assert (np.diff(values) < 0).all()


def adam(theta, slope_of, steps, rate, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam as Kingma and Ba write it."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = slope_of(theta)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        theta = theta - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta


def test_one_block_on_one_chunk_is_adam():
    solver = block(batch_size=99, learning_rate=1e-2)
    p = problem()
    start, chunks = begin(solver, p)
    x, y = chunks[0].x, chunks[0].y

    def slope(theta):
        return gradient(solver, p, {**start, "theta_1": theta}, x, y)[1]

    after, _, _ = go(solver, p, passes=5)
    expected = adam(start["theta_1"], slope, 5, 1e-2)
    np.testing.assert_allclose(after["theta_1"], expected, atol=1e-7)


def test_one_block_on_one_chunk_is_torchs_adam_for_fifty_steps():
    torch = pytest.importorskip("torch")
    p = problem(n=640, hidden=(16, 16), activation="relu")
    p = replace(p, dtype="float32")
    solver = block(dtype="float32", batch_size=64, learning_rate=1e-2)
    x, y = (a.astype(np.float32) for a in data(p.loss, p.rows))
    params = solver.initial(p, 0)
    weights = {
        n: torch.tensor(a.copy(), requires_grad=True) for n, a in network(solver, p, params).items()
    }
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2)
    theirs = []
    for k in range(5):
        order = np.random.default_rng((0, k, 0)).permutation(np.arange(640))
        total = 0.0
        for first in range(0, 640, 64):
            rows = order[first : first + 64]
            v = torch.relu(torch.tensor(x[rows]) @ weights["w_1"] + weights["b_1"])
            v = v + torch.relu(v @ weights["w_2"] + weights["b_2"])
            out = v @ weights["w_3"] + weights["b_3"]
            loss = torch.nn.functional.cross_entropy(out, torch.tensor(y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        theirs.append(total / 640)
    mine, chunk = [], Chunk(x, y, {})
    for k in range(5):
        params, row = iterate(solver, p, params, {}, [replace(chunk, seed=(0, k, 0))])
        mine.append(row["objective"])
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_weight_decay_shrinks_weights_and_leaves_biases_alone():
    p = problem()
    plain, decayed = (
        go(
            block(optimizer="sgd", momentum=0.0, weight_decay=d, batch_size=99, learning_rate=0.1),
            p,
        )[0]
        for d in (0.0, 0.5)
    )
    solver = block()
    start = network(solver, p, solver.initial(p, 0))
    a, b = network(solver, p, plain), network(solver, p, decayed)
    np.testing.assert_allclose(b["w_1"], a["w_1"] - 0.05 * start["w_1"], atol=1e-12)
    np.testing.assert_array_equal(a["b_1"], b["b_1"])


def test_alpha_is_the_weight_of_half_the_squared_weights():
    free, held = (
        go(
            block(optimizer="sgd", momentum=0.0, batch_size=99, learning_rate=0.1), problem(alpha=a)
        )[0]
        for a in (0.0, 0.3)
    )
    solver, p = block(), problem()
    start, a, b = (network(solver, p, w) for w in (solver.initial(p, 0), free, held))
    np.testing.assert_allclose(b["w_2"], a["w_2"] - 0.1 * 0.3 * start["w_2"], atol=1e-12)
    np.testing.assert_array_equal(a["b_2"], b["b_2"])


def test_a_gradient_is_clipped_to_the_norm_asked_for():
    p = problem("squared")
    options = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 99, "learning_rate": 1.0}
    start = block().initial(p, 0)["theta_1"]
    free = start - go(block(**options), p)[0]["theta_1"]
    clipped = start - go(block(clip_norm=0.01, **options), p)[0]["theta_1"]
    assert np.linalg.norm(free) > 0.01
    np.testing.assert_allclose(clipped, 0.01 * free / np.linalg.norm(free), atol=1e-12)


def test_samples_that_weigh_double_count_as_two():
    p = problem(n=20)
    x, y = data(p.loss, 20)
    solver = block(optimizer="sgd", momentum=0.0, batch_size=99, learning_rate=0.1)
    params = solver.initial(p, 0)
    weight = np.ones(20)
    weight[:5] = 2.0
    once, _ = iterate(solver, p, params, {}, [Chunk(x, y, {}, weight=weight / weight.mean())])
    twice = Chunk(np.vstack([x, x[:5]]), np.vstack([y, y[:5]]), {})
    other, _ = iterate(solver, replace(p, rows=25), params, {}, [twice])
    np.testing.assert_allclose(once["theta_1"], other["theta_1"], atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_reported_loss_is_that_of_the_weighted_samples(loss):
    p = problem(loss, n=20)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 20)
    solver = block(batch_size=99)
    params, (chunk,) = begin(solver, p, weight=weight)
    _, row = iterate(solver, p, params, {}, [chunk])
    values = [loss_of(solver, p, params, chunk.x[i : i + 1], chunk.y[i : i + 1]) for i in range(20)]
    assert row["objective"] == pytest.approx(np.average(values, weights=weight))


# --------------------------------------------------------------------------------------- batch


def test_batch_keeps_z_and_u_and_u_adds_up_the_residuals():
    solver = block(blocks=3, mode="batch", batch_size=99, z_steps=2)
    p = problem()
    params, (chunk,) = begin(solver, p)
    assert set(chunk.state) == {"z_1", "u_1", "z_2", "u_2"}
    chain = solver.chain(p)
    for t, (_, hi) in enumerate(solver.spans(p)[:-1], start=1):
        assert chunk.state[f"z_{t}"].shape == (p.rows, chain.widths[hi])
        assert not chunk.state[f"u_{t}"].any()
    for _ in range(3):
        before = {name: array.copy() for name, array in chunk.state.items()}
        params, _ = iterate(solver, p, params, {}, [chunk])
        spans = [Span(solver, p, params, t, slot=t) for t in solver.layout(p).layers]
        below = [chunk.x, chunk.state["z_1"]]
        for t in (1, 2):
            residual = chunk.state[f"z_{t}"] - spans[t - 1].forward(below[t - 1])
            expected = before[f"u_{t}"] + residual
            np.testing.assert_allclose(chunk.state[f"u_{t}"], expected, atol=1e-10)


def test_batch_learns():
    solver = block(blocks=2, mode="batch", z_steps=3, learning_rate=1e-2, batch_size=10)
    _, _, rows = go(solver, problem(n=120), passes=40)
    assert rows[-1]["objective"] < 0.5 * rows[0]["objective"]


# ---------------------------------------------------------------------------------- constraints


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        ("binary", lambda z: np.isin(z, (-1, 1)).all()),
        ("k_sparse:2", lambda z: (np.count_nonzero(z, axis=1) <= 2).all()),
        ("simplex", lambda z: np.allclose(z.sum(1), 1) and (z >= 0).all()),
        ("non_negative", lambda z: (z >= 0).all()),
        ("l2_ball:0.5", lambda z: (np.linalg.norm(z, axis=1) <= 0.5 + 1e-12).all()),
        ("box:0.1", lambda z: (np.abs(z) <= 0.1).all()),
    ],
)
@pytest.mark.parametrize("schedule", ["fused", "grid"])
def test_constraints_hold_while_training_and_after(constraint, holds, schedule):
    solver = block(
        blocks=[Dense(6, "tanh"), Dense(4, "tanh")], constraints=constraint, mode="batch",
        batch_size=16, rho=0.1, schedule=schedule,
    )  # fmt: skip
    p = problem()
    params, (chunk,), _ = go(solver, p, passes=4)
    assert holds(chunk.state["z_1"])
    chain = solver.layout(p).network
    tapes_free = chain.forward(network(solver, p, params), chunk.x)
    assert tapes_free.shape == (p.rows, 3)
    first = network(solver, p, params)
    assert holds(chain.constraint(1).project(np.tanh(chunk.x @ first["w_1"] + first["b_1"])))


def test_codes_of_bits_are_learnt_though_their_derivative_is_zero():
    """The lower block moves, and the loss falls below what any reader of the first codes gets."""
    p = problem(n=300, hidden=(8,))
    options = {"constraints": "binary", "rho": 0.1, "batch_size": 32, "learning_rate": 1e-2}
    blocks = [Dense(6, "identity"), Dense(16, "tanh")]
    solver = block(blocks=blocks, **options)
    start = solver.initial(p, 0)
    params, (chunk,), _ = go(solver, p, passes=40)
    assert np.abs(params["theta_1"] - start["theta_1"]).max() > 0.05
    _, (chunk,) = begin(solver, p)
    codes = np.where(chunk.x @ network(solver, p, start)["w_1"] < 0, -1.0, 1.0)
    reader = block(blocks=[Dense(16, "tanh")], batch_size=32, learning_rate=1e-2)
    narrow = Problem(Architecture.build(6, (8,), 3), "cross_entropy", 0.0, 300, 3, dtype="float64")
    read = reader.initial(narrow, 0)
    for k in range(40):
        read, _ = iterate(reader, narrow, read, {}, [Chunk(codes, chunk.y, {}, (0, k, 0))])
    mine = loss_of(solver, p, params, chunk.x, chunk.y)
    assert mine < 0.8 * loss_of(reader, narrow, read, codes, chunk.y)


# ------------------------------------------------------------------------------------- the grid


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("blocks", [2, 3])
def test_the_grid_does_what_the_fused_schedule_does_where_a_chunk_is_one_mini_batch(
    blocks, early_stopping
):
    p = problem(n=40)
    options = {"blocks": blocks, "batch_size": 99, "early_stopping": early_stopping}
    fused, _, _ = go(block(**options), p, passes=3)
    grid, _, _ = go(block(**options, schedule="grid"), p, passes=3)
    for name, array in fused.items():
        np.testing.assert_allclose(grid[name], array, atol=1e-8)


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_the_grid_learns(mode):
    solver = block(blocks=2, schedule="grid", mode=mode, learning_rate=1e-2, batch_size=16, rho=0.3)
    _, _, rows = go(solver, problem(n=240), passes=30, chunks=4)
    assert rows[-1]["objective"] < 0.6 * rows[0]["objective"]


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_a_task_of_the_grid_has_one_block_and_its_two_sides(mode):
    solver, p = block(blocks=3, schedule="grid", mode=mode), problem()
    for each in solver.passes(p, 1).iteration[0].parts:
        assert len(each.layers) <= 1
        t = each.work.block
        assert set(each.layers) <= {t}
        sides = {name.rpartition("_")[2] for name in (*each.reads, *each.fresh, *each.writes)}
        assert sides <= {str(t - 1), str(t)}


# ----------------------------------------------------------------------------------- the passes


def test_a_pass_is_rounds_of_agents():
    rounds = block(agents=3).passes(problem(), 8).iteration
    assert [each.chunks for each in rounds] == [(0, 1, 2), (3, 4, 5), (6, 7)]


def test_early_stopping_trains_on_some_rows_and_validates_on_the_others():
    solver = block(early_stopping=True, validation_fraction=0.25, batch_size=99)
    p = problem(n=40)
    params, (chunk,) = begin(solver, p)
    other = chunk.x.copy()
    _, row = iterate(solver, p, params, {}, [chunk])
    assert {"validation_loss", "validation_score"} <= set(row)
    train, held = solver.split(p, chunk)
    assert sorted([*train, *held]) == list(range(40))
    assert len(held) == 10
    other[held] = 1e3  # rows held out do not matter for training
    a, _ = iterate(solver, p, params, {}, [chunk])
    b, _ = iterate(solver, p, params, {}, [replace(chunk, inputs=other)])
    np.testing.assert_array_equal(a["theta_1"], b["theta_1"])


def test_every_chunk_of_two_rows_or_more_holds_one_out():
    solver = block(early_stopping=True, validation_fraction=0.01)
    for rows in (2, 3, 40):
        p, y = problem("squared", rows), np.zeros((rows, 3))
        train, held = solver.split(p, Chunk(None, y, {}, (0, 0, 0)))
        assert len(held) >= 1
        assert len(train) >= 1
    with pytest.raises(OptionError, match=naming("early_stopping", "2 rows")):
        solver.score(problem(), {"forward_rows": 0})


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_rounds_of_an_iteration_share_its_time_and_looking_takes_none(early_stopping):
    rounds = block(agents=2, early_stopping=early_stopping).passes(problem(), 4).iteration
    paces = Pace(0.5, 0.75).shared(rounds)
    assert [(p.begin, p.end) for p in paces[:2]] == [(0.5, 0.625), (0.625, 0.75)]
    assert all(p.begin == p.end == 0.75 for p in paces[2:])


def test_the_constraints_between_blocks_are_reported():
    """Online, Z_t - f_t(Z_{t-1}) is the pull over rho, whatever the schedule."""
    p = problem(n=40)
    found = [
        go(block(blocks=3, batch_size=99, schedule=schedule), p)[2][0]["primal_residual"]
        for schedule in ("fused", "grid")
    ]
    assert found[0] > 0
    assert found[0] == pytest.approx(found[1])


def test_early_stopping_keeps_the_best_and_stops_when_nothing_gets_better():
    solver = block(early_stopping=True, n_iter_no_change=3)
    rows = [{"validation_score": s} for s in (0.1, 0.5, 0.4, 0.45)]
    judge = solver.stopping.judge
    assert judge(rows, 1e-4) == Verdict(stop=False, keep=2)
    assert judge([*rows, {"validation_score": 0.5}], 1e-4).stop
    assert not judge([*rows, {"validation_score": 0.6}], 1e-4).stop
    assert not judge([*rows, {"validation_score": 0.5}], 0).stop


def test_without_it_training_stops_when_the_loss_has_settled():
    judge = block(n_iter_no_change=2).stopping.judge
    falling = [{"objective": 1.0 / k} for k in range(1, 8)]
    assert judge(falling, 1e-4) == Verdict(stop=False, keep=None)
    assert judge([*falling, *falling[-1:], *falling[-1:]], 1e-4).stop


def test_sums_of_chunks_do_not_depend_on_how_they_are_grouped():
    solver, p = block(blocks=2, agents=4), problem(n=60)
    params, chunks = begin(solver, p, chunks=4)
    (each,) = solver.passes(p, 4).iteration
    sums = [solver.visit(p, each.parts[0], params, chunk) for chunk in chunks]
    whole, halves = combine(sums), combine([combine(sums[:2]), combine(sums[2:])])
    for name, value in whole.items():
        np.testing.assert_allclose(halves[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("rows", "size"), [(100_000, 128), (1280, 40), (120, 8), (5, 8)])
def test_small_data_has_small_batches_unless_told(rows, size):
    assert block(agents=2).batch_rows(problem(n=rows)) == size
    assert block(agents=2, batch_size=33).batch_rows(problem(n=rows)) == 33


# -------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"blocks": 9}, ["blocks=9", "1", "4"]),
        ({"blocks": [3, 2]}, ["blocks=[3, 2]", "2", "4"]),
        ({"blocks": [object()]}, ["blocks", "dadmm.Dense", "dadmm.Residual"]),
        ({"blocks": 2, "constraints": ["binary", "binary"]}, ["constraints", "1"]),
        ({"constraints": "non_negative"}, ["constraints", "blocks=2"]),
        ({"blocks": 2, "constraints": "binery"}, ["constraint", "'binary'"]),
        ({"mode": "onlin"}, ["mode", "'online'"]),
        ({"schedule": "fuse"}, ["schedule", "'fused'"]),
        ({"schedule": "grid", "blocks": 2, "z_steps": 3}, ["schedule='grid'", "z_steps=1"]),
        ({"optimizer": "adan"}, ["optimizer", "'adam'"]),
        ({"consensus": "averag"}, ["consensus", "'average'"]),
        ({"learning_rate_schedule": "one-cycle"}, ["learning_rate_schedule", "'one_cycle'"]),
        ({"learning_rate": 0.0}, ["learning_rate=0.0", "above 0"]),
        ({"rho": -1.0}, ["rho=-1.0", "above 0"]),
        ({"momentum": 1.0}, ["momentum=1.0", "below 1"]),
        ({"batch_size": -1}, ["batch_size=-1", "0"]),
        ({"clip_norm": -1.0}, ["clip_norm=-1.0", "0"]),
        ({"validation_fraction": 1.0}, ["validation_fraction=1.0", "below 1"]),
        ({"z_rate": 2.0}, ["z_rate=2.0", "below 2"]),
        ({"blocks": [3], "constraints": "k_sparse:6"}, ["constraint", "k_sparse:6"]),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_line(options, says):
    with pytest.raises(OptionError, match=naming(*says)) as caught:
        block(**options).check(problem())
    assert "\n" not in str(caught.value)


def test_bits_after_relu_are_refused():
    with pytest.raises(OptionError, match=naming("'binary'", "relu")):
        block(blocks=2, constraints="binary").check(problem(activation="relu"))


def test_blocks_of_ones_own_get_a_head():
    solver = block(blocks=[Dense(7), Residual(), Dense(5, "tanh")])
    p = problem()
    assert solver.chain(p).widths == (5, 7, 7, 5, 3)
    assert solver.spans(p) == ((1, 1), (2, 2), (3, 4))


def test_a_cut_by_layers_starts_blocks_where_it_says():
    assert block(blocks=[3]).spans(problem()) == ((1, 2), (3, 4))
    assert block(blocks=2).spans(problem()) == ((1, 2), (3, 4))
    assert block(blocks=4).spans(problem()) == ((1, 1), (2, 2), (3, 3), (4, 4))


def test_parameters_are_exported_as_the_architecture_names_them():
    solver, p = block(blocks=2), problem()
    found = network(solver, p, solver.initial(p, 0))
    expected = p.architecture.initial(0, "float64")
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    flat = np.arange(6.0)
    assert views(flat, {"w": (2, 2), "b": (2,)})["b"].tolist() == [4.0, 5.0]
