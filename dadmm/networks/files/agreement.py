"""A trial of an ONNX file: ONNX Runtime's outputs compared with the network's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dadmm.errors import DadmmError
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import as_chain
from dadmm.networks.files.answers import ends_in_codes, expected, factors_at
from dadmm.networks.network import Network
from dadmm.numerics.types import Array

ROWS = 256
# Largest difference that rounding explains, as a share of the largest output.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
# Constraints that jump: rounding may move a row to the other side.
JUMPS = ("binary", "k_sparse")
MOST_JUMPED = 0.05


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime's outputs are from the network's own.

    Parameters
    ----------
    rows : int
        Number of random rows.
    jumped : int
        How many of them rounding moved across a jump of a constraint, such as "binary".
    largest : float
        The largest difference of the other rows, as a share of the largest output.
    """

    rows: int
    jumped: int
    largest: float

    def __str__(self) -> str:
        left = f" (but for {self.jumped} at a jump of a constraint)" if self.jumped else ""
        return (
            f"{self.rows} random rows in ONNX Runtime{left}: outputs differ by at most "
            f"{self.largest:.1e} of the largest"
        )


def try_out(content: bytes, network: Network) -> Agreement | None:
    """Compare an ONNX file with its network on random rows; return None without ONNX Runtime.

    Raises
    ------
    DadmmError
        If they differ by more than rounding.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    draws = _draws(network)
    x = (network.inputs.centre + network.inputs.scale * draws).astype(network.dtype)
    found = dict(zip(names, session.run(None, {"x": x}), strict=True))
    chain = as_chain(network.architecture)
    at, codes = factors_at(chain), None
    if at:
        codes = chain.up_to(at).forward(network.params, network.inputs.apply(x, network.dtype))
    return compare(network, network.forward(x), found, codes)


def _draws(network: Network) -> Array:
    """Draw scaled inputs; they are not negative if the first block factorises them."""
    chain = as_chain(network.architecture)
    draws = np.random.default_rng(0).standard_normal((ROWS, chain.widths[0]))
    block = chain.blocks[0]
    if isinstance(block, NMFBlock):
        draws = np.abs(draws)
        explained = float((draws @ network.params["s_1"].T).mean())
        if explained > 0:  # large inputs, else the penalty makes all codes 0
            draws *= 1.0 + 2.0 * block.l1 / explained
    return draws


def compare(
    network: Network, own: Array, found: dict[str, Array], codes: Array | None = None
) -> Agreement:
    """Compare the tensors of a runtime, `found`, with those of the network; errors as `try_out`."""
    outputs = found["outputs"]
    if not np.isfinite(own).all():
        raise DadmmError("the network's outputs for random rows are not finite: it has diverged")
    # Log-odds share a scale, as do codes; targets may have different units.
    axis = 0 if network.target.classes is None and not ends_in_codes(network) else None
    size = np.maximum(np.abs(own).max(axis=axis), np.finfo(network.dtype).tiny)
    difference = (np.abs(outputs - own) / size).max(axis=1)
    off = ~(difference <= TOLERANCE[network.dtype.name])  # NaN too
    chain = as_chain(network.architecture)
    jumps = any(constraint.name in JUMPS for _, constraint in chain.constraints)
    if off.mean() > (MOST_JUMPED if jumps else 0.0):
        cure = ""
        if factors_at(chain):
            cure = " (factors that are nearly equal amplify rounding: train in float64)"
        raise DadmmError(
            f"nothing is written: for {off.sum()} of {len(off)} random rows ONNX Runtime's outputs "
            f"are up to {difference.max():.1e} of the largest away from the network's{cure}"
        )
    if codes is not None:
        apart = np.abs(found["codes"] - codes).max(axis=1) / max(
            codes.max(), np.finfo(network.dtype).tiny
        )
        if not (apart[~off] <= TOLERANCE[network.dtype.name]).all():
            raise DadmmError("nothing is written: ONNX Runtime's codes are not the network's")
    for name, answer in expected(network, outputs).items():
        near = answer == found[name]
        if answer.dtype.kind == "f":
            near |= np.isclose(answer, found[name], rtol=0, atol=TOLERANCE[network.dtype.name])
        if answer.shape != found[name].shape or not near.all():
            raise DadmmError(f"nothing is written: ONNX Runtime's {name} are not the network's")
    return Agreement(len(off), int(off.sum()), float(difference[~off].max()))
