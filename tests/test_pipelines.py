"""The scripts in pipelines/ as jobs: processes that are stopped, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from dadmm import load
from dadmm.app import process
from dadmm.app.config import load_config
from dadmm.app.jobs import JOBS, run_job
from support.jobs import X, configure, digest, lines
from support.places import ROOT
from support.waiting import wait_for_iteration

pytestmark = pytest.mark.usefixtures("here")

FOLDER = ROOT / "pipelines"


def test_every_job_has_a_script_and_a_config():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(JOBS)
    for name, (_, needs) in JOBS.items():
        assert load_config(FOLDER / f"{name}.toml", needs, {})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("examples/*.toml")), ids=lambda path: path.stem)
def test_the_examples_are_valid(path):
    assert load_config(path, environ={})["data"]["dataset"]


def start(name, *arguments, **environ):
    return subprocess.Popen(
        [sys.executable, FOLDER / f"{name}.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
        start_new_session=True,
    )


def finish(process):
    """Return exit code, log and errors of a script."""
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.skipif(
    "DADMM_DATA" not in os.environ, reason="set DADMM_DATA to a folder with mnist.npz to run on it"
)
@pytest.mark.processes
def test_the_script_with_factors_trains_then_goes_on_from_its_store():
    printed = []
    for _ in range(2):
        code, out, err = finish(start("examples/deepfacto", "run", "2000"))
        assert code == 0, err
        printed.append(re.findall(r"^(test accuracy|\S+ error|  \w+) +(.+)$", out, re.MULTILINE))
    assert printed[0] == printed[1]
    (_, accuracy), (_, error), *attributes = printed[0]
    assert float(accuracy) > 0.8
    assert 0 < float(error) < 0.5
    assert len(attributes) == 6
    assert all(0 < float(value) < 1 for _, values in attributes for value in values.split())


@pytest.mark.processes
@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_script_explains_itself(name):
    code, out, err = finish(start(name, "--help"))
    assert (code, err) == (0, "")
    assert f"python pipelines/{name}.py [CONFIG]" in out
    assert f"by default {name}.toml" in out
    assert "143  stopped by SIGTERM" in out


@pytest.mark.processes
def test_the_configs_beside_the_scripts_belong_together():
    small = {"DADMM__MODEL__MAX_ITER": "3", "DADMM__MODEL__HIDDEN_LAYER_SIZES": "[32]"}
    Path("runs").mkdir()
    np.save("new.npy", load_digits().data[:100])
    for name in ("train", "train", "resume", "evaluate", "predict"):
        more = {"DADMM__RESUME__MAX_ITER": "5"} if name == "resume" else {}
        code, out, err = finish(start(name, **small, **more))
        assert (code, err) == (0, "")
        assert lines(out)[-1]["event"] == "done"
    scores = json.loads(Path("runs/batch-scores.json").read_text())
    assert scores["iterations"] == 5
    assert scores["rows"] == 450
    assert scores["metrics"]["accuracy"] > 0.7
    assert len(Path("runs/batch-predicted.csv").read_text().splitlines()) == 100


@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "everybody", "workers", "code"),
    [
        (signal.SIGTERM, False, 0, 143),  # Kubernetes: the first process of a container
        (signal.SIGTERM, True, 2, 143),  # Slurm: all of a step
        (signal.SIGKILL, True, 2, -signal.SIGKILL),
    ],
    ids=["term", "term-all", "kill"],
)
def test_what_is_stopped_goes_on_to_the_same_network(monkeypatch, number, everybody, workers, code):
    first = start("train", configure(max_iter=10**5, workers=workers))
    try:
        wait_for_iteration("run", 2, first)
        (os.killpg if everybody else os.kill)(first.pid, number)
        found, out, err = finish(first)
    finally:
        first.kill()
    assert found == code, err
    assert "Traceback" not in err
    if number == signal.SIGTERM:
        last = lines(out)[-1]
        assert (last["event"], last["exit_code"]) == ("stopped", 143)
    reached = json.loads(Path("run/commit.json").read_text())["iteration"]
    monkeypatch.setenv("DADMM__CLUSTER__WORKERS", "0")
    monkeypatch.setenv("DADMM__RESUME__MAX_ITER", str(reached + 2))
    assert run_job("resume", "train.toml") == 0
    assert run_job("train", configure("straight.toml", max_iter=reached + 2, run="straight")) == 0
    assert digest("run") == digest("straight")


@pytest.mark.processes
def test_predicting_that_was_killed_goes_on_with_what_is_left(capsys):
    run_job("train", configure())
    rows = np.tile(X, (10, 1))
    np.save("new.npy", rows)
    text = '[run]\npath = "run"\n[predict]\ninput = "new.npy"\noutput = "found.npy"\nrows = 1\n'
    Path("predict.toml").write_text(text)
    first = start("predict", "predict.toml")
    try:
        for line in first.stdout:
            if json.loads(line)["event"] == "part":
                break
        first.kill()
        first.communicate(timeout=60)
    finally:
        first.kill()
    assert not Path("found.npy").exists()
    there = len(list(Path("found.npy.parts").glob("*.npy")))
    assert 1 <= there < len(rows)
    capsys.readouterr()
    assert run_job("predict", "predict.toml") == 0
    parts = [line for line in lines(capsys.readouterr().out) if line["event"] == "part"]
    assert len(parts) == len(rows) - there
    np.testing.assert_array_equal(np.load("found.npy"), load("run").predict(rows))


# ---------------------------------------------------------------------------------------- README

TEXT = (FOLDER / "README.md").read_text()


def test_the_readme_tells_the_exit_codes():
    table = re.findall(r"^\| ([\d, ]+) \|", TEXT, flags=re.MULTILINE)
    assert sorted(int(code) for row in table for code in row.split(",")) == [
        0,
        process.FAILED,
        process.BAD_INPUT,
        process.LATER,
        process.INTERRUPTED,
        process.TERMINATED,
    ]


def test_the_kubernetes_job_names_a_script_a_key_and_the_code_of_bad_input():
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    spec = yaml.safe_load(text)["spec"]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [process.BAD_INPUT]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which podFailurePolicy demands
    (container,) = pod["containers"]
    assert (FOLDER.parent / container["command"][1]).exists()
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert load_config(FOLDER / "train.toml", environ=environ)["run"] == {"path": "/runs/digits"}
    assert {each["name"] for each in pod["volumes"]} == {
        each["name"] for each in container["volumeMounts"]
    }


def test_the_shell_lines_are_shell_and_name_scripts_and_keys():
    found = re.findall(r"```sh[^\n]*\n(.*?)```", TEXT, flags=re.DOTALL)
    for text in found:
        lines = [line for line in text.splitlines() if not line.startswith("*/")]  # of cron
        subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, check=True, timeout=10)
    scripts = re.findall(r"pipelines/\w+\.py", "".join(found))
    assert len(scripts) == 3
    assert all((FOLDER.parent / script).exists() for script in scripts)
    environ = dict(re.findall(r"(DADMM__\w+)=(\S+)", "".join(found)))
    cluster = load_config(FOLDER / "train.toml", environ=environ)["cluster"]
    assert cluster == {"workers": 8, "memory_limit": "4GiB"}
