"""A network as an ONNX graph.

It uses only those operators of opset 13 (2020) that ONNX Runtime has in float64 too: softplus and
leaky_relu are composed of simpler ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dadmm.errors import InputError
from dadmm.networks.blocks import Dense, NMFBlock, Residual
from dadmm.networks.chain import as_chain, own
from dadmm.networks.files import answers
from dadmm.networks.network import Network
from dadmm.numerics.activations import PIECEWISE, SIGMOID, TANH, get_activation
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array

try:
    import onnx
    from onnx import helper, numpy_helper
except ModuleNotFoundError as error:
    raise InputError("ONNX files need the package onnx: pip install 'dadmm[export]'") from error

OPSET = 13
IR_VERSION = 7
MOST_BYTES = 2**31 - 2**20  # of one message of protobuf


class Graph:
    """Nodes and constants of a graph; its tensors are names.

    Parameters
    ----------
    dtype : dtype
        The default dtype of constants.
    within : Graph or None
        The graph with the loop whose body this graph is; its tensors are visible here.
    """

    def __init__(self, dtype: np.dtype[Any], within: Graph | None = None) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = [] if within is None else within.constants
        self.prefix = "" if within is None else f"loop_{len(within.nodes)}_"

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node; return its first output, called `out` if given."""
        out = out or f"{self.prefix}{op.lower()}_{len(self.nodes)}"
        outputs = [out, f"{out}_indices"] if op == "TopK" else [out]
        self.nodes.append(helper.make_node(op, inputs, outputs, **attributes))
        return out

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        array = np.asarray(value, dtype or self.dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, v: str, dtype: Any) -> str:
        """Add a conversion to another dtype."""
        return self.add("Cast", v, to=_type(dtype))

    def scale(self, v: str, factors: Array) -> str:
        """Add a product of each column with its factor.

        ONNX Runtime (1.31) would merge the product with a single number into a matrix product
        beside it, and round the number to float32.  It leaves a matrix product alone.
        """
        if len(factors) == 1:
            return self.add("MatMul", v, self.constant(factors[:, None]))
        return self.add("Mul", v, self.constant(factors))

    def total(self, v: str) -> str:
        """Add the sum of each row, as a column."""
        return self.add("ReduceSum", v, self.constant([1], np.int64), keepdims=1)


def _activate(g: Graph, name: str, u: str) -> str:
    """Add ``act(u)``, computed as by `Activation.value`."""
    activation = get_activation(name)
    if activation.kind == PIECEWISE:
        if activation.slope == 1.0:
            return u
        if activation.slope == 0.0:
            return g.add("Relu", u)
        return g.add("Max", u, g.add("Mul", u, g.constant(activation.slope)))
    if activation.kind in (TANH, SIGMOID):
        return g.add("Tanh" if activation.kind == TANH else "Sigmoid", u)
    e = g.add("Exp", g.add("Neg", g.add("Abs", u)))
    return g.add("Add", g.add("Relu", u), g.add("Log", g.add("Add", g.constant(1.0), e)))


def _non_negative(g: Graph, v: str, number: float, width: int) -> str:
    return g.add("Relu", v)


def _binary(g: Graph, v: str, number: float, width: int) -> str:
    negative = g.add("Less", v, g.constant(0.0))
    return g.add("Where", negative, g.constant(-1.0), g.constant(1.0))


def _box(g: Graph, v: str, half: float, width: int) -> str:
    return g.add("Clip", v, g.constant(-half), g.constant(half))


def _l1(g: Graph, v: str, weight: float, width: int) -> str:
    return g.add("Sub", v, _box(g, v, weight, width))


def _squared_l2(g: Graph, v: str, weight: float, width: int) -> str:
    return g.scale(v, np.full(width, 1.0 / (1.0 + weight)))


def _l2_ball(g: Graph, v: str, radius: float, width: int) -> str:
    zero, one = g.constant(0.0), g.constant(1.0)
    # As in `prox.l2_ball`: squares of the entries could overflow, squares of these cannot.
    largest = g.add("ReduceMax", g.add("Abs", v), axes=[1], keepdims=1)
    unit = g.add("Div", v, g.add("Where", g.add("Greater", largest, zero), largest, one))
    length = g.add("Mul", largest, g.add("Sqrt", g.total(g.add("Mul", unit, unit))))
    outside = g.add("Greater", length, g.constant(radius))
    inverse = g.add("Div", g.constant(radius), g.add("Where", outside, length, one))
    return g.add("Mul", v, g.add("Where", outside, inverse, one))


def _simplex(g: Graph, v: str, number: float, width: int) -> str:
    # As in `prox.simplex`, sums in float64; the right threshold is the largest.
    x = g.add("Sub", v, g.add("ReduceMax", v, axes=[1], keepdims=1))
    wide = g.cast(x, np.float64)
    falling = g.add("TopK", wide, g.constant([width], np.int64), axis=1)
    sums = g.add("CumSum", falling, g.constant(1, np.int64))
    excess = g.add("Sub", sums, g.constant(1.0, np.float64))
    thetas = g.add("Div", excess, g.constant(np.arange(1, width + 1), np.float64))
    theta = g.cast(g.add("ReduceMax", thetas, axes=[1], keepdims=1), g.dtype)
    return g.add("Relu", g.add("Sub", x, theta))


def _k_sparse(g: Graph, v: str, number: float, width: int) -> str:
    k = int(number)
    if k >= width:
        return v
    # Like `prox.k_sparse`, TopK keeps the first of equal entries.
    top = g.add("TopK", g.add("Abs", v), g.constant([k], np.int64), axis=1)
    kept = g.add("GatherElements", v, f"{top}_indices", axis=1)
    zeros = g.add("Mul", v, g.constant(0.0))
    return g.add("ScatterElements", zeros, f"{top}_indices", kept, axis=1)


PROJECTIONS: dict[str, Callable[[Graph, str, float, int], str]] = {
    "non_negative": _non_negative,
    "binary": _binary,
    "simplex": _simplex,
    "k_sparse": _k_sparse,
    "l2_ball": _l2_ball,
    "l1": _l1,
    "squared_l2": _squared_l2,
    "box": _box,
}


def _codes(g: Graph, block: NMFBlock, s: Array, z: str) -> str:
    """Add the codes of rows, with the start and the order of sweeps of `nonnegative.coded`.

    The body of the loop does one factor of one sweep, so the graph is small whatever their numbers.
    """
    r = len(s)
    ridge = s @ s.T + s.dtype.type(block.l2) * np.eye(r, dtype=s.dtype)
    alive = np.diagonal(ridge) > 0
    inverse = np.zeros(r, s.dtype)
    inverse[alive] = 1 / np.diagonal(ridge)[alive]
    gram, zero = g.constant(ridge), g.constant(0.0)
    b = g.add("Sub", g.add("MatMul", z, g.constant(s.T)), g.constant(block.l1))
    # The best multiple of max(b, 0).
    along = g.add("Where", g.constant(alive, bool), g.add("Relu", b), zero)
    up = g.total(g.add("Mul", along, b))
    down = g.total(g.add("Mul", along, g.add("MatMul", along, gram)))
    falls = g.add("Greater", down, zero)
    length = g.add("Div", up, g.add("Where", falls, down, g.constant(1.0)))
    start = g.add("Mul", along, g.add("Where", falls, length, zero))

    body = Graph(g.dtype, g)
    at, go, v = (f"{body.prefix}{name}" for name in ("at", "go", "codes"))
    k = body.add("Mod", at, body.constant([r], np.int64))
    held = body.add("MatMul", v, body.add("Gather", gram, k, axis=1))
    left = body.add("Sub", body.add("Gather", b, k, axis=1), held)
    step = body.add("Mul", left, body.add("Gather", body.constant(inverse), k))
    new = body.add("Relu", body.add("Add", body.add("Gather", v, k, axis=1), step))
    which = body.add("Equal", body.constant(np.arange(r), np.int64), k)
    swept = body.add("Where", which, new, v)
    still = body.add("Identity", go)
    kind, shape = _type(g.dtype), ["rows", r]
    loop = helper.make_graph(
        body.nodes,
        f"{body.prefix}body",
        [
            helper.make_tensor_value_info(at, _type(np.int64), []),
            helper.make_tensor_value_info(go, _type(bool), []),
            helper.make_tensor_value_info(v, kind, shape),
        ],
        [
            helper.make_tensor_value_info(still, _type(bool), []),
            helper.make_tensor_value_info(swept, kind, shape),
        ],
    )
    times = g.constant(block.sweeps * r, np.int64)
    return g.add("Loop", times, "", start, body=loop)


def encode(network: Network) -> bytes:
    """Return a network as the content of an ONNX file.

    Raises
    ------
    InputError
        For blocks of torch modules, labels without a type in ONNX, or more than 2 GiB.
    """
    if sum(array.nbytes for array in network.params.values()) > MOST_BYTES:
        raise InputError("an ONNX file holds at most 2 GiB: save to .safetensors")
    features = network.architecture.widths[0]
    g = Graph(network.dtype)
    made = _outputs(g, network, _forward(g, network, "x"))
    graph = helper.make_graph(
        g.nodes,
        "dadmm",
        [helper.make_tensor_value_info("x", _type(network.dtype), ["rows", features])],
        [
            helper.make_tensor_value_info(name, kind, ["rows", *width])
            for name, (kind, width) in made.items()
        ],
        g.constants,
    )
    model = helper.make_model(
        graph,
        producer_name="dadmm",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _forward(g: Graph, network: Network, x: str) -> str:
    """Add the computation of `Network.forward`."""
    chain = as_chain(network.architecture)
    if network.form is not None and network.form.encodes:
        raise InputError(
            "its inputs have columns of categories, which the graph would not encode: save to "
            ".safetensors, or encode them before training"
        )
    fills = None if network.form is None else network.form.fills
    if fills is not None:
        x = g.add("Where", g.add("IsNaN", x), g.constant(fills), x)
    v = g.add("Sub", x, g.constant(network.inputs.centre))
    v = g.scale(v, 1.0 / network.inputs.scale)
    coded = answers.factors_at(chain)
    for i, block in enumerate(chain.blocks, start=1):
        params = own(network.params, i)
        if type(block) is NMFBlock:
            v = _codes(g, block, params["s"], v)
        elif type(block) in (Dense, Residual):
            assert isinstance(block, Dense)
            v = _layer(g, block, params, v)
        else:
            raise InputError(
                f"block {i} is a {type(block).__name__}, whose code dadmm cannot write as ONNX: "
                "use torch.onnx.export(dadmm.to_torch(...))"
            )
        constraint = chain.constraint(i)
        if constraint is not None:
            number = 0.0 if constraint.number is None else constraint.number
            v = PROJECTIONS[constraint.name](g, v, number, chain.widths[i])
        if i == coded:
            g.add("Identity", v, out="codes")
    if network.outputs is None:
        return v
    wide = network.output_dtype
    if wide == g.dtype:
        return g.add("Add", g.scale(v, network.outputs.scale), g.constant(network.outputs.centre))
    scaled = g.add("Mul", g.cast(v, wide), g.constant(network.outputs.scale, wide))
    return g.add("Add", scaled, g.constant(network.outputs.centre, wide))


def _layer(g: Graph, block: Dense, params: dict[str, Array], v: str) -> str:
    """Add a dense or residual layer."""
    a = g.add("Add", g.add("MatMul", v, g.constant(params["w"])), g.constant(params["b"]))
    a = _activate(g, block.activation, a)
    return g.add("Add", a, v) if block.skip else a


def _outputs(g: Graph, network: Network, v: str) -> dict[str, tuple[int, list[int]]]:
    """Add the outputs by name; return the type and the shape, without the rows, of each."""
    target, kind = network.target, _type(network.output_dtype)
    chain = as_chain(network.architecture)
    width = [chain.widths[-1]]
    found = {}
    if answers.factors_at(chain):
        found["codes"] = (_type(network.dtype), [chain.widths[answers.factors_at(chain)]])
    if answers.ends_in_codes(network):
        pass  # the codes are the only answer
    elif target.classes is None:
        if target.flat:
            g.add("Squeeze", v, g.constant([1], np.int64), out="targets")
        else:
            g.add("Identity", v, out="targets")
        found["targets"] = (kind, [] if target.flat else width)
    else:
        loss = get_loss(target.loss)
        if loss.multi_label:
            likely = g.cast(g.add("Greater", v, g.constant(0.0)), np.int64)
            g.add("Identity", likely, out="labels")
            g.add("Sigmoid", v, out="probabilities")
            found["labels"] = (_type(np.int64), width)
        else:
            names = answers.labels(target.classes)
            best = g.add("ArgMax", v, axis=1, keepdims=0)
            g.add("Gather", g.constant(names, names.dtype), best, axis=0, out="labels")
            found["labels"] = (_type(names.dtype), [])
            if loss.has_proba:
                g.add("Softmax", v, axis=1, out="probabilities")
        if loss.has_proba:
            found["probabilities"] = (kind, width)
    g.add("Identity", v, out="outputs")
    return {**found, "outputs": (kind, width)}


def _type(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
