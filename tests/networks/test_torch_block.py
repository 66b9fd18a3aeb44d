"""Torch modules as blocks: against the NumPy blocks, finite differences, and in training."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.datasets import load_digits

import dadmm
from dadmm.errors import InputError, OptionError, StoreError
from dadmm.networks.blocks import Block, Dense, Residual, block_to_table
from dadmm.networks.chain import Chain
from support.clusters import processes
from support.derivatives import check_derivatives, drawn, products, tape
from support.messages import naming

torch = pytest.importorskip("torch")
nn = torch.nn
TorchBlock = dadmm.TorchBlock


class Skip(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, v):
        return v + self.inner(v)


def convolution():
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.GroupNorm(1, 3)]
    return TorchBlock(nn.Sequential(*layers), in_shape=(2, 4, 4))


# -------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("activation", "module"),
    [("relu", nn.ReLU()), ("tanh", nn.Tanh()), ("softplus", nn.Softplus()), ("identity", None)],
)
@pytest.mark.parametrize("skip", [False, True])
def test_a_linear_layer_is_the_numpy_block(dtype, activation, module, skip):
    numpy_block = Residual(activation) if skip else Dense(3, activation)
    params, v, g = drawn(numpy_block, 5, rows=9, dtype=dtype)
    made = nn.Sequential(nn.Linear(5, numpy_block.output(5)), *([module] if module else []))
    block = TorchBlock(Skip(made) if skip else made)
    end = "inner.0" if skip else "0"
    given = {f"{end}.weight": params["w"].T.copy(), f"{end}.bias": params["b"]}
    assert block.shapes(5) == {name: array.shape for name, array in given.items()}
    assert block.output(5) == numpy_block.output(5)

    atol = 1e-10 if dtype == np.float64 else 1e-4
    out = block.forward(given, v, tape())
    np.testing.assert_allclose(out, numpy_block.forward(params, v, tape()), atol=atol)
    gradients, back = products(block, given, v, g)
    expected, expected_back = products(numpy_block, params, v, g)
    np.testing.assert_allclose(gradients[f"{end}.weight"], expected["w"].T, atol=atol)
    np.testing.assert_allclose(gradients[f"{end}.bias"], expected["b"], atol=atol)
    np.testing.assert_allclose(back, expected_back, atol=atol)
    assert out.dtype == back.dtype == gradients[f"{end}.bias"].dtype == dtype


def test_a_convolution_knows_its_derivatives():
    block = convolution()
    assert block.output(32) == 3 * 2 * 2
    assert set(block.shapes(32)) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    check_derivatives(block, *drawn(block, 32, rows=3), atol=1e-6)


def test_layers_that_share_weights_learn_them_once():
    first = nn.Linear(4, 4)
    block = TorchBlock(nn.Sequential(first, nn.Tanh(), first))
    assert set(block.shapes(4)) == {"0.weight", "0.bias"}
    check_derivatives(block, *drawn(block, 4))


def test_what_the_forward_pass_does_not_use_has_gradient_zero():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(3, 2)
            self.unused = nn.Linear(3, 2)

        def forward(self, v):
            return self.used(v[:, :3])

    class Constant(nn.Linear):
        def forward(self, v):
            return torch.ones(len(v), 2, dtype=v.dtype)

    block = TorchBlock(Partly())
    gradients, back = products(block, *drawn(block, 5))
    assert not gradients["unused.weight"].any()
    assert gradients["used.weight"].any()
    assert not back[:, 3:].any()
    block = TorchBlock(Constant(5, 2))
    gradients, back = products(block, *drawn(block, 5))
    assert not gradients["weight"].any()
    assert not back.any()


def test_frozen_parameters_and_buffers_stay_as_they_are():
    class Frozen(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.bias.requires_grad_(False)
            self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

        def forward(self, v):
            return super().forward(v) * self.scale

    module = Frozen()
    block = TorchBlock(module)
    assert set(block.shapes(4)) == {"weight"}
    params, v, g = drawn(block, 4)
    expected = (v @ params["weight"].T + module.bias.detach().numpy()) * [1, 2, 3]
    np.testing.assert_allclose(block.forward(params, v, tape()), expected, atol=1e-12)
    check_derivatives(block, params, v, g)


def test_a_product_can_be_skipped_or_asked_for_again():
    block = convolution()
    params, v, g = drawn(block, 32)
    gradients, back = products(block, params, v, g)
    here = tape()
    block.forward(params, v, here)
    assert block.backward(params, g, here, None, False) is None
    np.testing.assert_array_equal(block.backward(params, g, here, None, True), back)
    again = {name: np.empty_like(array) for name, array in params.items()}
    assert block.backward(params, g, here, again, False) is None
    for name, array in again.items():
        np.testing.assert_array_equal(array, gradients[name])


def test_parameters_are_seen_without_a_copy_and_never_changed_by_it():
    module = nn.Linear(4, 3)
    block = TorchBlock(module)
    before = copy.deepcopy(module.state_dict())
    params, v, _ = drawn(block, 4)
    here = tape()
    block.forward(params, v, here)
    for name, leaf in here.saved["leaves"].items():
        assert np.shares_memory(leaf.detach().numpy(), params[name])
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_output_is_not_the_memory_of_the_input():
    class Same(nn.Linear):
        def forward(self, v):
            return v

    block = TorchBlock(Same(4, 4))
    params, v, _ = drawn(block, 4)
    out = block.forward(params, v, tape())
    np.testing.assert_array_equal(out, v)
    assert not np.may_share_memory(out, v)


def test_arrays_that_cannot_be_written_to_are_read():
    block = TorchBlock(nn.Linear(4, 3))
    params, v, g = drawn(block, 4)
    expected, _ = products(block, params, v, g)
    for array in (*params.values(), v, g):
        array.setflags(write=False)
    found, _ = products(block, params, v, g)
    np.testing.assert_array_equal(found["weight"], expected["weight"])
    block.forward(params, v[::-1, ::-1], tape())


def test_no_rows_give_no_rows():
    block = convolution()
    params, v, _ = drawn(block, 32, rows=1)
    assert block.forward(params, v[:0], tape()).shape == (0, 12)


def test_gradients_are_taken_where_torch_is_told_not_to():
    block = TorchBlock(nn.Linear(4, 3))
    case = drawn(block, 4)
    expected, _ = products(block, *case)
    with torch.no_grad():
        found, _ = products(block, *case)
    np.testing.assert_array_equal(found["weight"], expected["weight"])


def test_threads_do_not_get_in_each_others_way():
    block = TorchBlock(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)))
    cases = [drawn(block, 8, rows=50, seed=seed) for seed in range(8)]
    alone = [products(block, *case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: products(block, *case), cases * 20))
    for k, (gradients, back) in enumerate(together):
        np.testing.assert_array_equal(back, alone[k % 8][1])
        np.testing.assert_array_equal(gradients["0.weight"], alone[k % 8][0]["0.weight"])


def test_torch_works_on_one_thread():
    block = convolution()
    params, v, _ = drawn(block, 32)
    block.forward(params, v, tape())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1


# -------------------------------------------------------------------------------- starting values


def test_starting_values_follow_the_seed_and_leave_torchs_own_alone():
    block = convolution()
    state = torch.random.get_rng_state()
    first, same, other = (block.initial(32, 0, seed) for seed in ((3, 1), (3, 1), (3, 2)))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, shape in block.shapes(32).items():
        assert first[name].shape == shape
        np.testing.assert_array_equal(first[name], same[name])
    assert not np.array_equal(first["0.weight"], other["0.weight"])
    assert abs(first["0.weight"]).max() <= 18**-0.5  # torch draws within 1 / sqrt(fan in)
    np.testing.assert_array_equal(first["3.weight"], 1)


def test_what_cannot_be_drawn_anew_starts_as_it_is():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((4,), 2.5))

        def forward(self, v):
            return v * self.scale

    np.testing.assert_array_equal(TorchBlock(Scale()).initial(4, 0, (0, 1))["scale"], 2.5)


def test_a_chain_starts_torch_blocks_from_seeds_of_their_own():
    block = TorchBlock(nn.Linear(4, 4))
    params = Chain.build(4, [block, block]).initial(0)
    assert {name: array.dtype for name, array in params.items()} == {
        f"{name}_{i}": np.float32 for name in ("weight", "bias") for i in (1, 2)
    }
    assert not np.array_equal(params["weight_1"], params["weight_2"])


# ---------------------------------------------------------------------------------- being an object


def test_a_block_is_equal_to_its_copies_and_they_work_alike():
    block = convolution()
    assert isinstance(block, Block)
    assert block != convolution()
    assert block != "TorchBlock"
    params, v, g = drawn(block, 32)
    expected, back = products(block, params, v, g)
    for other in (pickle.loads(pickle.dumps(block)), copy.deepcopy(block)):
        assert other == block
        assert hash(other) == hash(block)
        assert other.output(32) == block.output(32)
        assert other.shapes(32) == block.shapes(32)
        found, pulled = products(other, params, v, g)
        np.testing.assert_array_equal(pulled, back)
        np.testing.assert_array_equal(found["0.weight"], expected["0.weight"])


def test_a_block_does_not_change_with_the_module_it_was_made_of():
    module = nn.Linear(4, 3)
    block = TorchBlock(module)
    module.weight.requires_grad_(False)
    module.bias = None
    assert set(block.shapes(4)) == {"weight", "bias"}


def test_a_block_is_shown_on_one_line():
    shown = repr(convolution())
    assert shown.startswith("TorchBlock(Sequential( (0): Conv2d(2, 3")
    assert shown.endswith("in_shape=(2, 4, 4))")
    assert "\n" not in shown


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: TorchBlock(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))),
            ["BatchNorm1d (1)", "GroupNorm"],
        ),
        (
            lambda: TorchBlock(nn.InstanceNorm1d(3, affine=True, track_running_stats=True)),
            ["InstanceNorm1d", "statistics"],
        ),
        (lambda: TorchBlock(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))), ["Dropout (1)"]),
        (lambda: TorchBlock(nn.GRU(4, 3, 2, dropout=0.1)), ["GRU", "random"]),
        (lambda: TorchBlock(nn.Sequential(nn.Linear(4, 3), nn.RReLU())), ["RReLU (1)", "random"]),
        (lambda: TorchBlock(nn.Flatten()), ["Flatten", "learn"]),
        (lambda: TorchBlock(nn.Linear(4, 3).requires_grad_(False)), ["Linear", "learn"]),
        (lambda: TorchBlock(nn.LazyLinear(3)), ["TorchBlock", "sizes"]),
        (lambda: TorchBlock(nn.Linear), ["torch.nn.Module"]),
        (lambda: TorchBlock(nn.Linear(4, 3), in_shape=(0, 4)), ["in_shape=(0, 4)"]),
        (lambda: TorchBlock(nn.Linear(4, 3), in_shape=4), ["in_shape=4", "tuple"]),
        (lambda: TorchBlock(nn.Linear(4, 3), in_shape="28"), ["in_shape='28'", "tuple"]),
        (lambda: TorchBlock(nn.Linear(4, 3)).output(5), ["Linear", "(rows, 5)"]),
        (lambda: TorchBlock(nn.Conv2d(1, 2, 3)).output(9), ["Conv2d", "(rows, 9)"]),
        (lambda: convolution().output(33), ["in_shape", "32", "33"]),
        (lambda: TorchBlock(nn.GRU(4, 3)).output(4), ["GRU", "tensor"]),
        (lambda: TorchBlock(nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))).output(4), ["2 rows"]),
        (
            lambda: TorchBlock(nn.Sequential(nn.ReLU(True), nn.Linear(4, 3))).output(4),
            ["inplace=False"],
        ),
    ],
)
def test_a_module_that_cannot_be_a_block_is_refused_in_one_line(make, said):
    with pytest.raises(OptionError, match=naming(*said)) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_a_module_whose_buffers_change_is_refused():
    class Counts(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, v):
            self.calls = self.calls + 1
            return super().forward(v)

    with pytest.raises(OptionError, match=naming("Counts", "buffers")):
        TorchBlock(Counts()).output(4)
    changing = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    with pytest.raises(OptionError, match=naming("ParametrizedLinear", "buffers")):
        TorchBlock(changing).output(4)


def test_dropout_of_nothing_is_allowed():
    assert TorchBlock(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))).output(4) == 3


# ---------------------------------------------------------------------------------------- training

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)


def small_net():
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return TorchBlock(nn.Sequential(*layers), in_shape=(1, 8, 8))


def solver_of(*blocks, **options):
    return dadmm.BlockADMM(blocks=list(blocks), batch_size=32, **options)


def classifier(solver, **options):
    options = {"max_iter": 8, "random_state": 0, "chunks": 600, "tol": 0, **options}
    return dadmm.ADMMClassifier(solver=solver, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "batch"}, {"inner_steps": 2, "z_steps": 3}, {"consensus": "admm"}],
    ids=str,
)
def test_a_convolution_and_a_dense_block_learn_digits(options):
    clf = classifier(solver_of(small_net(), Dense(64), **options)).fit(X[:1200], Y[:1200])
    assert clf.score(X[1200:], Y[1200:]) > 0.85
    assert set(clf.network_.params) == {"0.weight_1", "0.bias_1", "w_2", "b_2", "w_3", "b_3"}


def test_torch_linear_layers_train_as_the_numpy_blocks_do():
    # The same start and the same mini-batches: what differs is who multiplies.
    class Start(nn.Linear):
        def reset_parameters(self):
            given = Chain.build(64, [Dense(64)]).initial(0, np.float64)
            with torch.no_grad():
                self.weight.copy_(torch.from_numpy(given["w_1"].T.copy()))
                self.bias.zero_()

    made = TorchBlock(nn.Sequential(Start(64, 64, dtype=torch.float64), nn.ReLU()))
    options = {"max_iter": 2}
    a = classifier(solver_of(made, Dense(16), dtype="float64"), **options).fit(X, Y)
    b = classifier(solver_of(Dense(64), Dense(16), dtype="float64"), **options).fit(X, Y)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-6)
    pairs = [("0.weight_1", "w_1"), ("0.bias_1", "b_1"), ("w_2", "w_2"), ("w_3", "w_3")]
    for one, other in pairs:
        found = a.network_.params[one]
        found = found.T if one == "0.weight_1" else found
        np.testing.assert_allclose(found, b.network_.params[other], atol=1e-5)


def test_a_run_is_loaded_and_resumed_with_its_solver(tmp_path):
    whole = classifier(solver_of(small_net(), Dense(16)), max_iter=3).fit(X, Y)
    solver, path = solver_of(small_net(), Dense(16)), tmp_path / "run"

    class Stop(Exception):  # noqa: N818
        pass

    def stop(k, row):
        if k == 2:
            raise Stop

    with pytest.raises(Stop):
        classifier(solver, max_iter=3, run=path).fit(X, Y, callback=stop)
    assert dadmm.load(path, solver=solver).n_iter_ == 2
    # A module that is built again is as good.
    again = solver_of(small_net(), Dense(16))
    resumed = dadmm.resume(path, solver=again)
    assert resumed.n_iter_ == 3
    for clf in (resumed, dadmm.load(path, solver=again)):
        for name, array in whole.network_.params.items():
            np.testing.assert_array_equal(clf.network_.params[name], array)


@pytest.mark.parametrize("call", [dadmm.load, dadmm.resume])
def test_a_run_of_torch_blocks_needs_its_solver(tmp_path, call):
    path = tmp_path / "run"
    classifier(solver_of(small_net(), Dense(16)), max_iter=1, run=path).fit(X[:600], Y[:600])
    with pytest.raises(StoreError, match=naming("'TorchBlock'", "solver")) as caught:
        call(path)
    assert "\n" not in str(caught.value)
    other = solver_of(TorchBlock(nn.Linear(64, 8)), Dense(16))
    with pytest.raises(StoreError, match=naming(str(path), "solver")):
        call(path, solver=other)


def test_a_table_tells_one_module_from_another():
    tables = [
        block_to_table(TorchBlock(nn.Linear(4, 3))),
        block_to_table(TorchBlock(nn.Linear(4, 2))),
        block_to_table(TorchBlock(nn.Linear(4, 3), in_shape=(2, 4))),
    ]
    assert tables[0] == {
        "kind": "TorchBlock",
        "in_shape": None,
        "parameters": {"weight": [3, 4], "bias": [3]},
    }
    assert tables[0] != tables[1]
    assert tables[0] != tables[2]


def test_a_width_that_does_not_fit_is_said_before_training(tmp_path):
    solver = solver_of(TorchBlock(nn.Linear(63, 8)), Dense(16))
    with pytest.raises(OptionError, match=naming("(rows, 64)")):
        classifier(solver, run=tmp_path / "run").fit(X, Y)
    assert not (tmp_path / "run").exists()


def test_a_fitted_estimator_pickles():
    clf = classifier(solver_of(small_net(), Dense(16)), max_iter=1).fit(X[:600], Y[:600])
    other = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(other.predict(X), clf.predict(X))


@pytest.mark.processes
def test_a_worker_in_a_process_of_its_own_computes_the_same():
    here = classifier(solver_of(small_net(), Dense(16)), max_iter=2).fit(X, Y)
    with processes(1, threads_per_worker=2):
        there = classifier(solver_of(small_net(), Dense(16)), max_iter=2).fit(X, Y)
    for name, array in here.network_.params.items():
        np.testing.assert_array_equal(there.network_.params[name], array)
