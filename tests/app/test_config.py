"""A config says what to train on what; whatever in it has no meaning is named."""

import json
import tomllib
from dataclasses import fields

import jsonschema
import pytest

from dadmm import NMF, ADMMClassifier, ADMMRegressor, DeepFacto
from dadmm.app.config import check_config, differences, load_config
from dadmm.app.schema import ABOUT, SCHEMA, example, json_schema
from dadmm.errors import InputError, OptionError
from dadmm.solvers.registry import SOLVERS, make_solver, solver_table
from support.messages import naming

DIGITS = {"data": {"dataset": "digits"}}


def test_every_option_of_an_estimator_has_a_key_and_every_key_is_an_option():
    # What a config says elsewhere, or the command line does, or is for a second fit; the samples of
    # files have the dimensions of their target.
    elsewhere = {"solver", "run", "overwrite", "memory_limit", "verbose", "warm_start"}
    elsewhere |= {"sample_dims"}
    kinds = (ADMMClassifier, ADMMRegressor, DeepFacto, NMF)
    options = {option for kind in kinds for option in kind().get_params()}
    assert options == set(SCHEMA["model"]) - {"task"} | elsewhere


def test_every_option_of_the_solvers_has_a_key():
    options = {field.name for solver in SOLVERS.values() for field in fields(solver)}
    assert set(SCHEMA["solver"]) == options | {"name"}


def test_every_table_and_key_is_documented():
    assert set(ABOUT) == set(SCHEMA)
    assert all(key.means for keys in SCHEMA.values() for key in keys.values())


# ------------------------------------------------------------------------------------------ example


def loaded(text, folder, environ=None):
    (folder / "a.toml").write_text(text)
    return load_config(folder / "a.toml", environ=environ or {})


def test_the_example_is_a_config_with_the_real_defaults(tmp_path):
    config = loaded(example(), tmp_path)
    model = {k: v for k, v in config["model"].items() if k != "task"}
    made, plain = ADMMClassifier(**model).get_params(), ADMMClassifier().get_params()
    assert {**made, "hidden_layer_sizes": ()} == {**plain, "hidden_layer_sizes": ()}
    assert tuple(made["hidden_layer_sizes"]) == plain["hidden_layer_sizes"]
    assert make_solver(config["solver"]) == make_solver("block")


def test_the_example_has_every_key_in_its_table():
    table, found = "", {}
    for line in example().splitlines():
        if line.startswith("["):
            table = line[1 : line.index("]")]
        elif " = " in line and table:
            name = line.removeprefix("# ").partition(" = ")[0]
            found.setdefault(table, set()).add(name.removeprefix("# "))
    missing = {t: set(keys) - found[t] for t, keys in SCHEMA.items()}
    assert not any(missing.values()), missing


def test_the_comments_of_the_example_are_valid_too(tmp_path):
    """Whoever takes a comment sign away has a valid config still."""
    text = example()
    lines = text[text.index("[data]") :].splitlines()
    lines = [line.removeprefix("# ") for line in lines if " = " in line or line[:1] == "["]
    lines = [line for line in lines if "dataset" not in line]
    start = next(i for i, line in enumerate(lines) if line.startswith("with name"))
    end = next(i for i, line in enumerate(lines) if line.startswith("[cluster]"))
    solver = lines.index(next(line for line in lines if line.startswith("[solver]")))
    relaxed = ['name = "relaxed"', *(line.removeprefix("# ") for line in lines[start + 1 : end])]
    chosen = [*lines[: solver + 1], *relaxed, *lines[end:]]
    config = loaded("\n".join(chosen), tmp_path)
    assert {t: set(keys) for t, keys in config.items() if t != "solver"} == {
        t: set(keys) - {"dataset"} for t, keys in SCHEMA.items() if t != "solver"
    }
    assert solver_table(make_solver(config["solver"])) == solver_table(make_solver("relaxed"))


def test_the_json_schema_has_the_same_keys_and_takes_the_example():
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert not list(validator.iter_errors(tomllib.loads(example())))
    for wrong in ({"modl": {}}, {"model": {"max_itr": 1}}, {"model": {"max_iter": "1"}}):
        assert list(validator.iter_errors(wrong)), wrong
    assert {t: set(p["properties"]) for t, p in schema["properties"].items()} == {
        t: set(keys) for t, keys in SCHEMA.items()
    }


# -------------------------------------------------------------------------------------- environment


TOML = '[data]\ndataset = "digits"\n[model]\nmax_iter = 3\n'


@pytest.mark.parametrize(
    ("name", "text", "table", "key", "value"),
    [
        ("MODEL__MAX_ITER", "20", "model", "max_iter", 20),
        ("MODEL__HIDDEN_LAYER_SIZES", "[5, 6]", "model", "hidden_layer_sizes", [5, 6]),
        ("MODEL__COPY_DATA", "true", "model", "copy_data", True),
        ("SOLVER__LEARNING_RATE", "1e-3", "solver", "learning_rate", 1e-3),
        ("SOLVER__NAME", "relaxed", "solver", "name", "relaxed"),
        ("SOLVER__BLOCKS", '[{kind = "residual"}]', "solver", "blocks", [{"kind": "residual"}]),
        ("CLUSTER__MEMORY_LIMIT", "2GiB", "cluster", "memory_limit", "2GiB"),
        ("RUN__PATH", '"runs/5"', "run", "path", "runs/5"),
        ("RUN__PATH", "s3://bucket/a = b", "run", "path", "s3://bucket/a = b"),
        ("RUN__PATH", "a\nb = 5", "run", "path", "a\nb = 5"),
        ("RUN__PATH", "", "run", "path", ""),
    ],
)
def test_the_environment_has_the_last_word(tmp_path, name, text, table, key, value):
    config = loaded(TOML, tmp_path, {f"DADMM__{name}": text})
    assert config[table][key] == value
    assert type(config[table][key]) is type(value)
    assert config["data"] == {"dataset": "digits"}
    assert config["model"]["max_iter"] == (20 if key == "max_iter" else 3)


def test_other_variables_are_no_keys(tmp_path):
    others = {"DADMM_DATA": "/data", "DADMM_DEBUG": "1", "DADMM": "5", "MODEL__MAX_ITER": "5"}
    assert loaded(TOML, tmp_path, others) == tomllib.loads(TOML)


def test_the_environment_is_that_of_the_process(tmp_path, monkeypatch):
    monkeypatch.setenv("DADMM__MODEL__MAX_ITER", "7")
    (tmp_path / "a.toml").write_text(TOML)
    assert load_config(tmp_path / "a.toml")["model"] == {"max_iter": 7}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DADMM__MODEL__MAX_ITR", "5", ["[model]", "'max_itr'", "'max_iter'"]),
        ("DADMM__MODL__MAX_ITER", "5", ["[modl]", "'model'"]),
        ("DADMM__MODEL_MAX_ITER", "5", ["DADMM__TABLE__KEY"]),
        ("DADMM__MODEL__", "5", ["DADMM__TABLE__KEY"]),
        ("DADMM__MODEL__MAX_ITER", "many", ["[model]", "max_iter='many'", "whole number"]),
        ("DADMM__MODEL__MAX_ITER", "1.5", ["[model]", "max_iter=1.5", "whole number"]),
        ("DADMM__MODEL__MAX_ITER", "[" * 5000, ["max_iter", "whole number"]),
        ("DADMM__MODEL__ACTIVATION", "5", ["[model]", "activation=5", "'relu'"]),
        ("DADMM__MODEL__TASK", "clustering", ["task='clustering'"]),
        ("DADMM__DATA__TEST_FRACTION", "2", ["[data]", "test_fraction=2", "below 1"]),
        ("DADMM__PREDICT__ROWS", "0", ["[predict]", "rows=0", "1"]),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(tmp_path, name, text, words):
    with pytest.raises(OptionError, match=naming(name, *words)):
        loaded(TOML, tmp_path, {name: text})


def test_the_environment_may_complete_a_file(tmp_path):
    config = loaded('[data]\ny = "kind"\n', tmp_path, {"DADMM__DATA__X": "a.csv"})
    assert config["data"] == {"x": "a.csv", "y": "kind"}


def test_what_is_needed_and_missing_is_told_with_its_meaning(tmp_path):
    (tmp_path / "a.toml").write_text('[run]\npath = "r"\n')
    assert load_config(tmp_path / "a.toml", ["run.path"], {}) == {"run": {"path": "r"}}
    words = naming("a.toml", "[predict]", "input")
    with pytest.raises(OptionError, match=words):
        load_config(tmp_path / "a.toml", ["run.path", "predict.input"], {})


# ------------------------------------------------------------------------------------------- checks


def test_a_full_config_passes():
    check_config(
        {
            "data": {"x": "x.npy", "y": "y.npy", "test_fraction": 0.5, "seed": 1},
            "model": {
                "task": "regression",
                "hidden_layer_sizes": [3, 4],
                "alpha": 1,
                "tol": 0.0,
                "chunks": [5, 5],
                "max_iter": 3,
            },
            "solver": {"name": "relaxed", "tau": 1, "head_refit": False, "splitting": 2},
            "cluster": {"workers": 2, "memory_limit": 2**30, "dashboard": -1},
        },
        "a.toml",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"blocks": 2, "constraints": "simplex", "learning_rate": 1},
        {"blocks": [2, 3], "constraints": ["simplex", ""], "early_stopping": True},
        {"name": "block", "blocks": [{"kind": "dense", "width": 5}, {"kind": "residual"}]},
    ],
)
def test_block_admm_takes_numbers_names_lists_and_tables(options):
    check_config({**DIGITS, "solver": options}, "a.toml")


@pytest.mark.parametrize("chunks", ["auto", 5, [5, 5]])
@pytest.mark.parametrize("memory", ["2GiB", 2**30])
def test_some_keys_take_values_of_several_types(chunks, memory):
    check_config({**DIGITS, "model": {"chunks": chunks}, "cluster": {"memory_limit": memory}}, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modl": {}}, ["[modl]", "'model'", "data"]),
        ({"model": 5}, ["model", "[model]"]),
        ({"model": {"max_itr": 5}}, ["[model]", "'max_itr'", "'max_iter'"]),
        ({"solver": {"tauu": 5}}, ["[solver]", "'tauu'", "'tau'"]),
        ({"model": {"seed": 5}}, ["[model]", "'seed'", "[data]"]),
        ({"model": {"workers": 5}}, ["[model]", "'workers'", "[cluster]"]),
        ({"model": {"task": "regresion"}}, ["task='regresion'", "'regression'"]),
        ({"model": {"max_iter": "many"}}, ["[model]", "max_iter='many'", "whole number"]),
        ({"model": {"max_iter": True}}, ["[model]", "max_iter=True", "whole number"]),
        ({"model": {"max_iter": 1.5}}, ["[model]", "max_iter=1.5", "whole number"]),
        ({"model": {"alpha": "x"}}, ["[model]", "alpha='x'", "number"]),
        ({"model": {"activation": 5}}, ["[model]", "activation=5", "'relu'"]),
        ({"model": {"hidden_layer_sizes": 5}}, ["hidden_layer_sizes=5", "list"]),
        ({"model": {"hidden_layer_sizes": "ab"}}, ["hidden_layer_sizes='ab'", "list"]),
        ({"model": {"hidden_layer_sizes": [5, "a"]}}, ["hidden_layer_sizes=[5, 'a']", "list"]),
        ({"model": {"chunks": [1.5]}}, ["chunks=[1.5]", "'auto'"]),
        ({"model": {"random_state": "x"}}, ["[model]", "random_state='x'", "whole number"]),
        ({"solver": {"head_refit": 1}}, ["[solver]", "head_refit=1", "true or false"]),
        ({"solver": {"mu": "x"}}, ["[solver]", "mu='x'", "number"]),
        ({"solver": {"name": ["relaxed"]}}, ["[solver]", "name=['relaxed']", "'block'"]),
        ({"solver": {"blocks": 1.5}}, ["[solver]", "blocks=1.5", "list"]),
        ({"solver": {"blocks": [True]}}, ["[solver]", "blocks=[True]", "list"]),
        ({"solver": {"early_stopping": 1}}, ["[solver]", "early_stopping=1", "true or false"]),
        ({"model": {"class_weight": 1}}, ["[model]", "class_weight=1", "'balanced'"]),
        (
            {"model": {"task": "regression", "class_weight": "balanced"}},
            ["[model]", "class_weight", "task='classification'"],
        ),
        ({"data": {}}, ["[data]", "dataset", "x", "y"]),
        ({"data": {"dataset": "digits", "x": "a"}}, ["[data]", "dataset", "x", "y"]),
        ({"data": {"dataset": "digits", "y": "a"}}, ["[data]", "dataset", "x", "y"]),
        ({"data": {"dataset": 5}}, ["[data]", "dataset=5", "'digits'"]),
        ({"data": {"dataset": "digits", "test_fraction": 1.0}}, ["test_fraction=1.0", "below 1"]),
        ({"data": {"dataset": "digits", "test_fraction": "x"}}, ["test_fraction='x'", "number"]),
        ({"data": {"dataset": "digits", "seed": -1}}, ["[data]", "seed=-1", "0"]),
        ({"cluster": {"workers": -1}}, ["[cluster]", "workers=-1", "0"]),
        ({"cluster": {"workers": 1.5}}, ["[cluster]", "workers=1.5", "whole number"]),
        ({"cluster": {"memory_limit": "lots"}}, ["memory_limit='lots'", "bytes"]),
        ({"cluster": {"memory_limit": "1MiB"}}, ["memory_limit='1MiB'"]),
        ({"cluster": {"dashboard": "x"}}, ["[cluster]", "dashboard='x'", "whole number"]),
    ],
)
def test_what_is_not_in_the_schema_is_named(changes, words):
    with pytest.raises(OptionError, match=naming("a.toml", *words)) as caught:
        check_config({**DIGITS, **changes}, "a.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["path"]),
        (b"[data\n", ["TOML", "line 1"]),
        (b"a = 1\na = 2\n", ["TOML", "line 2"]),
        (b"\xff\x00", ["TOML", "decode"]),
        (b"", ["[data]", "dataset"]),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, content, words):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=naming("a.toml", *words)):
        load_config(path)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(InputError, match=naming(str(tmp_path), "Is a directory")):
        load_config(tmp_path)


def test_differences_are_named_key_by_key():
    a = {"params": {"max_iter": 3, "alpha": 1.0}, "solver": {"tau": 0.1}, "old": 1}
    b = {"params": {"max_iter": 4, "alpha": 1.0}, "solver": {"tau": 0.1}, "new": 2}
    assert differences(a, a) == []
    assert differences(a, b) == [
        "new is None there, 2 here",
        "old is 1 there, None here",
        "params.max_iter is 3 there, 4 here",
    ]
