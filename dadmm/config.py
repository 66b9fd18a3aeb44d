"""Config files: one TOML that says what to train on what, checked key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dadmm.errors import InputError, OptionError, nearest
from dadmm.solvers.relaxed import RelaxedADMM

# Every table and key that a config may have; the value is what the key means.
SCHEMA: dict[str, dict[str, str]] = {
    "data": {
        "dataset": "a named data set: digits, wine-white, wine-red",
        "x": "path of the inputs: .npy, .csv, or a zarr array",
        "y": "path of the targets, or (x in .csv) the name of the target's column",
        "test_fraction": "share of the rows held out for the final test, 0 to 1",
        "seed": "seed of that split",
    },
    "model": {
        "task": "classification or regression",
        "hidden_layer_sizes": "widths of the hidden layers",
        "activation": "relu, leaky_relu, tanh, sigmoid, softplus or identity",
        "loss": "auto, cross_entropy, hinge, squared or huber",
        "stem": "dense or identity",
        "alpha": "weight of |W|^2 / 2, per sample",
        "max_iter": "most iterations",
        "tol": "stop at steps below this share of the variables' norm",
        "standardize": "feature, global or none",
        "random_state": "seed of the starting weights",
        "chunks": "rows per chunk, or auto",
    },
    "solver": {"name": "relaxed", **{f.name: "see RelaxedADMM" for f in fields(RelaxedADMM)}},
    "cluster": {
        "workers": "worker processes on this machine; 0 runs on threads",
        "memory_limit": "memory of one worker, such as 2GiB",
        "dashboard": "port of the Dask dashboard on loopback, 0 for any, -1 for none",
    },
}
TASKS = ("classification", "regression")


def load_config(path: str | Path) -> dict[str, Any]:
    """Read and check a config file.

    Raises
    ------
    InputError
        If the file cannot be read, is not TOML, or has a table or key that does not exist; the
        message names it and the nearest that does.
    """
    try:
        with Path(path).open("rb") as file:
            config = tomllib.load(file)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: give the path of a config file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    check_config(config, str(path))
    return config


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raise `OptionError` for whatever in a config is not in the schema."""
    for table, keys in config.items():
        if table not in SCHEMA:
            raise OptionError(f"{where}: no table is called [{table}]{_guess(table, SCHEMA)}")
        if not isinstance(keys, Mapping):
            raise OptionError(f"{where}: {table} is a table: write [{table}] and keys below it")
        for key in keys:
            if key not in SCHEMA[table]:
                guess = _guess(key, SCHEMA[table])
                raise OptionError(f"{where}: [{table}] has no key {key!r}{guess}")
    data, model = config.get("data", {}), config.get("model", {})
    if ("dataset" in data) == ("x" in data):
        raise OptionError(f"{where}: [data] needs either dataset, or x and y")
    if model.get("task", TASKS[0]) not in TASKS:
        raise OptionError(f"{where}: [model] task={model['task']!r}{_guess(model['task'], TASKS)}")
    fraction = data.get("test_fraction", 0.0)
    if not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
        raise OptionError(f"{where}: [data] test_fraction={fraction!r}: use 0 to below 1")
    workers = config.get("cluster", {}).get("workers", 0)
    if not isinstance(workers, int) or workers < 0:
        raise OptionError(f"{where}: [cluster] workers={workers!r}: use a whole number, 0 or more")


def _guess(name: object, known: Any) -> str:
    guess = nearest(name, known)
    cure = f"did you mean {guess!r}? " if guess else ""
    return f": {cure}known: {', '.join(known)}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line for each key on which two configs differ."""
    found = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key} is {left!r} there, {right!r} here")
    return found
