"""A network taken elsewhere computes the same: safetensors, ONNX Runtime, torch."""

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from terminal import command

import dadmm
from dadmm import NMF, ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, Network, save, to_torch
from dadmm.errors import DadmmError, InputError, OptionError, StoreError
from dadmm.networks import files
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Dense, NMFBlock, Residual
from dadmm.networks.chain import Chain
from dadmm.networks.files import onnx_file
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.constraints import CONSTRAINTS, Constraint

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
needs_onnx = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("onnxruntime") is None,
    reason="onnx or onnxruntime is not installed",
)
needs_safetensors = pytest.mark.skipif(
    find_spec("safetensors") is None, reason="safetensors is not installed"
)

TEXTS = ["non_negative", "binary", "simplex", "k_sparse:3", "l2_ball:1.2345678", "box:0.3"]
TEXTS += ["l1:0.1", "squared_l2:0.5"]
LABELS = {
    "text": np.array(["cat", "dog", "élan"]),
    "objects": np.array(["cat", "dog", "élan"], dtype=object),
    "int": np.array([-5, 2, 9], np.int16),
    "float": np.array([0.5, 1.5, 2.5]),
}
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (60, 5))
Y = np.array(["cat", "dog", "emu"])[np.digitize(X[:, 0], [2.0, 4.0])]
SMALL = {"hidden_layer_sizes": (6, 6), "max_iter": 2, "random_state": 0}
# Features of numbers that are not negative, from a few parts.
PARTS = RNG.exponential(size=(60, 3)) @ (RNG.exponential(size=(3, 8)) * (RNG.random((3, 8)) < 0.6))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(arch, dtype=np.float32, target=None, regression=False):
    """Return a network with random numbers everywhere."""
    rng = np.random.default_rng(1)
    params = arch.initial(0, dtype)
    params = {n: a + 0.3 * rng.standard_normal(a.shape).astype(dtype) for n, a in params.items()}
    features, outputs = arch.widths[0], arch.widths[-1]
    inputs = Scaling(rng.normal(3.0, 1.0, features), rng.uniform(1.0, 3.0, features))
    undo = Scaling(rng.normal(50.0, 9.0, outputs), rng.uniform(5.0, 9.0, outputs))
    return Network(arch, params, inputs, undo if regression else None, target or Target())


def layered(activation="tanh", stem="dense", **options):
    return made(Architecture.build(5, (5, 5, 4), 3, activation, stem), **options)


def constrained(text, **options):
    blocks = [Dense(8, "softplus"), Residual("tanh"), Dense(3, "identity")]
    constraints = {2: Constraint.parse(text)}
    if text != "binary":
        constraints[1] = Constraint.parse("l2_ball:2")
    return made(Chain.build(5, blocks, constraints), **options)


FACTORED = {
    "alone": [NMFBlock(3)],
    "penalised": [NMFBlock(4, l1=0.2, l2=0.3, sweeps=3)],
    "one": [NMFBlock(1)],
    "inside": [Dense(8), NMFBlock(4, l1=0.05, sweeps=50), Dense(3, "identity")],
    "twice": [Dense(8), NMFBlock(6), Dense(5, "softplus"), NMFBlock(4), Dense(3, "identity")],
    "last": [Dense(8, "sigmoid"), NMFBlock(4)],
}
each_factored = pytest.mark.parametrize("kind", FACTORED)


def factored(kind="inside", dtype=np.float32, **options):
    """Return a network that factorises; the last factor of the first dictionary is all zeros."""
    constraints = {2: Constraint.parse("l2_ball:0.5")} if kind == "twice" else {}
    network = made(Chain.build(5, FACTORED[kind], constraints), dtype, **options)
    params = {n: abs(a) if n.startswith("s") else a for n, a in network.params.items()}
    first = next(name for name in params if name.startswith("s"))
    if len(params[first]) > 1:
        params[first][-1] = 0
    return replace(network, params=params)


def runtime(path):
    """Return a function from inputs to the named outputs of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"x": x}), strict=True))


def tolerance(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-11}


def agree(network, onnx=False, fewest=0):
    """Check that torch, or ONNX Runtime, computes what the network does, for any number of rows."""
    for rows in (60, 1, fewest):
        x = X[:rows].astype(network.dtype)
        if onnx:
            found = runtime("model.onnx")(x)["outputs"]
        else:
            import torch

            with torch.no_grad():
                found = to_torch(network)(torch.from_numpy(x)).numpy()
        expected = network.forward(x)
        assert found.dtype == network.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, **tolerance(network.dtype))


def same(one, other):
    """Check that two networks are the same to the bit."""
    assert other.architecture == one.architecture
    assert other.target.loss == one.target.loss
    assert other.target.flat == one.target.flat
    np.testing.assert_array_equal(other.target.classes, one.target.classes)
    arrays = [dict(network.params) for network in (one, other)]
    for found, network in zip(arrays, (one, other), strict=True):
        for scaling in ("inputs", "outputs"):
            if getattr(network, scaling) is not None:
                found |= {f"{scaling}.{k}": v for k, v in vars(getattr(network, scaling)).items()}
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        assert arrays[1][name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[1][name], array)
    np.testing.assert_array_equal(other.forward(X), one.forward(X))


# ------------------------------------------------------------------------------------ safetensors


@needs_safetensors
@each_dtype
@pytest.mark.parametrize("stem", ["dense", "identity"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_saved_network_is_loaded_to_the_bit(activation, stem, dtype):
    network = layered(activation, stem, dtype=dtype, regression=True)
    save(network, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is ADMMRegressor
    same(network, found.network_)
    np.testing.assert_array_equal(found.predict(X), network.forward(X))
    assert (found.activation, found.stem) == (activation, stem)
    assert found.hidden_layer_sizes == (5, 5, 4)


@needs_safetensors
@pytest.mark.parametrize("text", TEXTS)
def test_constraints_are_saved_with_all_their_digits(text):
    network = constrained(text, target=Target("cross_entropy", LABELS["text"]))
    save(network, "model.safetensors")
    same(network, dadmm.load("model.safetensors").network_)


@needs_safetensors
@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_saved_with_their_dtype(kind, loss):
    network = layered(target=Target(loss, LABELS[kind], True))
    save(network, "model.safetensors")
    found = dadmm.load("model.safetensors")
    same(network, found.network_)
    assert found.classes_.dtype == LABELS[kind].dtype
    expected = LABELS[kind][network.forward(X).argmax(axis=1)]
    np.testing.assert_array_equal(found.predict(X), expected)
    np.testing.assert_array_equal(found.predict(da.from_array(X, chunks=20)).compute(), expected)
    if loss == "hinge":
        with pytest.raises(OptionError, match="no probabilities"):
            found.predict_proba(X)
    else:
        np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1.0, rtol=1e-6)


@needs_safetensors
@pytest.mark.parametrize("solver", ["block", "relaxed"])
def test_a_classifier_predicts_the_same_from_its_file(solver):
    fitted = ADMMClassifier(**SMALL, solver=solver).fit(X, Y)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is ADMMClassifier
    assert found.predict_proba(X).tobytes() == fitted.predict_proba(X).tobytes()
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))
    assert found.score(X, Y) == fitted.score(X, Y)


@needs_safetensors
@pytest.mark.parametrize("y", [X[:, 1], X[:, 1:2], X[:, 1:3]], ids=["flat", "column", "two"])
def test_a_regressor_predicts_the_same_from_its_file(y):
    fitted = ADMMRegressor(**SMALL).fit(X, y)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors").predict(X)
    assert found.shape == y.shape
    assert found.tobytes() == fitted.predict(X).tobytes()


@needs_safetensors
def test_a_file_knows_the_columns_of_a_table():
    rows = pd.DataFrame(X[:, :2], columns=["a", "b"]).assign(kind=Y)
    rows.loc[3, "b"] = np.nan
    options = {"categorical": "one_hot", "missing": "impute"}
    fitted = ADMMClassifier(**SMALL, **options).fit(rows, Y)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert list(found.feature_names_in_) == ["a", "b", "kind"]
    assert {name: getattr(found, name) for name in options} == options
    expected = fitted.predict_proba(rows)
    pd.testing.assert_frame_equal(found.predict_proba(rows), expected)
    pd.testing.assert_frame_equal(found.predict_proba(rows[["kind", "b", "a"]]), expected)
    if find_spec("onnx") is not None:
        with pytest.raises(InputError, match="columns of categories"):
            save(fitted.network_, "model.onnx")


@needs_onnx
def test_missing_numbers_are_filled_in_onnx_runtime():
    x = X.astype(np.float32)
    x[RNG.random(X.shape) < 0.2] = np.nan
    fitted = ADMMClassifier(**SMALL, missing="impute").fit(x, Y)
    save(fitted.network_, "model.onnx")
    found = runtime("model.onnx")(x)
    np.testing.assert_array_equal(found["labels"], fitted.predict(x))
    np.testing.assert_allclose(found["probabilities"], fitted.predict_proba(x), atol=1e-5)


@needs_safetensors
@each_dtype
@each_factored
def test_factorisations_are_saved_to_the_bit(kind, dtype):
    network = factored(kind, dtype)
    save(network, "model.safetensors")
    found = dadmm.load("model.safetensors")
    same(network, found.network_)
    alone = len(FACTORED[kind]) == 1
    assert type(found) is (NMF if alone else ADMMRegressor)
    given = found.transform if alone else found.predict
    np.testing.assert_array_equal(given(X), network.forward(X))


@needs_safetensors
@pytest.mark.parametrize("options", [{"shift": True}, {"alpha_W": 1e-3, "l1_ratio": 0.25}, {}])
def test_a_factorisation_transforms_the_same_from_its_file(options):
    rows = pd.DataFrame(PARTS).add_prefix("x")
    fitted = NMF(3, max_iter=5, dtype="float64", **options).fit(rows)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is NMF
    pd.testing.assert_frame_equal(found.transform(rows), fitted.transform(rows))
    for name in ("components_", "feature_names_in_", "n_components_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(fitted, name))
    assert found.score(rows) == fitted.score(rows)
    known = found.get_params()
    assert {name: known[name] for name in ("n_components", "dtype", "shift", "l1_ratio")} == {
        name: fitted.get_params()[name] for name in ("n_components", "dtype", "shift", "l1_ratio")
    }
    assert found.alpha_W == pytest.approx(fitted.alpha_W, rel=1e-12)


@needs_safetensors
@pytest.mark.parametrize(
    "options",
    [
        {"hidden_layer_sizes": (8, 8), "head_layer_sizes": (6, 6), "activation": "softplus"},
        {"hidden_layer_sizes": (), "sparsity": 0.01, "code_sweeps": 5},
        {"factor_weight": 0.5, "factor_init": "nndsvd", "overlap": 0.0},
    ],
)
def test_a_network_of_factors_is_the_same_from_its_file(options):
    options = {"n_components": 3, "hidden_layer_sizes": (8,), **options}
    fitted = DeepFacto(max_iter=2, random_state=0, **options).fit(PARTS, Y)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is DeepFacto
    np.testing.assert_array_equal(found.predict_proba(PARTS), fitted.predict_proba(PARTS))
    np.testing.assert_array_equal(found.transform(PARTS), fitted.transform(PARTS))
    np.testing.assert_array_equal(found.components_, fitted.components_)
    assert {name: getattr(found, name) for name in options} == options
    found.fit(PARTS, Y)


@needs_safetensors
@pytest.mark.parametrize(
    "blocks",
    [
        [Dense(8), NMFBlock(4), Dense(6), NMFBlock(3)],
        [Dense(8), NMFBlock(4), Dense(6, "tanh")],
        [Dense(8), Dense(8), NMFBlock(4)],
    ],
)
def test_other_networks_with_factors_are_classifiers(blocks):
    solver = BlockADMM(blocks=blocks)
    fitted = ADMMClassifier(max_iter=1, standardize="scale", solver=solver).fit(PARTS, Y)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is ADMMClassifier
    np.testing.assert_array_equal(found.predict_proba(PARTS), fitted.predict_proba(PARTS))


@needs_safetensors
def test_training_does_not_go_on_from_a_file():
    save(ADMMClassifier(**SMALL).fit(X, Y).network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    with pytest.raises(OptionError, match="no training state"):
        found.partial_fit(X, Y)
    found.fit(X, Y)
    assert found.n_iter_ > 0


@needs_safetensors
def test_others_read_the_tensors_by_their_names():
    from safetensors.numpy import load_file

    network = layered()
    save(network, "model.safetensors")
    found = load_file("model.safetensors")
    np.testing.assert_array_equal(found["w_2"], network.params["w_2"])
    np.testing.assert_array_equal(found["inputs.centre"], network.inputs.centre)


# ------------------------------------------------------------------------- files from anybody


def forge(change, path="model.safetensors"):
    """Save a network, let `change` alter its tensors and metadata, and write them again."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    target = Target("cross_entropy", LABELS["text"])
    networks = {"chain": lambda: constrained("box:1"), "factors": factored}
    network = networks.get(change.__name__, layered)()
    save(replace(network, target=target), path)
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    table = json.loads(metadata["dadmm"])
    text = change(tensors, table)
    metadata["dadmm"] = json.dumps(table) if text is None else text
    save_file(tensors, path, metadata)
    return path


def setting(*keys):
    """Return a change that sets an entry of the metadata: the last of `keys`, to what it is."""
    *path, last, value = keys

    def change(_, table):
        for key in path:
            table = table[key]
        table[last] = value

    return change


def chain(*keys):
    change = setting("network", *keys)
    change.__name__ = "chain"
    return change


def factors(*keys):
    change = setting("network", "blocks", 1, *keys)
    change.__name__ = "factors"
    return change


def tensor(name, value, kind="change"):
    def change(tensors, _):
        tensors[name] = value
        if value is None:
            del tensors[name]

    change.__name__ = kind
    return change


LABEL = ("target", "classes", "labels")
FORGED = {
    "not JSON": (lambda t, m: "{", "Expecting property name"),
    "deep": (lambda t, m: "[" * 10**5, "nested too deeply"),
    "a list": (lambda t, m: "[]", "does not have the fields format, network, inputs, target"),
    "long": (lambda t, m: '{"format": ' + "1" * 5000 + "}", "cannot be used"),
    "format": (setting("format", 2), "its format is 2, and this version reads 1"),
    "more": (setting("hook", "import os"), "fields format, network, inputs, target, and no other"),
    "widths": (
        setting("network", "widths", [5, 5, 5, 2**60, 3]),
        r"not shape \(1152921504606846976,\)",
    ),
    "width 0": (setting("network", "widths", [5, 0, 5, 4, 3]), "its widths are"),
    "true width": (setting("network", "widths", [5, True, 5, 4, 3]), "widths are no list of int"),
    "no widths": (setting("network", "widths", []), "its widths are"),
    "text": (setting("network", "widths", "55543"), "widths are no list"),
    "features": (setting("network", "widths", [9, 5, 5, 4, 3]), "and its inputs are 5"),
    "fewer skips": (setting("network", "skips", [False]), "do not fit together"),
    "a skip": (setting("network", "skips", [False, True, True, False]), "do not fit together"),
    "head": (setting("network", "skips", [False, True, False, True]), "do not fit together"),
    "activation": (setting("network", "activation", "rellu"), "did you mean 'relu'"),
    "no name": (setting("network", "activation", ["relu"]), "use text in quotes"),
    "loss": (setting("target", "loss", "hing"), "did you mean 'hinge'"),
    "flat": (setting("target", "flat", 1), "true or false"),
    "no classes": (setting("target", "classes", None), "is for classes, and it has none"),
    "no inputs": (setting("inputs", None), "does not say what its inputs were"),
    "names": (setting("inputs", "names", ["a", "b"]), "columns do not fit its network"),
    "few labels": (setting(*LABEL, ["a", "b"]), "2 classes do not name its 3 outputs"),
    "twins": (setting(*LABEL, ["a", "b", "a"]), "3 classes do not name"),
    "wide labels": (setting("target", "classes", "dtype", "<U500000000"), "classes"),
    "records": (setting("target", "classes", "dtype", "i4,i4,i4"), "classes"),
    "lists": (setting(*LABEL, [["a"], ["b"], ["c"]]), "classes"),
    "unknown": (tensor("w_9", np.zeros(1)), "has no tensor 'w_9'"),
    "missing": (tensor("b_2", None), "b_2 has no numbers"),
    "transposed": (tensor("w_3", np.zeros((4, 5), np.float32)), r"w_3 has shape \(4, 5\), not"),
    "mixed": (tensor("b_2", np.zeros(5)), "F32, F64: all must be F32, or all F64"),
    "integers": (tensor("b_2", np.zeros(5, np.int32)), "F32, I32: all must be F32"),
    "narrow": (tensor("inputs.scale", np.ones(5, np.float32)), "scaling is not in float64"),
    "zero": (tensor("inputs.scale", np.zeros(5)), "inputs.scale has numbers that no network has"),
    "nan": (tensor("b_3", np.full(4, np.nan, np.float32)), "b_3 has numbers that no network has"),
    "unscaled": (tensor("inputs.centre", np.zeros(())), "does not scale its inputs"),
    "outputs": (tensor("outputs.centre", np.zeros(3)), "has no tensor 'outputs.centre'"),
    "block": (chain("blocks", 0, {"kind": "exec"}), "cannot be rebuilt from a stored table"),
    "options": (chain("blocks", 0, "hook", 1), "no option of a dense block is called 'hook'"),
    "a list as kind": (chain("blocks", 0, {"kind": []}), "cannot be rebuilt from a stored table"),
    "a list as activation": (chain("blocks", 0, "activation", []), "Dense activation=.*use 'relu'"),
    "a wide block": (chain("blocks", 0, "width", 2**60), "not shape"),
    "too few options": (chain("blocks", 0, {"kind": "dense"}), "too few options"),
    "too many factors": (factors("n_components", 2**60), "of 8 features: use at most 8"),
    "other factors": (factors("n_components", 5), r"s_2 has shape \(4, 8\), not shape \(5, 8\)"),
    "no sweeps": (factors("sweeps", 0), "use a whole number, 1 to 10000"),
    "endless sweeps": (factors("sweeps", 2**70), "use a whole number, 1 to 10000"),
    "a large penalty": (factors("l2", 10**400), "l2 has 401 digits"),
    "a bad penalty": (factors("l1", -1.0), "l1=-1.0: use a number, 0 or more"),
    "a bad start": (factors("init", "nnsvd"), "did you mean 'nndsvd'"),
    "a dictionary below 0": (
        tensor("s_2", np.full((4, 8), -1, np.float32), "factors"),
        "s_2 has numbers below 0",
    ),
    "no blocks": (chain("blocks", []), "has no blocks"),
    "blocks": (chain("blocks", [3]), "no list of dict"),
    "place": (chain("constraints", [[3, "binary", None]]), "belongs to no block"),
    "places": (chain("constraints", [[1, "binary", None]] * 2), "belongs to no block"),
    "short": (chain("constraints", [[1]]), "belongs to no block"),
    "name": (chain("constraints", [[1, "binray", None]]), "did you mean 'binary'"),
    "number": (chain("constraints", [[1, "k_sparse", 2.5]]), "entries kept in a row"),
    "text number": (chain("constraints", [[1, "k_sparse", {}]]), "entries kept in a row"),
}


@needs_safetensors
@pytest.mark.parametrize("what", FORGED)
def test_a_forged_file_is_refused_in_one_line(what):
    change, said = FORGED[what]
    with pytest.raises(InputError, match=said) as caught:
        dadmm.load(forge(change))
    assert str(caught.value).startswith("model.safetensors cannot be used: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 1200


@needs_safetensors
def test_every_length_of_a_torn_file_is_refused():
    save(layered(), "model.safetensors")
    content = Path("model.safetensors").read_bytes()
    for size in (*range(0, 40, 3), *range(40, len(content), 101)):
        Path("torn.safetensors").write_bytes(content[:size])
        with pytest.raises(InputError, match=r"torn\.safetensors cannot be"):
            dadmm.load("torn.safetensors")


@needs_safetensors
def test_damaged_headers_are_refused_in_one_line_or_say_something_else():
    target = Target("cross_entropy", LABELS["text"])
    save(constrained("box:1", target=target), "model.safetensors")
    content = Path("model.safetensors").read_bytes()
    rng = np.random.default_rng(0)
    start = content.index(b'"__metadata__"')
    stop = 8 + int.from_bytes(content[:8], "little")
    said = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(start, stop)] = rng.integers(32, 127)
        Path("damaged.safetensors").write_bytes(damaged)
        try:
            assert dadmm.load("damaged.safetensors").n_features_in_ == 5
        except InputError as error:
            said.append(str(error))
    assert len(said) > 200
    for line in said:
        assert line.startswith("damaged.safetensors cannot be used: ")
        assert "\n" not in line


@needs_safetensors
def test_a_file_of_another_program_is_refused():
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, "other.safetensors")
    with pytest.raises(InputError, match="dadmm did not write it"):
        dadmm.load("other.safetensors")


@needs_safetensors
def test_what_is_no_file_is_refused():
    os.mkdir("folder.safetensors")
    os.mkfifo("pipe.safetensors")
    for name in ("none", "folder", "pipe"):
        with pytest.raises(InputError, match=rf"{name}.safetensors: there is no such file"):
            dadmm.load(f"{name}.safetensors")


# ------------------------------------------------------------------------------------------- ONNX


@needs_onnx
@each_dtype
@pytest.mark.parametrize("stem", ["dense", "identity"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_runtime_computes_what_the_network_does(activation, stem, dtype):
    network = layered(activation, stem, dtype=dtype, regression=True)
    agreement = files.save(network, "model.onnx")
    assert agreement.jumped == 0
    assert agreement.largest < (1e-5 if dtype == np.float32 else 1e-13)
    agree(network, onnx=True)


@needs_onnx
def test_widths_of_one_keep_their_digits_in_onnx_runtime():
    arch = Architecture.build(1, (1, 1), 1, "leaky_relu")
    network = made(arch, np.float64, regression=True)
    assert files.save(network, "model.onnx").largest < 1e-13


@needs_onnx
@each_dtype
@pytest.mark.parametrize("text", TEXTS)
def test_onnx_runtime_keeps_the_constraints(text, dtype):
    network = constrained(text, dtype=dtype)
    save(network, "model.onnx")
    sorts = text in ("simplex", "k_sparse:3")  # ONNX Runtime 1.24 crashes on no rows to sort
    agree(network, onnx=True, fewest=1 if sorts else 0)


def test_every_constraint_is_exported():
    assert {text.partition(":")[0] for text in TEXTS} == set(CONSTRAINTS)


@needs_onnx
def test_of_equal_entries_the_first_is_kept_everywhere():
    blocks = [Dense(4, "identity"), Dense(4, "identity")]
    arch = Chain.build(4, blocks, {1: Constraint.parse("k_sparse:2")})
    eye = np.eye(4, dtype=np.float32)
    zero = np.zeros(4, np.float32)
    params = {"w_1": eye, "b_1": zero, "w_2": eye, "b_2": zero}
    network = Network(arch, params, Scaling.identity(4))
    save(network, "model.onnx")
    x = np.array([[1, -1, 1, 1], [0, 0, 0, 0], [2, 3, 3, 3]], np.float32)
    expected = [[1, -1, 0, 0], [0, 0, 0, 0], [0, 3, 3, 0]]
    np.testing.assert_array_equal(network.forward(x), expected)
    np.testing.assert_array_equal(runtime("model.onnx")(x)["outputs"], expected)


@needs_onnx
@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "squared"])
@pytest.mark.parametrize("kind", LABELS)
def test_onnx_runtime_gives_labels_and_probabilities(kind, loss):
    network = layered(target=Target(loss, LABELS[kind], True))
    save(network, "model.onnx")
    x = X.astype(np.float32)
    found = runtime("model.onnx")(x)
    outputs = network.forward(x)
    labels = LABELS[kind][outputs.argmax(axis=1)]
    assert len(set(labels.tolist())) > 1
    assert found["labels"].tolist() == labels.tolist()
    assert set(found) == {"labels", "outputs", *(["probabilities"] if loss[0] == "c" else [])}
    if loss == "cross_entropy":
        e = np.exp(outputs)
        expected = e / e.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize(
    "labels", [np.array(["a", 1], object), np.array([2**63, 0], np.uint64)], ids=["mixed", "large"]
)
def test_labels_that_onnx_cannot_hold_are_refused(labels):
    network = made(Architecture.build(5, (4,), 2), target=Target("cross_entropy", labels))
    with pytest.raises(InputError, match="ONNX has no type for labels such as these"):
        save(network, "model.onnx")
    assert not os.listdir()


@needs_onnx
@pytest.mark.parametrize("y", [X[:, 1], X[:, 1:2], X[:, 1:3]], ids=["flat", "column", "two"])
def test_onnx_runtime_predicts_targets_in_their_units(y):
    fitted = ADMMRegressor(**SMALL, solver=BlockADMM(dtype="float64")).fit(X, 100 + 50 * y)
    save(fitted.network_, "model.onnx")
    found = runtime("model.onnx")(X)
    assert set(found) == {"targets", "outputs"}
    assert found["targets"].shape == y.shape
    np.testing.assert_allclose(found["targets"], fitted.predict(X), rtol=1e-12)


@needs_safetensors
@needs_onnx
def test_several_labels_are_the_same_from_a_file_and_in_onnx_runtime():
    fitted = ADMMClassifier(**SMALL).fit(X, X[:, :3] > 0)
    save(fitted.network_, "model.safetensors")
    loaded = dadmm.load("model.safetensors")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.score(X, X[:, :3] > 0) == fitted.score(X, X[:, :3] > 0)
    save(fitted.network_, "model.onnx")
    found = runtime("model.onnx")(X.astype(np.float32))
    assert found["labels"].dtype == np.int64
    np.testing.assert_array_equal(found["labels"], fitted.predict(X))
    np.testing.assert_allclose(found["probabilities"], fitted.predict_proba(X), atol=1e-5)


@needs_onnx
def test_a_trained_constrained_classifier_predicts_the_same_in_onnx_runtime():
    solver = BlockADMM(blocks=2, constraints="binary")
    fitted = ADMMClassifier(**SMALL, activation="tanh", solver=solver).fit(X, Y)
    save(fitted.network_, "model.onnx")
    found = runtime("model.onnx")(X.astype(np.float32))
    np.testing.assert_array_equal(found["labels"], fitted.predict(X))
    np.testing.assert_allclose(found["probabilities"], fitted.predict_proba(X), atol=1e-5)


@needs_onnx
@each_dtype
@each_factored
def test_onnx_runtime_finds_the_codes(kind, dtype):
    network = factored(kind, dtype)
    agreement = files.save(network, "model.onnx")
    assert agreement.largest < (1e-5 if dtype == np.float32 else 1e-13)
    agree(network, onnx=True)
    found = runtime("model.onnx")(X.astype(dtype))
    ends = kind in ("inside", "twice")
    assert set(found) == {"codes", "outputs", *(["targets"] if ends else [])}
    if not ends:
        np.testing.assert_array_equal(found["codes"], found["outputs"])
    assert found["codes"].max() > 0


@needs_onnx
def test_a_network_of_factors_gives_labels_and_codes_in_onnx_runtime():
    fitted = DeepFacto(3, (8,), (6,), max_iter=2, random_state=0).fit(PARTS, Y)
    save(fitted.network_, "model.onnx")
    x = PARTS.astype(np.float32)
    found = runtime("model.onnx")(x)
    assert found["labels"].tolist() == fitted.predict(x).tolist()
    np.testing.assert_allclose(found["probabilities"], fitted.predict_proba(x), atol=1e-5)
    np.testing.assert_allclose(found["codes"], fitted.transform(x), **tolerance(np.float32))


@needs_onnx
def test_a_graph_is_small_whatever_the_number_of_sweeps():
    import onnx

    sizes = []
    for sweeps in (3, 300):
        network = made(Chain.build(5, [NMFBlock(3, sweeps=sweeps)]))
        network = replace(network, params={"s_1": abs(network.params["s_1"])})
        save(network, "model.onnx", overwrite=True)
        agree(network, onnx=True)
        model = onnx.load("model.onnx")
        onnx.checker.check_model(model, full_check=True)
        sizes.append(os.path.getsize("model.onnx"))
    assert sizes[0] == sizes[1]


@needs_onnx
def test_an_onnx_file_is_of_the_opset_that_is_promised():
    import onnx

    save(layered(), "model.onnx")
    model = onnx.load("model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    onnx.checker.check_model(model, full_check=True)
    first = Path("model.onnx").read_bytes()
    save(layered(), "model.onnx", overwrite=True)
    assert Path("model.onnx").read_bytes() == first


@needs_onnx
@pytest.mark.parametrize("text", ["box:0.3", "binary"])
def test_a_file_that_computes_something_else_is_not_left(text, monkeypatch):
    network = constrained(text)
    forward = onnx_file._forward

    def wrong(g, other, x):
        params = {**other.params, "b_1": other.params["b_1"] + np.float32(0.5)}
        return forward(g, replace(other, params=params), x)

    monkeypatch.setattr(onnx_file, "_forward", wrong)
    with pytest.raises(DadmmError, match=r"nothing is written: for .* of 256 random rows"):
        save(network, "model.onnx")
    assert not os.listdir()


@needs_onnx
def test_wrong_codes_are_found_out():

    network = factored()
    outputs = network.forward(X.astype(np.float32))
    codes = abs(X[:, :4])
    found = {"outputs": outputs, "targets": outputs, "codes": codes * (1 + 1e-6)}
    assert onnx_file.compare(network, outputs, found, codes).largest == 0
    for wrong in (codes * 1.01, codes * np.nan):
        with pytest.raises(DadmmError, match="ONNX Runtime's codes are not the network's"):
            onnx_file.compare(network, outputs, {**found, "codes": wrong}, codes)


@needs_onnx
def test_codes_are_tried_where_a_penalty_leaves_some(monkeypatch):

    network = made(Chain.build(5, [NMFBlock(3, l1=1e4)]))
    network = replace(network, params={"s_1": abs(network.params["s_1"])})
    save(network, "model.onnx")
    monkeypatch.setattr(
        onnx_file, "_codes", lambda g, block, s, z: g.add("MatMul", z, g.constant(0 * s.T))
    )
    with pytest.raises(DadmmError, match=r"of 256 random rows .*: train in float64"):
        save(network, "other.onnx")
    assert os.listdir() == ["model.onnx"]


@needs_onnx
def test_wrong_labels_are_found_out(monkeypatch):

    network = layered(target=Target("cross_entropy", LABELS["text"]))
    x = X.astype(np.float32)
    outputs = network.forward(x)
    loss = onnx_file.get_loss("cross_entropy")
    found = {
        "outputs": outputs,
        "labels": LABELS["objects"][outputs.argmax(axis=1)],
        "probabilities": loss.predict_proba(outputs),
    }
    assert onnx_file.compare(network, outputs, found).largest == 0
    for name, bad in (
        ("labels", np.roll(found["labels"], 1)),
        ("probabilities", found["probabilities"][:, ::-1]),
    ):
        with pytest.raises(DadmmError, match=f"ONNX Runtime's {name} are not the network's"):
            onnx_file.compare(network, outputs, {**found, name: bad})
    with pytest.raises(DadmmError, match="diverged"):
        onnx_file.compare(network, outputs * np.nan, found)


# ------------------------------------------------------------------------------------------ torch


@needs_torch
@each_dtype
@pytest.mark.parametrize("stem", ["dense", "identity"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_torch_computes_what_the_network_does(activation, stem, dtype):
    agree(layered(activation, stem, dtype=dtype, regression=True))


@needs_torch
@each_dtype
@pytest.mark.parametrize("text", TEXTS)
def test_torch_keeps_the_constraints(text, dtype):
    agree(constrained(text, dtype=dtype))


@needs_torch
@each_dtype
@each_factored
def test_torch_finds_the_codes(kind, dtype):
    network = factored(kind, dtype)
    agree(network)
    assert "sweeps" in str(to_torch(network))


@needs_torch
def test_gradients_flow_through_the_sweeps_of_torch():
    import torch

    module = to_torch(factored(dtype=np.float64))
    x = torch.tensor(X[:7], requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    module(x).square().sum().backward()
    slopes = dict(module.named_parameters())["block_2.s"].grad
    assert torch.isfinite(slopes).all()
    assert slopes[:3].abs().max() > 0
    # By finite differences, along the gradient.
    step = 1e-6 * slopes[:3] / slopes[:3].norm()
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            module.block_2.s[:3] += sign * step
            values.append(float(module(x).square().sum()))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(slopes[:3].norm()), rel=1e-5)


@needs_torch
def test_the_torch_module_is_of_its_own_and_can_be_trained():
    import torch

    network = layered()
    before = {name: array.copy() for name, array in network.params.items()}
    state = torch.get_rng_state()
    module = to_torch(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(p.numel() for p in module.parameters()) == network.architecture.n_parameters
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.from_numpy(X)).square().mean().backward()
    optimizer.step()
    for name, array in network.params.items():
        np.testing.assert_array_equal(array, before[name])
    assert not torch.equal(module.block_1[0].weight, torch.from_numpy(before["w_1"].T))


@needs_torch
@pytest.mark.parametrize("kind", [np.float64, np.int64, np.float32, np.uint8])
def test_the_torch_module_centres_as_the_network_does(kind):
    import torch

    centre = 100.0 if kind in (np.float32, np.uint8) else 1_600_000_003.0
    x = (centre + np.arange(-10, 10).reshape(4, 5)).astype(kind)
    network = replace(layered(), inputs=Scaling(np.full(5, centre), np.full(5, 6.0)))
    with torch.no_grad():
        found = to_torch(network)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, network.forward(x), rtol=1e-5, atol=1e-5)
    assert found.std(axis=0).min() > 0.01


@needs_torch
@needs_safetensors
@each_dtype
def test_blocks_of_torch_modules_go_everywhere_but_into_onnx(dtype):
    import torch

    inner = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3, padding=1), torch.nn.Tanh())
    inner[0].bias.requires_grad_(False)
    blocks = [dadmm.TorchBlock(inner, in_shape=(1, 5)), Dense(4, "tanh")]
    solver = BlockADMM(blocks=blocks, constraints="l2_ball:1", dtype=np.dtype(dtype).name)
    fitted = ADMMClassifier(max_iter=1, random_state=0, solver=solver).fit(X, Y)
    network = fitted.network_
    agree(network)
    save(network, "model.safetensors")
    found = dadmm.load("model.safetensors", solver=solver)
    same(network, found.network_)
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))
    with pytest.raises(InputError, match="holds no code: pass the solver object"):
        dadmm.load("model.safetensors")
    with pytest.raises(InputError, match="other blocks than the solver passed"):
        dadmm.load("model.safetensors", solver=BlockADMM(blocks=blocks[::-1]))
    if find_spec("onnx") is not None:
        with pytest.raises(InputError, match=r"block 1 is a TorchBlock.*torch.onnx.export"):
            save(network, "model.onnx")


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_cure_is_named():
    with pytest.raises(InputError, match=r"pip install 'dadmm\[torch\]'"):
        to_torch(layered())


# ------------------------------------------------------------------------------- files and commands


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model.pt", "are pickles, which run code when they are loaded: save to .safetensors"),
        ("model.pkl", "are pickles"),
        ("model", "end the file's name in .safetensors or .onnx"),
        ("model.h5", "end the file's name in"),
        ("none/model.onnx", "there is no folder none"),
        ("s3://bucket/model.onnx", "save to a local file"),
    ],
)
def test_places_that_cannot_be_written_are_refused(path, said):
    with pytest.raises(InputError, match=said):
        save(layered(), path)
    assert not os.listdir()


@needs_safetensors
def test_a_file_that_is_there_is_replaced_only_if_told():
    network = layered()
    save(network, "model.safetensors")
    first = Path("model.safetensors").read_bytes()
    other = layered("relu")
    with pytest.raises(InputError, match="exists: choose another name"):
        save(other, "model.safetensors")
    assert Path("model.safetensors").read_bytes() == first
    save(other, "model.safetensors", overwrite=True)
    same(other, dadmm.load("model.safetensors").network_)
    os.symlink("model.safetensors", "link.safetensors")
    os.mkdir("folder.onnx")
    for name in ("link.safetensors", "folder.onnx"):
        with pytest.raises(InputError, match="not a plain file"):
            save(network, name, overwrite=True)
    assert set(os.listdir()) == {"model.safetensors", "link.safetensors", "folder.onnx"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished run."""
    path = tmp_path_factory.mktemp("run") / "run"
    ADMMClassifier(**SMALL, run=path).fit(X, Y)
    return path


@needs_onnx
@needs_safetensors
def test_a_run_is_exported_by_command(run):
    done = command("export", run, "model.onnx")
    assert done.code == 0, done.err
    assert "-> model.onnx" in done.out
    assert "256 random rows in ONNX Runtime: outputs differ by at most" in done.out
    done = command("export", run, "model.safetensors")
    assert done.code == 0, done.err
    same(dadmm.load(run).network_, dadmm.load("model.safetensors").network_)
    first = Path("model.onnx").read_bytes()
    done = command("export", "model.safetensors", "model.onnx")
    assert (done.code, done.out) == (2, "")
    assert "model.onnx exists: choose another name, or use --overwrite" in done.err
    assert command("export", "model.safetensors", "model.onnx", "--overwrite").code == 0
    assert Path("model.onnx").read_bytes() == first


@needs_safetensors
def test_a_file_predicts_by_command_and_shows_no_history(run):
    assert command("export", run, "model.safetensors").code == 0
    np.save("x.npy", X)
    done = command("predict", "model.safetensors", "x.npy", "y.npy")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.load("y.npy"), dadmm.load(run).predict(X))
    for words in (("show", "model.safetensors"), ("resume", "model.safetensors")):
        done = command(*words)
        assert done.code == 2
        assert done.err.count("\n") == 1
    with pytest.raises(StoreError):
        dadmm.resume("model.safetensors")


@needs_onnx
@needs_safetensors
def test_a_factorisation_is_exported_by_command():
    np.save("x.npy", PARTS)
    fitted = NMF(3, max_iter=3, run="run").fit(PARTS)
    for source in ("run", "model.safetensors"):
        for target in ("model.safetensors", "model.onnx"):
            done = command("export", source, target, "--overwrite")
            assert done.code == 0, done.err
        assert "256 random rows in ONNX Runtime" in done.out
        found = runtime("model.onnx")(PARTS.astype(np.float32))["codes"]
        np.testing.assert_allclose(found, fitted.transform(PARTS), **tolerance(np.float32))
        done = command("predict", source, "x.npy", "codes.npy", "--overwrite")
        assert done.code == 0, done.err
        np.testing.assert_array_equal(np.load("codes.npy"), fitted.transform(PARTS))


@pytest.mark.parametrize("name", ["model.pt", "model.txt"])
def test_a_bad_ending_is_refused_by_command(run, name):
    done = command("export", run, name)
    assert done.code == 2
    assert done.err.startswith("error: model.")
    assert done.err.count("\n") == 1
    assert not os.listdir()
