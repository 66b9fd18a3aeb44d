"""The answers of an ONNX file beside its outputs: codes, labels, probabilities, targets."""

from __future__ import annotations

import numpy as np

from dadmm.errors import InputError
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import Chain, as_chain
from dadmm.networks.network import Network
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array


def factors_at(chain: Chain) -> int:
    """Return the number of the first block that factorises, whose output is "codes"; 0 if none."""
    found = (i for i, block in enumerate(chain.blocks, start=1) if isinstance(block, NMFBlock))
    return next(found, 0)


def ends_in_codes(network: Network) -> bool:
    """Whether the network was trained for its codes alone."""
    chain = as_chain(network.architecture)
    plain = network.target.classes is None and network.outputs is None
    return plain and factors_at(chain) == chain.depth


def labels(classes: Array) -> Array:
    """Return labels in a dtype of ONNX: int64, float, bool, or object for text."""
    kinds = {type(label) for label in classes.tolist()}
    if kinds == {str}:
        return np.array(classes.tolist(), dtype=object)
    if kinds == {bool} or (kinds == {float} and classes.dtype != np.float16):
        return np.array(classes.tolist(), dtype=classes.dtype if kinds == {float} else bool)
    if kinds == {int} and all(-(2**63) <= label < 2**63 for label in classes.tolist()):
        return np.array(classes.tolist(), dtype=np.int64)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(f"ONNX has no type for labels such as these ({names}): encode them as text")


def expected(network: Network, outputs: Array) -> dict[str, Array]:
    """Return an estimator's answers for the outputs of a runtime."""
    target = network.target
    if ends_in_codes(network):
        return {"codes": outputs}
    if target.classes is None:
        return {"targets": outputs[:, 0] if target.flat else outputs}
    loss = get_loss(target.loss)
    if loss.multi_label:
        return {"labels": (outputs > 0) * 1, "probabilities": loss.predict_proba(outputs)}
    found = {"labels": labels(target.classes)[outputs.argmax(axis=1)]}
    return {**found, "probabilities": loss.predict_proba(outputs)} if loss.has_proba else found
