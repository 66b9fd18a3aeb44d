"""Whatever cannot work is refused in one line that names it and the cure, and nothing is lost."""

import json
import re
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr

import dadmm
from dadmm import ADMMClassifier, ADMMRegressor, RelaxedADMM
from dadmm.errors import (
    DadmmError,
    DataError,
    InputError,
    OptionError,
    RunError,
    ShapeError,
    StoreError,
)
from support.terminal import command

X = np.random.default_rng(0).normal(size=(30, 3)).round(3)
Y = (X[:, 0] > 0).astype(int)
RELAXED = {"name": "relaxed"}
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}

LAZY = da.from_array(X, chunks=(10, 3))
HUGE = X.astype(object)
HUGE[7, 1] = 10**400


def fails(block):
    if block.size:  # dask tries it on nothing
        raise ZeroDivisionError("0\na block")
    return block


BAD_NAN, BAD_INF = X.copy(), X.copy()
BAD_NAN[7, 1] = np.nan
BAD_INF[29, 2] = -np.inf


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(error, words, function, *arguments, **options):
    """Check that a call raises one line of `error` that has `words` in it."""
    with pytest.raises(error, match=words) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, DadmmError)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a classifier's finished run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    ADMMClassifier(**SMALL, run=run).fit(X, Y)
    return run


@pytest.fixture
def run(finished):
    """Put a copy of it here, as ``run``, and check that it stays as it is."""
    shutil.copytree(finished, "run")
    yield "run"
    assert snapshot("run") == {
        Path("run", path.relative_to(finished)): content
        for path, content in snapshot(finished).items()
    }


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------ data that is fitted


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (X, Y[:-1], ShapeError, "y has 29 rows, x has 30"),
        (X[:, 0], Y, ShapeError, r"x has 1 dimension.*x\.reshape\(-1, 1\)"),
        (X[None], Y, ShapeError, r"x has 3 dimension\(s\), not \(rows, columns\)"),
        (
            X,
            np.stack([2 * Y, Y], 1),
            DataError,
            r"y has 2 in row .*, column 0: .* one label per row",
        ),
        (X, Y[None, None], ShapeError, "y has 3 dimensions"),
        ([[1, 2], [3]], [0, 1], ShapeError, "x has rows of different lengths"),
        ("abc", Y, InputError, "x: abc does not exist"),
        (None, Y, DataError, "x is missing"),
        (X, None, DataError, "y is missing"),
        (BAD_NAN, Y, DataError, "x contains NaN in row 7, column 1: drop or impute it"),
        (BAD_INF, Y, DataError, "x contains infinity in row 29, column 2: drop or impute"),
        (da.from_array(BAD_NAN, chunks=5), Y, DataError, "x contains NaN in row 7, column 1"),
        (da.from_array(BAD_INF, chunks=4), Y, DataError, "x contains infinity in row 29, col"),
        (X, np.where(Y, 1.0, np.nan), DataError, "y has a missing or infinite label in row"),
        (X[:0], Y[:0], DataError, r"x is empty: 0 sample\(s\) \(shape=\(0, 3\)\)"),
        (X[:, :0], Y, DataError, r"x is empty: 0 feature\(s\) \(shape=\(30, 0\)\)"),
        (X, 0 * Y, DataError, "y has one class, 0: a classifier needs at least two"),
        (X, np.full(30, "a"), DataError, "y has one class, 'a'"),
        (X, X[:, 0], DataError, "y holds continuous values.*use ADMMRegressor"),
        (X, np.array(["a", None] * 15, object), DataError, "y has a missing label in row 1"),
        (X, np.array(["a", 1] * 15, object), DataError, "y mixes labels of different types"),
        (X.astype(str), Y, DataError, "x is not numeric: row 0, column 0 holds '0.126'"),
        (np.where(X > 2, "big", X.astype(object)), Y, DataError, r"row \d+, column \d holds 'big'"),
        (
            pd.DataFrame({"a": Y, "b": "u"}),
            Y,
            DataError,
            r"not numeric: b \(row 0 holds 'u'\); enc",
        ),
        (X + 0j, Y, DataError, "x has dtype complex128. Complex data not supported"),
        (
            X.astype("i8").astype("m8[s]"),
            Y,
            DataError,
            r"x has dtype timedelta64\[s\], which is not",
        ),
        (HUGE, Y, DataError, "x has a number too large in row 7, column 1"),
        (
            LAZY.map_blocks(fails, dtype=float),
            Y,
            DataError,
            "x could not be computed: ZeroDiv.* 0 a block",
        ),
        (X, LAZY[:, 0].map_blocks(fails, dtype=int), DataError, "y could not be computed: ZeroDiv"),
        (LAZY[LAZY[:, 0].map_blocks(fails, dtype=float) > 0], Y, DataError, "x could not be comp"),
        (
            LAZY.map_blocks(lambda b: b[:2], dtype=float),
            Y,
            ShapeError,
            r"of shape \(6, 3\) from row 0 on",
        ),
        (
            LAZY.map_blocks(lambda b: b.astype(str), dtype=float),
            Y,
            DataError,
            "dtype <U32 from row",
        ),
        (da.ma.masked_greater(LAZY, 0), Y, DataError, "x has masked values: drop or fill them"),
    ],
)
def test_a_classifier_refuses_bad_data(x, y, error, words):
    refused(error, words, ADMMClassifier(**SMALL, run="run").fit, x, y)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (BAD_NAN, DataError, "y contains NaN in row 7, column 1: drop or impute it"),
        (BAD_INF[:, 2], DataError, "y contains infinity in row 29, column 0"),
        (da.from_array(BAD_NAN, chunks=4), DataError, "y contains NaN in row 7, column 1"),
        (np.array(["a"] * 30), DataError, "y is not numeric: row 0, column 0 holds 'a'"),
        (X[:, 0] + 0j, DataError, "y has dtype complex128. Complex data not supported"),
        (X[:, :0], DataError, r"y is empty: 0 feature\(s\) \(shape=\(30, 0\)\)"),
        (X[:-1], ShapeError, "y has 29 rows, x has 30"),
        (X[:, 0] * 1e300, DataError, "y has values whose squares overflow: scale them down"),
    ],
)
def test_a_regressor_refuses_bad_targets(y, error, words):
    refused(error, words, ADMMRegressor(**SMALL, run="run").fit, X, y)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (np.ones(29), ShapeError, "sample_weight has 29 rows, x has 30"),
        (
            np.ones((30, 2)),
            ShapeError,
            r"sample_weight has shape \(30, 2\): give one weight per row",
        ),
        (np.array(["a"] * 30), DataError, "sample_weight has dtype <U1, which is not numeric"),
        (-Y, DataError, "sample_weight has negative, missing or infinite weights"),
        (BAD_NAN[:, 1], DataError, "sample_weight has negative, missing or infinite weights"),
        (0 * Y, DataError, "sample_weight is zero for all samples"),
    ],
)
def test_weights_that_cannot_be_are_named(weight, error, words):
    refused(error, words, ADMMClassifier(**SMALL, run="run").fit, X, Y, weight)
    assert not snapshot("run")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("balancd", "class_weight='balancd': use 'balanced' or a dict of class: weight"),
        (3, "class_weight=3: use 'balanced' or a dict"),
        ({5: 1.0}, "no class in class_weight is called 5: known: 0, 1"),
        ({0: -1}, r"class_weight\[0\]=-1: use a number of 0 or more"),
        ({0: "x"}, r"class_weight\[0\]='x': use a number of 0 or more"),
        ({0: 10**400}, r"class_weight\[0\]=10+: use a number of 0 or more"),
    ],
)
def test_weights_of_classes_that_cannot_be_are_named(weights, words):
    refused(OptionError, words, ADMMClassifier(**SMALL, class_weight=weights).fit, X, Y)


def test_the_relaxed_solver_refuses_what_only_block_admm_can():
    clf = ADMMClassifier(**SMALL, solver="relaxed")
    words = "sample_weight and class_weight need solver='block'"
    refused(OptionError, words, clf.fit, X, Y, np.ones(30))
    assert not hasattr(clf, "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as caught:
        clf.partial_fit(X, Y)
    assert str(caught.value.__cause__) == "partial_fit needs solver='block', not 'relaxed'"
    clf.set_params(solver="relaxd")
    refused(OptionError, "did you mean 'relaxed'", clf.partial_fit, X, Y)


# ----------------------------------------------------------------------- data that is predicted for


@pytest.fixture(scope="module")
def clf():
    return ADMMClassifier(**SMALL).fit(X, Y)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (X[:, :2], ShapeError, "X has 2 features, but dadmm is expecting 3 features as i"),
        (X[:, 0], ShapeError, "x has 1 dimension"),
        (X[None], ShapeError, "x has 3 dimension"),
        (X[:0], DataError, r"x is empty: 0 sample\(s\) \(shape=\(0, 3\)\)"),
        (X + 0j, DataError, "x has dtype complex128"),
        (X.astype(str), DataError, "x .* not numeric"),
    ],
)
def test_predictions_need_data_like_that_of_training(clf, x, error, words, lazy):
    x = da.from_array(x) if lazy else x
    refused(error, words, clf.predict, x)
    refused(error, words, clf.predict_proba, x)


def test_predictions_need_finite_data(clf):
    refused(DataError, "x contains NaN in row 7, column 1", clf.predict, BAD_NAN)
    lazy = clf.predict(da.from_array(BAD_NAN, chunks=5))
    refused(DataError, r"chunk \(1,\), contains NaN in row 2", lazy.compute, scheduler="sync")
    refused(DataError, "x, in .* contains NaN", clf.predict, scipy.sparse.csr_array(BAD_NAN))


def test_what_is_predicted_is_finite(clf):
    far = X.copy()
    far[7, 1] = 1e300
    words = "x has no finite prediction in row 7: .* too large for float32"
    refused(DataError, words, clf.predict, far)
    lazy = clf.predict_proba(da.from_array(far, chunks=5))
    refused(DataError, r"chunk \(1, 0\), has no finite prediction in row 2", lazy.compute)


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (np.ones(29), ShapeError, "sample_weight has 29 rows, x has 30"),
        (0 * Y, DataError, "sample_weight is zero for all samples"),
        (["a"] * 30, DataError, "sample_weight has dtype <U1"),
    ],
)
def test_a_score_checks_its_weights(clf, weight, error, words):
    refused(error, words, clf.score, X, Y, weight)
    reg = ADMMRegressor(**SMALL).fit(X, X[:, 0])
    refused(error, words, reg.score, X, X[:, 0], weight)
    weight = (np.arange(30) % 3)[:, None]
    assert clf.score(X, Y, weight) == clf.score(
        X[weight[:, 0] > 0], Y[weight[:, 0] > 0], weight[weight > 0]
    )


def test_a_score_says_that_the_graph_it_was_given_fails(clf):
    refused(
        DataError,
        "X could not be computed: ZeroDiv",
        clf.score,
        LAZY.map_blocks(fails, dtype=float),
        Y,
    )


@pytest.mark.parametrize("label", [2, "1"])
def test_a_score_names_a_label_that_training_never_saw(clf, label):
    y = Y.astype(object if isinstance(label, str) else int)
    y[4] = label
    y = y.astype(str) if isinstance(label, str) else y
    where = 0 if isinstance(label, str) else 4
    words = f"label .* in row {where}, which is not among the 2 classes of training: 0, 1"
    refused(DataError, words, clf.score, X, y)
    refused(ShapeError, "y has 29 rows, x has 30", clf.score, X, Y[:-1])


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("hidden_layer_sizes", "abc", "use whole numbers such as"),
        ("hidden_layer_sizes", 5, "use whole numbers such as"),
        ("hidden_layer_sizes", None, "use whole numbers such as"),
        ("hidden_layer_sizes", (4.5,), "use whole numbers such as"),
        ("hidden_layer_sizes", (True,), "use whole numbers such as"),
        ("hidden_layer_sizes", (), "give at least one hidden layer"),
        ("hidden_layer_sizes", (4, 0), "each 1 or wider"),
        ("activation", "rlu", "did you mean 'relu'"),
        ("activation", 5, "activation=5: use a name"),
        ("activation", ["relu"], "use a name"),
        ("loss", "hing", "did you mean 'hinge'"),
        ("loss", None, "loss=None: use a name"),
        ("stem", "dens", "did you mean 'dense'"),
        ("stem", "identity", "as wide as the 3 features, not 4: change hidden_layer_sizes or use"),
        ("solver", "relaxd", "no solver is called 'relaxd': did you mean 'relaxed'"),
        ("solver", {"name": ["relaxed"]}, "no solver is called"),
        (
            "solver",
            RELAXED | {"tauu": 1},
            "no option of the relaxed solver is called 'tauu': .* 'tau'",
        ),
        ("solver", {"agens": 1}, "no option of the block solver is called 'agens': .* 'agents'"),
        ("solver", {"tau": 1}, "the block solver has no option 'tau': it belongs to 'relaxed'"),
        ("solver", RELAXED | {"agents": 1}, "relaxed solver has no option 'agents': it belongs to"),
        ("solver", RELAXED | {"tau": "x"}, "tau='x': use a number"),
        ("solver", {"agents": "x"}, "agents='x': use a whole number"),
        ("solver", {"agents": 0}, "agents=0: use 1 or more"),
        ("solver", {"mode": "onlin"}, "'onlin': did you mean 'online'"),
        ("solver", {"blocks": "x"}, "blocks='x': use a number or a list"),
        ("solver", {"blocks": True}, "blocks=True: use a number or a list"),
        ("solver", {"blocks": 9}, "blocks=9: use 1 to 2, the number of layers"),
        ("solver", {"blocks": [{"kind": "dens"}]}, "a block of kind 'dens'"),
        ("solver", {"constraints": 5}, "constraints=5: use a name or a list"),
        ("solver", {"blocks": 2, "constraints": "simplx"}, "did you mean 'simplex'"),
        ("solver", {"constraints": "simplex"}, "needs at least two blocks: blocks=2"),
        ("solver", {"learning_rate_schedule": "cosin"}, "did you mean 'cosine'"),
        ("solver", {"validation_fraction": 1}, "use a number above 0 and below 1"),
        ("solver", {"learning_rate": np.nan}, "learning_rate=nan: use a number above 0"),
        ("solver", 5, "solver=5: use one of block, relaxed"),
        ("solver", RelaxedADMM, "use one of block, relaxed or its object"),
        ("alpha", -1, "alpha=-1: use a number, 0 or more"),
        ("alpha", "x", "alpha='x': use a number"),
        ("alpha", None, "alpha=None: use a number"),
        ("alpha", np.nan, "alpha=nan: use a number, 0 or more"),
        ("max_iter", 0, "max_iter=0: use a whole number, 1 or more"),
        ("max_iter", 1.5, "max_iter=1.5: use a whole number"),
        ("max_iter", True, "max_iter=True: use a whole number"),
        ("tol", -1, "tol=-1: use a number, 0 or more"),
        ("tol", "x", "tol='x': use a number"),
        ("standardize", "globl", "did you mean 'global'"),
        ("standardize", None, "standardize=None: use a name"),
        ("random_state", "x", "random_state='x': use a whole number"),
        ("random_state", -1, "random_state=-1: use a whole number, 0 or more"),
        ("random_state", np.random.RandomState(0), "use a whole number"),
        ("run", 5, "run=5: use a path, a URL, or None"),
        ("run", "", "run='': use a path, a URL, or None"),
        ("overwrite", "no", "overwrite='no': use True or False"),
        ("verbose", "x", "verbose='x': use True or False"),
        ("memory_limit", "lots", "memory_limit='lots': write it like '2GiB'"),
        ("memory_limit", "1MiB", "is too small for this network: a worker needs at least"),
        ("memory_limit", [1], "memory_limit=.*write it like '2GiB'"),
        ("memory_limit", np.inf, "memory_limit=inf: write it like '2GiB'"),
        (
            "hidden_layer_sizes",
            (10**9, 10**9),
            "network 3 - 1000000000 - .* needs about .* PiB of mem",
        ),
        ("alpha", 10**400, "alpha has 401 digits: use a number below 1e308"),
        ("solver", {"rho": 10**400}, "rho has 401 digits: use a number below 1e308"),
        ("chunks", 0, "chunks=0: use 1 row per chunk or more"),
        ("chunks", "x", "chunks='x': use 'auto', a number of rows, or"),
        ("chunks", None, "chunks=None: use 'auto'"),
        ("chunks", 1.5, "chunks=1.5: use 'auto'"),
        ("chunks", ("a",), "give every chunk 1 row or more"),
        ("chunks", (0, 30), "give every chunk 1 row or more"),
    ],
)
@pytest.mark.parametrize("kind", [ADMMClassifier, ADMMRegressor])
def test_an_option_that_cannot_be_is_named(run, kind, option, value, words):
    options = {**SMALL, "run": run, "overwrite": True, option: value}
    refused(OptionError, words, kind(**options).fit, X, Y)


@pytest.mark.parametrize("chunks", [(10, 20), (10, 10), (20, 5, 5)])
def test_chunks_that_do_not_tile_are_named(chunks):
    words = "do not tile: all must be equal but the last" if sum(chunks) == 30 else "cover 20 rows"
    refused(ShapeError, words, ADMMClassifier(**SMALL, chunks=chunks).fit, X, Y)


def test_a_loss_is_for_one_label_per_row_or_for_several():
    fit = ADMMClassifier(**SMALL, loss="hinge").fit
    words = "loss='hinge' is for one label per row: use 'binary_cross_entropy'"
    refused(OptionError, words, fit, X, X > 0.5)
    fit = ADMMClassifier(**SMALL, loss="binary_cross_entropy").fit
    words = "loss='binary_cross_entropy' is for several labels per row: use 'cross_entropy'"
    refused(OptionError, words, fit, X, Y)
    fit = ADMMClassifier(**SMALL, class_weight="balanced").fit
    refused(OptionError, "class_weight is for one label per row: use sample", fit, X, X > 0.5)


@pytest.mark.parametrize("loss", ["hinge", "cross_entropy", "binary_cross_entropy"])
def test_a_regression_has_no_loss_for_classes(loss):
    reg = ADMMRegressor(**SMALL, loss=loss)
    refused(OptionError, "is for classes: use 'squared' or 'huber'", reg.fit, X, X[:, 0])


@pytest.mark.parametrize(("value", "words"), [(0, "1 or more"), ("x", "whole number")])
def test_a_new_limit_must_be_one(run, value, words):
    refused(OptionError, f"max_iter={value!r}: use .*{words}", dadmm.resume, run, max_iter=value)


# ------------------------------------------------------------------------------------------- stores


def fit_again(**options):
    return ADMMClassifier(**SMALL, run="run", **options).fit(X, Y)


def test_a_store_that_exists_is_left_as_it_is(run):
    refused(StoreError, "run exists: resume it, choose another path, or overwrite", fit_again)


def test_bad_data_does_not_cost_the_run_that_it_was_to_replace(run):
    again = ADMMClassifier(**SMALL, run=run, overwrite=True)
    refused(DataError, "x contains NaN", again.fit, BAD_NAN, Y)
    refused(DataError, "one class", again.fit, X, 0 * Y)


def test_bad_data_leaves_nothing_in_the_way_of_the_next_try():
    bad = ADMMClassifier(**SMALL, run="run")
    refused(DataError, "x contains NaN", bad.fit, da.from_array(BAD_NAN, chunks=5), Y)
    assert fit_again().n_iter_ == 2


def test_what_is_no_run_is_never_overwritten():
    Path("run").mkdir()
    Path("run", "thesis.txt").write_text("three years")
    refused(StoreError, "run exists", fit_again)
    words = "run is not a dadmm run, so it is not overwritten: remove it first"
    refused(StoreError, words, fit_again, overwrite=True)
    assert Path("run", "thesis.txt").read_text() == "three years"
    for function in (dadmm.load, dadmm.resume):
        refused(StoreError, "run is not a dadmm run: give the folder that a fit", function, "run")


@pytest.mark.parametrize("function", [dadmm.load, dadmm.resume])
def test_a_run_that_is_not_there_is_named(function):
    refused(StoreError, "nowhere does not exist: give the folder that a fit", function, "nowhere")


@pytest.fixture
def foreign(finished):
    """Put a run of another version of dadmm here, as ``run``, and check that it stays as it is."""
    shutil.copytree(finished, "run")
    path = Path("run", "zarr.json")
    document = json.loads(path.read_text())
    document["attributes"]["dadmm"] |= {"format": 99, "versions": {"dadmm": "9.9.9"}}
    path.write_text(json.dumps(document))
    before = snapshot("run")
    yield "run"
    assert snapshot("run") == before


@pytest.mark.parametrize("function", [dadmm.load, dadmm.resume])
def test_a_store_of_another_version_is_named(foreign, function):
    words = r"run has store format 99, this dadmm reads \d+: use dadmm 9\.9\.9"
    refused(StoreError, words, function, foreign)


def test_a_folder_that_cannot_be_made_is_named():
    Path("file").write_text("")
    for place in ("file/run", "/proc/run"):
        stuck = ADMMClassifier(**SMALL, run=place)
        refused(StoreError, f"{place} cannot be written: ", stuck.fit, X, Y)


# --------------------------------------------------------------------------------- the command line

CONFIG = """
[data]
x = "x.npy"
y = "y.npy"
[model]
hidden_layer_sizes = [4]
max_iter = 2
random_state = 0
"""


def write_config(*changes, name="config.toml"):
    """Write the data and a config, with some of its lines replaced."""
    np.save("x.npy", X)
    np.save("y.npy", Y)
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(name).write_text(text)


def complains(code, words, *arguments):
    """Check that ``dadmm ARGUMENTS`` fails with one line that has `words` in it."""
    done = command(*arguments)
    assert done.code == code, done
    assert "Traceback" not in done.out + done.err
    line = [line for line in done.err.splitlines() if line][-1]
    assert re.search(words, line), done.err
    if not line.startswith("Error: "):  # a usage error shows the usage before it
        assert done.err == f"{line}\n"
        assert line.startswith("error: " if code == 2 else "failed: ")
    return done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fitt"], "No such command 'fitt'. Did you mean 'fit'"),
        (["fit", "config.toml"], "Say where to keep the run: --run PATH"),
        (["fit", "--run", "run"], "Say what to train on: a CONFIG, or --data"),
        (["fit", "config.toml", "--run", "run", "--wrokers", "2"], "Did you mean '--workers'"),
        (["fit", "config.toml", "--run", "run", "--workers", "-1"], "-1 is not in the range"),
        (["fit", "config.toml", "--run", "run", "--workers", "x"], "'x' is not a valid int"),
        (["fit", ".", "--run", "run"], "'.' is a directory"),
        (["fit", "none.toml", "--run", "run"], "none.toml does not exist: give the path of a con"),
        (["fit", "x.npy", "--run", "run"], "x.npy is not valid TOML"),
        (["fit", "config.toml", "--run", "/proc/run"], "/proc/run cannot be written"),
        (["fit", "config.toml", "--run", "x.npy/run"], "x.npy/run cannot be"),
        (["fit", "config.toml", "--run", "x.npy", "--overwrite"], "x.npy is not a dadmm run"),
        (["fit", "config.toml", "--run", "nope://run"], "Protocol not known: nope"),
        (["resume"], "Missing argument 'RUN'"),
        (["resume", "nowhere"], "nowhere does not exist: give the folder that a fit"),
        (["resume", "run", "--max-iter", "0"], "0 is not in the range x>=1"),
        (["show", "nowhere"], "nowhere does not exist"),
        (["show", "x.npy"], "x.npy is not a dadmm run"),
        (["predict", "nowhere", "x.npy", "out.npy"], "nowhere does not exist"),
        (["predict", "nowhere", "x.npy"], "Missing argument 'OUTPUT'"),
        (["demo", "--workers", "-1"], "-1 is not in the range"),
    ],
)
def test_wrong_usage_is_explained(arguments, words):
    write_config()
    complains(2, words, *arguments)
    assert not snapshot("run")


def claims_more():
    """Write files that say they hold more than they do, and one whose chunk is damaged."""
    np.save("claims.npy", X)
    content = Path("claims.npy").read_bytes()
    claim = b"(3000000000, 3), }"
    Path("claims.npy").write_bytes(content.replace(b"(30, 3), }        ", claim))
    for name, shape, chunk in (
        ("damaged", [30, 3], [30, 3]),
        ("chunks", [10**9, 3], [1, 3]),
        ("chunk", [10**15, 3], [10**15, 3]),
    ):
        stored = zarr.create_array(f"{name}.zarr", shape=(30, 3), dtype=float, fill_value=0.0)
        stored[:] = X
        path = Path(f"{name}.zarr", "zarr.json")
        document = json.loads(path.read_text())
        document["shape"] = shape
        document["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        path.write_text(json.dumps(document))
    Path("damaged.zarr", "c", "0", "0").write_bytes(b"none of this")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[model]", "[modl]", r"config.toml: no table is called \[modl\]: did you mean 'model'"),
        ("max_iter", "max_itr", r"\[model\] has no key 'max_itr': did you mean 'max_iter'"),
        ("max_iter = 2", "max_iter = 'many'", r"\[model\] max_iter='many': use a whole number"),
        ("max_iter = 2", "max_iter = 0", "max_iter=0: use a whole number, 1 or more"),
        ("max_iter = 2", "alpha = -1", "alpha=-1: use a number, 0 or more"),
        ("max_iter = 2", "activation = 'rlu'", "'rlu': did you mean 'relu'"),
        ("max_iter = 2", "loss = 'hing'", "'hing': did you mean 'hinge'"),
        ("max_iter = 2", "stem = 'dens'", "'dens': did you mean 'dense'"),
        ("max_iter = 2", "standardize = 'globl'", "'globl': did you mean 'global'"),
        ("max_iter = 2", "chunks = 0", "chunks=0: use 1 row"),
        ("max_iter = 2", "chunks = [3, 4]", r"chunks=\(3, 4\) cover 7 rows, the data has 30"),
        ("random_state = 0", "[solver]\nname = 'relaxd'", "'relaxd': did you mean 'relaxed'"),
        ("random_state = 0", "[solver]\ntauu = 1", "'tauu': did you mean 'tau'"),
        ("random_state = 0", "[solver]\ntau = 1", "no option 'tau': it belongs to 'relaxed'"),
        ("random_state = 0", "random_state = -1", "random_state=-1: use a whole number, 0 or"),
        ("random_state = 0", "[cluster]\nmemory_limit = '1MiB'", "'1MiB' is too small"),
        ("random_state = 0", "[cluster]\nmemory_limit = 'lots'", "memory_limit='lots': use a"),
        ("[4]", "4", "hidden_layer_sizes=4: use a list of whole numbers"),
        ("[4]", "[0]", r"hidden_layer_sizes=\(0,\): give at least one"),
        ("x.npy", "none.npy", "x: none.npy does not exist"),
        ("x.npy", "nan.npy", "x contains NaN in row 7, column 1: drop or impute it"),
        ("y.npy", "nan.npy", "y has 0.1.* in row 0, column 0: a classifier takes"),
        ("x.npy", "objects.npy", "x: objects.npy is not a plain .npy array"),
        ("x.npy", "complex.npy", "x has dtype complex128"),
        (
            "x.npy",
            "claims.npy",
            "x: claims.npy is not a plain .npy array: .* greater than file size",
        ),
        ("x.npy", "x" * 300, "x: x+ does not exist"),
        ('"x.npy"', '"long.csv"', "long.csv cannot be opened: Error: field larger than"),
        ('"x.npy"', '"damaged.zarr"', r"damaged\.zarr cannot be read"),
        (
            '"x.npy"',
            '"chunks.zarr"',
            "x: chunks.zarr has 1000000000 chunks: store it in fewer, larger",
        ),
        ('"x.npy"', '"chunk.zarr"', "x: chunk.zarr has chunks of .* PiB, more than memory: use sm"),
        ('x = "x.npy"', "", r"\[data\] has y but no x: name the file of the inputs"),
        (
            "max_iter = 2",
            "chunks = " + "[" * 9999,
            "config.toml is not valid TOML: too many brackets",
        ),
        ("max_iter = 2", "max_iter = " + "9" * 5000, "config.toml is not valid TOML: .*digits"),
        (
            "max_iter = 2",
            "loss = '" + "x" * 9999 + "'",
            "no loss is called 'x+ \\.\\.\\. x*': known: binary",
        ),
        (
            "max_iter = 2",
            'loss = "a\\nb\\u001b[31m"',
            r"no loss is called 'a\\nb\\x1b\[31m': known",
        ),
        ("x.npy", "empty.npy", r"x is empty: 0 sample\(s\) \(shape=\(0, 3\)\)"),
        ("y.npy", "one.npy", "y has one class, 0"),
        ("y.npy", "short.npy", "y has 29 rows, x has 30"),
        ('"x.npy"', '"cell.csv"', r"not numeric: b \(row 1 holds 'u'\); encode"),
        ('y = "y.npy"', "", r"\[data\] has x but no y: name the file of the targets"),
        ('"y.npy"', '"y.npy"\ntest_fraction = 2', "test_fraction=2: use 0 to below 1"),
        ('"x.npy"', '"x.npy"\ndataset = "digits"', r"\[data\] needs either dataset, or x and y"),
    ],
)
def test_a_config_that_cannot_be_fitted_is_explained(old, new, words):
    np.save("nan.npy", BAD_NAN)
    np.save("objects.npy", X.astype(object))
    np.save("complex.npy", X + 0j)
    np.save("empty.npy", X[:0])
    np.save("one.npy", 0 * Y)
    np.save("short.npy", Y[:-1])
    Path("cell.csv").write_text("a,b\n1,2\n3,u\n")
    Path("long.csv").write_text("1," + "1" * 200_000 + "\n")
    claims_more()
    write_config((old, new))
    complains(2, words, "fit", "config.toml", "--run", "run")
    assert not snapshot("run")


def test_a_diverged_run_failed_and_keeps_what_was_good():
    write_config(("random_state = 0", "[solver]\nname = 'relaxed'\nmu = 1e-30\nbeta = 1e-30"))
    words = "iteration 1 diverged.*iteration 0 is kept. Raise beta"
    complains(1, words, "fit", "config.toml", "--run", "run")
    assert "diverged, 0 iterations" in command("show", "run").out
    complains(2, "no iteration to draw yet", "show", "run", "--plot", "a.png")
    complains(1, words, "resume", "run")


def test_a_run_in_the_way_is_named_with_the_keys_that_differ():
    write_config()
    assert command("fit", "config.toml", "--run", "run").code == 0
    before = snapshot("run")
    words = "run exists: go on with `dadmm resume run`, or use --overwrite"
    complains(2, words, "fit", "config.toml", "--run", "run")
    write_config(("max_iter = 2", "max_iter = 3"), ("[4]", "[5]"))
    words = (
        r"run exists with another config \(params.hidden_layer_sizes is \[4\] there, \[5\] here; "
        r"params.max_iter is 2 there, 3 here\): choose another path, or replace it with --over"
    )
    complains(2, words, "fit", "config.toml", "--run", "run")
    assert snapshot("run") == before
    assert command("fit", "config.toml", "--run", "run", "--overwrite").code == 0
    assert dadmm.load("run").n_iter_ == 3


@pytest.mark.parametrize("arguments", [["show"], ["resume"], ["predict"]])
def test_a_store_of_another_version_is_named_by_every_command(foreign, arguments):
    files = ["x.npy", "out.npy"] if arguments == ["predict"] else []
    complains(2, "run has store format 99, this dadmm reads", *arguments, "run", *files)
    write_config()
    complains(2, "run exists", "fit", "config.toml", "--run", "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["two.npy", "out.npy"],
            "X has 2 features, but dadmm is expecting 3 features as input: pass the same",
        ),
        (["two.csv", "out.npy"], "X has 2 features"),
        (["two.zarr", "out.zarr"], "X has 2 features"),
        (["damaged.zarr", "out.zarr"], r"damaged\.zarr cannot be read"),
        (["damaged.zarr", "out.npy"], r"damaged\.zarr cannot be read"),
        (["nan.npy", "out.npy"], "x contains NaN in row 7, column 1"),
        (["cell.csv", "out.npy"], r"columns that are not numeric: 1 \(row 0 holds 'u'\)"),
        (["none.npy", "out.npy"], "x: none.npy does not exist"),
        (["run", "out.npy"], "x: run is not a .npy, .csv or .parquet file"),
        (["x.npy", "x.npy"], "x.npy exists"),
        (["x.npy", "x.npy", "--overwrite"], "x.npy is read by this very command"),
        (["x.npy", "out.txt"], "out.txt: end the output's name in .npy, .csv, .parquet or .zarr"),
        (["x.npy", "none/out.npy"], "there is no folder .*none; make it first"),
        (["x.npy", "folder.npy", "--overwrite"], "folder.npy is a folder"),
        (["x.npy", "folder.zarr", "--overwrite"], "folder.zarr is not a zarr array"),
        (["x.npy", "x" * 300 + ".npy"], r"x+\.npy cannot be written: File name too long"),
        (["x.npy", "x" * 300 + ".zarr"], r"x+\.zarr cannot be written: File name too long"),
        (["x.npy", "nope://out.zarr"], "nope://out.zarr cannot be written: Protocol not known"),
    ],
)
def test_a_prediction_that_cannot_be_is_explained(run, arguments, words):
    np.save("x.npy", X)
    np.save("two.npy", X[:, :2])
    np.savetxt("two.csv", X[:, :2], delimiter=",")
    da.from_array(X[:, :2]).to_zarr("two.zarr")
    np.save("nan.npy", BAD_NAN)
    Path("cell.csv").write_text("1,u,3\n")
    claims_more()
    for name in ("folder.npy", "folder.zarr"):
        Path(name).mkdir()
        Path(name, "thesis.txt").write_text("three years")
    before = snapshot(".")
    complains(2, words, "predict", "run", *arguments)
    assert snapshot(".") == before


def test_probabilities_that_do_not_exist_are_not_predicted():
    np.save("x.npy", X)
    ADMMRegressor(**SMALL, run="run").fit(X, X[:, 0])
    complains(
        2, "run is a regression: it has no prob", "predict", "run", "x.npy", "o.npy", "--proba"
    )
    ADMMClassifier(**SMALL, run="hinge", loss="hinge").fit(X, Y)
    words = "loss='hinge' gives no probabilities: use 'cross_entropy'"
    complains(2, words, "predict", "hinge", "x.npy", "o.npy", "--proba")


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("none/a.png", "none/a.png cannot be written: No such file or directory"),
        ("a", "a: end the picture's name in .png, .pdf or .svg"),
        ("a.foo", "a.foo cannot be written: Format 'foo' is not supported"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_explained(run, picture, words):
    complains(2, words, "show", "run", "--plot", picture)


def test_a_damaged_commit_record_is_named(finished):
    shutil.copytree(finished, "run")
    path = Path("run", "commit.json")
    path.write_text(path.read_text()[:-20])
    complains(2, r"run: commit\.json is damaged", "show", "run")
    again = command("resume", "run")
    assert again.code == 0
    assert re.match(
        r"warning: run: commit\.json is damaged .*; going on from the record", again.err
    )


def test_an_error_is_one_line_whatever_it_quotes():
    assert str(InputError("a\n  b\x1b[31m\tc\udcff é")) == "a b\\x1b[31m\\tc\\udcff é"
    long = str(InputError("what " + "x" * 10_000 + " cure"))
    assert len(long) < 1000
    assert long.startswith("what ")
    assert long.endswith(" cure")


def test_memory_that_is_not_there_is_named(monkeypatch):
    def grab(*args, **options):
        raise MemoryError("Unable to allocate 9 EiB")

    monkeypatch.setattr("dadmm.engine.loop._start", grab)
    words = "there is not enough memory for this network: Unable to allocate"
    refused(RunError, words, ADMMClassifier(**SMALL).fit, X, Y)
    monkeypatch.setattr("dadmm.app.cli.load_data", grab)
    write_config()
    complains(1, "there is not enough memory: Unable to", "fit", "config.toml", "--run", "run")


def test_every_error_on_purpose_is_of_one_family():
    for error in (InputError, ShapeError, DataError, OptionError):
        assert issubclass(error, DadmmError)
        assert issubclass(error, ValueError)
    assert issubclass(StoreError, DadmmError)
