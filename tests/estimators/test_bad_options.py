"""Options and places that cannot be are refused in one line, and nothing is lost."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import dadmm
from dadmm import ADMMClassifier, ADMMRegressor, RelaxedADMM
from dadmm.errors import DataError, OptionError, ShapeError, StoreError
from support.refusals import BAD_NAN, SMALL, X, Y, refused

pytestmark = pytest.mark.usefixtures("here")


RELAXED = {"name": "relaxed"}


# ----------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("hidden_layer_sizes", "abc", ["hidden_layer_sizes='abc'"]),
        ("hidden_layer_sizes", 5, ["hidden_layer_sizes=5"]),
        ("hidden_layer_sizes", None, ["hidden_layer_sizes=None"]),
        ("hidden_layer_sizes", (4.5,), ["hidden_layer_sizes=(4.5,)"]),
        ("hidden_layer_sizes", (True,), ["hidden_layer_sizes=(True,)"]),
        ("hidden_layer_sizes", (), ["hidden_layer_sizes=()"]),
        ("hidden_layer_sizes", (4, 0), ["hidden_layer_sizes=(4, 0)", "1"]),
        ("activation", "rlu", ["activation", "'rlu'", "'relu'"]),
        ("activation", 5, ["activation=5", "'relu'"]),
        ("activation", ["relu"], ["activation=['relu']", "'relu'"]),
        ("loss", "hing", ["loss", "'hing'", "'hinge'"]),
        ("loss", None, ["loss=None", "'auto'"]),
        ("stem", "dens", ["stem", "'dens'", "'dense'"]),
        ("stem", "identity", ["stem", "3 features", "4", "hidden_layer_sizes"]),
        ("solver", "relaxd", ["solver", "'relaxd'", "'relaxed'"]),
        ("solver", {"name": ["relaxed"]}, ["solver", "['relaxed']"]),
        (
            "solver",
            RELAXED | {"tauu": 1},
            ["relaxed", "'tauu'", "'tau'"],
        ),
        ("solver", {"agens": 1}, ["block", "'agens'", "'agents'"]),
        ("solver", {"tau": 1}, ["block", "'tau'", "'relaxed'"]),
        ("solver", RELAXED | {"agents": 1}, ["relaxed", "'agents'", "'block'"]),
        ("solver", RELAXED | {"tau": "x"}, ["tau='x'", "number"]),
        ("solver", {"agents": "x"}, ["agents='x'", "whole number"]),
        ("solver", {"agents": 0}, ["agents=0", "1"]),
        ("solver", {"mode": "onlin"}, ["mode", "'onlin'", "'online'"]),
        ("solver", {"blocks": "x"}, ["blocks='x'", "whole number"]),
        ("solver", {"blocks": True}, ["blocks=True", "whole number"]),
        ("solver", {"blocks": 9}, ["blocks=9", "1", "2"]),
        ("solver", {"blocks": [{"kind": "dens"}]}, ["block", "'dens'"]),
        ("solver", {"constraints": 5}, ["constraints=5", "list"]),
        ("solver", {"blocks": 2, "constraints": "simplx"}, ["constraint", "'simplx'", "'simplex'"]),
        ("solver", {"constraints": "simplex"}, ["constraints='simplex'", "blocks=2"]),
        (
            "solver",
            {"learning_rate_schedule": "cosin"},
            ["learning_rate_schedule", "'cosin'", "'cosine'"],
        ),
        ("solver", {"validation_fraction": 1}, ["validation_fraction=1", "below 1"]),
        ("solver", {"learning_rate": np.nan}, ["learning_rate=nan", "above 0"]),
        ("solver", 5, ["solver=5", "block, relaxed"]),
        ("solver", RelaxedADMM, ["solver=RelaxedADMM", "object"]),
        ("alpha", -1, ["alpha=-1", "0"]),
        ("alpha", "x", ["alpha='x'", "number"]),
        ("alpha", None, ["alpha=None", "number"]),
        ("alpha", np.nan, ["alpha=nan", "0"]),
        ("max_iter", 0, ["max_iter=0", "1"]),
        ("max_iter", 1.5, ["max_iter=1.5", "whole number"]),
        ("max_iter", True, ["max_iter=True", "whole number"]),
        ("tol", -1, ["tol=-1", "0"]),
        ("tol", "x", ["tol='x'", "number"]),
        ("standardize", "globl", ["standardize", "'globl'", "'global'"]),
        ("standardize", None, ["standardize=None", "'feature'"]),
        ("random_state", "x", ["random_state='x'", "whole number"]),
        ("random_state", -1, ["random_state=-1", "0"]),
        ("random_state", np.random.RandomState(0), ["random_state", "whole number"]),
        ("run", 5, ["run=5", "path"]),
        ("run", "", ["run=''", "path"]),
        ("overwrite", "no", ["overwrite='no'"]),
        ("verbose", "x", ["verbose='x'"]),
        ("memory_limit", "lots", ["memory_limit='lots'", "'2GiB'"]),
        ("memory_limit", "1MiB", ["memory_limit='1MiB'", "MiB"]),
        ("memory_limit", [1], ["memory_limit=[1]", "bytes"]),
        ("memory_limit", np.inf, ["memory_limit=inf", "bytes"]),
        (
            "hidden_layer_sizes",
            (10**9, 10**9),
            ["1000000000", "PiB"],
        ),
        ("alpha", 10**400, ["alpha", "401 digits"]),
        ("hidden_layer_sizes", (10**200,), ["hidden_layer_sizes", "201 digits"]),
        ("solver", {"batch_size": 10**200}, ["batch_size", "201 digits"]),
        ("solver", RELAXED | {"mu": 10**20}, ["mu", "1e+20"]),
        pytest.param("solver", 10**5000, ["solver", "5001 digits"], id="very long solver"),
        ("solver", {"rho": 10**400}, ["rho", "401 digits"]),
        ("chunks", 0, ["chunks=0", "1 row"]),
        ("chunks", "x", ["chunks='x'", "'auto'"]),
        ("chunks", None, ["chunks=None", "'auto'"]),
        ("chunks", 1.5, ["chunks=1.5", "'auto'"]),
        ("chunks", ("a",), ["chunks=('a',)", "'auto'"]),
        ("chunks", (0, 30), ["chunks=(0, 30)", "1 row"]),
    ],
)
@pytest.mark.parametrize("kind", [ADMMClassifier, ADMMRegressor])
def test_an_option_that_cannot_be_is_named(kept_run, kind, option, value, words):
    options = {**SMALL, "run": kept_run, "overwrite": True, option: value}
    refused(OptionError, words, kind(**options).fit, X, Y)


@pytest.mark.parametrize("chunks", [(10, 20), (10, 10), (20, 5, 5)])
def test_chunks_that_do_not_tile_are_named(chunks):
    words = [f"chunks={chunks}", *([] if sum(chunks) == 30 else ["20 rows", "30"])]
    refused(ShapeError, words, ADMMClassifier(**SMALL, chunks=chunks).fit, X, Y)


def test_a_loss_is_for_one_label_per_row_or_for_several():
    fit = ADMMClassifier(**SMALL, loss="hinge").fit
    words = ["loss='hinge'", "one label", "'binary_cross_entropy'"]
    refused(OptionError, words, fit, X, X > 0.5)
    fit = ADMMClassifier(**SMALL, loss="binary_cross_entropy").fit
    words = ["loss='binary_cross_entropy'", "several labels", "'cross_entropy'"]
    refused(OptionError, words, fit, X, Y)
    fit = ADMMClassifier(**SMALL, class_weight="balanced").fit
    refused(OptionError, ["class_weight", "one label", "sample_weight"], fit, X, X > 0.5)


@pytest.mark.parametrize("loss", ["hinge", "cross_entropy", "binary_cross_entropy"])
def test_a_regression_has_no_loss_for_classes(loss):
    reg = ADMMRegressor(**SMALL, loss=loss)
    refused(OptionError, [f"loss={loss!r}", "'squared'", "'huber'"], reg.fit, X, X[:, 0])


@pytest.mark.parametrize(("value", "words"), [(0, "1"), ("x", "whole number")])
def test_a_new_limit_must_be_one(kept_run, value, words):
    refused(OptionError, [f"max_iter={value!r}", words], dadmm.resume, kept_run, max_iter=value)


# ------------------------------------------------------------------------------------------ stores


def fit_again(**options):
    return ADMMClassifier(**SMALL, run="run", **options).fit(X, Y)


def test_a_store_that_exists_is_left_as_it_is(kept_run):
    refused(StoreError, ["run", "overwrite=True"], fit_again)


def test_bad_data_does_not_cost_the_run_that_it_was_to_replace(kept_run):
    again = ADMMClassifier(**SMALL, run=kept_run, overwrite=True)
    refused(DataError, ["x", "NaN"], again.fit, BAD_NAN, Y)
    refused(DataError, ["y", "one class"], again.fit, X, 0 * Y)


def test_bad_data_leaves_nothing_in_the_way_of_the_next_try():
    bad = ADMMClassifier(**SMALL, run="run")
    refused(DataError, ["x", "NaN"], bad.fit, da.from_array(BAD_NAN, chunks=5), Y)
    assert fit_again().n_iter_ == 2


def test_what_is_no_run_is_never_overwritten():
    Path("run").mkdir()
    Path("run", "thesis.txt").write_text("three years")
    refused(StoreError, ["run", "overwrite=True"], fit_again)
    words = ["run", "overwritten"]
    refused(StoreError, words, fit_again, overwrite=True)
    assert Path("run", "thesis.txt").read_text() == "three years"
    for function in (dadmm.load, dadmm.resume):
        refused(StoreError, ["run", "folder"], function, "run")


@pytest.mark.parametrize("function", [dadmm.load, dadmm.resume])
def test_a_run_that_is_not_there_is_named(function):
    refused(StoreError, ["nowhere", "folder"], function, "nowhere")


@pytest.mark.parametrize("function", [dadmm.load, dadmm.resume])
def test_a_store_of_another_version_is_named(foreign_run, function):
    words = ["run", "format 99", "dadmm 9.9.9"]
    refused(StoreError, words, function, foreign_run)


def test_a_folder_that_cannot_be_made_is_named():
    Path("file").write_text("")
    for place in ("file/run", "/proc/run"):
        stuck = ADMMClassifier(**SMALL, run=place)
        refused(StoreError, [place, "written"], stuck.fit, X, Y)
