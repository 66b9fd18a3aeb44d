"""Notebooks run from top to bottom, show what they should, and are committed without outputs."""

import os
import re

import nbformat
import pytest

from support.notebooks import execute
from support.places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.processes
def test_first_steps(tmp_path):
    printed, plots = executed("1_first_steps", tmp_path)
    assert min(found(r"accuracy ([\d.]+)", printed, 4)) > 0.96
    assert "dashboard http://127.0.0.1:" in printed
    assert "dask.array<" in printed
    assert "the same bits: True" in printed
    assert plots == 3  # two drawn, and the curves of the run


@pytest.mark.processes
def test_memory_stays_flat_while_data_grow(tmp_path):
    printed, plots = executed("2_larger_than_memory", tmp_path)
    sizes = found(r"(\d+) MiB of data", printed, 3)
    peaks = found(r"peak of a worker (\d+) MiB", printed, 3)
    assert sizes[-1] == 16 * sizes[0]
    assert peaks[-1] < 1.2 * peaks[0]
    assert peaks[-1] < 0.75 * 640
    assert min(found(r"(?:score|accuracy) ([\d.]+)", printed, 4)) > 0.98
    assert "('time', 'lat', 'lon') lazy" in printed
    assert found(r"R2 ([\d.]+)", printed, 1)[0] > 0.95
    assert plots == 2


@pytest.mark.skipif(
    "DADMM_DATA" not in os.environ,
    reason="set DADMM_DATA to a folder with winequality-white.csv to run on it",
)
def test_the_algorithms(tmp_path):
    printed, plots = executed("3_the_algorithms", tmp_path)
    assert found(r"largest rise of the Lagrangian: (\S+)", printed, 1)[0] < 1e-6
    (objective,) = found(r"^Lagrangian ([\d.]+)$", printed, 1)
    (loss,) = found(r"^loss of the network ([\d.]+)", printed, 1)
    assert objective < loss
    serial, *regional = found(r"Lagrangian with \d region.* ([\d.]+)$", printed, 3)
    assert serial < min(regional)
    rate, fit = found(r"rate ([\d.]+), R2 of the fit ([\d.]+)", printed, 2)
    assert 0.9 < rate < 1
    assert fit > 0.97
    worth = {name: float(r2) for name, r2 in re.findall(r"^(.+?) +R2 ([\d.]+)$", printed, re.M)}
    assert worth["relaxed ADMM"] > worth["ridge"] + 0.05
    assert worth["Block-ADMM"] > worth["ridge on random layers"]
    assert plots == 4


def test_a_constraint_that_backpropagation_cannot_train_through(tmp_path):
    printed, plots = executed("4_a_constraint", tmp_path)
    assert found(r"same answers ([\d.]+)", printed, 1)[0] > 0.98
    drawn, trained, real = found(r"^(?:bits|16 real).* ([\d.]+)$", printed, 5)[:3]
    assert trained > 0.92
    assert drawn < 0.8
    assert real > trained - 0.02
    assert plots == 2


def test_factors_stand_for_what_the_labels_depend_on(tmp_path):
    printed, plots = executed("5_factors", tmp_path)
    assert found(r"squares explained ([\d.]+)", printed, 1)[0] > 0.8
    assert found(r"least ([\d.]+)", printed, 1)[0] >= 0
    assert found(r"reconstruction error ([\d.]+)", printed, 1)[0] < 0.3
    assert min(found(r"^test accuracy .* ([\d.]+)$", printed, 2)) > 0.7
    decides, rest = found(
        r"^DeepFacto +what decides the class ([\d.]+)  the rest ([\d.]+)", printed, 2
    )
    unsupervised, _ = found(r"^NMF +what decides the class ([\d.]+)  the rest ([\d.]+)", printed, 2)
    assert decides > unsupervised + 0.1
    assert decides > rest
    assert plots == 6


@pytest.mark.processes
def test_a_climate_cube(tmp_path):
    printed, plots = executed("6_climate_cube", tmp_path)
    assert found(r"^(\d+) MiB of numbers", printed, 1)[0] > 640  # what a worker may have
    assert found(r"^peak of a worker (\d+) MiB", printed, 1)[0] < 0.8 * 640
    sea, cells = found(r"^(\d+) of (\d+) cells are sea", printed, 2)
    assert 0.5 * cells < sea < 0.9 * cells
    assert found(r"^difference between chunks ([\d.]+)%", printed, 1)[0] < 1
    assert "('time', 'lat', 'lon') lazy" in printed
    network, usual = found(r"error ([\d.]+) m$", printed, 2)
    assert network < 0.6 * usual
    assert plots == 1


@pytest.mark.processes
def test_counts_of_single_cells(tmp_path):
    printed, plots = executed("7_single_cell_counts", tmp_path)
    stored, dense = found(r"stored in (\d+) MiB; with all zeros it has (\d+) MiB", printed, 2)
    assert stored < dense / 4
    assert found(r"squares explained ([\d.]+)", printed, 1)[0] > 0.5
    own = re.findall(r"^factor \d: .*  (\d+)% of (.+)$", printed, re.MULTILINE)
    assert len({name for share, name in own if int(share) > 90}) == 7  # six types, and stress
    assert "Array of 8000 labels, not computed yet" in printed
    assert min(found(r" found ([\d.]+)$", printed, 6)) > 0.95
    assert plots == 1


def test_a_year_of_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    printed, plots = executed("8_a_year_of_parquet", tmp_path)
    assert "353 files" in printed
    assert "zone, vehicle, weekday" in printed
    assert "categorical='one_hot'" in printed
    assert min(found(r"^R2 ([\d.]+)", printed, 2)) > 0.85
    assert '"event": "done"' in printed
    assert "exit code 0" in printed
    seen, autumn, december = found(r"error ([\d.]+) minutes", printed, 3)
    assert abs(autumn - seen) < 0.5
    assert december > seen + 1
    assert plots == 1


def executed(name, folder):
    """Run a notebook in an empty folder; return what it printed, and how many plots it drew."""
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": folder}}
    execute(notebook, timeout=150, resources=resources)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    errors = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Warning:" not in errors  # workers that end may complain that their scheduler has
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    shown = [output.get("data", {}) for output in outputs]
    return printed, sum("image/png" in o or "<progress" in o.get("text/html", "") for o in shown)


def found(pattern, text, count):
    """Return the numbers that a pattern's groups match in a text: so many of them."""
    matches = re.finditer(pattern, text, re.MULTILINE)
    numbers = [float(group) for match in matches for group in match.groups() if group]
    assert len(numbers) == count, f"{pattern}: {numbers} in {text}"
    return numbers
