"""What a config file may hold: every table and key, its kind, its default and its meaning."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

from dadmm.datasets import DATASETS
from dadmm.estimators.deepfacto import DeepFacto
from dadmm.estimators.nmf import NMF
from dadmm.estimators.supervised import ADMMClassifier
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.losses import LOSSES
from dadmm.solvers.registry import DEFAULT, SOLVERS

Kind = tuple[type, ...]

TEXT: Kind = (str,)
SWITCH: Kind = (bool,)
WHOLE: Kind = (int,)
NUMBER: Kind = (int, float)
WIDTHS: Kind = (list,)
CHUNKS: Kind = (int, str, list)
MEMORY: Kind = (int, str)
TLS: Kind = (bool, str)
TIME: Kind = (float, int, str)
ITEMS: Kind = (str, int, list)

WORDS = {
    TEXT: "text in quotes",
    SWITCH: "true or false",
    WHOLE: "a whole number",
    NUMBER: "a number",
    WIDTHS: "a list of whole numbers",
    CHUNKS: 'a whole number, a list of them, or "auto"',
    ITEMS: "a number, text, or a list",
    MEMORY: 'a number of bytes, or text such as "2GiB"',
    TLS: "true, or a folder of certificates",
    TIME: 'seconds, or text such as "10 minutes"',
}


@dataclass(frozen=True)
class Key:
    """A key of a config.

    Parameters
    ----------
    kind : tuple of type
        What its value may be, one of those in `WORDS`.
    means : str
    default : object
        What holds where the key is left out; None where nothing does.
    sample : object
        A value to show where there is no default.
    """

    kind: Kind
    means: str
    default: Any = None
    sample: Any = None


# Of each option of a solver, in the order of its fields.
MEANINGS: dict[str, dict[str, str]] = {
    "block": {
        "blocks": "blocks that the layers are cut into; or the first layer of each but the first",
        "mode": "online: nothing stored per sample; batch: Z and U are kept",
        "rho": "penalty of the constraints between blocks, per sample",
        "constraints": 'what Z must be, one for all or a list: "binary", "k_sparse:8", ...',
        "inner_steps": "optimiser steps on each block's own problem per mini-batch",
        "z_steps": "gradient steps on Z per mini-batch",
        "z_rate": "length of these steps, in units of 1 / curvature, below 2",
        "optimizer": "adam or sgd",
        "learning_rate": "the largest of the run",
        "learning_rate_schedule": "one_cycle, constant, cosine or plateau",
        "momentum": "of sgd; beta1 of adam",
        "beta2": "of adam",
        "epsilon": "of adam",
        "weight_decay": "decoupled: weights shrink by learning_rate times this at every step",
        "clip_norm": "largest norm of a block's gradient; 0 does not clip",
        "batch_size": "rows of a mini-batch; 0: 128 or fewer, so that a pass is 16 steps",
        "local_epochs": "times an agent goes through its chunk before a consensus",
        "consensus": "average, or admm with a multiplier per chunk",
        "sigma": "penalty of parameters that differ from the consensus (admm)",
        "agents": "chunks trained on side by side before each consensus",
        "schedule": "fused: a task does all blocks of a chunk; grid: one block",
        "early_stopping": "hold rows out, and stop when the network gets no better on them",
        "validation_fraction": "share of the rows held out for that",
        "n_iter_no_change": "iterations without getting better before training stops",
        "dtype": "float32 or float64",
    },
    "relaxed": {
        "splitting": "3: auxiliary U and V; 2: V alone, half the state",
        "variant": "proximal: every subproblem exactly; linearized: first-order models",
        "regions": "groups of layers that are updated side by side; 1: one after another",
        "state": "keep: U, V and the multiplier per sample; recompute: nothing stored",
        "mu": "weight of the penalty on pre-activations",
        "nu": "weight of the penalty on activations",
        "beta": "weight of the penalty on the head, at least 1",
        "tau": "weight of the proximal term of every block",
        "over_relaxation": "length of the V steps, in (0, 2)",
        "head_refit": "fit the head that predicts to the network's features",
        "inner_steps": "most steps on a subproblem that has no closed form",
        "inner_tol": "relative step length at which those end",
        "dtype": "float32 or float64, of the state and of the weights during a visit",
    },
}


def _option(value: Any, metadata: Mapping[str, Any]) -> Kind:
    kinds = {str: TEXT, bool: SWITCH, int: WHOLE, float: NUMBER}
    return ITEMS if metadata else kinds[type(value)]


def solver_keys(name: str) -> dict[str, Key]:
    """Return the options of a solver."""
    return {
        f.name: Key(_option(f.default, f.metadata), MEANINGS[name][f.name], f.default)
        for f in fields(SOLVERS[name])
    }


def _all_solver_keys() -> dict[str, Key]:
    """Return the options of all solvers; which of them takes an option is checked by itself."""
    found: dict[str, Key] = {}
    for name in SOLVERS:
        for option, key in solver_keys(name).items():
            words = f"{name}: {key.means} (default {_toml(key.default)})"
            if option in found:
                words = f"{found[option].means}; {words}"
            found[option] = Key(key.kind, words)
    return found


def _model(name: str, kind: Kind, means: str, sample: Any = None, of: type = ADMMClassifier) -> Key:
    default = signature(of).parameters[name].default
    default = list(default) if isinstance(default, tuple) else default
    return Key(kind, means, default, sample)


def _deep(name: str, kind: Kind, means: str) -> Key:
    """Return a key that only networks with factors have: no default of all configs."""
    key = _model(name, kind, means, of=DeepFacto)
    return Key(kind, f"with n_components: {means}", sample=key.default)


def _nmf(name: str, kind: Kind, means: str, sample: Any) -> Key:
    """Return a key that only factorizations have."""
    assert name in signature(NMF).parameters
    return Key(kind, f"factorization: {means}", sample=sample)


def _toml(value: Any) -> str:
    """Return a value as TOML writes it; for those that a config can have, JSON is the same."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


SCHEMA: dict[str, dict[str, Key]] = {
    "data": {
        "dataset": Key(TEXT, f"a named data set: {', '.join(DATASETS)}"),
        "x": Key(
            TEXT, "path, glob or URL of the inputs: .npy, .csv, .parquet, zarr", sample="train.csv"
        ),
        "y": Key(ITEMS, "path of the targets, or their column, or a list of these", sample="label"),
        "index": Key(
            TEXT, "column that names the rows: no input, kept with predictions", sample="id"
        ),
        "test_fraction": Key(NUMBER, "share of the rows held out for the test, 0 to 1", 0.0),
        "seed": Key(WHOLE, "seed of that split", 0),
    },
    "model": {
        "task": Key(TEXT, "classification, regression or factorization", "classification"),
        "hidden_layer_sizes": _model("hidden_layer_sizes", WIDTHS, "widths of the hidden layers"),
        "activation": _model("activation", TEXT, ", ".join(ACTIVATIONS)),
        "loss": _model("loss", TEXT, ", ".join(["auto", *LOSSES])),
        "stem": _model("stem", TEXT, "dense or identity"),
        "alpha": _model("alpha", NUMBER, "weight of |W|^2 / 2, per sample"),
        "max_iter": _model("max_iter", WHOLE, "most iterations"),
        "tol": _model("tol", NUMBER, "when to stop early, as the solver says; 0: never"),
        "standardize": _model("standardize", TEXT, "feature, global, scale, shift or none"),
        "class_weight": _model(
            "class_weight", TEXT, "balanced: classes weigh alike (classification)", "balanced"
        ),
        "random_state": _model("random_state", WHOLE, "seed of the starting weights", 0),
        "chunks": _model("chunks", CHUNKS, "rows per chunk, or auto"),
        "copy_data": _model("copy_data", SWITCH, "true: copy inputs that lie in zarr into the run"),
        "categorical": _model("categorical", TEXT, "columns of text: refuse or one_hot"),
        "missing": _model("missing", TEXT, "empty cells of the inputs: refuse or impute"),
        "handle_unknown": _model(
            "handle_unknown", TEXT, "categories that training never saw: error or ignore"
        ),
        "n_components": Key(
            WHOLE, "factors: of a factorization, or inside a network (DeepFacto)", sample=16
        ),
        "head_layer_sizes": _deep("head_layer_sizes", WIDTHS, "widths of layers above the factors"),
        "factor_weight": _deep("factor_weight", NUMBER, "weight of the reconstruction"),
        "sparsity": _deep("sparsity", NUMBER, "weight of the sum of the codes beside that"),
        "overlap": _deep("overlap", NUMBER, "weight of the products of the dictionary's rows"),
        "factor_init": _deep("factor_init", TEXT, "the first dictionary: random or nndsvd"),
        "code_sweeps": _deep("code_sweeps", WHOLE, "sweeps over each row's codes"),
        "init": _nmf("init", TEXT, "the first dictionary: auto, nndsvd or random", "auto"),
        "alpha_W": _nmf("alpha_W", NUMBER, "weight of the codes' penalty, times features", 0.0),
        "alpha_H": _nmf("alpha_H", NUMBER, "of the dictionary's, times samples", 0.0),
        "l1_ratio": _nmf("l1_ratio", NUMBER, "share of the sums in these", 0.0),
        "mode": _nmf("mode", TEXT, "batch: codes are kept; online: nothing is", "batch"),
        "dtype": _nmf("dtype", TEXT, "float32 or float64", "float32"),
        "shift": _nmf("shift", SWITCH, "subtract each feature's least value first", False),
    },
    "solver": {"name": Key(TEXT, "block or relaxed", DEFAULT), **_all_solver_keys()},
    "cluster": {
        "profile": Key(TEXT, "name or file of a cluster profile, such as slurm", sample="local"),
        "scheduler": Key(TEXT, "one that runs: an address or a file", sample="scheduler.json"),
        "workers": Key(WHOLE, "processes, here unless profile is set; 0: its own, or threads", 0),
        "memory_limit": Key(MEMORY, "memory of one worker, such as 2GiB", sample="2GiB"),
        "dashboard": Key(WHOLE, "port of the Dask dashboard; 0 for any, -1 for none", 0),
        "tls": Key(TLS, "true, or a folder of certificates", sample="certificates"),
        "timeout": Key(TIME, "how long to wait for the first worker", sample="10 minutes"),
    },
    "run": {"path": Key(TEXT, "where the run is kept: a folder or a URL", sample="runs/digits")},
    "resume": {
        "max_iter": Key(WHOLE, "a new limit on the iterations in all", sample=100),
        "force": Key(SWITCH, "take the run from a driver that is known to be dead", False),
    },
    "evaluate": {
        "output": Key(TEXT, "where the scores go, as JSON", sample="scores.json"),
    },
    "predict": {
        "input": Key(
            TEXT, "path of the rows: .npy, .csv, .parquet or a zarr array", sample="new.npy"
        ),
        "output": Key(
            TEXT, "where predictions go: .npy, .csv, .parquet or .zarr", sample="predicted.csv"
        ),
        "proba": Key(SWITCH, "class probabilities, a column per class", False),
        "codes": Key(SWITCH, "codes, a column per factor, of a network that has some", False),
        "rows": Key(WHOLE, "rows predicted, and kept through a kill, at a time", 65536),
        "overwrite": Key(SWITCH, "replace predictions of another network or input", False),
    },
    "log": {"file": Key(TEXT, "JSON lines are added to it", sample="dadmm.jsonl")},
}
ABOUT = {
    "data": "what to train on and evaluate with",
    "model": "the network",
    "solver": "how it is trained",
    "cluster": "where",
    "run": "batch jobs: which run",
    "resume": "batch jobs: going on with it",
    "evaluate": "batch jobs: scoring it",
    "predict": "batch jobs: using it",
    "log": "batch jobs: what happened; the standard output if no file is named",
}


# ------------------------------------------------------------------------------------------ example


def example() -> str:
    """Return a config with every key, each with its meaning and default: itself a valid one.

    Keys without a default, and those of the solver that is not the default, are comments.
    """
    lines = [
        "# Everything that a config of dadmm may have.  Values are the defaults; what has none is",
        "# commented out.  Keys may be left out, and set from the environment:",
        "# DADMM__MODEL__MAX_ITER=20 is max_iter = 20 of [model].",
    ]
    for table, keys in SCHEMA.items():
        lines += ["", f"{f'[{table}]':<38} # {ABOUT[table]}"]
        if table == "data":
            lines += [_line("dataset", Key(TEXT, keys["dataset"].means, "digits"))]
            lines += ["# or files of your own:"]
            keys = {name: key for name, key in keys.items() if name != "dataset"}
        if table == "solver":
            keys = {"name": keys["name"], **solver_keys(DEFAULT)}
        lines += [_line(name, key) for name, key in keys.items()]
        if table == "solver":
            for other in sorted(set(SOLVERS) - {DEFAULT}):
                lines += [f"# with name = {_toml(other)}, instead of the options above:"]
                lines += [f"# {_line(name, key)}" for name, key in solver_keys(other).items()]
    return "\n".join(lines) + "\n"


def _line(name: str, key: Key) -> str:
    value = key.sample if key.default is None else key.default
    setting = f"{'# ' if key.default is None else ''}{name} = {_toml(value)}"
    return f"{setting:<38} # {key.means}"


# -------------------------------------------------------------------------------------- JSON Schema

JSON_TYPES: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    list: {"type": "array"},
}


def json_schema() -> dict[str, Any]:
    """Return the schema as JSON Schema (2020-12), for editors that check TOML as it is written."""
    tables = {
        table: {
            "type": "object",
            "description": ABOUT[table],
            "additionalProperties": False,
            "properties": {name: _property(key) for name, key in keys.items()},
        }
        for table, keys in SCHEMA.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dadmm config",
        "type": "object",
        "additionalProperties": False,
        "properties": tables,
    }


def _property(key: Key) -> dict[str, Any]:
    types = [dict(JSON_TYPES[kind]) for kind in key.kind]
    for each in types:
        if each["type"] == "array" and key.kind != ITEMS:
            each["items"] = {"type": "integer"}
    found: dict[str, Any] = types[0] if len(types) == 1 else {"anyOf": types}
    found["description"] = key.means
    if key.default is not None:
        found["default"] = key.default
    return found
