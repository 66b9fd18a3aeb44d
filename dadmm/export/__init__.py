"""A trained network taken elsewhere: files (safetensors, ONNX), and a module of torch.

Nothing written or read here is a pickle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dadmm.errors import InputError
from dadmm.files import writing
from dadmm.network import Network
from dadmm.store.files import LocalFiles

SUFFIXES = (".safetensors", ".onnx")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime's outputs are from the network's own.

    Parameters
    ----------
    rows : int
        Random rows that were tried.
    jumped : int
        Rows among them where rounding crossed a jump of a constraint, such as "binary".
    largest : float
        The largest difference in the others, as a share of the largest output.
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


def save(network: Network, path: str | Path, *, overwrite: bool = False) -> Agreement | None:
    """Write a network to a file, whole or not at all.

    Parameters
    ----------
    network : Network
    path : path
        Ends in ``.safetensors``: parameters, scaling and labels to the bit; `dadmm.load` reads
        it.  Or in ``.onnx``: a graph (opset 13) from "x", (rows, features) in the units of the
        data and the dtype of the parameters, to "outputs", what `dadmm.Network.forward` returns,
        and to "labels" and "probabilities" of classes, or to "targets", what `predict` returns; to
        "codes" where the network factorises, what `transform` returns.
    overwrite : bool
        Whether a file that is there may be replaced.

    Returns
    -------
    Agreement or None
        Of an ONNX file, if ONNX Runtime is installed to try it.

    Raises
    ------
    InputError
        For another ending, a file in the way, a package that is missing, or a network that the
        format cannot hold.
    DadmmError
        If ONNX Runtime computes something else, or the disk is full: nothing is written.
    """
    check_place(path, overwrite)
    path = Path(path)
    agreement = None
    if path.suffix == ".onnx":
        from dadmm.export import onnx_graph

        content = onnx_graph.encode(network)
        agreement = onnx_graph.agreement(content, network)
    else:
        from dadmm.export import tensors

        content = tensors.encode(network)
    with writing(path):
        LocalFiles(path.parent, durable=True).save(path.name, content, new=not overwrite)
    return agreement


def check_place(path: str | Path, overwrite: bool) -> None:
    """Raise `InputError` unless a network can be saved there."""
    if "://" in str(path):
        raise InputError(f"{path} is a URL: save to a local file, and copy it")
    path = Path(path)
    if path.suffix in PICKLES:
        raise InputError(
            f"{path}: {path.suffix} files are pickles, which run code when they are loaded: save "
            "to .safetensors, from which dadmm.load(...).network_.to_torch() makes a module"
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: end the file's name in {' or '.join(SUFFIXES)}")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists: choose another name, or use --overwrite (overwrite=True)")
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise InputError(f"{path} is not a plain file, so it is not replaced: remove it first")
