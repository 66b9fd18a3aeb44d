"""Whatever a config, a file or an array holds: a clean run, or one line of the project's own.

``FUZZ_SEED=7 pytest tests/chaos/test_fuzz_inputs.py -k configs`` repeats one mutation.
"""

import contextlib
import json
import shutil
import warnings
from dataclasses import fields
from itertools import chain
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, Dense, RelaxedADMM, Residual
from dadmm.app.schema import SCHEMA
from support.fuzzing import (
    Raw,
    flip_file,
    mutate_bytes,
    mutate_lines,
    own_error,
    run_command,
    seeds,
    survive,
    takes_long,
    toml,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::dadmm.errors.FactorWarning"),
    pytest.mark.timeout(0),  # fuzzing.guard watches every case
    pytest.mark.filterwarnings("ignore:A column-vector y"),
]

ROWS, COLUMNS = 48, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, COLUMNS)).round(3)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
TARGETS = X[:, :2] - X[:, 2:] ** 2
LABELS = np.array(["cat", "dog", "ewe"])[Y]


def write_data():
    """Write the same data in every format."""
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("targets.npy", TARGETS)
    np.savetxt("x.csv", X, delimiter=",", fmt="%g", header="a,b,c,d", comments="")
    rows = [",".join(map(str, [*x, label])) for x, label in zip(X, LABELS, strict=True)]
    Path("table.csv").write_text("\n".join(["a,b,c,d,kind", *rows]) + "\n")
    towns = [("", "Aa", "Be")[i % 3] for i in range(ROWS)]
    rows = [
        f"r{i},{x[0]},{town},{y}" for i, (x, town, y) in enumerate(zip(X, towns, Y, strict=True))
    ]
    Path("rows.csv").write_text("\n".join(["id,a,town,kind", *rows]) + "\n")
    for name, array in {"x": X, "y": Y, "targets": TARGETS}.items():
        stored = zarr.create_array(f"{name}.zarr", data=array, chunks=(20, *array.shape[1:]))
        assert stored.nchunks == 3


MODEL = {"hidden_layer_sizes": [5, 5], "max_iter": 2, "random_state": 0, "chunks": 16}
BLOCK = {
    "name": "block", "blocks": 2, "mode": "batch", "rho": 1.0, "constraints": "box:9",
    "inner_steps": 2, "z_steps": 2, "z_rate": 0.5, "optimizer": "sgd", "learning_rate": 0.01,
    "learning_rate_schedule": "cosine", "momentum": 0.5, "beta2": 0.9, "epsilon": 1e-6,
    "weight_decay": 0.1, "clip_norm": 1.0, "batch_size": 8, "local_epochs": 1,
    "consensus": "admm", "sigma": 0.1, "agents": 2, "schedule": "fused", "early_stopping": True,
    "validation_fraction": 0.2, "n_iter_no_change": 1, "dtype": "float64",
}  # fmt: skip
RELAXED = {
    "name": "relaxed", "splitting": 2, "variant": "linearized", "regions": 2, "state": "keep",
    "mu": 1.0, "nu": 1.0, "beta": 10.0, "tau": 1e-3, "over_relaxation": 1.2, "head_refit": False,
    "inner_steps": 2, "inner_tol": 1e-2, "dtype": "float64",
}  # fmt: skip
CLUSTER = {"workers": 0, "memory_limit": "2GiB", "dashboard": -1}
# Together they have every key of a config.
CONFIGS = {
    "digits": {
        "data": {"dataset": "digits", "test_fraction": 0.9},
        "model": {**MODEL, "hidden_layer_sizes": [3], "max_iter": 1, "chunks": [60, 60, 59]},
        "solver": {"name": "block"},
    },
    "block": {
        "data": {"x": "table.csv", "y": "kind", "test_fraction": 0.25, "seed": 3},
        "model": MODEL
        | {
            "task": "classification", "activation": "tanh", "loss": "cross_entropy",
            "stem": "dense", "alpha": 0.01, "tol": 0.0, "standardize": "global",
            "class_weight": "balanced",
        },
        "solver": BLOCK,
        "cluster": CLUSTER,
    },
    "blocks": {
        "data": {"x": "x.npy", "y": "y.npy"},
        "model": MODEL,
        "solver": {
            "blocks": [{"kind": "dense", "width": 6, "activation": "relu"}, {"kind": "residual"}],
            "constraints": ["k_sparse:3"], "schedule": "grid",
        },
    },
    "cut": {
        "data": {"x": "x.zarr", "y": "targets.zarr"},
        "model": {**MODEL, "task": "regression", "loss": "huber"},
        "solver": {"name": "block", "blocks": [2, 3], "constraints": ["l2_ball:2", ""]},
    },
    "relaxed": {
        "data": {"x": "x.zarr", "y": "y.zarr"},
        "model": {
            **MODEL, "hidden_layer_sizes": [4, 4], "stem": "identity", "chunks": "auto",
            "copy_data": False,
        },
        "solver": RELAXED,
        "cluster": {
            "memory_limit": 2**31, "profile": "threads", "tls": False, "timeout": "5 s",
        },
    },
    "plain": {
        "data": {"x": "x.npy", "y": "targets.npy", "test_fraction": 0.5},
        "model": {**MODEL, "task": "regression", "standardize": "none"},
        "solver": {"name": "relaxed", "regions": 1, "state": "recompute"},
    },
    "factors": {
        "data": {"x": "x.npy", "y": "y.npy"},
        "model": {
            **MODEL, "n_components": 3, "head_layer_sizes": [4], "factor_weight": 0.1,
            "sparsity": 0.1, "overlap": 0.1, "factor_init": "nndsvd", "code_sweeps": 5,
            "standardize": "shift",
        },
    },
    "factorization": {
        "data": {"x": "x.csv"},
        "model": {
            "task": "factorization", "n_components": 2, "init": "random", "alpha_W": 0.1,
            "alpha_H": 0.1, "l1_ratio": 0.5, "mode": "online", "dtype": "float64", "shift": True,
            "max_iter": 2, "random_state": 0, "chunks": 16,
        },
    },
    "table": {
        "data": {"x": "rows.csv", "y": ["kind"], "index": "id"},
        "model": {
            **MODEL, "categorical": "one_hot", "missing": "impute", "handle_unknown": "ignore",
        },
        "run": {"path": "elsewhere"},
        "resume": {"max_iter": 3, "force": False},
        "evaluate": {"output": "scores.json"},
        "predict": {
            "input": "x.csv", "output": "p.csv", "proba": False, "codes": False, "rows": 7,
            "overwrite": True,
        },
        "log": {"file": "log.jsonl"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Return a folder with the data, and a good run of each kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data()
        ADMMClassifier((5,), max_iter=2, random_state=0, run="labels").fit(X, LABELS)
        ADMMRegressor((5,), max_iter=2, random_state=0, solver="relaxed", run="numbers").fit(
            X, TARGETS
        )
    return folder


@pytest.fixture(autouse=True)
def here(ground, monkeypatch):
    """Work there; no mutation starts processes, or asks a network for anything."""

    def refuse(*args, **kwargs):
        raise OSError("no processes here")

    monkeypatch.chdir(ground)
    monkeypatch.setattr("distributed.LocalCluster", refuse)


def fit(content, seed):
    """Fit as a config of some bytes says; return what is wrong with how that ended, or None."""
    Path("config.toml").write_bytes(content)
    run = Path(f"run-{seed}")
    code, said, wrong = run_command("fit", "config.toml", "--run", run, "--quiet")
    left = any(run.rglob("*"))
    shutil.rmtree(run, ignore_errors=True)
    if wrong is None and code == 2 and left:
        wrong = f"it left a run in the way: {said}"
    return wrong


def test_the_configs_that_are_mutated_are_valid_and_have_every_key():
    keys = {
        (table, key) for config in CONFIGS.values() for table in config for key in config[table]
    }
    waited_for = {("cluster", "scheduler")}  # a scheduler that is not there, for the time-out
    every = {(table, key) for table, known in SCHEMA.items() for key in known}
    assert keys == every - waited_for
    for name, config in CONFIGS.items():
        assert fit(toml(config).encode(), name) is None


# ------------------------------------------------------------------------------------- configs

LETTERS = "abcdefghijklmnopqrstuvwxyz_0-. é"
NUMBERS = [0, -1, 1, 2, 3, 7, 48, 49, 10**9, -(10**30), 10**30, 2**31, 2**63, 2**64, 10**400]
FLOATS = ["nan", "-nan", "inf", "-inf", "0.0", "-0.0", "1e-320", "1e308", "-1e308", "0.5", "2.0"]
WORDS = [
    "", " ", "x", "é", "\U0001f600", "a\nb", "\t", "\x1b[31m", "\u202e", "auto", "none", "None",
    "0", "1e999", "nan", "true", "relu", "tanh", "relaxed", "block", "cosine", "sgd", "admm",
    "grid",
    "batch", "linearized", "recompute", "identity", "hinge", "huber", "squared", "float16", "int8",
    "balanced", "kind", "regression", "digits", "../x.npy", ".", "/", "/dev/null", "/proc/self/mem",
    "x.npy", "x.csv", "x.zarr", "y.npy", "labels", "nope://x", "memory://x", "http://127.0.0.1:1/x",
    "file://x.npy", "k_sparse:0", "k_sparse:1e9", "box:1e400", "l1:0.1", "simplex", "binary:2",
    "l2_ball:", "1MiB", "-2GiB", "1e30GiB", "2 PiB", "GiB", "infGiB", "nan GiB", "a" * 100_000,
]  # fmt: skip
LITERALS = [
    "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "{}", "{a = 1}", "{kind = 'dense'}", "[]",
    "[[]]", "[[1]]", "[[[]], {}]", "0x_1", "0xff", "1_000", "''", "'''\n'''", "[1, 'a']", "[true]",
    "[nan]", "[1.0]", "[-1]", "[0]", "[1000000000]", "[1000000000, 1000000000]", "[4, 4, 4, 4, 4]",
    "['']", "['simplex', 'simplex']", "[{kind = 'dense', width = 1000000000}]",
    "[{kind = 'dense', width = 'x'}]", "[{kind = 'dense', width = 4, activation = 3}]",
    "[{kind = 'residual'}]", "[{kind = 'dense', width = 3, wdth = 4}]", "[{kind = 'TorchBlock'}]",
    "[{kind = ['dense']}]", "[{width = 3}]", "[{kind = 'dense', activation = 'relu'}]",
    "[{kind = 'dense', width = 100000000000000000000000000000}]", "[2, {kind = 'residual'}]",
    "[" * 50 + "]" * 50, "[" * 5000 + "]" * 5000, "[" + "1, " * 3000 + "1]",
]  # fmt: skip
# Larger ones are valid, and only take long.
SMALL = {"max_iter", "local_epochs", "inner_steps", "z_steps"}


def random_value(rng, table, key):
    """Draw a value for a key of a config, more often than not of the right type."""
    if key == "workers":
        return rng.choice(
            [-1, 0, -(10**30), 1.5, True, "2", "", [], [1], {}, Raw("nan"), Raw("{}")]
        )
    numbers = [n for n in NUMBERS if n <= 3] if key in SMALL else NUMBERS
    draws = {
        int: lambda: rng.choice(numbers),
        float: lambda: Raw(rng.choice(FLOATS)),
        str: lambda: rng.choice(WORDS),
        bool: lambda: rng.choice([True, False]),
        list: lambda: Raw(rng.choice(LITERALS)),
    }
    known = SCHEMA.get(table, {}).get(key)
    right = list(draws) if known is None else known.kinds
    return draws[rng.choice(right if rng.random() < 0.7 else list(draws))]()


def misspelt(rng, word):
    """Change, insert, remove or double a letter."""
    at, letter = rng.randrange(len(word)), rng.choice(LETTERS)
    ends = [word[at + 1 :], word[at:], letter + word[at + 1 :], letter + word[at:], word.upper()]
    return json.dumps(word[:at] + rng.choice(ends), ensure_ascii=False)


def mutate_config(rng, config):
    """Return a config with a few values, keys or tables changed."""
    config = {name: dict(table) for name, table in config.items()}
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = rng.choice(list(config))
        table = config[name]
        kind = rng.randrange(18)
        if not isinstance(table, dict) or not table:
            config[name] = {}
        elif kind < 14:  # a value of a key that is there, or of another
            keys = list(table) if kind < 10 else list(SCHEMA.get(name, SCHEMA["solver"]))
            key = rng.choice(keys)
            table[key] = random_value(rng, name, key)
        elif kind == 14:
            key = rng.choice(list(table))
            table[misspelt(rng, key)] = table.pop(key)
        elif kind == 15:  # a key of another table or solver
            other = rng.choice(list(SCHEMA))
            key = rng.choice(list(SCHEMA[other]))
            table[key] = random_value(rng, other, key)
        elif kind == 16:
            del table[rng.choice(list(table))]
        else:
            del config[name]
            new = rng.choice([misspelt(rng, name), name, "deep.er", '""', "model"])
            config[new] = rng.choice([table, {}, 5, "x", [1], True])
    return toml(config).encode()


def mutated_config(rng):
    config = rng.choice(list(CONFIGS.values()))
    if rng.random() < 0.75:
        return mutate_config(rng, config)
    config = {name: table for name, table in config.items() if name != "cluster"}
    return rng.choice([mutate_bytes, mutate_lines])(rng, toml(config).encode())


def configs(rng, seed):
    content = mutated_config(rng)
    while takes_long(content):
        content = mutated_config(rng)
    return shortened(content), fit(content, seed)


def shortened(content):
    text = repr(content) if len(content) < 3000 else f"{content[:1500]!r}...{content[-1500:]!r}"
    return text.replace("\\n", "\n")


@seeds()
def test_configs(batch):
    survive(configs, batch)


# --------------------------------------------------------------------------------------- files


def mutated_file(rng, seed):
    """Write a mutated input; return its path, and in words what it is."""
    kind = rng.choice([csv_file, npy_file, npy_file, zarr_array])
    return kind(rng, seed)


CELLS = [
    "", " ", "nan", "NaN", "inf", "-Infinity", "1e999", "1e308", "-1e38", "9" * 400, "0x10",
    "1_000",
    "1,5", '"1.5"', '"1', '""', "'1'", "u", "é", "\U0001f600", "\x00", "True", "None", "#REF!",
    "१२",
    "1e-320", "-0", "+5", " 7 ", "\x1b[31m", "x" * 200_000, "1" * 100_000, "1\x0b2", "\u2028", "1e",
]  # fmt: skip


def csv_file(rng, seed):
    content = Path(rng.choice(["x.csv", "table.csv"])).read_bytes()
    lines = content.split(b"\n")
    kind = rng.randrange(12)
    if kind < 4:
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(lines))
            cells = lines[at].decode("utf-8", "replace").split(",")
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            lines[at] = ",".join(cells).encode()
        content = b"\n".join(lines)
    elif kind < 6:
        content = mutate_bytes(rng, content)
    elif kind < 8:
        content = mutate_lines(rng, content)
    elif kind == 8:
        new = rng.choice([b";", b"\t", b"|", b" ", b",,", b", ", b";,"])
        content = content.replace(b",", new)
    elif kind == 9:
        new = rng.choice([b"\r\n", b"\r", b"\n\n", b" \n", b",\n", b"\n,,,,\n", b"\x0c"])
        content = content.replace(b"\n", new)
    elif kind == 10:
        text = content.decode().replace("b", "é").replace("dog", "dög")
        content = text.encode(rng.choice(["latin-1", "utf-16", "utf-8-sig", "utf-32"]))
    else:
        content = rng.choice(
            [b"", b"\n", b"a,b,c,d", b"a,b,c,d\n", b"1,2,3,4", b"1,2,3,4\n", b"1,2,3,4\n2,3,4,5",
             b"\xef\xbb\xbf", b'"', b",,,\n,,,\n", b"1\n2\n3\n", b"0,1,2,3,4\n" * 3, b"a\n" * 50,
             b"1,2,3,4," + b"5," * 50_000, b"1,2,3,4\n" * 5000, lines[0] + b"\n" + lines[1]]
        )  # fmt: skip
    return write(f"fuzz-{seed}.csv", content), f"csv: {shortened(content)}"


def write(path, content):
    Path(path).write_bytes(content)
    return path


def npy_header(shape, descr="<f8", order=False, version=1):
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2, "little") + text


class Unpickled:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return open, ("unpickled", "w")


def npy_file(rng, seed):
    path = f"fuzz-{seed}.npy"
    kind = rng.randrange(10)
    if kind < 3:
        content = mutate_bytes(rng, Path(rng.choice(["x.npy", "y.npy"])).read_bytes())
    elif kind == 3:
        source = Path("x.npy").read_bytes()
        content = mutate_bytes(rng, source[:128]) + source[128:]
    elif kind < 6:
        shape = rng.choice(
            ["(48, 4)", "(10**9, 10**9)", "(1000000000000, 4)", "(48, 100000000000)", "(-48, 4)",
             "(48, -4)", "(0, 4)", "(48, 0)", "(0, 0)", "()", "(48,)", "(12, 4, 4)", "(48.0, 4)",
             "(9223372036854775808, 4)", "(4611686018427387904, 4)", "[48, 4]", "None", "'x'",
             "(True, 4)", "(49, 4)", "(4294967296, 4294967296)", "((48, 4),)"]
        )  # fmt: skip
        descr = rng.choice(
            ["<f8", ">f8", "<f4", "<f2", "<i8", "|b1", "|u1", "<c16", "|O", "<U5", "|S8", "<M8[s]",
             "<m8[s]", "|V8", "<f16", "<g8", "", "x", [("a", "<f8")], [("a", "<f4"), ("b", "<f4")],
             5, None, "<U999999999", "8f8", ("<f8", (2,))]
        )  # fmt: skip
        content = npy_header(shape, descr, rng.choice([True, False, 3]), rng.choice([1, 1, 2, 9]))
        content += X.tobytes()
    else:
        array = special_array(rng)
        np.save(path, array, allow_pickle=True)
        return path, f"npy: {array.dtype} {array.shape}"
    return write(path, content), f"npy: {shortened(content)}"


def special_array(rng):
    """Return an array like X that is unlike it in one respect."""
    dtypes = ["<f2", ">f4", ">f8", "<f4", "g", "i1", ">i2", "u8", "?", "c8", "c16", "U8", "S8", "O",
              "M8[s]", "m8[ns]", "V8", [("a", "f8")], "<u2"]  # fmt: skip
    shapes = [(ROWS,), (1, 4), (0, 4), (ROWS, 0), (), (1,), (0,), (2, 4), (12, 4, 4), (ROWS, 4, 1),
              (1, 1), (ROWS, 1), (4, ROWS), (ROWS, 5), (ROWS, 3)]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match rng.randrange(6):
            case 0 | 1:
                x = X if rng.random() < 0.7 else X * 1e6
                dtype = np.dtype(rng.choice(dtypes))
                return x.astype("i8").astype(dtype) if dtype.kind in "mM" else x.astype(dtype)
            case 2:
                return np.resize(X, rng.choice(shapes))
            case 3:
                return np.asfortranarray(X) if rng.random() < 0.5 else np.full(X.shape, Unpickled())
            case 4:
                x = X.astype(rng.choice(["f2", "f4", "f8"]))
                value = rng.choice(EXTREMES)
                x[rng.randrange(ROWS), rng.randrange(COLUMNS)] = value
                return x
            case _:
                return X * rng.choice(EXTREMES)


EXTREMES = [
    np.nan, np.inf, -np.inf, 1e300, -1e308, 1e160, 1e154, 1e38, 3e38, 4e38, 1e30, 1e20, 1e-300,
    5e-324,
    1e-45, 1e-38, 1e-160, 0.0, -0.0, 1e-20,
]  # fmt: skip


def zarr_array(rng, seed):
    path = Path(f"fuzz-{seed}.zarr")
    shutil.copytree("x.zarr", path)
    document = path / "zarr.json"
    chunks = sorted(p for p in (path / "c").rglob("*") if p.is_file())
    kind = rng.randrange(10)
    if kind < 2:
        flip_file(rng, document)
    elif kind == 2:
        flip_file(rng, rng.choice(chunks))
    elif kind == 3:
        rng.choice(chunks).unlink()
    elif kind == 4:
        chunk = rng.choice(chunks)
        chunk.write_bytes(chunk.read_bytes()[: rng.randrange(40)])
    elif kind == 5:
        rng.choice([document.unlink, lambda: shutil.rmtree(path / "c")])()
    elif kind == 6:
        text = document.read_text()
        document.write_text(text.replace('"array"', '"group"'))
    elif kind == 7:
        shutil.rmtree(path)
        zarr.create_array(str(path), data=special_zarr(rng), zarr_format=rng.choice([2, 3]))
    else:
        content = json.loads(document.read_text())
        edit(rng, content)
        document.write_text(json.dumps(content))
    return str(path), f"zarr: {document.read_bytes() if document.exists() else 'no document'}"


def special_zarr(rng):
    x = special_array(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x if x.dtype.kind in "biuf" and x.dtype.itemsize < 16 else X


def edit(rng, content):
    """Put something else into a zarr array's metadata."""
    match rng.randrange(6):
        case 0:
            content["shape"] = rng.choice(
                [[10**15, 4], [10**15, 10**15], [48, 10**12], [48], [], [-1, 4], [0, 4], [49, 4],
                 [48, 4, 1], ["48", 4], [48.5, 4], 48, None, [10**30, 4], [40, 4], [10**8, 4]]
            )  # fmt: skip
        case 1:
            grid = content["chunk_grid"]["configuration"]
            grid["chunk_shape"] = rng.choice(
                [[0, 4], [-1, 4], [10**15, 4], [20], [20, 4, 1], [1, 1], [10**30, 4], "x", [48, 4]]
            )
        case 2:
            content["codecs"] = rng.choice(
                [[], [{"name": "nope"}], [{"name": "bytes"}], "x", [{"name": "zstd"}], [{}],
                 [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]]
            )  # fmt: skip
        case 3:
            content["data_type"] = rng.choice(
                ["int64", "bool", "float16", "float32", "complex64", "string", "x", 5, None,
                 {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}]
            )  # fmt: skip
        case 4:
            content["fill_value"] = rng.choice(
                ["NaN", "x", None, [], 10**400, "0x7fc0000000000000"]
            )
        case _:
            del content[rng.choice(list(content))]


def files(rng, seed):
    path, words = mutated_file(rng, seed)
    match rng.randrange(4):
        case 0:
            config = {"data": {"x": path, "y": rng.choice(["y.npy", "y.zarr"])}, "model": MODEL}
        case 1:
            config = {"data": {"x": rng.choice(["x.npy", "x.csv", "x.zarr"]), "y": path}}
            config["model"] = {**MODEL, "task": rng.choice(["classification", "regression"])}
        case 2:
            config = {"data": {"x": path}, "model": MODEL}
            if path.endswith("csv"):
                config["data"] |= rng.choice(
                    [{}, {"y": "kind"}, {"test_fraction": 0.25}, {"y": "a"}]
                )
            else:
                config["data"] |= {"y": "y.npy", "test_fraction": rng.choice([0.01, 0.5, 0.99])}
        case _:
            config = None
    if config is None:
        run, end = rng.choice(["labels", "numbers"]), rng.choice([".npy", ".csv", ".zarr"])
        _, _, wrong = run_command("predict", run, path, f"out-{seed}{end}")
        words = f"predict {run} to {end}: {words}"
    else:
        words = f"{config}: {words}"
        wrong = fit(toml(config).encode(), seed)
    for left in chain(Path().glob(f"fuzz-{seed}.*"), Path().glob(f"out-{seed}*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if Path("unpickled").exists():
        Path("unpickled").unlink()
        wrong = "something was unpickled"
    return words, wrong


@seeds()
def test_files(batch):
    survive(files, batch)


# -------------------------------------------------------------------------------------- arrays


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
        if name in SMALL and isinstance(options[name], int) and options[name] > 3:
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


# ----------------------------------------------------------------------------------- arguments

ARGUMENTS = [
    "labels", "numbers", "x.npy", "x.csv", "x.zarr", "y.npy", "table.csv", "out.npy", "out.csv",
    "out.zarr", "out.png", "out.pdf", "out.foo", "out", "", " ", ".", "..", "/", "/dev/null",
    "/dev/full",
    "/proc/self/mem", "nowhere", "nowhere/out.npy", "x.npy/out.npy", "nope://x", "memory://x.zarr",
    "memory://x.npy", "file://x.npy", "http://127.0.0.1:1/x.zarr", "é.npy", "\U0001f600.csv",
    "a b.npy",
    "a\nb.npy", "\x1b[31m.npy", "x" * 300 + ".npy", "x" * 5000, "-", "--", "-x", "--help",
    "--version",
    "--proba", "--overwrite", "--plot", "--digest", "--max-iter", "--max-iter=2", "--max-iter=0",
    "--max-iter=-1", "--max-iter=x", "--max-iter=1e3", "--max-iter=", "--workers", "--workers=0",
    "--workers=-1", "--workers=x", "--workers=99999999999999999999999", "--quiet", "--quiet=3",
    "--max-iter=3", "%s", "{}", "[bold]", "\udcff", "copy", "copy/zarr.json", "copy/data",
    "copy/data/x",
    "labels/commit.json", "*.npy", "~", "$HOME",
]  # fmt: skip
GOOD = [
    ["predict", "labels", "x.npy", "out.npy"],
    ["predict", "labels", "x.zarr", "out.zarr", "--proba"],
    ["predict", "numbers", "x.csv", "out.csv"],
    ["predict", "labels", "x.npy", "out.csv", "--overwrite"],
    ["show", "labels"],
    ["show", "numbers", "--digest"],
    ["show", "labels", "--plot", "out.png"],
    ["resume", "copy", "--max-iter", "3", "--quiet"],
    ["resume", "copy", "--workers", "0", "--quiet"],
    ["fit", "config.toml", "--run", "again", "--quiet"],
]


def arguments(rng, seed):
    given = list(rng.choice(GOOD))
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(1, len(given) + 1)
        match rng.randrange(4):
            case 0 if at < len(given):
                del given[at]
            case 1:
                given.insert(at, rng.choice(ARGUMENTS))
            case _:
                given[at : at + 1] = [rng.choice(ARGUMENTS)]
    ground, copy = Path.cwd(), Path(f"case-{seed}").resolve()
    shutil.copytree(ground, copy, ignore=shutil.ignore_patterns(copy.name))
    shutil.copytree("labels", copy / "copy")
    (copy / "config.toml").write_text(toml(CONFIGS["blocks"]))
    with contextlib.chdir(copy):
        code, _, wrong = run_command(*given)
    shutil.rmtree(copy)
    # A chart may warn of a glyph; progress is told where --quiet went missing.
    return f"dadmm {given}", None if code == 0 else wrong


@seeds()
def test_arguments(batch):
    survive(arguments, batch)
