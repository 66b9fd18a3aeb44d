"""ONNX Runtime computes what the network does."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dadmm
from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, Network, save
from dadmm.errors import DadmmError, InputError
from dadmm.networks import files
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Dense, NMFBlock
from dadmm.networks.chain import Chain
from dadmm.networks.files import onnx_file
from dadmm.networks.files.agreement import compare
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.constraints import CONSTRAINTS, Constraint
from dadmm.numerics.losses import get_loss
from support.messages import naming
from support.networks import (
    LABELS,
    PARTS,
    RNG,
    SMALL,
    TEXTS,
    X,
    Y,
    agree,
    constrained,
    each_dtype,
    each_factored,
    factored,
    layered,
    made,
    needs_onnx,
    needs_safetensors,
    runtime,
    tolerance,
)

pytestmark = pytest.mark.usefixtures("here")


# ------------------------------------------------------------------------------------- safetensors


@needs_onnx
def test_missing_numbers_are_filled_in_onnx_runtime():
    x = X.astype(np.float32)
    x[RNG.random(X.shape) < 0.2] = np.nan
    fitted = ADMMClassifier(**SMALL, missing="impute").fit(x, Y)
    save(fitted.network_, "model.onnx")
    found = runtime("model.onnx")(x)
    np.testing.assert_array_equal(found["labels"], fitted.predict(x))
    np.testing.assert_allclose(found["probabilities"], fitted.predict_proba(x), atol=1e-5)


# -------------------------------------------------------------------------------------------- ONNX


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
    with pytest.raises(InputError, match=naming("ONNX", "labels", "text")):
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
    with pytest.raises(DadmmError, match=naming("256", "ONNX Runtime")):
        save(network, "model.onnx")
    assert not os.listdir()


@needs_onnx
def test_wrong_codes_are_found_out():
    network = factored()
    outputs = network.forward(X.astype(np.float32))
    codes = abs(X[:, :4])
    found = {"outputs": outputs, "targets": outputs, "codes": codes * (1 + 1e-6)}
    assert compare(network, outputs, found, codes).largest == 0
    for wrong in (codes * 1.01, codes * np.nan):
        with pytest.raises(DadmmError, match=naming("ONNX Runtime", "codes")):
            compare(network, outputs, {**found, "codes": wrong}, codes)


@needs_onnx
def test_codes_are_tried_where_a_penalty_leaves_some(monkeypatch):
    network = made(Chain.build(5, [NMFBlock(3, l1=1e4)]))
    network = replace(network, params={"s_1": abs(network.params["s_1"])})
    save(network, "model.onnx")
    monkeypatch.setattr(
        onnx_file, "_codes", lambda g, block, s, z: g.add("MatMul", z, g.constant(0 * s.T))
    )
    with pytest.raises(DadmmError, match=naming("ONNX Runtime", "float64")):
        save(network, "other.onnx")
    assert os.listdir() == ["model.onnx"]


@needs_onnx
def test_wrong_labels_are_found_out():
    network = layered(target=Target("cross_entropy", LABELS["text"]))
    x = X.astype(np.float32)
    outputs = network.forward(x)
    loss = get_loss("cross_entropy")
    found = {
        "outputs": outputs,
        "labels": LABELS["objects"][outputs.argmax(axis=1)],
        "probabilities": loss.predict_proba(outputs),
    }
    assert compare(network, outputs, found).largest == 0
    for name, bad in (
        ("labels", np.roll(found["labels"], 1)),
        ("probabilities", found["probabilities"][:, ::-1]),
    ):
        with pytest.raises(DadmmError, match=naming("ONNX Runtime", name)):
            compare(network, outputs, {**found, name: bad})
    with pytest.raises(DadmmError, match=naming("diverged")):
        compare(network, outputs * np.nan, found)
