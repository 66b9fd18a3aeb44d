"""The network: its layout, its starting parameters, its forward pass, and the scaling around it."""

import numpy as np
import pytest

from dadmm.errors import OptionError, ShapeError
from dadmm.networks.architecture import Architecture, layers
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from support.formulas import ACTIVATION
from support.messages import naming

each_activation = pytest.mark.parametrize("activation", sorted(ACTIVATION))


def rms(v):
    return np.sqrt((v**2).mean())


# ---------------------------------------------------------------------------------------- layout


def test_layers_between_equal_widths_are_residual():
    arch = Architecture.build(5, (8, 8, 6, 6), 6)
    assert arch.widths == (5, 8, 8, 6, 6, 6)
    assert arch.skips == (False, True, False, True, False)
    assert [arch.skip(i) for i in (1, 2)] == [False, True]
    assert arch.depth == 5
    assert arch.n_parameters == 6 * 8 + 9 * 8 + 9 * 6 + 7 * 6 + 7 * 6
    assert arch.n_parameters == sum(p.size for p in arch.initial(0).values())


def test_the_stem_is_residual_only_if_asked_for():
    assert not Architecture.build(8, (8, 8), 3).skip(1)
    assert Architecture.build(8, (8, 8), 3, stem="identity").skips == (True, True, False)
    assert Architecture.build(8, (8,), 8, stem="identity").skips == (True, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((5, (), 2), ["hidden_layer_sizes"]),
        ((5, (4, 0), 2), ["hidden_layer_sizes", "(4, 0)", "1"]),
        ((5, (4,), 2, "rele"), ["activation", "'rele'", "'relu'"]),
        ((5, (4,), 2, "relu", "identify"), ["stem", "'identify'", "'identity'"]),
        ((5, (4,), 2, "relu", "identity"), ["stem='identity'", "5", "4", "stem='dense'"]),
    ],
)
def test_layouts_that_do_not_fit_together_are_refused(arguments, said):
    with pytest.raises(OptionError, match=naming(*said)):
        Architecture.build(*arguments)


# --------------------------------------------------------------------------- starting parameters


def test_a_seed_fixes_the_start_in_either_dtype():
    arch = Architecture.build(5, (8, 8), 3)
    wide, again, other = arch.initial(1, np.float64), arch.initial(1, np.float64), arch.initial(2)
    for name, value in wide.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value.astype(np.float32), arch.initial(1)[name])
        assert name.startswith("b") or (value != other[name]).all()
    assert all(value.dtype == np.float32 for value in other.values())
    assert not any(wide[f"b_{i}"].any() for i in (1, 2, 3))


def test_a_layer_starts_the_same_whatever_stands_before_it():
    narrow = Architecture.build(5, (6, 8, 8), 3).initial(0)
    wide = Architecture.build(9, (7, 8, 8), 3).initial(0)
    for name in ("w_3", "w_4"):
        np.testing.assert_array_equal(narrow[name], wide[name])


@each_activation
def test_weights_have_the_scale_of_their_layer(activation):
    params = Architecture.build(400, (300, 300, 300), 200, activation).initial(0, np.float64)
    gain = np.sqrt(2) if activation.endswith("relu") else 1
    assert rms(params["w_1"]) == pytest.approx(gain / np.sqrt(400), rel=0.02)
    for name in ("w_2", "w_3"):
        assert rms(params[name]) == pytest.approx(gain / np.sqrt(300) / np.sqrt(2), rel=0.02)
    assert rms(params["w_4"]) == pytest.approx(1 / np.sqrt(300), rel=0.02)


@pytest.mark.parametrize("stem", ["dense", "identity"])
@pytest.mark.parametrize("depth", [3, 30, 100])
def test_an_odd_activation_keeps_the_size_of_the_signal_at_any_depth(depth, stem):
    x = np.random.default_rng(1).standard_normal((100, 64))
    for activation in ("tanh", "identity"):
        arch = Architecture.build(64, (64,) * (depth - 1), 4, activation, stem)
        hidden = list(layers(arch, arch.initial(0, np.float64), x))[:-1]
        # |V|^2 grows by 1 + 1/R at most in each of R residual layers, so by e in all.
        assert rms(hidden[-1]) < 1.1 * np.sqrt(np.e) * max(rms(hidden[0]), rms(x))
        assert rms(hidden[-1]) > 0.5 * rms(hidden[0])


@pytest.mark.parametrize("depth", [3, 30, 100])
def test_a_relu_lets_the_signal_grow_no_faster_than_its_mean_makes_it(depth):
    arch = Architecture.build(64, (64,) * (depth - 1), 4, "relu")
    x = np.random.default_rng(1).standard_normal((100, 64))
    hidden = list(layers(arch, arch.initial(0, np.float64), x))[:-1]
    # relu(A) with A ~ N(0, 2 |V|^2 / R) has mean |V| / sqrt(pi R), R times: exp(sqrt(R / pi)).
    assert rms(hidden[-1]) < 1.5 * np.exp(np.sqrt(depth / np.pi)) * rms(hidden[0])


# ---------------------------------------------------------------------------------- forward pass


@each_activation
def test_the_forward_pass_is_the_formula(activation):
    arch = Architecture.build(4, (4, 4, 3, 3), 2, activation, "identity")
    rng = np.random.default_rng(0)
    params = {k: rng.standard_normal(v.shape) for k, v in arch.initial(0).items()}
    x = rng.standard_normal((7, 4))
    untouched = x.copy()
    found = list(layers(arch, params, x))
    act, v = ACTIVATION[activation], x
    for i, residual in enumerate([True, True, False, True], start=1):
        v = (v if residual else 0) + act(v @ params[f"w_{i}"] + params[f"b_{i}"])
        np.testing.assert_allclose(found[i - 1], v, atol=1e-12)
    np.testing.assert_allclose(found[4], v @ params["w_5"] + params["b_5"], atol=1e-12)
    assert len(found) == 5
    np.testing.assert_array_equal(x, untouched)
    some = list(layers(arch, params, x, to=2))
    assert len(some) == 2
    np.testing.assert_array_equal(some[1], found[1])


# --------------------------------------------------------------------------------------- scaling


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_centres_divides_and_comes_back(dtype):
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.standard_normal((9, 4))).astype(dtype)
    scaling = Scaling(rng.standard_normal(4), rng.uniform(0.5, 2, 4))
    z = scaling.apply(x, dtype)
    tol = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(z, (x - scaling.centre) / scaling.scale, atol=tol)
    np.testing.assert_allclose(scaling.undo(z), x, atol=tol)
    assert z.dtype == scaling.undo(z).dtype == dtype


def test_the_identity_scaling_changes_nothing_but_copies():
    x = np.random.default_rng(0).standard_normal((3, 2))
    z = Scaling.identity(2).apply(x, np.float64)
    np.testing.assert_array_equal(z, x)
    assert not np.shares_memory(z, x)


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int16, np.int64, np.uint32, np.float16])
def test_scaling_takes_any_kind_of_number(kind):
    x = np.array([[0, 1], [1, 0]], kind)
    z = Scaling(np.array([0.5, 1.0]), np.array([0.5, 2.0])).apply(x, np.float32)
    np.testing.assert_array_equal(z, np.array([[-1, 0], [1, -0.5]], np.float32))
    assert z.dtype == np.float32


@pytest.mark.parametrize(
    "kind",
    [np.float64, np.int64, np.int32, np.uint64, np.uint32],
)
def test_small_differences_of_large_numbers_survive_scaling_to_float32(kind):
    x = (1_600_000_003 + np.arange(-2, 3))[:, None].astype(kind)
    z = Scaling(np.array([1_600_000_003.0]), np.array([2.0])).apply(x, np.float32)
    np.testing.assert_array_equal(z.ravel(), np.arange(-2, 3) / 2)


# --------------------------------------------------------------------------------------- network


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_reads_and_returns_the_units_of_the_data(dtype):
    arch = Architecture.build(4, (5, 5), 2, "tanh")
    params = arch.initial(0, dtype)
    rng = np.random.default_rng(0)
    x = 10 + rng.standard_normal((6, 4))
    inputs = Scaling(np.full(4, 10.0), np.full(4, 0.5))
    outputs = Scaling(np.array([1.0, -1.0]), np.array([3.0, 4.0]))
    *_, raw = layers(arch, params, ((x - 10) / 0.5).astype(dtype))
    found = Network(arch, params, inputs, outputs).forward(x)
    tol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, raw * outputs.scale + outputs.centre, atol=tol)
    np.testing.assert_allclose(Network(arch, params, inputs).forward(x), raw, atol=tol)
    assert found.dtype == dtype
    assert Network(arch, params, inputs).forward(x[:0]).shape == (0, 2)


@pytest.mark.parametrize("shape", [(4,), (6, 5), (6, 3), (2, 3, 4)])
def test_inputs_of_another_shape_are_refused(shape):
    arch = Architecture.build(4, (5,), 2)
    network = Network(arch, arch.initial(0), Scaling.identity(4))
    with pytest.raises(ShapeError, match=naming("(rows, 4)", str(shape))):
        network.forward(np.zeros(shape))
