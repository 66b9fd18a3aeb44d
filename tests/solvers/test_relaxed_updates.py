"""Each update of relaxed ADMM minimises what it should, or takes the documented step."""

import numpy as np
import pytest
from scipy.optimize import minimize

from dadmm.numerics.activations import get_activation
from support.formulas import ACTIVATION, lagrangian, numeric_gradient
from support.relaxed import (
    SMOOTH,
    advance,
    begin,
    each_form,
    point,
    relaxed,
    trace,
    weights,
)


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
    for name in ("v_3", *run.solver.layout(run.problem).state, "w_1", "w_2", "w_3"):
        if name == "l":
            continue
        value, old = subproblem(run, name, z, tau=0.0)
        square = (numeric_gradient(value, old) ** 2).sum()
        total += square if name.startswith("w") else square / n
    assert np.sqrt(total) < 4e-3 * values[0]
