"""The command line fits, stops, resumes and shows, and says what it does."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import zarr

from dadmm import ADMMClassifier, ADMMRegressor, __version__, load
from dadmm.app import cli, fit
from dadmm.app.cli import commands
from dadmm.store import Run
from support.configs import BLOCK, CONSTANT, LABELS, RELAXED, X, configure
from support.messages import names
from support.terminal import command, digest, ok
from support.waiting import wait_for_iteration

pytestmark = pytest.mark.usefixtures("here")


COMMANDS = ("fit", "plan", "resume", "predict", "show", "config", "demo")


# -------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    text = ok(name, "--help").out
    assert text.startswith(f"Usage: dadmm {name} ")
    assert max(map(len, text.splitlines())) <= 80
    params = commands.commands[name].params
    assert all(param.help for param in params if isinstance(param, click.Option))
    assert f"\n  {name} " in ok("--help").out


def test_the_help_of_fit_names_every_key_of_a_config():
    text = ok("fit", "-h").out
    words = "[data] test_fraction [model] max_iter [solver] over_relaxation learning_rate"
    for word in words.split():
        assert word in text


def test_the_version_is_told():
    assert __version__ in ok("--version").out


def test_without_a_command_the_help_is_shown():
    done = command()
    assert done.code == 2
    assert "Commands:" in done.err


# --------------------------------------------------------------------------------------------- fit


def test_fit_says_where_how_well_and_what_next(tmp_path):
    done = ok("fit", configure(tmp_path), "--run", "runs/first")
    lines = done.out.splitlines()
    assert lines[0] == "run        runs/first"
    assert re.fullmatch(
        r"scores     train accuracy [01]\.\d{4}, test accuracy [01]\.\d{4}", lines[1]
    )
    assert re.fullmatch(r"status     finished, 3 iterations in \d+\.\d s", lines[2])
    assert lines[3] == "look at it dadmm show runs/first --plot convergence.png"
    assert "iteration 3/3" in done.err
    assert isinstance(load("runs/first"), ADMMClassifier)


def test_fit_may_be_a_regression(tmp_path):
    config = configure(tmp_path, task="regression", max_iter=10)
    assert "train R2" in ok("fit", config, "--run", "run").out
    assert isinstance(load("run"), ADMMRegressor)


def test_fit_may_be_quiet(tmp_path):
    done = ok("fit", configure(tmp_path), "--run", "run", "--quiet")
    assert (done.out, done.err) == ("", "")
    assert ok("resume", "run", "--quiet").out == ""


def test_names_with_brackets_and_colons_are_printed_as_they_are(tmp_path):
    done = ok("fit", configure(tmp_path), "--run", "a [bold] :smile: run")
    assert "run        a [bold] :smile: run\n" in done.out
    assert "[bold] :smile: run" in ok("show", "a [bold] :smile: run").out


# ------------------------------------------------------------------------------------------ digest


def test_equal_runs_have_equal_digests_and_others_have_not(tmp_path, run):
    ok("fit", configure(tmp_path), "--run", "same")
    ok("fit", configure(tmp_path, seed=1), "--run", "other")
    assert digest("same") == digest(run) != digest("other")


# ------------------------------------------------------------------------------------------ resume


@pytest.mark.parametrize("solver", [RELAXED, CONSTANT], ids=["relaxed", "block"])
def test_resume_goes_on_to_a_new_limit(tmp_path, solver):
    ok("fit", configure(tmp_path, solver=solver), "--run", "run")
    done = ok("resume", "run", "--max-iter", 5)
    assert "scores     train accuracy" in done.out
    assert "finished, 5 iterations" in done.out
    assert "iteration 5/5" in done.err
    ok("fit", configure(tmp_path, max_iter=5, solver=solver), "--run", "straight")
    assert digest("run") == digest("straight")


def test_the_command_line_chooses_another_cluster(tmp_path):
    table = {"profile": "slurm", "workers": 4, "memory_limit": "2GiB"}
    kept = {"workers": 4, "memory_limit": "2GiB"}
    assert fit.placed(table, None, None) == table
    assert fit.placed(table, None, 2) == {**table, "workers": 2}
    assert fit.placed(table, None, 0) == {**kept, "workers": 0}
    assert fit.placed(table, "ssh", None) == {**kept, "profile": "ssh"}
    assert fit.placed(table, "tls://a:1", 0) == {**kept, "scheduler": "tls://a:1", "workers": 0}
    done = command("fit", configure(tmp_path), "--run", "never", "--cluster", "slrum")
    assert done.code == 2
    assert names(done.err, "'slrum'", "'slurm'")
    assert not Path("never").exists()


def test_resume_follows_no_scheduler_that_a_store_names(tmp_path, monkeypatch):
    ok("fit", configure(tmp_path, max_iter=2), "--run", "r", "--cluster", "threads")
    stored = {**cli.stored_config("r"), "cluster": {"scheduler": "tcp://127.0.0.1:1"}}
    monkeypatch.setattr(cli, "stored_config", lambda path: stored)
    done = ok("resume", "r", "--max-iter", 3)
    assert names(done.err, "scheduler", "[cluster]")
    done = ok("resume", "r", "--max-iter", 4, "--cluster", "threads")
    assert "[cluster]" not in done.err


def test_resume_leaves_a_finished_run_as_it_is(tmp_path):
    ok("fit", configure(tmp_path), "--run", "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert "finished, 3 iterations" in ok("resume", "run").out
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


def test_resume_needs_neither_the_config_nor_its_data(tmp_path):
    ok("fit", configure(tmp_path), "--run", "run")
    (tmp_path / "config.toml").unlink()
    (tmp_path / "table.csv").unlink()
    done = ok("resume", "run", "--max-iter", 4)
    assert re.search(r"scores     train score [01]\.\d{4}\n", done.out)


def test_a_run_of_the_library_can_be_resumed_and_shown():
    ADMMClassifier((8,), max_iter=2, random_state=0, run="run").fit(X, LABELS)
    assert "finished, 3 iterations" in ok("resume", "run", "--max-iter", 3).out
    assert "40 rows" in ok("show", "run").out


# -------------------------------------------------------------------------------------------- show


def test_show_tells_what_a_run_is_in_eighty_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = ok("show", run).out
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "3 - 8 - 2, relu, 0 of 1 hidden layers residual, 50 parameters",
        "relaxed, splitting=3",
        "30 rows in 2 chunks",
        "finished, 3 iterations",
        "train score",
    ):
        assert words in text
    header, *rows = text[text.index("iteration  ") :].splitlines()
    names = ["iteration", "objective", "loss", "score", "residual", "gradient", "step", "seconds"]
    assert header.split() == names
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert all(len(row.split()) == 8 for row in rows)


def test_show_has_no_columns_for_what_block_admm_does_not_report(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    more = "\nblocks = 2\nearly_stopping = true"
    ok("fit", configure(tmp_path, solver=BLOCK + more), "--run", "run")
    text = ok("show", "run").out
    assert max(map(len, text.splitlines())) <= 80
    assert "block, blocks=2, mode=online" in text
    assert "the step shrinks" not in text
    header, *rows = text[text.index("iteration  ") :].splitlines()
    names = ["iteration", "objective", "score", "validation", "residual", "step", "seconds"]
    assert header.split() == names
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert all(len(row.split()) == len(names) for row in rows)
    ok("show", "run", "--plot", "picture.png")


def test_show_knows_networks_with_constraints(tmp_path):
    more = '\nblocks = 2\nconstraints = "simplex"'
    ok("fit", configure(tmp_path, solver=BLOCK + more), "--run", "run")
    assert "3 - 8 - 2, a chain of 2 blocks, 1 constrained, 50 param" in ok("show", "run").out


def test_show_knows_networks_of_blocks(tmp_path):
    more = '\nblocks = [{kind = "dense", width = 5}, {kind = "residual"}]'
    ok("fit", configure(tmp_path, solver=BLOCK + more), "--run", "run")
    words = "3 - 5 - 5 - 2, a chain of 3 blocks, 0 constrained, 62 parameters"
    assert words in ok("show", "run").out


def test_a_long_history_is_thinned_out(tmp_path):
    ok("fit", configure(tmp_path, max_iter=16), "--run", "run")
    text = ok("show", "run").out
    numbers = re.findall(r"^ +(\d+)  ", text, flags=re.MULTILINE)
    assert (numbers[0], numbers[-1], len(numbers)) == ("1", "16", 12)
    assert re.search(r"the step shrinks to 0\.\d+ of the one before it", " ".join(text.split()))


def test_show_draws_the_convergence(run):
    done = ok("show", run, "--plot", "picture.png")
    assert done.out.endswith("plot       picture.png\n")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = command("show", run, "--plot", "picture.png")
    assert done.code == 2
    assert names(done.err, "dadmm[plot]")


# ------------------------------------------------------------------------------------------ config


def test_the_example_trains(tmp_path):
    Path("a.toml").write_text(ok("config", "--example").out)
    assert ok("config", "a.toml").out == "valid      a.toml\n"


def test_the_schema_is_json():
    assert json.loads(ok("config", "--schema").out)["title"] == "dadmm config"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[solver]\nname = 'blok'", ["solver", "'blok'", "'block'"]),
        ("[solver]\nname = 'relaxed'\nagents = 2", ["relaxed", "'agents'"]),
        ("[model]\nmax_iter = 0", ["max_iter=0", "1"]),
    ],
)
def test_a_config_is_checked_without_training(line, words):
    Path("a.toml").write_text(line)
    done = command("config", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert names(done.err, *words)


def test_config_says_what_it_wants():
    assert names(command("config").err, "FILE", "--example", "--schema")


# ------------------------------------------------------------------------------------------ Ctrl-C


@pytest.mark.parametrize("place", ["dadmm.app.fit.load_data", "dadmm.data.ingest.store"])
def test_a_stop_before_there_is_data_leaves_nothing(tmp_path, monkeypatch, place):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 130
    assert not any(Path("run").glob("*"))
    if place.endswith("store"):
        assert names(done.err, "stopped", "data")


def test_sigterm_ends_like_ctrl_c(tmp_path, monkeypatch):
    def stop(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("dadmm.app.fit.load_data", stop)
    before = signal.getsignal(signal.SIGTERM)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 143
    assert not Path("run").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_driver_means_try_later(run):
    with Run.open(run).locked():
        done = command("resume", run, "--max-iter", 9)
    assert done.code == 75
    assert names(done.err, str(run), str(os.getpid()))


@pytest.mark.processes
@pytest.mark.parametrize(("workers", "solver"), [(0, RELAXED), (2, RELAXED), (2, CONSTANT)])
def test_ctrl_c_keeps_the_last_iteration_and_resume_ends_at_the_same_bits(
    tmp_path, workers, solver
):
    run = tmp_path / "run"
    config = configure(tmp_path, max_iter=100000, solver=solver)
    config.write_text(config.read_text() + "tol = 0.0\n")
    script = Path(sys.executable).with_name("dadmm")
    process = subprocess.Popen(
        [script, "fit", config, "--run", run, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_iteration(run, 2, process)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to the workers too
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    record = json.loads((run / "commit.json").read_text())
    reached = record["iteration"]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert names(err, f"iteration {reached}", f"dadmm resume {run}")
    assert record["status"] == "interrupted"
    assert "interrupted" in ok("show", run).out

    ok("resume", run, "--max-iter", reached + 2, "--workers", 0)
    straight = configure(tmp_path, "straight.toml", max_iter=reached + 2, solver=solver)
    straight.write_text(straight.read_text() + "tol = 0.0\n")
    ok("fit", straight, "--run", tmp_path / "straight")
    assert digest(run) == digest(tmp_path / "straight")


# ----------------------------------------------------------------------------- what nobody foresaw


def test_an_error_that_nobody_foresaw_is_one_line_too(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("dadmm.app.fit.load_data", fail)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("failed: ")
    assert names(done.err, "ZeroDivisionError: by zero", "DADMM_DEBUG=1")
    assert done.err.count("\n") == 1
    monkeypatch.setenv("DADMM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        command("fit", tmp_path / "config.toml", "--run", "run")


def test_a_full_disk_is_a_failed_run(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dadmm.app.fit.load_data", fail)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 1
    assert names(done.err, "failed", "No space left on device")


def test_a_shuffled_copy_is_one_line_on_the_terminal(here):
    rng = np.random.default_rng(0)
    zarr.create_array("x.zarr", data=rng.random((90, 4)), chunks=(45, 4))
    np.save("y.npy", np.repeat([0, 1, 2], 30))
    table = '[data]\nx = "x.zarr"\ny = "y.npy"\n[model]\nchunks = 30\nmax_iter = 1\n'
    Path("config.toml").write_text(table)
    done = command("fit", "config.toml", "--run", "run", "--quiet")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert names(line, "45", "30", "2.81 kiB", "shuffle=False")
    assert "OrderWarning" not in line
