"""Relaxed ADMM: what it reports, what its cuts do not change, what it keeps and refuses."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadmm.engine.tasks import call
from dadmm.errors import OptionError
from dadmm.networks.architecture import layers as forward_layers
from dadmm.solvers.parts import Part
from dadmm.solvers.problem import Chunk
from dadmm.solvers.relaxed.method import RelaxedADMM
from dadmm.solvers.relaxed.options import Task
from dadmm.solvers.sums import combine
from support.formulas import LOSS
from support.messages import naming
from support.problems import REGRESSION
from support.relaxed import (
    FORMS,
    KINKED,
    SMOOTH,
    advance,
    begin,
    each_form,
    never_rises,
    point,
    prepared,
    relaxed,
    unmoved,
    weights,
)

bounded = settings(max_examples=25, deadline=None)


# -------------------------------------------------------------------------------------- the report


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
    every, values = prepared(solver, problem, run.params), []
    *refits, score = solver.passes(problem, len(run.chunks)).after
    for each in (*refits, score):
        sums = combine([solver.evaluate(problem, each.parts[0], every, c) for c in run.chunks])
        penalty = problem.alpha / 2 * (every[f"w_{head}"] ** 2).sum()
        values.append(solver.score(problem, sums)["forward_loss"] + penalty)
        for layer in each.updates:
            every |= solver.update(problem, layer, unmoved(every), sums)[0]
    assert {each.updates for each in refits} == {(head,)}
    assert score.updates == ()
    assert never_rises(np.array(values))
    assert values[1] < values[0]


def test_without_a_refit_the_head_that_predicts_is_admms_own():
    run = begin(relaxed(head_refit=False))
    solver, problem = run.solver, run.problem
    assert tuple(solver.layout(problem).layers) == (1, 2, 3, 4)
    assert solver.readout(problem) == 4
    (score,) = solver.passes(problem, len(run.chunks)).after
    assert score.updates == ()
    z = point(run)
    *_, out = forward_layers(problem.architecture, run.params, z["x"])
    assert advance(run)[0]["forward_loss"] == pytest.approx(LOSS["squared"](out, z["y"]) / 30)


# ------------------------------------------------------------------------------ regions and chunks


@each_form
def test_a_serial_sweep_is_its_layers_swept_one_by_one_from_the_head(splitting, variant):
    solver = relaxed(splitting=splitting, variant=variant, over_relaxation=1.3)
    whole = begin(solver, noise=0.5)
    one_by_one = begin(solver, noise=0.5)
    problem, every = whole.problem, prepared(solver, whole.problem, whole.params)

    def swept(run, *span):
        return solver.visit(problem, Part("sweep", work=Task(span)), every, run.chunks[0])

    sums = swept(whole, 1, 4)
    found = {}
    for i in (4, 3, 2, 1):
        found |= swept(one_by_one, i, i)
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

        schedule = super().passes(problem, chunks)
        passes = tuple(replace(each, parts=shuffled(each.parts)) for each in schedule.iteration)
        return replace(schedule, iteration=passes)


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
    for each in solver.passes(problem, len(run.chunks)).iteration:
        written += [name for part in each.parts for name in part.writes]
        for part in each.parts:
            every = {}
            for layer in part.layers:
                every |= solver.prepare(problem, layer, run.params)
            chunk = run.chunks[0]
            state = {name: chunk.state[name].copy() for name in (*part.reads, *part.fresh)}
            given = Chunk(chunk.x if part.x else None, chunk.y if part.y else None, state)
            call(solver, problem, part, every, given)
            for name in state.keys() - set(part.writes):
                np.testing.assert_array_equal(state[name], chunk.state[name])
    assert sorted(written) == sorted(solver.layout(problem).state)


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


# ------------------------------------------------------------------------------------------- depth


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


# ------------------------------------------------------------------------------ what state is kept


def test_kept_state_is_v_u_and_the_head():
    run = begin(relaxed(), hidden=(4, 3))
    expected = {"v_1": 4, "u_1": 4, "v_2": 3, "u_2": 3, "v_3": 3, "l": 3}
    assert run.solver.layout(run.problem).state == expected
    halved = {"v_1": 4, "v_2": 3, "v_3": 3, "l": 3}
    assert relaxed(splitting=2).layout(run.problem).state == halved
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
    assert solver.layout(run.problem).state == {}
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


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"splitting": 4}, ["splitting=4", "2 or 3"]),
        ({"variant": "linearised"}, ["variant", "'linearised'", "'linearized'", "proximal"]),
        ({"state": "kept"}, ["state", "'kept'", "'keep'"]),
        ({"regions": 0}, ["regions=0", "1 or more"]),
        ({"regions": 5}, ["regions=5", "4"]),
        ({"mu": 0.0}, ["mu=0.0", "above 0"]),
        ({"nu": -1.0}, ["nu=-1.0", "above 0"]),
        ({"beta": np.nan}, ["beta=nan", "above 0"]),
        ({"beta": np.inf}, ["beta=inf"]),
        ({"tau": -1e-3}, ["tau=-0.001", "0"]),
        ({"over_relaxation": 2.0}, ["over_relaxation=2.0", "0", "2"]),
        ({"inner_steps": 0}, ["inner_steps=0", "1"]),
        ({"dtype": "float16"}, ["dtype", "'float16'", "float32"]),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options, said):
    with pytest.raises(OptionError, match=naming(*said)):
        begin(relaxed(**options))


def test_a_singular_weight_solve_is_refused():
    with pytest.raises(OptionError, match=naming("tau", "alpha")):
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
        for name in solver.layout(run.problem).state:
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
    new, _ = solver.update(problem, layer, unmoved(every), sums)
    assert np.isnan(new[f"w_{layer}"]).all()
    assert np.isnan(new[f"b_{layer}"]).all()
