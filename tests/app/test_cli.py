"""The command line fits, stops, resumes, predicts and shows, and says what it does."""

import json
import os
import re
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import click
import dask.array as da
import numpy as np
import pytest
from rich.console import Console

from dadmm import ADMMClassifier, ADMMRegressor, __version__, load
from dadmm.app import cli, demo, fit
from dadmm.app.cli import commands
from dadmm.engine.live.progress import progress
from dadmm.store import Run
from support.terminal import command
from support.waiting import wait_for_iteration

pytestmark = pytest.mark.usefixtures("here")

X = np.random.default_rng(0).normal(size=(40, 3)).round(3)
LABELS = np.array(["cat", "dog"])[(X[:, 0] > 0).astype(int)]
COMMANDS = ("fit", "plan", "resume", "predict", "show", "config", "demo")

CONFIG = """
[data]
x = "{folder}/table.csv"
test_fraction = 0.25
[solver]
{solver}
[model]
task = "{task}"
hidden_layer_sizes = [8]
max_iter = {max_iter}
random_state = {seed}
chunks = 15
"""


RELAXED = 'name = "relaxed"'
BLOCK = 'name = "block"\nbatch_size = 8'
# A schedule of the learning rate would be stretched to a new limit.
CONSTANT = f'{BLOCK}\nlearning_rate_schedule = "constant"'


def configure(
    folder, name="config.toml", task="classification", max_iter=3, seed=0, solver=RELAXED
):
    """Write a config and its data, and return the config's path."""
    target = LABELS if task == "classification" else X[:, 1]
    rows = [",".join(map(str, [*x, y])) for x, y in zip(X, target, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,c,kind", *rows]))
    path = folder / name
    path.write_text(
        CONFIG.format(folder=folder, task=task, max_iter=max_iter, seed=seed, solver=solver)
    )
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished run."""
    folder = tmp_path_factory.mktemp("run")
    assert ok("fit", configure(folder), "--run", folder / "run")
    return folder / "run"


def ok(*arguments):
    done = command(*arguments)
    assert done.code == 0, done
    return done


# ------------------------------------------------------------------------------------------- help


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


# -------------------------------------------------------------------------------------------- fit


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
    assert "a [bold] :smile: run" in ok("show", "a [bold] :smile: run").out


# ----------------------------------------------------------------------------------------- digest


def digest(run):
    text = ok("show", run, "--digest").out
    assert re.fullmatch(r"[0-9a-f]{64}\n", text)
    return text


def test_equal_runs_have_equal_digests_and_others_have_not(tmp_path, run):
    ok("fit", configure(tmp_path), "--run", "same")
    ok("fit", configure(tmp_path, seed=1), "--run", "other")
    assert digest("same") == digest(run) != digest("other")


# ----------------------------------------------------------------------------------------- resume


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
    assert fit._placed(table, None, None) == table
    assert fit._placed(table, None, 2) == {**table, "workers": 2}
    assert fit._placed(table, None, 0) == {**kept, "workers": 0}
    assert fit._placed(table, "ssh", None) == {**kept, "profile": "ssh"}
    assert fit._placed(table, "tls://a:1", 0) == {**kept, "scheduler": "tls://a:1", "workers": 0}
    done = command("fit", configure(tmp_path), "--run", "never", "--cluster", "slrum")
    assert done.code == 2
    assert "no profile is called 'slrum': did you mean 'slurm'" in done.err
    assert not Path("never").exists()


def test_resume_follows_no_scheduler_that_a_store_names(tmp_path, monkeypatch):
    ok("fit", configure(tmp_path, max_iter=2), "--run", "r", "--cluster", "threads")
    stored = {**cli.stored_config("r"), "cluster": {"scheduler": "tcp://127.0.0.1:1"}}
    monkeypatch.setattr(cli, "stored_config", lambda path: stored)
    done = ok("resume", "r", "--max-iter", 3)
    assert "scheduler of a stored [cluster] is not followed" in done.err
    done = ok("resume", "r", "--max-iter", 4, "--cluster", "threads")
    assert "followed" not in done.err


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


# ---------------------------------------------------------------------------------------- predict


def write_input(kind):
    name = f"new.{kind}"
    if kind == "npy":
        np.save(name, X)
    elif kind == "csv":
        np.savetxt(name, X, delimiter=",", header="a,b,c", comments="")
    else:
        da.from_array(X, chunks=(15, 2)).to_zarr(name)
    return name


def read_output(name):
    if name.endswith(".npy"):
        return np.load(name)
    if name.endswith(".zarr"):
        return da.from_zarr(name).compute()
    cells = [line.split(",") for line in Path(name).read_text().splitlines()]
    return np.array(cells if len(cells[0]) > 1 else [row[0] for row in cells])


@pytest.mark.parametrize("source", ["npy", "csv", "zarr"])
@pytest.mark.parametrize("target", ["npy", "csv", "zarr"])
@pytest.mark.parametrize("proba", [False, True])
def test_predictions_go_from_any_kind_of_file_to_any(run, source, target, proba):
    output = f"found.{target}"
    options = ["--proba"] if proba else []
    done = ok("predict", run, write_input(source), output, *options)
    assert done.out.endswith(f"written    40 rows -> {output}\n")
    assert done.err == ""
    assert ("columns    cat, dog\n" in done.out) == proba
    found = read_output(output)
    if source == target == "csv":  # names of columns, as the input has
        assert np.ravel(found[:1]).tolist() == (["cat", "dog"] if proba else ["kind"])
        found = found[1:]
    if proba:
        expected = load(run).predict_proba(X)
        np.testing.assert_allclose(found.astype(float), expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, load(run).predict(X))


def test_a_regression_predicts_numbers(tmp_path):
    ok("fit", configure(tmp_path, task="regression"), "--run", "run")
    ok("predict", "run", write_input("npy"), "found.csv")
    np.testing.assert_allclose(read_output("found.csv").astype(float), load("run").predict(X))


def test_labels_from_pandas_can_be_written():
    labels = LABELS.astype(object)
    labels[labels == "dog"] = 'dog, "big"'
    ADMMClassifier((8,), max_iter=2, random_state=0, run="run").fit(X, labels)
    for output in ("found.npy", "found.zarr"):
        ok("predict", "run", write_input("npy"), output)
        assert set(read_output(output)) == set(labels)
    ok("predict", "run", "new.npy", "found.csv")
    assert set(Path("found.csv").read_text().splitlines()) == {"cat", '"dog, ""big"""'}


@pytest.mark.parametrize("target", ["npy", "csv", "zarr"])
def test_an_output_is_replaced_only_when_told_to(run, target):
    output = f"found.{target}"
    ok("predict", run, write_input("npy"), output, "--proba")
    done = command("predict", run, "new.npy", output)
    assert done.code == 2
    assert f"{output} exists: choose another name, or use --overwrite" in done.err
    assert read_output(output).shape == (40, 2)
    ok("predict", run, "new.npy", output, "--overwrite")
    assert read_output(output).shape == (40,)


def test_a_prediction_that_fails_leaves_the_old_output_and_no_other(run):
    ok("predict", run, write_input("npy"), "found.zarr")
    bad = X.copy()
    bad[39, 0] = np.nan
    da.from_array(bad, chunks=(15, 3)).to_zarr("bad.zarr")
    before = read_output("found.zarr")
    done = command("predict", run, "bad.zarr", "found.zarr", "--overwrite")
    assert done.code == 2
    assert "contains NaN in row 9, column 0" in done.err
    np.testing.assert_array_equal(read_output("found.zarr"), before)
    assert sorted(os.listdir()) == ["bad.zarr", "found.zarr", "new.npy"]


# ------------------------------------------------------------------------------------------- show


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
    assert "pip install 'dadmm[plot]'" in done.err


# ----------------------------------------------------------------------------------------- config


def test_the_example_trains(tmp_path):
    Path("a.toml").write_text(ok("config", "--example").out)
    assert ok("config", "a.toml").out == "valid      a.toml\n"


def test_the_schema_is_json():
    assert json.loads(ok("config", "--schema").out)["title"] == "dadmm config"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[solver]\nname = 'blok'", "no solver is called 'blok': did you mean 'block'?"),
        ("[solver]\nname = 'relaxed'\nagents = 2", "the relaxed solver has no option 'agents'"),
        ("[model]\nmax_iter = 0", "max_iter=0: use a whole number, 1 or more"),
    ],
)
def test_a_config_is_checked_without_training(line, words):
    Path("a.toml").write_text(line)
    done = command("config", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_config_says_what_it_wants():
    assert "Name a FILE to check, or use --example or --schema" in command("config").err


# --------------------------------------------------------------------------------------- progress


def draw(console, iterations):
    row = {"objective": 1.23456e-5, "primal_residual": 1e-9, "train_score": -0.5}
    with progress(iterations, console=console) as show:
        for k in range(1, iterations + 1):
            show(k, row)
    return console.file.getvalue()


def test_progress_in_a_terminal_is_one_line_that_fits():
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    text = draw(console, 1000)
    last = [line for line in re.split(r"[\r\n]", text) if "1000/1000" in line][-1]
    assert len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last)) <= 80
    assert "objective 1.235e-05  residual 1e-09  score -0.5000" in last
    assert text.count("\n") == 1


@pytest.mark.parametrize("iterations", [1, 3, 10, 95])
def test_progress_elsewhere_is_some_plain_lines(iterations):
    text = draw(Console(file=StringIO(), width=80), iterations)
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert 1 <= len(lines) <= 12
    assert lines[0].startswith(f"iteration 1/{iterations}  objective 1.235e-05")
    assert lines[-1].startswith(f"iteration {iterations}/{iterations}  ")


# ------------------------------------------------------------------------------------------- demo


@pytest.fixture
def small_demo(monkeypatch):
    model = {**demo.CONFIG["model"], "hidden_layer_sizes": [8], "max_iter": 2}
    monkeypatch.setitem(demo.CONFIG, "model", model)
    monkeypatch.setattr("sklearn.neural_network.MLPClassifier", Guess)


class Guess:
    loss_ = 1.0

    def __init__(self, *args, **options):
        pass

    def fit(self, x, y):
        return self

    def score(self, x, y):
        return 0.1


def test_the_demo_compares_draws_and_says_what_to_try_next(small_demo):
    done = ok("demo", "--run", "runs/demo", "--workers", 0)
    for words in ("dadmm, 3-splitting", "MLPClassifier", "plot       runs/demo.png", "Try next:"):
        assert words in done.out
    assert Path("runs/demo.png").exists()
    assert "dadmm, 3-splitting" in ok("demo", "--run", "runs/demo", "--workers", 0).out


def test_the_demo_replaces_no_run_but_its_own(small_demo, tmp_path):
    ok("fit", configure(tmp_path), "--run", "mine")
    before = digest("mine")
    done = command("demo", "--run", "mine", "--workers", 0)
    assert done.code == 2
    assert "mine exists" in done.err
    assert digest("mine") == before


def test_the_demo_goes_without_matplotlib(small_demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'dadmm[plot]'" in ok("demo", "--run", "d", "--workers", 0).out


# ----------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("place", ["dadmm.app.cli.load_data", "dadmm.estimators.base.data.store"])
def test_a_stop_before_there_is_data_leaves_nothing(tmp_path, monkeypatch, place):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 130
    assert not any(Path("run").glob("*"))
    if place.endswith("store"):
        assert "stopped before the data was stored; start it again" in done.err


def test_sigterm_ends_like_ctrl_c(tmp_path, monkeypatch):
    def stop(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("dadmm.app.cli.load_data", stop)
    before = signal.getsignal(signal.SIGTERM)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 143
    assert not Path("run").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_driver_means_try_later(run):
    with Run.open(run).locked():
        done = command("resume", run, "--max-iter", 9)
    assert done.code == 75
    assert "is in use by process" in done.err


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
    assert f"iteration {reached} is stored. Go on with: dadmm resume {run}" in err
    assert record["status"] == "interrupted"
    assert "interrupted" in ok("show", run).out

    ok("resume", run, "--max-iter", reached + 2, "--workers", 0)
    straight = configure(tmp_path, "straight.toml", max_iter=reached + 2, solver=solver)
    straight.write_text(straight.read_text() + "tol = 0.0\n")
    ok("fit", straight, "--run", tmp_path / "straight")
    assert digest(run) == digest(tmp_path / "straight")


# ------------------------------------------------------------------------------ what nobody foresaw


def test_an_error_that_nobody_foresaw_is_one_line_too(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("dadmm.app.cli.load_data", fail)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert (done.code, done.out) == (1, "")
    assert done.err == "failed: ZeroDivisionError: by zero (DADMM_DEBUG=1 shows where)\n"
    monkeypatch.setenv("DADMM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        command("fit", tmp_path / "config.toml", "--run", "run")


def test_a_full_disk_is_a_failed_run(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dadmm.app.cli.load_data", fail)
    done = command("fit", configure(tmp_path), "--run", "run")
    assert done.code == 1
    assert "failed: [Errno 28] No space left on device" in done.err
