"""Read a config file, a TOML that says what to train on which data, and check every key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dadmm.app.schema import SCHEMA, TASKS
from dadmm.cluster.connection import scheduler_address
from dadmm.cluster.profiles import check_memory, seconds
from dadmm.cluster.profiles import find as find_profile
from dadmm.data.table import Table, reading_of
from dadmm.errors import InputError, OptionError, nearest

# Variables of the environment with this prefix override keys.
PREFIX = "DADMM__"


def load_config(
    path: str | Path,
    needs: Iterable[str] = ("data",),
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Read a config file, override keys from the environment, and check the result.

    Parameters
    ----------
    path : path
    needs : iterable of str
        Required tables, or keys as "table.key".
    environ : dict
        A variable ``DADMM__TABLE__KEY`` overrides a key; its value is TOML, or else text.

    Raises
    ------
    InputError
        If the file cannot be read, is not TOML, or has an unknown table or key; the message names
        it, or the variable, and the nearest known name.
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
    _check_keys(config, str(path))
    found = _overrides(environ)
    for name, (table, key, value) in found.items():
        _check_key(table, key, value, name)
        config[table] = {**config.get(table, {}), key: value}
    check_config(config, " with ".join([str(path), *found]), needs)
    place = config.get("cluster", {})
    if place.get("profile") and not scheduler_address(place):
        find_profile(place["profile"])  # an unknown profile fails before any work
    return config


def _overrides(environ: Mapping[str, str]) -> dict[str, tuple[str, str, Any]]:
    """Return table, key and value of each variable of the environment that overrides a key."""
    found = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        table, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if not key:
            raise OptionError(f"{name}: write {PREFIX}TABLE__KEY, such as {PREFIX}MODEL__MAX_ITER")
        if table not in SCHEMA:
            raise OptionError(f"{name}: no table is called [{table}]{_guess(table, SCHEMA)}")
        found[name] = table, key, _value(environ[name])
    return found


def _value(text: str) -> Any:
    """Return a text read as a TOML value, or the text itself if it is not TOML."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text


def check_config(config: Mapping[str, Any], where: str, needs: Iterable[str] = ("data",)) -> None:
    """Raise `OptionError` for keys that are unknown, missing, or do not go together.

    Parameters
    ----------
    where : str
        The file, for the message.
    needs : iterable of str
        Required tables, or keys as "table.key".
    """
    _check_keys(config, where)
    data, model = config.get("data", {}), config.get("model", {})
    wanted = "data" in config or "data" in needs
    if wanted and ("dataset" in data) == ("x" in data or "y" in data):
        raise OptionError(f"{where}: [data] needs either dataset, or x and y")
    if "y" in data and "x" not in data:
        raise OptionError(f"{where}: [data] has y but no x: name the file of the inputs")
    if "class_weight" in model and model.get("task", TASKS[0]) != TASKS[0]:
        raise OptionError(f"{where}: [model] class_weight is for task={TASKS[0]!r}: leave it out")
    _check_cluster(config.get("cluster", {}), f"{where}: [cluster]")
    for table in ("data", "predict"):
        _check_reading(config.get(table, {}), f"{where}: [{table}]")
    for name in needs:
        table, _, key = name.partition(".")
        if key and key not in config.get(table, {}):
            means = SCHEMA[table][key].means
            raise OptionError(f"{where}: [{table}] {key} is missing: {means}")


def _check_reading(table: Mapping[str, Any], where: str) -> None:
    """Raise `OptionError` for options of a table that do not go together."""
    try:
        Table("x.csv", **reading_of(table))
    except OptionError as error:
        raise OptionError(f"{where} {error}") from error


def _check_cluster(table: Mapping[str, Any], where: str) -> None:
    if "memory_limit" in table:
        check_memory(table["memory_limit"], where)
    if "timeout" in table:
        seconds(table["timeout"], where)


def _check_keys(config: Mapping[str, Any], where: str) -> None:
    for table, keys in config.items():
        if table not in SCHEMA:
            raise OptionError(f"{where}: no table is called [{table}]{_guess(table, SCHEMA)}")
        if not isinstance(keys, Mapping):
            raise OptionError(f"{where}: {table} is a table: write [{table}] and keys below it")
        for key, value in keys.items():
            _check_key(table, key, value, where)


def _check_key(table: str, key: str, value: object, where: str) -> None:
    if key not in SCHEMA[table]:
        homes = [f"[{other}]" for other in SCHEMA if key in SCHEMA[other]]
        cure = f": it belongs in {' or '.join(homes)}" if homes else _guess(key, SCHEMA[table])
        raise OptionError(f"{where}: [{table}] has no key {key!r}{cure}")
    SCHEMA[table][key].check(f"{where}: [{table}] {key}", value)


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
