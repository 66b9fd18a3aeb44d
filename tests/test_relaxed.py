"""The relaxed ADMM: what it minimises, what its updates are, and what must hold on the way."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import (
    ACTIVATION,
    LOSS,
    REGRESSION,
    advance,
    begin,
    lagrangian,
    numeric_gradient,
    point,
    relaxed,
    trace,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from dadmm.errors import OptionError
from dadmm.networks.architecture import layers as forward_layers
from dadmm.numerics.activations import get_activation
from dadmm.numerics.losses import get_loss
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.solver import Chunk, Part, Pass, combine

SMOOTH = ("tanh", "sigmoid", "softplus")
KINKED = ("relu", "leaky_relu")
FALLING = ("squared", "cross_entropy", "huber")  # the losses whose gradient is Lipschitz
FORMS = [(s, v) for s in (3, 2) for v in ("proximal", "linearized")]

each_form = pytest.mark.parametrize(("splitting", "variant"), FORMS)
bounded = settings(max_examples=25, deadline=None)


def never_rises(values):
    """Whether no value is above the one before it, to rounding in float64."""
    return np.isfinite(values).all() and np.diff(values).max() <= 1e-12 * abs(values[0])


# ---------------------------------------------------------------------------------- the Lagrangian


@pytest.mark.parametrize("regions", [1, 2, 3, 5])
@pytest.mark.parametrize("activation", SMOOTH + KINKED)
def test_proximal_three_splitting_never_raises_the_lagrangian(activation, regions):
    for loss, stem, tau in (("squared", "identity", 1e-3), ("cross_entropy", "dense", 0.0)):
        run = begin(relaxed(regions=regions, tau=tau), loss, activation, (5, 5, 5, 4), stem)
        assert never_rises(trace(run, 25))


@pytest.mark.parametrize("regions", [1, 2, 4])
@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("splitting", "variant"), FORMS[1:])
def test_no_form_raises_the_lagrangian_where_the_activation_is_smooth(
    splitting, variant, activation, regions
):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions)
    assert never_rises(trace(begin(solver, "squared", activation, (5, 5, 4), "identity"), 25))


@pytest.mark.parametrize("loss", FALLING)
@each_form
def test_no_loss_with_a_lipschitz_gradient_raises_the_lagrangian(splitting, variant, loss):
    for regions in (1, 4):
        solver = relaxed(splitting=splitting, variant=variant, regions=regions)
        assert never_rises(trace(begin(solver, loss, hidden=(4, 4, 3)), 25))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_over_relaxed_serial_steps_do_not_raise_the_lagrangian(activation):
    for splitting in (3, 2) if activation == "tanh" else (3,):
        solver = relaxed(splitting=splitting, over_relaxation=1.6)
        assert never_rises(trace(begin(solver, "squared", activation), 40))


@bounded
@given(
    form=st.sampled_from(FORMS),
    activation=st.sampled_from(SMOOTH),
    loss=st.sampled_from(FALLING),
    hidden=st.sampled_from([(5, 5, 4), (6, 6, 6), (4, 7, 3)]),
    regions=st.integers(1, 4),
    exponents=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 2)),
    tau=st.sampled_from([0.0, 1e-3, 1.0, 10.0]),
    over_relaxation=st.sampled_from([1.0, 1.6]),
    noise=st.sampled_from([0.0, 1.0, 3.0]),
    seed=st.integers(0, 2**16),
)
def test_no_penalties_and_no_start_raise_the_lagrangian(
    form, activation, loss, hidden, regions, exponents, tau, over_relaxation, noise, seed
):
    mu, nu, beta = 10.0 ** np.array(exponents)
    solver = relaxed(
        splitting=form[0],
        variant=form[1],
        regions=regions,
        mu=mu,
        nu=nu,
        beta=beta,
        tau=tau,
        over_relaxation=over_relaxation,
    )
    run = begin(solver, loss, activation, hidden, n=15, seed=seed, noise=noise)
    values = trace(run, 8)
    assert np.diff(values).max() <= 1e-11 * np.abs(values).max()


@pytest.mark.parametrize("regions", [1, 2, 4])
@each_form
def test_the_reported_objective_is_f_where_the_iteration_started(splitting, variant, regions):
    solver = relaxed(
        splitting=splitting, variant=variant, regions=regions, mu=0.7, nu=1.9, beta=2.0
    )
    for loss, activation in (
        ("huber", "softplus"),
        ("hinge", "relu"),
        ("cross_entropy", "sigmoid"),
    ):
        run = begin(solver, loss, activation, noise=0.5)
        for _ in range(3):
            before = lagrangian(solver, run.problem, point(run))
            assert advance(run)[0]["objective"] == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("regions", [1, 4])
@each_form
@pytest.mark.parametrize("loss", sorted(LOSS))
def test_the_multiplier_is_the_gradient_of_the_loss(loss, splitting, variant, regions):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions, beta=1.5)
    run = begin(solver, loss, hidden=(4, 3, 3))
    for _ in range(5):
        advance(run)
        z = point(run)
        gradient = get_loss(loss).gradient(z["v_4"], z["y"])
        if loss == "hinge":  # any slope from -y to 0 where the margin is 1
            at_kink = np.abs(z["y"] * z["v_4"] - 1) < 1e-9
            assert (z["y"] * z["l"])[at_kink].max(initial=0.0) <= 1e-9
            assert (z["y"] * z["l"])[at_kink].min(initial=0.0) >= -1 - 1e-9
            gradient = np.where(at_kink, z["l"], gradient)
        np.testing.assert_allclose(z["l"], gradient, atol=1e-9)
        if loss == "squared":
            np.testing.assert_allclose(z["l"], z["v_4"] - z["y"], atol=1e-12)


# ------------------------------------------------------------------------------------- the updates


def replay(run):
    """Advance once; give each block's name, the point that its update saw, and its new value.

    The order is that of the algorithm: the head, then layer by layer down, then the weights, each
    with its bias as the last row.
    """
    z, problem = point(run), run.problem
    advance(run)
    after = point(run)
    depth = problem.architecture.depth
    names = [f"v_{depth}", "l"]
    for i in range(depth - 1, 0, -1):
        names += [f"v_{i}", f"u_{i}"] if run.solver.splitting == 3 else [f"v_{i}"]
    found = []
    for name in names:
        found.append((name, dict(z), after[name]))
        z[name] = after[name]
    found += [(f"w_{i}", dict(z), weights(after, i)) for i in range(1, depth + 1)]
    return found


def weights(z, i):
    return np.vstack([z[f"w_{i}"], z[f"b_{i}"]])


def subproblem(run, name, z, tau=None):
    """Return F, times n for a block of samples, as a function of one block; and the old block.

    The proximal term is included.
    """
    solver, problem = run.solver, run.problem
    layer = int(name[2:])
    tau = solver.tau if tau is None else tau
    if name.startswith("w"):
        old = weights(z, layer)

        def value(block):
            changed = {**z, name: block[:-1], f"b_{layer}": block[-1]}
            f = lagrangian(solver, problem, changed)
            return f + tau / 2 * ((block - old) ** 2).sum()

        return value, old
    if layer == problem.architecture.depth:
        tau = 0.0

    def value(block):
        f = lagrangian(solver, problem, {**z, name: block})
        return problem.rows * f + tau / 2 * ((block - z[name]) ** 2).sum()

    return value, z[name]


def scipy_minimiser(value, start):
    found = minimize(
        lambda flat: value(flat.reshape(start.shape)),
        start.ravel(),
        jac=lambda flat: numeric_gradient(value, flat.reshape(start.shape)).ravel(),
        method="BFGS",
        options={"gtol": 1e-8},
    )
    return found.x.reshape(start.shape), found.fun


INSTANCES = {
    "skips in the middle": ("squared", "tanh", (3, 3, 2), "dense"),
    "all residual, relu": ("cross_entropy", "relu", (3, 3, 3), "identity"),
    "leaky, no skips": ("huber", "leaky_relu", (3, 2), "dense"),
    "sigmoid": ("cross_entropy", "sigmoid", (2, 2), "dense"),
    "several labels": ("binary_cross_entropy", "tanh", (2, 2), "dense"),
    "softplus, hinge": ("hinge", "softplus", (2, 2), "dense"),
}


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=INSTANCES)
def test_each_update_of_the_proximal_three_splitting_minimises_its_subproblem(instance):
    solver = relaxed(mu=0.8, nu=2.0, beta=1.5, tau=0.1)
    run = begin(solver, *instance, n=5, p=3, noise=0.5, alpha=0.05)
    advance(run)
    rng = np.random.default_rng(1)
    for name, z, new in replay(run):
        if name == "l":
            last = run.problem.architecture.depth
            output = z[f"v_{last - 1}"] @ z[f"w_{last}"] + z[f"b_{last}"]
            np.testing.assert_allclose(
                new, z["l"] + solver.beta * (output - z[f"v_{last}"]), atol=1e-12
            )
            continue
        value, old = subproblem(run, name, z)
        starts = [old]
        if name.startswith("u"):  # not convex: try to do better from elsewhere
            starts += [-new, new + rng.standard_normal(new.shape)]
        for start in starts:
            argmin, least = scipy_minimiser(value, start)
            assert value(new) <= least + 1e-9
        if not name.startswith("u") and instance[0] != "hinge":  # smooth and strongly convex
            np.testing.assert_allclose(new, argmin, atol=1e-6)


@pytest.mark.parametrize("stem", ["dense", "identity"])
def test_the_proximal_two_splitting_solves_its_subproblems_to_tolerance(stem):
    solver = relaxed(splitting=2, mu=0.8, beta=1.5, tau=0.1, inner_steps=400, inner_tol=1e-10)
    run = begin(solver, "squared", "tanh", (3, 3, 2), stem, n=5, p=3, noise=0.5)
    for name, z, new in replay(run):
        if name != "l":
            value, _ = subproblem(run, name, z)
            assert np.abs(numeric_gradient(value, new)).max() < 1e-7


def replay_regions(run):
    """As `replay`, for the blocks of regions that know only how their neighbours were."""
    before = point(run)
    advance(run)
    after = point(run)
    depth, found = run.problem.architecture.depth, []
    for lo, hi in run.solver.spans(run.problem):
        z = dict(before)
        for i in range(hi, lo - 1, -1):
            names = ("v", "u") if run.solver.splitting == 3 and i < depth else ("v",)
            for name in (f"{kind}_{i}" for kind in names):
                found.append((name, dict(z), after[name]))
                z[name] = after[name]
            if i == depth:
                z["l"] = after["l"]
    return found


def border_term(run, name, z, block):
    """What a move of a block at the border of a region is charged, beside tau."""
    solver, arch = run.solver, run.problem.architecture
    i, move = int(name[2:]), block - z[name]
    left = solver.border(run.problem, i - 1)
    right = solver.border(run.problem, i)
    act = get_activation(arch.activation)
    if name[0] == "u":
        return (
            left * (solver.mu + 2 * solver.nu * arch.skip(i) * act.lipschitz**2) * (move**2).sum()
        )
    if i == arch.depth:
        return 0.0
    if solver.splitting == 3:
        charge = left * 2 * solver.nu * arch.skip(i) * (move**2).sum()
    else:
        charge = left * solver.mu * (move**2).sum()
    if not right:
        return charge
    w, skip = z[f"w_{i + 1}"], arch.skip(i + 1)
    if i == arch.depth - 1:
        return charge + (solver.beta + 4) * ((move @ w) ** 2).sum()
    if solver.splitting == 3:
        return charge + solver.mu * ((move @ w) ** 2).sum() + solver.nu * skip * (move**2).sum()
    change = ACTIVATION[arch.activation](block @ w + z[f"b_{i + 1}"])
    change -= ACTIVATION[arch.activation](z[name] @ w + z[f"b_{i + 1}"])
    return charge + solver.mu * ((change + (move if skip else 0.0)) ** 2).sum()


@pytest.mark.parametrize("regions", [2, 4])
@pytest.mark.parametrize("splitting", [3, 2])
def test_an_update_at_a_border_minimises_its_subproblem_plus_the_border_terms(splitting, regions):
    solver = relaxed(
        splitting=splitting,
        regions=regions,
        mu=0.8,
        nu=2.0,
        beta=1.5,
        tau=0.1,
        inner_steps=1000,
        inner_tol=1e-10,
    )
    for hidden, stem in (((3, 3, 3), "identity"), ((3, 3, 2), "dense")):
        run = begin(solver, "squared", "tanh", hidden, stem, n=5, p=3, noise=0.5)
        for name, z, new in replay_regions(run):
            free, old = subproblem(run, name, z)

            def value(block, run=run, name=name, z=z, free=free):
                return free(block) + border_term(run, name, z, block) / 2

            assert np.abs(numeric_gradient(value, new)).max() < 1e-6
            assert value(new) <= value(old)


def derivative(activation, u):
    return (ACTIVATION[activation](u + 1e-6) - ACTIVATION[activation](u - 1e-6)) / 2e-6


@pytest.mark.parametrize("tau", [0.1, 3.0])
@pytest.mark.parametrize("activation", SMOOTH)
def test_linearized_u_is_the_minimiser_of_the_first_order_model(activation, tau):
    solver = relaxed(variant="linearized", mu=0.8, nu=2.0, tau=tau)
    run = begin(solver, "squared", activation, (4, 4, 3), "dense", n=6, noise=0.5)
    act, arch = get_activation(activation), run.problem.architecture
    for name, z, new in replay(run):
        if name.startswith("u"):
            i = int(name[2:])
            below, u = z["x"] if i == 1 else z[f"v_{i - 1}"], z[name]
            pre = below @ z[f"w_{i}"] + z[f"b_{i}"]
            a = z[f"v_{i}"] - below if arch.skip(i) else z[f"v_{i}"]
            tau = np.maximum(solver.tau, solver.nu * (act.mix + act.bend * np.abs(a)))
            slope = solver.nu * (ACTIVATION[activation](u) - a) * derivative(activation, u)
            expected = (solver.mu * pre + tau * u - slope) / (solver.mu + tau)
            np.testing.assert_allclose(new, expected, atol=1e-8)


@pytest.mark.parametrize("activation", SMOOTH)
def test_linearized_two_splitting_takes_the_documented_steps(activation):
    solver = relaxed(splitting=2, variant="linearized", mu=0.8, tau=0.1)
    run = begin(solver, "squared", activation, (4, 4, 4), "dense", alpha=0.05, n=40, noise=0.05)
    problem, arch, mu = run.problem, run.problem.architecture, solver.mu
    act = get_activation(activation)

    def pre(z, i):
        return (z["x"] if i == 1 else z[f"v_{i - 1}"]) @ z[f"w_{i}"] + z[f"b_{i}"]

    def residual(z, i):
        below = z["x"] if i == 1 else z[f"v_{i - 1}"]
        return (below if arch.skip(i) else 0) + ACTIVATION[activation](pre(z, i)) - z[f"v_{i}"]

    for name, z, new in replay(run):
        i = int(name[2:]) if name != "l" else arch.depth
        if name.startswith("v") and i < arch.depth - 1:
            w, s = z[f"w_{i + 1}"], float(arch.skip(i + 1))
            tau = max(solver.tau, mu * (s + act.lipschitz * np.linalg.norm(w, 2)) ** 2)
            r = residual(z, i + 1)
            h = mu * (s * r + (r * derivative(activation, pre(z, i + 1))) @ w.T)
            v = z[name]
            expected = (mu * (residual(z, i) + v) + tau * v - h) / (mu + tau)
            np.testing.assert_allclose(new, expected, atol=1e-8)
        if name.startswith("w") and i < arch.depth:
            below = z["x"] if i == 1 else z[f"v_{i - 1}"]
            extended = np.column_stack([below, np.ones(len(below))])
            offset = residual(z, i) - ACTIVATION[activation](pre(z, i))
            curvature = mu * (act.mix + act.bend * np.abs(offset).max())
            curvature *= np.linalg.norm(extended, 2) ** 2 / problem.rows
            tau = max(solver.tau, curvature)
            g = residual(z, i) * derivative(activation, pre(z, i))
            g = mu / problem.rows * extended.T @ g
            old = weights(z, i)
            ridge = problem.alpha * np.r_[np.ones(len(old) - 1), 0.0][:, None]
            np.testing.assert_allclose(new, (tau * old - g) / (tau + ridge), atol=1e-8)


def test_over_relaxation_lengthens_the_exact_step():
    moves = []
    for length in (1.0, 1.6):
        run = begin(relaxed(over_relaxation=length), noise=0.5)
        before = point(run)["v_3"]
        advance(run)
        moves.append(point(run)["v_3"] - before)
    np.testing.assert_allclose(moves[1], 1.6 * moves[0], atol=1e-12)


# ------------------------------------------------------------------------------------- the report


@each_form
def test_reported_stationarity_is_the_gradient_just_before_each_move(splitting, variant):
    solver = relaxed(splitting=splitting, variant=variant, mu=0.8, beta=1.5, tau=0.1, nu=2.0)
    run = begin(solver, "cross_entropy", "tanh", (3, 3), n=6, p=3, noise=0.3)
    total, start = 0.0, point(run)
    residual = start["v_2"] @ start["w_3"] + start["b_3"] - start["v_3"]
    before = run.params
    moves = replay(run)
    for name, z, _ in moves:
        if name in ("v_3", "l"):
            continue
        value, old = subproblem(run, name, z, tau=0.0)
        gradient = (numeric_gradient(value, old) ** 2).sum()
        total += gradient if name.startswith("w") else gradient / run.problem.rows
    total += (1 + solver.beta**2) * (residual**2).sum() / run.problem.rows
    again = begin(solver, "cross_entropy", "tanh", (3, 3), n=6, p=3, noise=0.3)
    row = advance(again)[0]
    assert row["stationarity"] == pytest.approx(np.sqrt(total), rel=1e-7)
    after, n = point(run), run.problem.rows
    step = sum(((new - z[name]) ** 2).sum() for name, z, new in moves if name[0] != "w") / n
    step += sum(((weights(after, i) - weights(before, i)) ** 2).sum() for i in (1, 2, 3))
    assert row["step"] == pytest.approx(np.sqrt(step), rel=1e-10)
    size = sum((new**2).sum() for name, _, new in moves if name[0] != "w") / n
    size += sum((weights(after, i) ** 2).sum() for i in (1, 2, 3))
    assert row["size"] == pytest.approx(np.sqrt(size), rel=1e-10)
    assert row["primal_residual"] == pytest.approx(np.sqrt((residual**2).sum() / n))


@pytest.mark.parametrize("regions", [1, 3])
@each_form
def test_a_long_run_ends_where_the_gradient_vanishes(splitting, variant, regions):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions)
    run = begin(solver, "squared", "tanh", (4, 4), alpha=0.1, n=40, p=3)
    values = trace(run, 600, "stationarity")
    assert values[-1] < 2e-3 * values[0]
    z, n = point(run), run.problem.rows
    total = 0.0
    for name in ("v_3", *run.solver.variables(run.problem), "w_1", "w_2", "w_3"):
        if name == "l":
            continue
        value, old = subproblem(run, name, z, tau=0.0)
        square = (numeric_gradient(value, old) ** 2).sum()
        total += square if name.startswith("w") else square / n
    assert np.sqrt(total) < 4e-3 * values[0]


@pytest.mark.parametrize("loss", sorted(LOSS))
def test_the_score_is_that_of_the_network_that_predicts(loss):
    run = begin(relaxed(), loss)
    advance(run)
    z = point(run)
    *_, features, _ = forward_layers(run.problem.architecture, run.params, z["x"])
    out = features @ z["w_5"] + z["b_5"]
    row = advance(run)[0]
    assert row["forward_loss"] == pytest.approx(LOSS[loss](out, z["y"]) / 30)
    if loss in REGRESSION:
        unexplained = ((out - z["y"]) ** 2).sum() / ((z["y"] - z["y"].mean(0)) ** 2).sum()
        assert row["train_score"] == pytest.approx(1 - unexplained)
    elif loss == "binary_cross_entropy":
        assert row["train_score"] == ((out > 0) == z["y"]).all(axis=1).mean()
    else:
        assert row["train_score"] == (out.argmax(1) == z["y"].argmax(1)).mean()


def test_the_refitted_head_is_the_ridge_regression_on_forward_features():
    run = begin(relaxed(), "squared", alpha=0.1)
    z = point(run)
    *_, features, _ = forward_layers(run.problem.architecture, run.params, z["x"])
    advance(run)
    extended = np.column_stack([features, np.ones(30)])
    ridge = 0.1 * np.diag([*np.ones(features.shape[1]), 0.0])
    expected = np.linalg.solve(extended.T @ extended / 30 + ridge, extended.T @ z["y"] / 30)
    np.testing.assert_allclose(weights(point(run), 5), expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "huber"])
def test_finishing_passes_never_raise_the_regularised_loss_of_the_readout(loss):
    run = begin(relaxed(), loss)
    solver, problem, head = run.solver, run.problem, run.solver.readout(run.problem)
    every = {}
    for layer in solver.layers(problem):
        every |= solver.prepare(problem, layer, run.params)
    final, values = solver.finish(problem), []
    for _ in range(solver.finish_passes(problem) + 1):
        sums = combine([solver.visit(problem, final.parts[0], every, c) for c in run.chunks])
        penalty = problem.alpha / 2 * (every[f"w_{head}"] ** 2).sum()
        values.append(solver.score(problem, sums)["forward_loss"] + penalty)
        every |= solver.solve(problem, head, every, every, sums)[0]
    assert final.solves == (head,)
    assert never_rises(np.array(values))
    assert values[1] < values[0]


def test_without_a_refit_the_head_that_predicts_is_admms_own():
    run = begin(relaxed(head_refit=False))
    solver, problem = run.solver, run.problem
    assert solver.layers(problem) == (1, 2, 3, 4)
    assert solver.readout(problem) == 4
    assert solver.finish(problem).solves == ()
    assert solver.finish_passes(problem) == 0
    z = point(run)
    *_, out = forward_layers(problem.architecture, run.params, z["x"])
    assert advance(run)[0]["forward_loss"] == pytest.approx(LOSS["squared"](out, z["y"]) / 30)


# ----------------------------------------------------------------------------- regions and chunks


@each_form
def test_a_serial_sweep_is_its_layers_swept_one_by_one_from_the_head(splitting, variant):
    solver = relaxed(splitting=splitting, variant=variant, over_relaxation=1.3)
    whole = begin(solver, noise=0.5)
    one_by_one = begin(solver, noise=0.5)
    problem, every = whole.problem, {}
    for layer in solver.layers(problem):
        every |= solver.prepare(problem, layer, whole.params)
    sums = solver.visit(problem, Part("all", sweep=(1, 4)), every, whole.chunks[0])
    found = {}
    for i in (4, 3, 2, 1):
        found |= solver.visit(problem, Part("one", sweep=(i, i)), every, one_by_one.chunks[0])
    for name, block in point(whole).items():
        np.testing.assert_allclose(point(one_by_one)[name], block, atol=1e-12)
    assert found == pytest.approx(sums)


@dataclass(frozen=True)
class Shuffled(RelaxedADMM):
    """The same algorithm, its parts visited in another order that respects what they wait for."""

    order: int = 0

    def passes(self, problem, chunks):
        rng = np.random.default_rng(self.order)

        def shuffled(parts):
            first = [part for part in parts if not part.fresh]
            last = [part for part in parts if part.fresh]
            return tuple(p[i] for p in (first, last) for i in rng.permutation(len(p)))

        return tuple(Pass(shuffled(p.parts), p.solves) for p in super().passes(problem, chunks))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_form
def test_regions_may_be_visited_in_any_order(splitting, variant, dtype):
    options = {"splitting": splitting, "variant": variant, "regions": 4, "dtype": dtype}
    ordered = begin(relaxed(**options), "cross_entropy", "relu", cuts=(11,))
    rows = advance(ordered, 3)
    for order in range(4):
        run = begin(Shuffled(**options, order=order), "cross_entropy", "relu", cuts=(11,))
        assert advance(run, 3) == rows
        for name, block in point(ordered).items():
            np.testing.assert_array_equal(point(run)[name], block)


@each_form
@pytest.mark.parametrize("regions", [2, 3, 4])
def test_parts_say_all_that_they_read_and_write(splitting, variant, regions):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions)
    run = begin(solver)
    problem = run.problem
    written = []
    for each in solver.passes(problem, len(run.chunks)):
        written += [name for part in each.parts for name in part.writes]
        for part in each.parts:
            every = {}
            for layer in part.layers:
                every |= solver.prepare(problem, layer, run.params)
            chunk = run.chunks[0]
            state = {name: chunk.state[name].copy() for name in (*part.reads, *part.fresh)}
            given = Chunk(chunk.x if part.x else None, chunk.y if part.y else None, state)
            solver.visit(problem, part, every, given)
            for name in state.keys() - set(part.writes):
                np.testing.assert_array_equal(state[name], chunk.state[name])
    assert sorted(written) == sorted(solver.variables(problem))


cuts_of_30_rows = st.sets(st.integers(1, 29), max_size=8).map(sorted)


@bounded
@given(
    cuts=cuts_of_30_rows,
    form=st.sampled_from(FORMS),
    regions=st.integers(1, 4),
    activation=st.sampled_from(SMOOTH + KINKED),
    state=st.sampled_from(["keep", "recompute"]),
)
def test_how_the_rows_are_cut_into_chunks_does_not_matter(cuts, form, regions, activation, state):
    solver = relaxed(splitting=form[0], variant=form[1], regions=regions, state=state)
    whole = begin(solver, "cross_entropy", activation)
    cut = begin(solver, "cross_entropy", activation, cuts=cuts)
    for ours, theirs in zip(advance(cut, 2), advance(whole, 2), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    z = point(cut)
    for name, block in point(whole).items():
        np.testing.assert_allclose(z[name], block, rtol=1e-9, atol=1e-12)


@each_form
def test_how_a_chunk_is_cut_into_tiles_does_not_matter(splitting, variant):
    solver = relaxed(splitting=splitting, variant=variant)
    tiled = begin(solver, n=600)
    small = begin(solver, n=600, cuts=(150, 300, 450))  # each is less than a tile
    assert advance(tiled, 2)[1] == pytest.approx(advance(small, 2)[1], rel=1e-9)
    for name, block in point(small).items():
        np.testing.assert_allclose(point(tiled)[name], block, rtol=1e-9, atol=1e-12)


def test_sums_add_in_float64_and_maxima_do_not_add():
    ones = {"gram_1": np.full((2, 2), 1 + 2**-20, np.float32), "max_offset_1": 3.0, "rows_seen": 2}
    more = {"gram_1": np.full((2, 2), 2**-30, np.float32), "max_offset_1": 5.0, "rows_seen": 3}
    total = combine([ones, more])
    assert (total["gram_1"] == 1 + 2.0**-20 + 2.0**-30).all()
    assert (total["max_offset_1"], total["rows_seen"]) == (5.0, 5)


# ------------------------------------------------------------------------------------------ depth


@pytest.mark.parametrize("regions", [1, 30])
def test_thirty_tanh_layers_train(regions):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 12))
    y = np.tanh(2 * x @ rng.standard_normal((12, 2)) / np.sqrt(12))
    solver = relaxed(regions=regions, head_refit=False)
    run = begin(solver, hidden=(12,) * 29, stem="identity", alpha=1e-3, xy=(x, y))
    rows = advance(run, 60)
    objective = np.array([row["objective"] for row in rows])
    assert never_rises(objective)
    assert objective[-1] < objective[0] / 50
    constant = ((y - y.mean(0)) ** 2).sum() / 400  # the loss of the best constant
    assert rows[0]["forward_loss"] > constant
    assert rows[-1]["forward_loss"] < constant / 5


# --------------------------------------------------------------------------- what state is kept


def test_kept_state_is_v_u_and_the_head():
    run = begin(relaxed(), hidden=(4, 3))
    expected = {"v_1": 4, "u_1": 4, "v_2": 3, "u_2": 3, "v_3": 3, "l": 3}
    assert run.solver.variables(run.problem) == expected
    halved = {"v_1": 4, "v_2": 3, "v_3": 3, "l": 3}
    assert relaxed(splitting=2).variables(run.problem) == halved
    assert {name: block.shape[1] for name, block in run.chunks[0].state.items()} == expected


def test_the_start_satisfies_every_constraint():
    for splitting in (3, 2):
        run = begin(relaxed(splitting=splitting), "huber", "softplus")
        row = advance(run)[0]
        assert all(value == 0 for name, value in row.items() if name.startswith("residual"))
        assert row["primal_residual"] == 0


@each_form
def test_recomputed_state_stores_nothing_and_starts_from_the_forward_pass(splitting, variant):
    solver = relaxed(splitting=splitting, variant=variant, state="recompute", head_refit=False)
    run = begin(solver, "cross_entropy", cuts=(12,))
    assert solver.variables(run.problem) == {}
    rows = []
    for _ in range(6):
        penalty = sum((run.params[f"w_{i}"] ** 2).sum() for i in (1, 2, 3, 4)) * 1e-2 / 2
        rows += advance(run)
        assert rows[-1]["objective"] == pytest.approx(rows[-1]["forward_loss"] + penalty, rel=1e-12)
        assert all(not chunk.state for chunk in run.chunks)
    assert rows[-1]["forward_loss"] < rows[0]["forward_loss"]


@pytest.mark.parametrize("regions", [1, 2, 3, 4])
@each_form
def test_a_recomputed_iteration_is_the_first_of_a_run_that_keeps_its_state(
    splitting, variant, regions
):
    options = {"splitting": splitting, "variant": variant, "regions": regions, "inner_steps": 1}
    kept = begin(relaxed(**options), "cross_entropy", "tanh")
    fresh = begin(relaxed(**options, state="recompute"), "cross_entropy", "tanh")
    if (splitting, variant) == (2, "proximal"):
        options["inner_steps"] = 10  # inner steps on V need no further passes
    assert advance(fresh)[0] == pytest.approx(advance(kept)[0], rel=1e-12)
    for name, block in kept.params.items():
        np.testing.assert_allclose(fresh.params[name], block, rtol=1e-12, atol=1e-14)


@each_form
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_float32_stays_close_to_float64(loss, splitting, variant):
    options = {"splitting": splitting, "variant": variant, "regions": 2}
    wide = begin(relaxed(**options), loss)
    narrow = begin(relaxed(**options, dtype="float32"), loss)
    for ours, theirs in zip(advance(narrow, 5), advance(wide, 5), strict=True):
        assert ours["objective"] == pytest.approx(theirs["objective"], rel=1e-4)
    for name, value in narrow.params.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, wide.params[name], atol=2e-3)
    assert all(block.dtype == np.float32 for block in narrow.chunks[0].state.values())


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"splitting": 4}, r"splitting=4.*2 or 3"),
        ({"variant": "linearised"}, r"linearised.*did you mean 'linearized'.*proximal"),
        ({"state": "kept"}, r"kept.*did you mean 'keep'"),
        ({"regions": 0}, r"regions=0.*1 or more"),
        ({"regions": 5}, r"regions=5.*4 \(layer-parallel\)"),
        ({"mu": 0.0}, r"mu=0\.0.*above 0"),
        ({"nu": -1.0}, r"nu=-1\.0.*above 0"),
        ({"beta": np.nan}, r"beta=nan.*above 0"),
        ({"beta": np.inf}, r"beta=inf"),
        ({"tau": -1e-3}, r"tau=-0\.001.*0 or more"),
        ({"over_relaxation": 2.0}, r"over_relaxation=2\.0.*above 0 and below 2"),
        ({"inner_steps": 0}, r"inner_steps=0.*1 or more"),
        ({"dtype": "float16"}, r"float16.*float32"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options, said):
    with pytest.raises(OptionError, match=said):
        begin(relaxed(**options))


def test_a_singular_weight_solve_is_refused():
    with pytest.raises(OptionError, match=r"tau and alpha are both 0"):
        begin(relaxed(tau=0.0), alpha=0.0)
    begin(relaxed(tau=0.0), alpha=1e-3)
    begin(relaxed(tau=1e-3), alpha=0.0)


@pytest.mark.parametrize("regions", [1, 4])
@each_form
def test_nan_goes_through_to_the_report_and_raises_nothing(splitting, variant, regions):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions)
    for activation in ("relu", "sigmoid"):
        for name in ("w_1", "b_2", "w_3", "w_4", "b_5"):
            run = begin(solver, "cross_entropy", activation)
            run.params[name] = np.full_like(run.params[name], np.nan)
            row = advance(run)[0]
            assert np.isnan(list(row.values())).any()
        for name in solver.variables(run.problem):
            run = begin(solver, "cross_entropy", activation)
            run.chunks[0].state[name][3, 0] = np.nan
            assert np.isnan(advance(run)[0]["objective"])


@pytest.mark.parametrize("layer", [1, 2, 4, 5])
@each_form
def test_solving_sums_of_nan_gives_nan(splitting, variant, layer):
    run = begin(relaxed(splitting=splitting, variant=variant))
    solver, problem = run.solver, run.problem
    every = solver.prepare(problem, layer, run.params)
    shape = weights(run.params, layer).shape
    sums = {
        f"gram_{layer}": np.full((shape[0], shape[0]), np.nan),
        f"cross_{layer}": np.full(shape, np.nan),
        f"max_offset_{layer}": np.nan,
    }
    new, _ = solver.solve(problem, layer, every, every, sums)
    assert np.isnan(new[f"w_{layer}"]).all()
    assert np.isnan(new[f"b_{layer}"]).all()
