"""A network and its labels come back from a safetensors file, to the bit."""

from importlib.util import find_spec

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import dadmm
from dadmm import NMF, ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, save
from dadmm.errors import InputError, OptionError
from dadmm.networks.blocks import Dense, NMFBlock
from dadmm.networks.target import Target
from dadmm.numerics.activations import ACTIVATIONS
from support.messages import naming
from support.networks import (
    FACTORED,
    LABELS,
    PARTS,
    SMALL,
    TEXTS,
    X,
    Y,
    constrained,
    each_dtype,
    each_factored,
    factored,
    layered,
    needs_safetensors,
    same,
)

pytestmark = pytest.mark.usefixtures("here")


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
        with pytest.raises(
            OptionError, match=naming("'hinge'", "probabilities", "'cross_entropy'")
        ):
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
    np.testing.assert_array_equal(found.predict_proba(rows), expected)
    np.testing.assert_array_equal(found.predict_proba(rows[["kind", "b", "a"]]), expected)
    if find_spec("onnx") is not None:
        with pytest.raises(InputError, match=naming("categories", ".safetensors")):
            save(fitted.network_, "model.onnx")


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
    if alone:
        np.testing.assert_array_equal(found.transform(X), network.forward(X))
    else:
        np.testing.assert_array_equal(found.predict(X), network.forward(X))


@needs_safetensors
@pytest.mark.parametrize("options", [{"shift": True}, {"alpha_W": 1e-3, "l1_ratio": 0.25}, {}])
def test_a_factorisation_transforms_the_same_from_its_file(options):
    rows = pd.DataFrame(PARTS).add_prefix("x")
    fitted = NMF(3, max_iter=5, dtype="float64", **options).fit(rows)
    save(fitted.network_, "model.safetensors")
    found = dadmm.load("model.safetensors")
    assert type(found) is NMF
    np.testing.assert_array_equal(found.transform(rows), fitted.transform(rows))
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
    with pytest.raises(OptionError, match=naming("training", "warm_start=False")):
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
