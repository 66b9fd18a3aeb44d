"""Whatever a config holds: a clean run, or one line of the project's own.

``FUZZ_SEED=7 pytest tests/chaos/test_fuzz_configs.py`` repeats one mutation.
"""

import json

import pytest

from dadmm.app.schema import SCHEMA
from support.fuzz_ground import CONFIGS, fit
from support.fuzzing import (
    COUNTS,
    Raw,
    mutate_bytes,
    mutate_lines,
    seeds,
    shortened,
    survive,
    takes_long,
    toml,
)

pytestmark = [
    pytest.mark.usefixtures("on_ground"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.FactorWarning"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.OrderWarning"),
    pytest.mark.timeout(0),  # fuzzing.guard watches every case
    pytest.mark.filterwarnings("ignore:A column-vector y"),
]


def test_the_configs_that_are_mutated_are_valid_and_have_every_key():
    keys = {
        (table, key) for config in CONFIGS.values() for table in config for key in config[table]
    }
    waited_for = {("cluster", "scheduler")}  # a scheduler that is not there, for the time-out
    every = {(table, key) for table, known in SCHEMA.items() for key in known}
    assert keys == every - waited_for
    for name, config in CONFIGS.items():
        assert fit(toml(config).encode(), name) is None


# ----------------------------------------------------------------------------------------- configs


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


TABLES = [
    "{}", "{town = 'str'}", "{a = 'float64', town = 'int64'}", "{a = 'percent'}", "{a = 'x'}",
    "{nope = 'str'}", "{a = 5}", "{a = {}}", "{'' = ''}", "{id = 'bool', kind = 'str'}",
]  # fmt: skip


def random_value(rng, table, key):
    """Draw a value for a key of a config, more often than not of the right type."""
    if key == "workers":
        return rng.choice(
            [-1, 0, -(10**30), 1.5, True, "2", "", [], [1], {}, Raw("nan"), Raw("{}")]
        )
    numbers = [n for n in NUMBERS if n <= 3] if key in COUNTS else NUMBERS
    draws = {
        int: lambda: rng.choice(numbers),
        float: lambda: Raw(rng.choice(FLOATS)),
        str: lambda: rng.choice(WORDS),
        bool: lambda: rng.choice([True, False]),
        list: lambda: Raw(rng.choice(LITERALS)),
        dict: lambda: Raw(rng.choice(TABLES)),
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


@seeds()
def test_configs(batch):
    survive(configs, batch)
