"""Config files: one TOML that says what to train on what, checked key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dask.utils import format_bytes, parse_bytes

from dadmm.errors import InputError, OptionError, nearest
from dadmm.options import SOLVERS
from dadmm.plan import BASE_BYTES

Kind = tuple[type, ...]

TEXT: Kind = (str,)
SWITCH: Kind = (bool,)
WHOLE: Kind = (int,)
NUMBER: Kind = (int, float)
WIDTHS: Kind = (list,)
CHUNKS: Kind = (int, str, list)
MEMORY: Kind = (int, str)
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
}


def _solver_keys() -> dict[str, tuple[Kind, str]]:
    """Return the options of all solvers; which of them takes an option is checked by itself."""
    kinds = {str: TEXT, bool: SWITCH, int: WHOLE, float: NUMBER}
    found: dict[str, tuple[Kind, str]] = {}
    for name, solver in SOLVERS.items():
        for f in fields(solver):
            kind = ITEMS if f.metadata else kinds[type(f.default)]
            words = f"{name}: default {f.default!r}"
            if f.name in found:
                words = f"{found[f.name][1]}; {words}"
            found[f.name] = kind, words
    return found


# Every table and key that a config may have: what its value may be, and what it means.
SCHEMA: dict[str, dict[str, tuple[Kind, str]]] = {
    "data": {
        "dataset": (TEXT, "a named data set: digits, mnist, wine-white, wine-red"),
        "x": (TEXT, "path of the inputs: .npy, .csv, or a zarr array"),
        "y": (TEXT, "path of the targets, or their column of a .csv"),
        "test_fraction": (NUMBER, "share of the rows held out for the final test, 0 to 1"),
        "seed": (WHOLE, "seed of that split"),
    },
    "model": {
        "task": (TEXT, "classification or regression"),
        "hidden_layer_sizes": (WIDTHS, "widths of the hidden layers"),
        "activation": (TEXT, "relu, leaky_relu, tanh, sigmoid, softplus or identity"),
        "loss": (TEXT, "auto, cross_entropy, hinge, squared or huber"),
        "stem": (TEXT, "dense or identity"),
        "alpha": (NUMBER, "weight of |W|^2 / 2, per sample"),
        "max_iter": (WHOLE, "most iterations"),
        "tol": (NUMBER, "when to stop early, as the solver says; 0: never"),
        "standardize": (TEXT, "feature, global or none"),
        "class_weight": (TEXT, "balanced: classes weigh alike (classification)"),
        "random_state": (WHOLE, "seed of the starting weights"),
        "chunks": (CHUNKS, "rows per chunk, or auto"),
        "copy_data": (SWITCH, "true: copy inputs that lie in zarr into the run"),
    },
    "solver": {"name": (TEXT, "block or relaxed"), **_solver_keys()},
    "cluster": {
        "workers": (WHOLE, "worker processes on this machine; 0 runs on threads"),
        "memory_limit": (MEMORY, "memory of one worker, such as 2GiB"),
        "dashboard": (WHOLE, "port of the Dask dashboard; 0 for any, -1 for none"),
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
    except RecursionError as error:
        raise InputError(f"{path} is not valid TOML: too many brackets in brackets") from error
    except ValueError as error:  # bad syntax, bad UTF-8, a number of thousands of digits
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
        for key, value in keys.items():
            _check_key(table, key, value, where)
    data, model = config.get("data", {}), config.get("model", {})
    if ("dataset" in data) == ("x" in data or "y" in data):
        raise OptionError(f"{where}: [data] needs either dataset, or x and y")
    if "y" in data and "x" not in data:
        raise OptionError(f"{where}: [data] has y but no x: name the file of the inputs")
    if model.get("task", TASKS[0]) not in TASKS:
        raise OptionError(f"{where}: [model] task={model['task']!r}{_guess(model['task'], TASKS)}")
    if "class_weight" in model and model.get("task", TASKS[0]) != TASKS[0]:
        raise OptionError(f"{where}: [model] class_weight is for task={TASKS[0]!r}: leave it out")
    fraction = data.get("test_fraction", 0.0)
    if not 0 <= fraction < 1:
        raise OptionError(f"{where}: [data] test_fraction={fraction}: use 0 to below 1")
    for table, key, least in (("data", "seed", 0), ("cluster", "workers", 0)):
        value = config.get(table, {}).get(key, least)
        if value < least:
            raise OptionError(f"{where}: [{table}] {key}={value}: use {least} or more")
    _check_memory(config.get("cluster", {}).get("memory_limit"), where)


def _check_key(table: str, key: str, value: object, where: str) -> None:
    if key not in SCHEMA[table]:
        homes = [f"[{other}]" for other in SCHEMA if key in SCHEMA[other]]
        cure = f": it belongs in {' or '.join(homes)}" if homes else _guess(key, SCHEMA[table])
        raise OptionError(f"{where}: [{table}] has no key {key!r}{cure}")
    kind = SCHEMA[table][key][0]
    items = value if isinstance(value, list) and list in kind else [value]
    allowed = WHOLE if isinstance(value, list) else kind
    if kind == ITEMS and isinstance(value, list):
        allowed = (int, str, dict)
    for item in items:
        if not isinstance(item, allowed) or (isinstance(item, bool) and kind != SWITCH):
            raise OptionError(f"{where}: [{table}] {key}={value!r}: use {WORDS[kind]}")


def _check_memory(limit: int | str | None, where: str) -> None:
    """Refuse, before any worker starts, what no worker could start with."""
    if limit is None:
        return
    try:
        memory = parse_bytes(limit)
    except (ValueError, OverflowError) as error:
        cure = f"use {WORDS[MEMORY]}"
        raise OptionError(f"{where}: [cluster] memory_limit={limit!r}: {cure}") from error
    if memory < BASE_BYTES:
        raise OptionError(
            f"{where}: [cluster] memory_limit={limit!r} is too small: Python and its libraries "
            f"alone need {format_bytes(BASE_BYTES)}"
        )


def _guess(name: object, known: Iterable[str]) -> str:
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
