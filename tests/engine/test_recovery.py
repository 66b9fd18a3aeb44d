"""Damage in a store: what it is gone back from, to which bits, and what is said."""

import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from dadmm import NMF, ADMMClassifier, BlockADMM, Dense, NMFBlock, RelaxedADMM, load, resume
from dadmm.app.cli import main
from dadmm.data.open import open_path
from dadmm.engine import loop
from dadmm.engine.session import Session
from dadmm.errors import DamageError, InputError, OptionError, RecoveryWarning, StoreError
from dadmm.store import Run, metadata
from support.damage import flip
from support.messages import naming
from support.runs import bits, stop_at

SOLVERS = {
    "relaxed": RelaxedADMM(),
    "recompute": RelaxedADMM(state="recompute"),
    "online": BlockADMM(blocks=2),
    "batch": BlockADMM(blocks=2, mode="batch"),
    "stopping": BlockADMM(early_stopping=True),
    "factors": BlockADMM(blocks=[Dense(6), NMFBlock(3, init="nndsvd")]),
    "factors, batch": BlockADMM(blocks=[Dense(6), NMFBlock(3)], mode="batch"),
}


def data(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def made(solver, max_iter, callback=None, **options):
    same = {"max_iter": max_iter, "tol": 0, "chunks": 40, "random_state": 0}
    return ADMMClassifier((6, 6), solver=SOLVERS[solver], **same, **options).fit(
        *data(), callback=callback
    )


@pytest.fixture(scope="module", params=SOLVERS)
def solver(request):
    return request.param


@pytest.fixture(scope="module")
def short(solver, tmp_path_factory):
    """A run that was stopped after 3 iterations of 5, and the bits of all 5."""
    path = tmp_path_factory.mktemp("runs") / "run"

    with pytest.raises(KeyboardInterrupt):
        made(solver, 5, run=path, callback=stop_at(3))
    return path, bits(made(solver, 5))


@pytest.fixture
def run(short, tmp_path):
    return Path(shutil.copytree(short[0], tmp_path / "run"))


def arrays(run, group):
    return sorted(path.parent for path in (run / group).rglob("c*") if path.is_file())


@pytest.mark.parametrize("how", [flip, Path.unlink], ids=["damaged", "missing"])
@pytest.mark.parametrize("group", ["state/3", "params/3", "constants"])
def test_damage_is_gone_back_from_to_the_same_bits(run, short, group, how):
    found = arrays(run, group)
    if not found:
        pytest.skip(f"this solver keeps nothing in {group}")
    how(next(path for path in sorted(found[-1].iterdir()) if path.name.startswith("c")))
    with pytest.warns(RecoveryWarning, match=rf"\b{group}/\w+"):
        resumed = resume(run)
    assert bits(resumed) == short[1]
    assert bits(load(run)) == short[1]
    assert resumed.history_.sizes["iteration"] == 5


@pytest.mark.parametrize("group", ["state/3", "params/3", "constants"])
@pytest.mark.parametrize("mode", ["batch", "online"])
def test_damaged_factorisations_are_made_whole_again(mode, group, tmp_path):
    options = {"mode": mode, "max_iter": 5, "tol": 0, "chunks": 40, "random_state": 0}
    x = np.abs(data()[0])
    expected = NMF(2, **options).fit(x)
    with pytest.raises(KeyboardInterrupt):
        NMF(2, run=tmp_path / "run", **options).fit(x, callback=stop_at(3))
    found = arrays(tmp_path / "run", group)
    if mode == "online" and group == "state/3":
        assert not found
        return
    flip(next(path for path in sorted(found[-1].iterdir()) if path.name.startswith("c")))
    with pytest.warns(RecoveryWarning, match=rf"\b{group}/\w+"):
        resumed = resume(tmp_path / "run")
    assert bits(resumed) == bits(expected)


def test_a_later_session_finds_nothing_of_it_any_more(run, short):
    flip(next(iter((run / "params/3/w_1").glob("c.*")), None) or first_chunk(run, "params/3"))
    with pytest.warns(RecoveryWarning):
        resume(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume(run)
    assert not Session.open(run).examine().damaged


def first_chunk(run, group):
    return next(path for path in sorted((run / group).rglob("c.*")) if path.is_file())


def test_with_the_generation_before_damaged_too_state_is_made_from_the_last_parameters(run, solver):
    if not arrays(run, "state/3"):
        pytest.skip("this solver keeps no state")
    flip(first_chunk(run, "state/3"))
    flip(first_chunk(run, "state/2"))
    with pytest.warns(RecoveryWarning, match=naming("iteration 3", "state")):
        resumed = resume(run)
    assert resumed.n_iter_ == 5
    assert resumed.history_.sizes["iteration"] == 5
    assert np.isfinite(resumed.history_["objective"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bits(load(run)) == bits(resumed)


def test_older_parameters_serve_where_the_last_are_damaged(run, solver):
    for generation in (3, 2):
        flip(first_chunk(run, f"params/{generation}"))
    with pytest.warns(RecoveryWarning, match=naming("iteration 1", "state")):
        resumed = resume(run)
    assert resumed.n_iter_ == 5
    assert resumed.history_.sizes["iteration"] == 5


def test_with_all_parameters_damaged_nothing_is_left_to_go_back_to(run):
    for generation in (1, 2, 3):
        flip(first_chunk(run, f"params/{generation}"))
    before = Run.open(run).committed()
    with pytest.raises(DamageError, match=r"\bparams/3/\w+"):
        resume(run)
    assert {**Run.open(run).committed(), "next": 0} == {**before, "next": 0}


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_damaged_record_is_replaced_by_the_one_before(run, short, content):
    if content is None:
        (run / "commit.json").unlink()
    else:
        (run / "commit.json").write_bytes(content)
    with pytest.warns(RecoveryWarning, match=naming("commit.json")):
        assert bits(resume(run)) == short[1]


def test_damaged_history_is_forgotten_and_the_run_goes_on(run, short):
    flip(run / "history/objective/c.0")
    with pytest.warns(RecoveryWarning, match=naming("history/objective")):
        resumed = resume(run)
    assert bits(resumed) == short[1]
    objective = resumed.history_["objective"].values
    assert np.isnan(objective[:3]).all()
    assert np.isfinite(objective[3:]).all()


def test_a_damaged_network_is_made_again(run, short):
    expected = bits(resume(run))
    flip(first_chunk(run, "network"))
    with pytest.raises(DamageError, match=r"\bnetwork/"):
        load(run)
    assert bits(resume(run)) == expected
    assert bits(load(run)) == expected


@pytest.mark.parametrize("name", ["data/x", "data/y", "scaling/x_centre"])
def test_what_cannot_be_made_again_is_named(run, name):
    flip(first_chunk(run, name))
    with pytest.raises(StoreError, match=naming("chunk 0", name)):
        resume(run)


def test_the_best_parameters_are_replaced_by_the_next_best(tmp_path):
    path = tmp_path / "run"
    fitted = made("stopping", 8, run=path)
    scores = fitted.history_["validation_score"].values.tolist()
    losses = fitted.history_["validation_loss"].values.tolist()
    best = max(range(8), key=lambda k: (scores[k], -losses[k])) + 1
    if best == 8:
        pytest.skip("the best was the last")
    flip(first_chunk(path, f"params/{best}"))
    shutil.rmtree(path / "network")
    with pytest.raises(DamageError):
        load(path)
    with pytest.warns(RecoveryWarning, match=naming(f"iteration {best}")):
        again = resume(path)
    assert again.n_iter_ == 8


def test_a_run_of_one_iteration_goes_back_to_its_start(solver, tmp_path):
    made(solver, 1, run=tmp_path / "run")
    flip(first_chunk(tmp_path / "run", "params/1"))
    expected = bits(made(solver, 1))
    with pytest.warns(RecoveryWarning, match=naming("iteration 1")):
        assert resume(tmp_path / "run", max_iter=2).n_iter_ == 2
    assert expected


def test_flushed_history_survives_going_back(tmp_path, monkeypatch):
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 2)
    path = tmp_path / "run"
    made("relaxed", 7, run=path)
    straight = bits(made("relaxed", 9))  # the relaxed solver's steps know no limit
    flip(first_chunk(path, "state/7"))
    with pytest.warns(RecoveryWarning, match=naming("iteration 7")):
        resumed = resume(path, max_iter=9)
    assert bits(resumed) == straight
    assert np.isfinite(resumed.history_["objective"]).all()


def test_workers_too_small_for_the_chunks_are_refused_when_it_is_resumed(run, monkeypatch):
    before = Run.open(run).committed()
    monkeypatch.setattr("dadmm.estimators.load.resources", lambda client, limit: ("300MiB", 1))
    with pytest.raises(OptionError, match=r"\bworker\b.* MiB"):
        resume(run)
    assert Run.open(run).committed() == before
    assert not (run / "lock.json").exists()


# ---------------------------------------------------------------------------------------- check


def check(run, capsys):
    sys.argv = ["dadmm", "check", str(run)]
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    return stop.value.code, shown.out, shown.err


def test_a_whole_store_is_whole(run, capsys):
    resume(run)
    code, out, err = check(run, capsys)
    assert (code, err) == (0, "")
    assert re.search(r"damaged +nothing", out)
    assert "left over" not in out


def test_check_looks_at_inputs_outside_the_store_too(tmp_path, capsys):
    x, y = data()
    array = zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(10, 5))
    made = ADMMClassifier((3,), max_iter=1, chunks=40, run=tmp_path / "run", shuffle=False)
    made.fit(array, y)
    assert check(tmp_path / "run", capsys)[0] == 0
    array[50, 1] = 7.0
    code, _, err = check(tmp_path / "run", capsys)
    assert code == 1
    assert "rows 40 to 79 of" in err


def test_check_names_all_that_is_damaged(run, capsys):
    resume(run)
    flip(first_chunk(run, "params/6"))
    flip(run / "data/y/zarr.json")
    (run / "data/x/c.1.0").unlink()
    (run / "state/9").mkdir(parents=True)
    (run / "state/9/.c.0.0.1-2.partial").write_text("half")
    code, out, err = check(run, capsys)
    assert code == 1
    assert re.search(r"left over +4 files", out)
    for part in ("params/6/", "data/y/zarr.json", "chunk 1 of data/x"):
        assert part in err


# ------------------------------------------------------------------------- stores of other people


def forged(run, change):
    """Change the run's attributes as somebody would who knows about the checksum."""
    attributes = Run.open(run).attributes
    change(attributes)
    (run / "zarr.json").write_bytes(metadata.group_document({"dadmm": attributes}))


def test_a_link_in_a_store_is_refused_and_what_it_leads_to_is_left_alone(run, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(run / "state", outside) if (run / "state").exists() else outside.mkdir()
    (outside / "77").mkdir()
    (outside / "77" / "precious").write_text("mine")
    shutil.rmtree(run / "state", ignore_errors=True)
    (run / "state").symlink_to(outside)
    with pytest.raises(StoreError, match=naming("link")):
        resume(run)
    assert (outside / "77" / "precious").read_text() == "mine"
    (run / "state").unlink()
    chunk = first_chunk(run, "params/3")
    chunk.unlink()
    chunk.symlink_to("/dev/zero")
    with pytest.raises(StoreError, match=naming("link")):
        load_params_of(run)


def load_params_of(run):
    plan = Session.open(run).plan
    for name in plan.parameters(3):
        plan.run.blocks.get(name)


def test_a_pipe_in_place_of_a_chunk_is_no_wait_for_ever(run):
    chunk = first_chunk(run, "params/3")
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(DamageError, match=naming("not a file")):
        load_params_of(run)


def test_an_array_that_claims_to_be_huge_is_refused_before_memory_is_asked_for(run):
    name = next(iter(Session.open(run).plan.parameters(3)))
    ndim = Run.open(run).blocks.get(name).ndim
    shape = (10**12, 10**6) if ndim == 2 else (10**18,)
    document = metadata.array_document(shape, shape[0], "<f4", None)
    (run / name / "zarr.json").write_bytes(document)
    with pytest.raises(DamageError, match=naming("4000000000000000004")):
        Run.open(run).blocks.get(name)


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "numcodecs.pickle"}]},
        {"data_type": "object"},
        {"shape": [-3]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0]}}},
        {"storage_transformers": [{"name": "x"}]},
    ],
)
def test_metadata_that_dadmm_would_not_write_is_refused(run, change):
    path = run / "history/objective/zarr.json"
    document = json.loads(path.read_text())
    document["attributes"].pop(metadata.CHECKSUM)
    path.write_bytes(
        metadata._document(
            {k: v for k, v in {**document, **change}.items() if k != "attributes"}, {}
        )
    )
    with pytest.raises(DamageError, match=naming("history/objective")):
        Run.open(run).blocks.get("history/objective")


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(chunks=[10**9] * 3),
        lambda a: a["problem"].update(rows=-1),
        lambda a: a["problem"]["architecture"].update(widths=[5, 10**9, 2]),
        lambda a: a["problem"]["architecture"].update(activation="__import__"),
        lambda a: a["config"].update(estimator="os.system"),
        lambda a: a["config"]["params"].update(hidden_layer_sizes="x"),
        lambda a: a.update(classes={"dtype": "object", "labels": [[]]}),
        lambda a: a.update(seed="x"),
        lambda a: a.pop("config"),
    ],
)
def test_a_forged_config_is_one_line(run, change):
    forged(run, change)
    for use in (load, lambda path: resume(path)):
        with pytest.raises((StoreError, InputError)) as error:
            use(run)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["filters", "compressor"])
def test_a_zarr_array_that_is_pickled_is_never_opened(tmp_path, change):
    codec = {"id": "pickle", "protocol": 4}
    array = zarr.create_array(
        str(tmp_path / "x.zarr"), shape=(8, 2), chunks=(4, 2), dtype="f4", zarr_format=2
    )
    array[:] = 1
    path = tmp_path / "x.zarr/.zarray"
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, change: [codec] if change == "filters" else codec}))
    with pytest.raises(InputError, match=naming("x.zarr")):
        open_path(str(tmp_path / "x.zarr"))


def test_parameters_of_another_shape_never_reach_compiled_code(run, solver):
    plan = Session.open(run).plan
    generation = Session.of(plan).position.generation
    name = plan.parameters(generation)[-1]
    plan.run.blocks.put(name, np.zeros(3, np.float32))
    with pytest.raises(StoreError, match=naming("config")):
        resume(run)


# -------------------------------------------------------------------------------- many sessions


def test_no_two_sessions_write_into_the_same_generation(solver, tmp_path, monkeypatch):
    """Each is killed before it commits anything, and its tasks may still be at work."""
    path, targets = tmp_path / "run", []

    def die(plan, at, max_iter):
        targets.append(at.fresh)
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(loop, "_iterate", die)
        with pytest.raises(SystemExit):
            made(solver, 3, run=path)
        for _ in range(3):
            with pytest.raises(SystemExit):
                resume(path)
    assert targets == [1, 2, 3, 4]
    assert bits(resume(path)) == bits(made(solver, 3))


def test_a_run_that_takes_anothers_place_has_other_generations(tmp_path):
    made("online", 2, run=tmp_path / "run")
    made("online", 2, run=tmp_path / "run", overwrite=True)
    found = Run.open(tmp_path / "run")
    assert found.first > 100
    assert Session.open(found).position.generation == found.first + 2
    assert bits(load(tmp_path / "run")) == bits(made("online", 2))


@pytest.fixture
def few(monkeypatch):
    """Few iterations are many: those of a history are flushed by fours."""
    monkeypatch.setattr("dadmm.store.run.FLUSH_EVERY", 4)


@pytest.mark.parametrize("name", ["objective", "generation"])
def test_damaged_history_of_a_finished_run_of_many_iterations_is_forgotten(name, few, tmp_path):
    path = tmp_path / "run"
    made("relaxed", 6, run=path)
    flip(path / f"history/{name}/c.0")
    with pytest.warns(RecoveryWarning, match=naming(f"history/{name}")):
        assert resume(path, max_iter=8).n_iter_ == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = resume(path, max_iter=9)
    assert again.history_.sizes["iteration"] == 9


def test_going_back_leaves_the_history_that_the_old_record_counts_on(few, tmp_path, monkeypatch):
    """Killed between the two, it finds all as it was."""
    path = tmp_path / "run"
    made("relaxed", 6, run=path)
    flip(first_chunk(path, "state/6"))
    straight = bits(made("relaxed", 8))
    with monkeypatch.context() as dying:
        dying.setattr(Run, "retreat", lambda *args, **options: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            resume(path, max_iter=8)
    with pytest.warns(RecoveryWarning, match=naming("iteration 6")):
        again = resume(path, max_iter=8)
    assert bits(again) == straight
    assert np.isfinite(again.history_["objective"]).all()


def test_a_history_column_that_is_gone_is_missed(run, short):
    shutil.rmtree(run / "history/objective")
    assert any("history/objective" in line for line in Session.open(run).examine().damaged)
    with pytest.warns(RecoveryWarning, match=naming("history/objective")):
        assert bits(resume(run)) == short[1]
