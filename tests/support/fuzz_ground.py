"""Good data and good configs, from which the fuzz tests mutate theirs."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import zarr

from support.fuzzing import run_command

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
    "consensus": "admm", "sigma": 0.1, "agents": 2, "chunk_order": "scattered",
    "schedule": "fused", "early_stopping": True,
    "validation_fraction": 0.2, "n_iter_no_change": 1, "dtype": "float64",
}  # fmt: skip
RELAXED = {
    "name": "relaxed", "splitting": 2, "variant": "linearized", "regions": 2, "state": "keep",
    "mu": 1.0, "nu": 1.0, "beta": 10.0, "tau": 1e-3, "over_relaxation": 1.2, "head_refit": False,
    "inner_steps": 2, "inner_tol": 1e-2, "dtype": "float64",
}  # fmt: skip
CLUSTER = {"workers": 0, "memory_limit": "2GiB", "dashboard": -1}
CSV = {
    "header": True, "delimiter": ",", "decimal": ".", "thousands": "'", "encoding": "utf-8",
    "na_values": ["?"], "dtype": {"town": "str"}, "compression": "none",
}  # fmt: skip
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
            "copy_data": False, "shuffle": False,
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
        "data": {"x": "rows.csv", "y": ["kind"], "index": "id", **CSV},
        "model": {
            **MODEL, "categorical": "one_hot", "missing": "impute", "handle_unknown": "ignore",
        },
        "run": {"path": "elsewhere"},
        "resume": {"max_iter": 3, "force": False},
        "evaluate": {"output": "scores.json"},
        "predict": {
            "input": "x.csv", "output": "p.csv", "proba": False, "codes": False, "rows": 7,
            "overwrite": True, "index": "id", **CSV,
        },
        "log": {"file": "log.jsonl"},
    },
}  # fmt: skip


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


class Unpickled:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return open, ("unpickled", "w")


EXTREMES = [
    np.nan, np.inf, -np.inf, 1e300, -1e308, 1e160, 1e154, 1e38, 3e38, 4e38, 1e30, 1e20, 1e-300,
    5e-324,
    1e-45, 1e-38, 1e-160, 0.0, -0.0, 1e-20,
]  # fmt: skip


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
