"""Whatever arrays and options an estimator is given: a clean fit, or an error of the project's own.

``FUZZ_SEED=7 pytest tests/chaos/test_fuzz_arrays.py`` repeats one mutation.
"""

import shutil
import warnings
from dataclasses import fields
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    NotFittedError,
    UndefinedMetricWarning,
)

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, Dense, RelaxedADMM, Residual
from dadmm.errors import OrderWarning, ValidationWarning
from support.fuzz_ground import COLUMNS, EXTREMES, LABELS, ROWS, TARGETS, X, Y, special_array
from support.fuzzing import COUNTS, own_error, seeds, survive

pytestmark = [
    pytest.mark.usefixtures("on_ground"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.FactorWarning"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.OrderWarning"),
    pytest.mark.timeout(0),  # fuzzing.guard watches every case
]


def random_inputs(rng, rows):
    """Return inputs of some kind, more often good than bad, and what they are."""
    x = np.resize(X, (rows, COLUMNS))
    kinds = {
        "dtype": lambda: special_array(rng),
        "list": lambda: x.tolist(),
        "tuple": lambda: tuple(map(tuple, x)),
        "list of arrays": lambda: list(x),
        "ragged": lambda: [[1.0, 2.0], [3.0]] * rows,
        "frame": lambda: random_frame(rng, x),
        "series": lambda: pd.Series(x[:, 0]),
        "masked": lambda: np.ma.array(x, mask=x > rng.choice([0, 2, 99])),
        "matrix": lambda: scipy.sparse.random_array((rows, COLUMNS), format="csr"),
        "dask": lambda: random_dask(rng, x),
        "text": lambda: rng.choice([x.astype(str), "abc", b"abc", ["a"] * rows]),
        "none": lambda: rng.choice([None, 5, 5.0, {}, set(), object(), [], [[]], [None], ..., len]),
        "objects": lambda: with_cell(rng, x.astype(object)),
        "extreme": lambda: with_cell(rng, x.copy(), EXTREMES),
        "scaled": lambda: x * rng.choice(EXTREMES),
        "constant": lambda: np.full_like(x, rng.choice([0, 1, 1e38, 1e-300, -7.3])),
        "constant column": lambda: np.where(np.arange(COLUMNS) == 2, 3.3e7, x),
        "strided": lambda: np.repeat(x, 2, axis=1)[:, ::2],
        "backwards": lambda: x[::-1, ::-1],
        "read-only": lambda: read_only(x),
        "wide": lambda: np.resize(x, (rows, 300)),
    }
    kind = rng.choice([*kinds, "dask", "dask", "frame", "frame"])
    return kinds[kind](), kind


def random_frame(rng, x):
    frame = pd.DataFrame(x, columns=list("abcd"))
    changes = [
        lambda: frame,
        lambda: frame.assign(b="u"),
        lambda: frame.assign(b=pd.Categorical(["u"] * len(x))),
        lambda: frame.assign(b=pd.Timestamp("2020")),
        lambda: frame.assign(b=pd.array([1, None] * len(x), "Int64")[: len(x)]),
        lambda: frame.assign(b=pd.array([1] * len(x), "Int64")),
        lambda: frame.assign(b=pd.array([True, None] * len(x), "boolean")[: len(x)]),
        lambda: frame.assign(b=pd.array([1.5, None] * len(x), "Float64")[: len(x)]),
        lambda: frame.assign(b=True),
        lambda: frame.assign(b=[None] * len(x)),
        lambda: frame.astype("float32"),
        lambda: frame.set_axis(["a", "a", "b", "b"], axis=1),
        lambda: frame.set_axis(pd.MultiIndex.from_product([[0, 1], [0, 1]]), axis=1),
        lambda: frame.iloc[::-1],
        lambda: frame.iloc[:0],
        lambda: frame.astype(object),
        lambda: frame.assign(b=pd.arrays.SparseArray([0.0] * len(x))),
        lambda: frame.assign(b=1j),
    ]
    return rng.choice(changes)()


def random_dask(rng, x):
    rows = len(x)
    array = da.from_array(x, chunks=(max(1, rows // 3), -1))
    changes = [
        lambda: array,
        lambda: array[array[:, 0] > -99],  # chunks of unknown size
        lambda: array[array[:, 0] > 99],
        lambda: array.rechunk((max(1, rows // 2), 1)),
        lambda: array.rechunk(((0, rows, 0), (COLUMNS,))),
        lambda: array.rechunk((1, COLUMNS)),
        lambda: array[:, 0],
        lambda: array[:0],
        lambda: array[None],
        lambda: array.astype(rng.choice(["f2", ">f4", "i4", "?", "c8", "U8", "O", "g", "M8[s]"])),
        lambda: da.where(array > 1.5, rng.choice(EXTREMES), array),
        lambda: array * rng.choice(EXTREMES),
        lambda: da.ma.masked_greater(array, rng.choice([0, 99])),
        lambda: array.map_blocks(fails, dtype=float),
        lambda: array.map_blocks(half, dtype=float),
        lambda: array.map_blocks(scipy.sparse.csr_array, dtype=float),
        lambda: array.map_blocks(lambda block: block.astype(str), dtype=float),
        lambda: array.map_blocks(lambda block: block.astype(np.float32), dtype=float),
    ]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rng.choice(changes)()


def fails(block):
    if not block.size:  # dask tries it on nothing
        return block
    raise ZeroDivisionError("a block\nof the user's own")


def half(block):
    return block[: len(block) // 2]


CELL = [
    None, "", "u", "1.5", 10**400, 10**30, -(2**70), True, [], {}, object(), np.nan, float("inf"),
    1j,
    b"1", pd.NA, pd.NaT, np.datetime64("2020"), np.float32(1), np.int8(1), 1e308, (1, 2),
]  # fmt: skip


def with_cell(rng, x, values=CELL):
    if x.size:
        x[rng.randrange(len(x)), rng.randrange(x.shape[1])] = rng.choice(values)
    return x


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def random_targets(rng, rows, classes):
    """Return targets of some kind and what they are."""
    y = np.resize(Y if classes else TARGETS[:, 0], rows)
    kinds = {
        "names": lambda: np.resize(LABELS, rows),
        "objects": lambda: np.resize(LABELS, rows).astype(object),
        "mixed": lambda: [rng.choice(CELL) for _ in range(rows)],
        "one odd": lambda: [rng.choice(CELL), *y.tolist()[1:]],
        "bool": lambda: y > 0,
        "column": lambda: y[:, None],
        "two": lambda: np.stack([y, y], 1),
        "three": lambda: y[None, None],
        "short": lambda: y[:-1],
        "float": lambda: y * 1.0,
        "scaled": lambda: y * rng.choice(EXTREMES),
        "extreme": lambda: with_cell(rng, y[:, None] * 1.0, EXTREMES),
        "constant": lambda: np.full(rows, rng.choice([0, 1.5, "a", None, np.nan, True, 1e300])),
        "series": lambda: pd.Series(y, index=np.arange(rows)[::-1]),
        "category": lambda: pd.Series(np.resize(LABELS, rows)).astype("category"),
        "nullable": lambda: pd.Series([1, None] * rows, dtype="Int64")[:rows],
        "strings": lambda: pd.Series(np.resize(LABELS, rows), dtype="string"),
        "frame": lambda: pd.DataFrame({"y": y}),
        "list": lambda: y.tolist(),
        "dates": lambda: np.arange(rows).astype("M8[s]"),
        "complex": lambda: y + 1j,
        "bytes": lambda: np.resize(LABELS, rows).astype("S3"),
        "big": lambda: y.astype("u8") + np.uint64(2**63),
        "huge": lambda: [10**30 + int(v) for v in y],
        "masked": lambda: np.ma.array(y, mask=y > rng.choice([0, 99])),
        "sparse": lambda: scipy.sparse.csr_array(y[:, None]),
        "dask": lambda: da.from_array(y, chunks=max(1, rows // rng.choice([1, 2, 3, 4]))),
        "dask names": lambda: da.from_array(np.resize(LABELS, rows), chunks=7),
        "dask unknown": lambda: (lambda a: a[a > -99])(da.from_array(y, chunks=9)),
        "dask zero": lambda: da.from_array(y).rechunk(((0, rows),)),
        "dask objects": lambda: da.from_array(
            np.array([None, "a"] * rows, object)[:rows], chunks=9
        ),
        "dask failing": lambda: da.from_array(y, chunks=9).map_blocks(fails, dtype=y.dtype),
        "each its own": lambda: np.arange(rows),
        "nothing": lambda: rng.choice([None, [], {}, 5, "abc", object(), [[]], np.empty(0), len]),
    }
    kind = rng.choice(list(kinds))
    return kinds[kind](), kind


def random_weights(rng, rows):
    kinds = {
        "ones": lambda: np.ones(rows),
        "list": lambda: [1] * rows,
        "random": lambda: np.arange(rows) * 1.0,
        "zeros": lambda: np.zeros(rows),
        "one": lambda: np.eye(rows)[0],
        "short": lambda: np.ones(rows - 1),
        "negative": lambda: -np.ones(rows),
        "extreme": lambda: np.full(rows, rng.choice(EXTREMES)),
        "one extreme": lambda: with_cell(rng, np.ones((rows, 1)), EXTREMES)[:, 0],
        "text": lambda: ["1"] * rows,
        "objects": lambda: np.ones(rows, object),
        "column": lambda: np.ones((rows, 1)),
        "bool": lambda: np.ones(rows, bool),
        "dask": lambda: da.ones(rows, chunks=5),
        "scalar": lambda: rng.choice([1, 1.5, "a", {}, [], object()]),
        "series": lambda: pd.Series(np.ones(rows)),
        "complex": lambda: np.ones(rows) + 0j,
        "nullable": lambda: pd.Series([1.0, None] * rows, dtype="Float64")[:rows],
    }
    kind = rng.choice(list(kinds))
    return kinds[kind](), kind


# Valid and not; whatever a keyword argument may be given.
OPTIONS = {
    "hidden_layer_sizes": [(4,), (4, 4), [3], (1,), (), (0,), 5, None, "ab", (2.0,), (True,),
                           (10**9,),
                           (10**30,), [[4]], np.array([4, 4]), np.array([[4]]), np.array(4), (-1,),
                           {4}, {4: 5}, (np.int8(5),), range(2, 4), (10**9, 10**9), ("4",),
                           (None,)],
    "activation": ["tanh", "sigmoid", "softplus", "identity", "leaky_relu", "rlu", "", None, 5,
                   len],
    "loss": ["squared", "huber", "hinge", "cross_entropy", "auto", "x", None, 1, ["auto"]],
    "stem": ["dense", "identity", "", None, True, b"dense"],
    "alpha": [0, 1, 1e10, 1e-300, 1e300, -1, np.nan, np.inf, "1", None, True, 10**400, 1j, [1],
              np.float32(0.1), np.array(0.1), np.array([0.1, 0.2]), 10**30],
    "max_iter": [1, 2, np.int64(2), 0, -1, 1.0, None, "2", True, np.nan, np.array(2), [2]],
    "tol": [0, 1, 1e300, -1, np.nan, np.inf, None, "x", 10**400, True],
    "standardize": ["feature", "global", "none", "x", None, True, 5],
    "random_state": [0, 2**32, 2**64, 10**30, 10**400, -1, 1.5, None, "0", True, np.int64(3),
                     np.uint64(2**63), np.random.default_rng(0), np.random.RandomState(0)],
    "run": [5, "", [], {}, "labels", "x.npy", "/proc/nope", "x.npy/run", "nope://x", "\0", "a\0b",
            "x" * 5000, ".", "/", b"run", True],
    "overwrite": [1, "yes", None, False],
    "memory_limit": ["2GiB", 2**31, "1MiB", 0, -1, "", "x", [], {}, np.nan, np.inf, 1.5, 1e30,
                     10**400,
                     True, "infGiB", "nanGiB", "1e400", b"2GiB", np.int64(2**31), "2 GiB x"],
    "chunks": ["auto", 1, 7, 16, 10**9, 10**30, 0, -1, 1.5, None, "x", (), [], (16, 16, 16), (48,),
               (20, 28), (-1, 49), [1.0], np.array([16, 16, 16]), np.int8(16), True, (True,) * 48,
               {16}, [[16]], (10**30,), "", np.nan],
    "warm_start": [True, 1, "x", None],
    "verbose": [1, "x", None],
    "class_weight": [None, "balanced", "x", {}, {0: 1}, {0: 2.0, 1: 1}, {5: 1}, {0: -1},
                     {0: np.nan},
                     {0: "x"}, {0: 10**400}, {"cat": 2.0}, {None: 1}, {0: 0, 1: 0, 2: 0}, 5, [1, 2],
                     {0: 1e-300, 1: 1e300}, {True: 2}, {(1, 2): 3}, {0: None}, {0: True},
                     {np.nan: 1},
                     {0: np.array([1, 2])}],
}  # fmt: skip


SOLVER_VALUES = [
    0, -1, 1, 2, 3, 1.5, 0.5, 0.1, 1e-300, 1e300, 10**30, 10**400, np.nan, np.inf, None, "", "x",
    True,
    False, [], (), {}, [2], (2, 3), [2, 2], [9], np.int64(2), np.float32(0.5), np.array([1, 2]),
    b"x",
    "simplex", "k_sparse:2", "k_sparse:1e30", ["simplex"], [5], [None], "binary", "box:1e300",
    "l1:-1",
    "float64", "float16", "batch", "grid", "sgd", "admm", "plateau", "cosine", "constant",
    [Dense(3)], [Dense(3), Residual()], [Dense], [Dense(3), 2], [object()], Dense(3), "linearized",
    "recompute", "squared_l2:0.1", object(),
]  # fmt: skip


def random_solver(rng):
    """Return a solver: a name, a table or an object, with a few options of its own."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(["block", "relaxed"])
    if kind == 2:
        return rng.choice(["x", "", None, 5, BlockADMM, RelaxedADMM, {}, {"name": "relaxed"}, [],
        len,
                           {"name": 5}, {"name": None}, {5: 5}, np.array(["block"]),
                           np.ones(3)])  # fmt: skip
    made = rng.choice([BlockADMM, RelaxedADMM])
    known = [field.name for field in fields(made)]
    options = {}
    for name in rng.sample(known, rng.choice([1, 1, 2, 3])):
        options[name] = rng.choice(SOLVER_VALUES)
        if name in COUNTS and isinstance(options[name], int) and options[name] > 3:
            options[name] = 2
    if rng.random() < 0.5:
        return {"name": made.name, **options}
    return made(**options)


def random_options(rng, estimator, changed):
    known = [name for name in estimator().get_params() if name in OPTIONS]
    options = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "chunks": 16}
    options["solver"] = random_solver(rng) if "solver" in changed else rng.choice(GOOD_SOLVERS)
    if "options" in changed:
        for name in rng.sample(known, rng.choice([1, 1, 2])):
            options[name] = rng.choice(OPTIONS[name])
    return options


GOOD_SOLVERS = [
    "block",
    "relaxed",
    BlockADMM(blocks=2, mode="batch", consensus="admm"),
    BlockADMM(optimizer="sgd", early_stopping=True, learning_rate=1e-3),
    RelaxedADMM(splitting=2, regions=2, inner_steps=2),
]


def arrays(rng, seed):
    # One or two things at a time: what is wrong everywhere is refused at the first of them.
    everything = ["rows", "x", "x", "y", "y", "weight", "again", "solver", "options", "options"]
    changed = set(rng.sample(everything, rng.choice([1, 2])))
    rows = rng.choice([1, 2, 3, 5, 17]) if "rows" in changed else ROWS
    estimator = rng.choice([ADMMClassifier, ADMMRegressor])
    classes = estimator is ADMMClassifier
    options = random_options(rng, estimator, changed)
    plain = np.resize(X, (rows, COLUMNS)), "plain"
    with np.errstate(all="ignore"):
        x, x_kind = random_inputs(rng, rows) if "x" in changed else plain
        y, y_kind = np.resize(Y if classes else TARGETS[:, 0], rows), "plain"
        if "y" in changed:
            y, y_kind = random_targets(rng, rows, classes)
        weight, weight_kind = random_weights(rng, rows) if "weight" in changed else (None, "none")
        more = rng.choice([rows, 1, 7])
        again, again_kind = random_inputs(rng, more) if "again" in changed else plain
    call = rng.choice(["fit"] * 4 + ["partial_fit", "fit twice", "score", "predict first"])
    scheduler = rng.choice(["sync", "threads"])
    words = (
        f"{estimator.__name__}(**{str(options)[:600]}).{call}, {scheduler}: x {x_kind} "
        f"{str(x)[:150]!r}, y {y_kind} {str(y)[:150]!r}, weight {weight_kind}, then {again_kind} "
        f"{str(again)[:150]!r}"
    )
    with dask.config.set(scheduler=scheduler), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # scikit-learn's own, of one row
        warnings.simplefilter("ignore", DataConversionWarning)  # of a column of labels
        warnings.simplefilter("ignore", OrderWarning)  # of a copy
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ValidationWarning)
        wrong = try_estimator(estimator(**options), call, x, y, weight, again, rows)
    if Path("run").exists():
        shutil.rmtree("run")
    return words, wrong


def try_estimator(model, call, x, y, weight, again, rows):
    """Fit and predict; return what is wrong with how that ended, or None."""
    try:
        if call == "predict first":
            model.predict(x)
        if call == "partial_fit" and not hasattr(model, "partial_fit"):
            return None  # of solvers that learn from all data at once
        if call == "partial_fit":
            model.partial_fit(x, y, sample_weight=weight)
        else:
            model.fit(x, y, weight)
        if call in ("partial_fit", "fit twice"):
            model.warm_start = True
            getattr(model, call.removesuffix(" twice"))(again, y, sample_weight=weight)
        if call == "score" and not np.isfinite(model.score(x, y, weight)) and rows > 1:
            return "the score is not finite"
    except NotFittedError as error:
        return None if call == "predict first" else own_error(error)
    except Exception as error:
        return own_error(error)
    wrong = try_predictions(model, x, rows)
    if wrong:
        return wrong
    try:
        found = dask.compute(model.predict(again))[0]
        return None if finite(found) else f"predicted {found[:5]}"
    except ZeroDivisionError:
        return None  # of the graph that was passed, which is computed here, not by dadmm
    except Exception as error:
        return own_error(error)


def try_predictions(model, x, rows):
    try:
        found = dask.compute(model.predict(x))[0]
        if not finite(found) or len(found) < 1:
            return f"predicted {found[:5]}"
        if hasattr(model, "predict_proba") and model.loss in ("auto", "cross_entropy"):
            shares = dask.compute(model.predict_proba(x))[0]
            if shares.shape != (len(found), len(model.classes_)) or not finite(shares):
                return f"probabilities {shares.shape} {shares[:2]}"
    except Exception as error:
        return f"what was fitted is not predicted: {own_error(error) or error}"
    return None


def finite(found):
    found = np.asarray(found)
    return found.dtype.kind not in "fc" or bool(np.isfinite(found).all())


@seeds()
def test_arrays(batch):
    survive(arrays, batch)
