"""Learning-rate schedules: where they begin and end, their shape, and torch's as a twin."""

import numpy as np
import pytest

from dadmm.errors import OptionError
from dadmm.solvers.block.learning_rate import SCHEDULES, momentum, plateau, rate
from dadmm.solvers.registry import make_solver
from support.messages import naming

DONE = np.linspace(0.0, 1.0, 1001)
PEAK = 300  # where one cycle turns


def rates(schedule):
    return np.array([rate(schedule, done) for done in DONE])


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        ("constant", 1.0, 1.0),
        ("plateau", 1.0, 1.0),
        ("cosine", 1.0, 0.0),
        ("one_cycle", 0.04, 1e-5),
    ],
)
def test_a_schedule_begins_and_ends_where_it_says(schedule, first, last):
    found = rates(schedule)
    assert found[0] == pytest.approx(first, rel=1e-12)
    assert found[-1] == pytest.approx(last, rel=1e-9, abs=1e-15)
    assert found.max() <= 1.0 + 1e-12
    assert found.min() >= 0.0
    assert np.abs(np.diff(found)).max() < 0.01  # no jumps


def test_constant_and_plateau_do_not_change_within_a_run():
    assert (rates("constant") == 1.0).all()
    assert (rates("plateau") == 1.0).all()


def test_cosine_falls_and_is_half_way_at_half_time():
    assert (np.diff(rates("cosine")) < 0).all()
    assert rate("cosine", 0.5) == pytest.approx(0.5)


def test_one_cycle_rises_to_its_peak_and_falls_from_it():
    found = rates("one_cycle")
    assert found[PEAK] == 1.0
    assert (np.diff(found[: PEAK + 1]) > 0).all()
    assert (np.diff(found[PEAK:]) < 0).all()


def test_momentum_goes_the_other_way_in_one_cycle_alone():
    found = np.array([momentum("one_cycle", done, 0.9) for done in DONE])
    assert found[[0, PEAK, -1]] == pytest.approx([0.95, 0.85, 0.95])
    assert (np.diff(found[: PEAK + 1]) < 0).all()
    assert (np.diff(found[PEAK:]) > 0).all()
    for schedule in set(SCHEDULES) - {"one_cycle"}:
        assert momentum(schedule, 0.4, 0.7) == 0.7


def test_one_cycle_is_torchs():
    torch = pytest.importorskip("torch")
    steps = 1000
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    twin = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)
    expected = []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        expected.append((group["lr"], group["betas"][0]))
        optimizer.step()
        if len(expected) < steps:
            twin.step()
    found = [
        (rate("one_cycle", k / steps), momentum("one_cycle", k / steps, 0.9)) for k in range(steps)
    ]
    # torch reaches its peak and its end one step earlier.
    per_step = np.abs(np.diff(np.array(expected), axis=0)).max(axis=0)
    assert (np.abs(np.array(found) - expected).max(axis=0) <= 1.5 * per_step).all()


def history(*losses, column="objective"):
    return [{"objective": 1.0, column: loss} for loss in losses]


def test_plateau_takes_a_tenth_after_five_passes_and_one_without_a_better_loss():
    assert plateau([]) == 1.0
    assert plateau(history(1.0, *[1.0] * 5)) == 1.0
    assert plateau(history(1.0, *[1.0] * 6)) == pytest.approx(0.1)
    assert plateau(history(1.0, *[1.0] * 11)) == pytest.approx(0.1)
    assert plateau(history(1.0, *[1.0] * 12)) == pytest.approx(0.01)


def test_plateau_waits_while_the_loss_gets_better():
    assert plateau(history(*np.linspace(1.0, 0.1, 40))) == 1.0
    assert plateau(history(1.0, *[1.0] * 5, 0.9, *[0.9] * 5)) == 1.0
    # Better by less than one in ten thousand is not better.
    assert plateau(history(*(1.0 - 1e-6 * k for k in range(8)))) == pytest.approx(0.1)


def test_plateau_goes_by_the_validation_loss_where_there_is_one():
    falling, flat = np.linspace(1.0, 0.1, 20), [1.0] * 20
    assert plateau(history(*falling, column="validation_loss")) == 1.0
    assert plateau(history(*flat, column="validation_loss")) < 1.0


@pytest.mark.parametrize("seed", range(5))
def test_plateau_is_torchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    losses = np.exp(-np.arange(60) / 20) + 0.3 * rng.random(60)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
    for k, loss in enumerate(losses, start=1):
        twin.step(loss)
        expected = optimizer.param_groups[0]["lr"]
        assert plateau(history(*losses[:k])) == pytest.approx(expected)


def test_a_schedule_that_does_not_exist_is_refused():
    for schedule in SCHEDULES:
        make_solver({"learning_rate_schedule": schedule})
    with pytest.raises(
        OptionError, match=naming("learning_rate_schedule", "'onecycle'", "'one_cycle'")
    ):
        make_solver({"learning_rate_schedule": "onecycle"})
