"""Blocks and chains of them: derivatives, starting values, tables, constraints and errors."""

import json
import subprocess
import sys

import numpy as np
import pytest

import dadmm
from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Block, Dense, Residual, block_from_table, block_to_table
from dadmm.networks.chain import Chain, flatten, own, size, views
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.constraints import Constraint
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.registry import make_solver, solver_table
from support.derivatives import check_derivatives, drawn, products, tape
from support.formulas import ACTIVATION
from support.messages import naming

each_activation = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))


# ---------------------------------------------------------------------------- dense and residual


@each_activation
@pytest.mark.parametrize("kind", [Dense, Residual])
def test_a_block_is_its_formula(kind, activation):
    block = Dense(3, activation) if kind is Dense else Residual(activation)
    params, v, _ = drawn(block, 5)
    expected = ACTIVATION[activation](v @ params["w"] + params["b"])
    if kind is Residual:
        expected = expected + v
    np.testing.assert_allclose(block.forward(params, v, tape()), expected, rtol=1e-12, atol=1e-13)


@each_activation
@pytest.mark.parametrize("kind", [Dense, Residual])
def test_a_block_knows_its_derivatives(kind, activation):
    block = Dense(3, activation) if kind is Dense else Residual(activation)
    check_derivatives(block, *drawn(block, 5))


@each_activation
def test_a_block_leaves_what_it_is_given_alone(activation):
    for block in (Dense(5, activation), Residual(activation)):
        params, v, g = drawn(block, 5, dtype=np.float32)
        before = {name: array.copy() for name, array in {**params, "v": v, "g": g}.items()}
        gradients, back = products(block, params, v, g)
        assert back.dtype == gradients["w"].dtype == np.float32
        for name, array in {**params, "v": v, "g": g}.items():
            np.testing.assert_array_equal(array, before[name])


@each_activation
def test_a_product_can_be_skipped(activation):
    block = Residual(activation)
    params, v, g = drawn(block, 4)
    gradients, back = products(block, params, v, g)
    here = tape()
    block.forward(params, v, here)
    np.testing.assert_array_equal(block.backward(params, g, here, None, True), back)
    assert block.backward(params, g, here, None, False) is None
    alone = {name: np.empty_like(array) for name, array in params.items()}
    assert block.backward(params, g, here, alone, False) is None
    for name, array in alone.items():
        np.testing.assert_array_equal(array, gradients[name])


def test_blocks_are_values():
    assert Dense(3) == Dense(3, "relu") != Dense(4)
    assert Residual() == Residual("relu") != Residual("tanh")
    assert Dense(1) != Residual()
    assert len({Dense(3), Dense(3), Residual(), Residual()}) == 2
    assert all(isinstance(block, Block) for block in (Dense(3), Residual()))


@pytest.mark.parametrize("width", [0, -1, 2.5, True, "8"])
def test_a_width_is_a_whole_number_of_at_least_one(width):
    with pytest.raises(OptionError, match=naming("width")):
        Dense(width)


@pytest.mark.parametrize("make", [lambda: Dense(3, "rellu"), lambda: Residual("rellu")])
def test_an_activation_is_one_that_exists(make):
    with pytest.raises(OptionError, match=naming("activation", "'rellu'", "'relu'")):
        make()


# ---------------------------------------------------------------------------------------- chains


def params_of(params, *numbers):
    return {f"{n}_{i}": array for i in numbers for n, array in own(params, i).items()}


NETS = [((6, 6, 6), "dense"), ((4, 4, 3), "identity"), ((5,), "dense")]
each_net = pytest.mark.parametrize(("hidden", "stem"), NETS)


def architecture(hidden, stem, activation="tanh"):
    return Architecture.build(4, hidden, 3, activation, stem)


@each_activation
@each_net
def test_the_chain_of_an_architecture_computes_the_same(hidden, stem, activation):
    arch = architecture(hidden, stem, activation)
    chain = Chain.of(arch)
    assert chain.widths == arch.widths
    assert chain.depth == arch.depth
    params = arch.initial(3, np.float64)
    rng = np.random.default_rng(0)
    for name in params:
        params[name] += 0.1 * rng.standard_normal(params[name].shape)
    x = rng.standard_normal((7, 4))
    np.testing.assert_allclose(
        chain.forward(params, x), arch.forward(params, x), rtol=1e-12, atol=1e-13
    )


@each_net
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_chain_of_an_architecture_starts_the_same(hidden, stem, dtype):
    arch = architecture(hidden, stem, "relu")
    chain, expected = Chain.of(arch).initial(5, dtype), arch.initial(5, dtype)
    assert chain.keys() == expected.keys()
    for name, array in expected.items():
        assert chain[name].dtype == dtype
        np.testing.assert_array_equal(chain[name], array)


def test_a_chain_gives_each_block_a_seed_of_its_own():
    chain = Chain.build(4, [Dense(4), Dense(4)])
    params = chain.initial(0)
    assert not np.array_equal(params["w_1"], params["w_2"])
    np.testing.assert_array_equal(params["w_2"], chain.initial(0)["w_2"])
    assert not np.array_equal(params["w_2"], chain.initial(1)["w_2"])


def test_a_block_finds_its_own_among_many():
    params = {f"w_{i}": np.full(1, i) for i in range(1, 13)} | {"conv.weight_2": np.zeros(3)}
    assert own(params, 2).keys() == {"w", "conv.weight"}
    assert own(params, 12) == {"w": 12}
    assert own(params, 1) == {"w": 1}


@pytest.mark.parametrize("name", ["non_negative", "binary", "simplex", "k_sparse:2", "l2_ball:1"])
def test_a_chain_projects_the_outputs_that_are_constrained(name):
    constraint = Constraint.parse(name)
    chain = Chain.build(4, [Dense(5, "tanh"), Residual("tanh"), Dense(2)], {2: constraint})
    assert [chain.constraint(i) for i in (1, 2, 3)] == [None, constraint, None]
    params = chain.initial(0, np.float64)
    x = np.random.default_rng(0).standard_normal((6, 4))
    inner = Chain.build(4, chain.blocks[:2]).forward(params_of(params, 1, 2), x)
    projected = constraint.project(inner)
    assert not np.array_equal(projected, inner)
    expected = np.maximum(projected @ params["w_3"] + params["b_3"], 0.0)
    np.testing.assert_allclose(chain.forward(params, x), expected, atol=1e-13)


# ----------------------------------------------------------------------------------- flat arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_go_flat_and_back(dtype):
    shapes = {"w": (3, 4), "b": (4,), "scale": (), "kernel": (2, 1, 2, 2)}
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    flat = flatten(params, shapes, dtype)
    assert flat.shape == (size(shapes),) == (25,)
    assert flat.dtype == dtype
    found = views(flat, shapes)
    assert list(found) == list(shapes)
    for name, array in params.items():
        assert found[name].shape == shapes[name]
        np.testing.assert_array_equal(found[name], array.astype(dtype))
    found["b"][...] = 7
    np.testing.assert_array_equal(flat[12:16], 7)


# ---------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "block", [Dense(8), Dense(np.int64(3), "tanh"), Residual(), Residual("sigmoid")]
)
def test_blocks_are_rebuilt_from_their_tables(block):
    table = json.loads(json.dumps(block_to_table(block)))
    assert block_from_table(table) == block


def test_a_solvers_blocks_are_rebuilt_from_its_table():
    solver = BlockADMM(blocks=[Dense(8), Residual("tanh")], constraints=["binary"])
    assert make_solver(json.loads(json.dumps(solver_table(solver)))) == solver


def test_a_block_of_another_kind_says_only_what_it_is():
    class Mine:
        pass

    assert block_to_table(Mine()) == {"kind": "Mine"}
    with pytest.raises(OptionError, match=naming("'Mine'", "solver")):
        block_from_table({"kind": "Mine"})


def test_a_table_has_only_options_that_exist():
    with pytest.raises(OptionError, match=naming("dense", "'widht'", "'width'")):
        block_from_table({"kind": "dense", "widht": 3})
    with pytest.raises(OptionError, match=naming("residual", "'width'")):
        block_from_table({"kind": "residual", "width": 3})


# ----------------------------------------------------------------------------------------- torch

PROBE = "import dadmm, sys; assert 'TorchBlock' in dir(dadmm); assert 'torch' not in sys.modules"
MISSING = """
import sys, dadmm
sys.modules["torch"] = None  # as if it were not installed
try:
    dadmm.TorchBlock
except dadmm.errors.InputError as error:
    print(error)
"""


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_the_package_does_not_import_torch():
    python(PROBE)


def test_without_torch_the_error_says_what_to_install():
    shown = python(MISSING).stdout
    assert "pip install 'dadmm[torch]'" in shown
    assert shown.count("\n") == 1


def test_the_package_has_no_other_name():
    with pytest.raises(AttributeError, match=naming("'Torchblock'")):
        dadmm.Torchblock  # noqa: B018
