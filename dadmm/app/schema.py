"""Describe every table and key of a config file; print an example and the JSON Schema."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from types import NoneType
from typing import Any

from dadmm.data.table import READING
from dadmm.datasets import DATASETS
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.deepfacto import DeepFacto
from dadmm.estimators.nmf import NMF
from dadmm.options import KINDS, Option, either, options_of
from dadmm.solvers.registry import DEFAULT, SOLVERS

# The kinds of values in TOML.
TOML = (bool, int, float, str, list, dict)
TEXT, SWITCH, WHOLE, NUMBER = (str,), (bool,), (int,), (float,)
TASKS = ("classification", "regression", "factorization")
# Options of estimators that are no keys of [model]: other tables or the command line give them, or
# they concern a second fit, or inputs that no file has.
ELSEWHERE = ("solver", "run", "overwrite", "memory_limit", "verbose", "warm_start", "sample_dims")


def as_key(option: Option, when: str = "") -> Option:
    """Return an option as a key of a config; a key with a condition, `when`, has no default."""
    kinds = tuple(kind for kind in option.kinds if kind in TOML)
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    sample = default if option.sample is None else option.sample
    several = len(kinds) > 1 or set(option.kinds) <= {*kinds, NoneType}
    return replace(
        option,
        kinds=kinds,
        items=tuple(kind for kind in option.items if kind in TOML),
        means=f"{when}{option.means}",
        default=None if when else default,
        sample=sample,
        use=option.use if several else "",  # it may speak of the kinds left out
    )


def solver_keys(name: str) -> dict[str, Option]:
    """Return the options of a solver."""
    return {name: as_key(option) for name, option in options_of(SOLVERS[name]).items()}


def _all_solver_keys() -> dict[str, Option]:
    """Return the options of all solvers; `make_solver` checks which solver takes which."""
    found: dict[str, Option] = {}
    for solver in SOLVERS:
        for name, option in solver_keys(solver).items():
            means = f"{solver}: {option.means} (default {_toml(option.default)})"
            if name in found:
                means = f"{found[name].means}; {means}"
            found[name] = replace(option, means=means, default=None)
    return found


def _model_keys() -> dict[str, Option]:
    """Return the options of all estimators; `make_estimator` checks which one takes which."""
    factors = Option(
        WHOLE,
        "Number of factors: NMF's, or those inside a network (DeepFacto).",
        least=1,
        sample=16,
    )
    found: dict[str, Option] = {}
    for estimator, when in ((ADMMClassifier, ""), (DeepFacto, "DeepFacto: "), (NMF, "NMF: ")):
        for name, option in options_of(estimator).items():
            if name not in ELSEWHERE and name not in found:
                found[name] = factors if name == "n_components" else as_key(option, when)
    return found


def _toml(value: Any) -> str:
    """Return a value as TOML: JSON, but for infinity, NaN and tables."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(item)}' for name, item in value.items())} }}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


SCHEMA: dict[str, dict[str, Option]] = {
    "data": {
        "dataset": Option(TEXT, "A named data set.", choices=DATASETS),
        "x": Option(
            (str, list),
            "Path, glob or URL of the inputs: .npy, .csv, .parquet, zarr; or a list of tables.",
            items=(str,),
            least=1,
            sample="train.csv",
        ),
        "y": Option(
            (str, int, list),
            "Path of the targets, or their column, or a list of these.",
            items=(str, int),
            sample="label",
        ),
        **{name: as_key(option) for name, option in READING.items()},
        "test_fraction": Option(
            NUMBER, "Share of the rows held out for the test.", 0.0, least=0, below=1
        ),
        "seed": Option(WHOLE, "Seed of that split.", 0, least=0),
    },
    "model": {
        "task": Option(TEXT, "What to learn.", TASKS[0], choices=TASKS),
        **_model_keys(),
    },
    "solver": {
        "name": Option(TEXT, "Method of training.", DEFAULT, choices=SOLVERS),
        **_all_solver_keys(),
    },
    "cluster": {
        "profile": Option(
            TEXT, "Name or file of a cluster profile, such as slurm.", sample="local"
        ),
        "scheduler": Option(
            TEXT, "Address or file of a running scheduler.", sample="scheduler.json"
        ),
        "workers": Option(
            WHOLE,
            "Worker processes, local unless profile is set; 0: the profile's, or threads.",
            0,
            least=0,
        ),
        "memory_limit": Option(
            (int, str),
            "Memory of one worker.",
            use='a number of bytes, or text such as "2GiB"',
            sample="2GiB",
        ),
        "dashboard": Option(WHOLE, "Port of the Dask dashboard; 0 for any, -1 for none.", 0),
        "tls": Option(
            (bool, str),
            "Whether to encrypt: true, or a folder of certificates.",
            use="true, or a folder of certificates",
            sample="certificates",
        ),
        "timeout": Option(
            (float, int, str),
            "How long to wait for the first worker.",
            use='seconds, or text such as "10 minutes"',
            sample="10 minutes",
        ),
    },
    "run": {
        "path": Option(TEXT, "Where the run is kept: a folder or a URL.", sample="runs/digits")
    },
    "resume": {
        "max_iter": Option(WHOLE, "A new limit on all iterations together.", least=1, sample=100),
        "force": Option(SWITCH, "Take the run from a driver that is known to be dead.", False),
    },
    "evaluate": {
        "output": Option(TEXT, "Where the scores go, as JSON.", sample="scores.json"),
    },
    "predict": {
        "input": Option(
            TEXT, "Path of the rows: .npy, .csv, .parquet or a zarr array.", sample="new.npy"
        ),
        "output": Option(
            TEXT, "Where predictions go: .npy, .csv, .parquet or .zarr.", sample="predicted.csv"
        ),
        "proba": Option(SWITCH, "Predict class probabilities, a column per class.", False),
        "codes": Option(
            SWITCH, "Predict codes, a column per factor; the network needs factors.", False
        ),
        "rows": Option(
            WHOLE, "Rows predicted at a time; finished parts survive a kill.", 65536, least=1
        ),
        "overwrite": Option(SWITCH, "Replace predictions of another network or input.", False),
        **{name: as_key(option) for name, option in READING.items()},
    },
    "log": {"file": Option(TEXT, "File to append JSON lines to.", sample="dadmm.jsonl")},
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


def example() -> str:
    """Return a valid config with every key, its meaning and its default.

    Keys without a default, and those of other solvers than the default, are comments.
    """
    lines = [
        "# Every key of a dadmm config.  Values are the defaults; keys without a default are",
        "# commented out.  Any key may be left out, or set from the environment:",
        "# DADMM__MODEL__MAX_ITER=20 is max_iter = 20 of [model].",
    ]
    for table, keys in SCHEMA.items():
        lines += ["", f"{f'[{table}]':<38} # {ABOUT[table]}"]
        if table == "data":
            lines += [_line("dataset", replace(keys["dataset"], default="digits"))]
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


def _line(name: str, key: Option) -> str:
    value = key.sample if key.default is None else key.default
    setting = f"{'# ' if key.default is None else ''}{name} = {_toml(value)}"
    return f"{setting:<38} # {_comment(key)}"


def _comment(key: Option) -> str:
    """Return the first sentence of a key's meaning, and the limits of a single kind of values."""
    means = re.split(r"\.(?:\s|$)", key.means.replace("`", ""), maxsplit=1)[0]
    kind, *others = key.kinds
    allowed = either([str(choice) for choice in key.choices_of(kind)]) or key.bounds
    return f"{means} ({allowed})" if allowed and not others else means


def json_schema() -> dict[str, Any]:
    """Return the schema as JSON Schema (2020-12), for editors that check TOML."""
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


def _property(key: Option) -> dict[str, Any]:
    found = _any_of([_of_kind(key, kind) for kind in key.kinds])
    found["description"] = key.means
    return found if key.default is None else found | {"default": key.default}


def _of_kind(key: Option, kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {"type": KINDS[kind].json}
    if known := key.choices_of(kind):
        found["enum"] = known
    elif kind is list and key.items:
        found["items"] = _any_of([{"type": KINDS[item].json} for item in key.items])
    elif kind in (int, float):
        ends = {
            "exclusiveMinimum": key.above,
            "minimum": key.least,
            "exclusiveMaximum": key.below,
            "maximum": key.most,
        }
        found |= {name: end for name, end in ends.items() if end is not None}
    return found


def _any_of(types: list[dict[str, Any]]) -> dict[str, Any]:
    return types[0] if len(types) == 1 else {"anyOf": types}
