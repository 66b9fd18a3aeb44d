"""Options are described once: checks, messages, docstrings and configs follow from it."""

import inspect
import pickle
from dataclasses import dataclass, fields
from inspect import signature

import numpy as np
import pytest
from dask.base import tokenize
from sklearn.base import clone

import dadmm
from dadmm.app.schema import SCHEMA, json_schema
from dadmm.errors import OptionError
from dadmm.options import (
    REQUIRED,
    Option,
    check_options,
    documented,
    either,
    like,
    option,
    options_of,
)
from dadmm.solvers.nmf.method import Factorization
from dadmm.solvers.registry import SOLVERS
from support.messages import naming

ESTIMATORS = [dadmm.ADMMClassifier, dadmm.ADMMRegressor, dadmm.NMF, dadmm.DeepFacto]
METHODS = [dadmm.BlockADMM, dadmm.RelaxedADMM, Factorization]
BLOCKS = [dadmm.Dense, dadmm.Residual, dadmm.NMFBlock]
each = pytest.mark.parametrize("kind", [*ESTIMATORS, *METHODS, *BLOCKS])


@documented
@dataclass(frozen=True)
class Gradient:
    """Full-batch gradient descent.

    Notes
    -----
    None.
    """

    rate: float = option(1, above=0, means="Length of a step. Long steps diverge.")
    momentum: float = option(0.9, least=0, below=1, means="Share of the last step.")
    rounds: int = option(5, least=1, most=10_000, means="Rounds of a pass.")
    kind: str = option("plain", choices=("plain", "nesterov"), means="What to do.")
    order: int = option(2, choices=(1, 2), means="Order.")
    nested: bool = option(False, means="Whether it is.")
    widths: tuple[int, ...] = option((3, 4), kinds=(list,), items=(int,), least=1, means="Widths.")
    limit: int | str | None = option(
        None, kinds=(int, str, type(None)), choices=("auto",), least=1, means="Limit."
    )
    plain: float = 0.5
    unknown: object = None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rate", 0, ["rate=0", "above 0"]),
        ("rate", np.nan, ["rate=nan", "above 0"]),
        ("rate", np.inf, ["rate=inf", "above 0"]),
        ("rate", "1", ["rate='1'", "above 0"]),
        ("rate", True, ["rate=True", "above 0"]),
        ("rate", 10**400, ["rate", "401 digits", "1e38"]),
        ("rate", 10**20, ["rate", "21 digits", "1e+20"]),
        ("rate", -(2**63), ["rate", "19 digits", "9.223372036854776e+18"]),
        pytest.param("rounds", -(10**5000), ["rounds", "5001 digits", "1e38"], id="very long"),
        ("order", 2**128, ["order", "39 digits"]),
        pytest.param("kind", 10**5000, ["kind", "5001 digits"], id="very long text"),
        ("widths", [3, 10**200], ["widths", "201 digits"]),
        ("unknown", {10**5000}, ["unknown", "5001 digits"]),
        ("momentum", 1.0, ["momentum=1.0", "below 1"]),
        ("rounds", 1.5, ["rounds=1.5", "whole number", "10000"]),
        ("rounds", 10_001, ["rounds=10001", "10000"]),
        ("kind", "plan", ["kind='plan'", "'plain'", "'nesterov'"]),
        ("kind", None, ["kind=None", "'plain'", "'nesterov'"]),
        ("order", 3, ["order=3", "1", "2"]),
        ("nested", 1, ["nested=1", "true or false"]),
        ("widths", 3, ["widths=3", "list"]),
        ("widths", (3, 1.5), ["widths=(3, 1.5)", "list"]),
        ("widths", (), ["widths=()", "list"]),
        ("limit", 0, ["limit=0", "1", "'auto'", "None"]),
        ("limit", "aut", ["limit='aut'", "'auto'", "whole number"]),
        ("plain", "x", ["plain='x'", "number"]),
    ],
)
def test_a_bad_value_is_named_with_what_to_use(name, value, words):
    with pytest.raises(OptionError, match=naming(*words)) as caught:
        check_options(Gradient(**{name: value}), "a ")
    assert str(caught.value).startswith(f"a {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 0.1),
        ("rate", np.float32(0.1)),
        ("rounds", np.int64(3)),
        ("kind", "nesterov"),
        ("nested", np.True_),
        ("widths", [5]),
        ("limit", "auto"),
        ("limit", 7),
        ("plain", 1),
        ("unknown", object()),
    ],
)
def test_good_values_pass(name, value):
    check_options(Gradient(**{name: value}))


def test_a_required_option_has_no_default():
    @dataclass(frozen=True)
    class Block:
        width: int = option(REQUIRED, least=1, means="Width.")

    with pytest.raises(TypeError, match="width"):
        Block()
    assert options_of(Block)["width"].default is None
    with pytest.raises(OptionError, match=naming("width=0", "1")):
        check_options(Block(0))


def test_an_option_may_be_like_that_of_another_class():
    @dataclass
    class Other:
        pace: float = like(Gradient, "rate", default=0.1)

    mine, theirs = options_of(Other)["pace"], options_of(Gradient)["rate"]
    assert (mine.above, mine.means, mine.kinds) == (theirs.above, theirs.means, (float,))
    assert Other().pace == 0.1


def test_choices_may_grow():
    known = {"relu": 1}
    described = Option((str,), "", choices=known)
    known["gelu"] = 2
    described.check("activation", "gelu")


def test_words_are_joined_as_english_does():
    assert either([]) == ""
    assert either(["a"]) == "a"
    assert either(["a", "b"]) == "a or b"
    assert either(["a", "b", "c"]) == "a, b, or c"
    assert either(["a, 1 or more", "b"]) == "a, 1 or more, or b"


def test_options_of_a_method_of_ones_own_are_checked_before_training():
    @dataclass(frozen=True)
    class Mine(dadmm.Solver):
        rate: float = option(0.5, above=0, means="Length of a step.")
        rounds: int = 3

        layout = visit = update = None

    x = np.eye(4)
    for solver, words in (
        (Mine(rate=0), "rate=0: use a number above 0"),
        (Mine(rounds=1.5), "rounds=1.5: use a whole number"),
    ):
        with pytest.raises(OptionError, match=words):
            dadmm.ADMMClassifier((2,), solver=solver).fit(x, [0, 1, 0, 1])


# ---------------------------------------------------------------------------------- docstrings


def test_parameters_stand_before_other_sections():
    assert inspect.getdoc(Gradient).startswith(
        "Full-batch gradient descent.\n\nParameters\n----------\nrate : float, above 0\n"
        "    Length of a step. Long steps diverge.\nmomentum : float, 0 to below 1\n"
    )
    assert 'kind : {"plain", "nesterov"}' in Gradient.__doc__
    assert "order : {1, 2}" in Gradient.__doc__
    assert Gradient.__doc__.endswith("Notes\n-----\nNone.")


@each
def test_docstrings_describe_every_option(kind):
    numpydoc = pytest.importorskip("numpydoc.docscrape")
    parameters = numpydoc.ClassDoc(kind)["Parameters"]
    described = [p.name for p in parameters]
    assert described == list(options_of(kind))
    assert set(described) == set(signature(kind).parameters)
    assert all(p.desc for p in parameters)
    assert all(line == line.rstrip() for line in kind.__doc__.splitlines())


@each
def test_defaults_are_allowed(kind):
    for name, described in options_of(kind).items():
        if signature(kind).parameters[name].default is not inspect.Parameter.empty:
            described.check(name, described.default)


# ---------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_estimator_has_the_signature_that_scikit_learn_reads(kind):
    found = {name: p.default for name, p in signature(kind.__init__).parameters.items()}
    del found["self"]
    assert found == {name: described.default for name, described in options_of(kind).items()}
    assert kind().get_params() == found
    assert set(vars(kind())) >= set(found)


def test_the_arguments_by_position_stay_where_they_were():
    by_position = {
        kind: [n for n, p in signature(kind).parameters.items() if p.kind is not p.KEYWORD_ONLY]
        for kind in ESTIMATORS
    }
    network = ["hidden_layer_sizes", "activation"]
    assert list(by_position.values()) == [
        network,
        network,
        ["n_components"],
        ["n_components", "hidden_layer_sizes", "head_layer_sizes", "activation"],
    ]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_estimator_is_cloned_pickled_and_shown(kind):
    made = kind(max_iter=7, run="runs/a", chunks=(5, 5))
    for twin in (clone(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is kind
        assert twin.get_params() == made.get_params()
        assert twin != made
    assert repr(made) == f"{kind.__name__}(chunks=(5, 5), max_iter=7, run='runs/a')"


def test_dask_tells_estimators_apart_by_what_they_have_learnt():
    x = np.random.default_rng(0).normal(size=(20, 3))
    clf = dadmm.ADMMClassifier((4,), max_iter=1, random_state=0)
    before = tokenize(clf)
    assert tokenize(clone(clf)) == before
    clf.fit(x, x[:, 0] > 0)
    after = tokenize(clf)
    assert after == tokenize(pickle.loads(pickle.dumps(clf)))
    assert tokenize(clf.fit(x, x[:, 1] > 0)) != after != before


# --------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize("name", SOLVERS)
def test_configs_and_solvers_agree(name):
    for field in fields(SOLVERS[name]):
        key = SCHEMA["solver"][field.name]
        assert key.choices == options_of(SOLVERS[name])[field.name].choices
        assert key.bounds == options_of(SOLVERS[name])[field.name].bounds
        assert f"{name}: {options_of(SOLVERS[name])[field.name].means}" in key.means


def test_the_json_schema_says_what_is_allowed():
    tables = {name: t["properties"] for name, t in json_schema()["properties"].items()}
    rate = tables["solver"]["z_rate"]
    assert (rate["type"], rate["exclusiveMinimum"], rate["exclusiveMaximum"]) == ("number", 0, 2)
    assert tables["model"]["max_iter"]["minimum"] == 1
    assert tables["model"]["max_iter"]["default"] == 50
    assert tables["model"]["missing"]["enum"] == ["refuse", "impute"]
    assert tables["model"]["hidden_layer_sizes"]["items"] == {"type": "integer"}
    assert tables["solver"]["splitting"]["enum"] == [2, 3]
    assert [t["type"] for t in tables["model"]["chunks"]["anyOf"]] == ["integer", "string", "array"]
