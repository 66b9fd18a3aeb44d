"""A session answers who a run is and how far it has come."""

import numpy as np
import pytest

from dadmm import ADMMClassifier, BlockADMM, RelaxedADMM, load
from dadmm.engine import loop
from dadmm.engine.session import Session
from dadmm.errors import LockedError, StoreError
from dadmm.estimators.load import trained
from dadmm.store import Run
from support.messages import naming

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def fit(path, **options):
    given = {"solver": "relaxed", "random_state": 3, "chunks": 25, "max_iter": 3, "tol": 0}
    return ADMMClassifier((5,), run=path, **{**given, **options}).fit(X, Y)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, fit(path)


def test_it_says_who_a_run_is_and_what_it_has_made(run):
    path, made = run
    for session in (Session.open(path), Session.open(str(path)), Session.open(Run.open(path))):
        assert session.plan is session.plan
        assert session.solver == RelaxedADMM()
        assert session.problem.rows == 60
        assert session.plan.chunks == (25, 25, 10)
        assert session.can_go_on
        assert session.iteration == session.position.iteration == len(session.rows()) == 3
        assert session.is_done(3)
        assert not session.is_done(4)
        assert session.pipeline == {}
        assert session.best() == session.position.generation
        assert not session.examine().damaged
        found = session.network()
        np.testing.assert_array_equal(found.params["w_1"], made.network_.params["w_1"])
        np.testing.assert_array_equal(session.scaling["x"].centre, found.inputs.centre)
        again = trained(session)
        assert again.loss_curve_ == load(path).loss_curve_ == made.loss_curve_


def test_before_the_first_commit_it_is_nowhere(tmp_path, monkeypatch):
    def die(plan):
        raise SystemExit

    monkeypatch.setattr(loop, "_start", die)
    with pytest.raises(SystemExit):
        fit(tmp_path / "run")
    session = Session.open(tmp_path / "run")
    assert (session.record, session.position, session.iteration) == (None, None, 0)
    assert session.can_go_on
    assert not session.is_done(1)
    with pytest.raises(
        StoreError, match=naming("iteration", "dadmm resume", str(tmp_path / "run"))
    ):
        trained(session)


def test_the_solver_that_is_given_is_the_runs(run):
    path, _ = run
    given = RelaxedADMM()
    assert Session.open(path, given).solver is given
    with pytest.raises(StoreError, match=naming(str(path), "solver")):
        _ = Session.open(path, BlockADMM()).plan


def test_what_cannot_be_used_is_refused_when_it_is_asked_for(tmp_path):
    fit(tmp_path / "run")
    stored = Run.open(tmp_path / "run")
    stored.update(seed=-1, pipeline=[1])
    session = Session.open(tmp_path / "run")
    with pytest.raises(StoreError, match=naming("seed", "-1")):
        _ = session.plan
    with pytest.raises(StoreError, match=naming("pipeline")):
        _ = session.pipeline


def test_another_driver_is_told_of(run):
    path, _ = run
    Session.open(path).refuse_driver()
    with Run.open(path).locked(), pytest.raises(LockedError):
        Session.open(path).refuse_driver()
    Session.open(Run.in_memory({})).refuse_driver()
