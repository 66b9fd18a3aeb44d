"""A trained network as a file (safetensors, ONNX) or as a torch module; never a pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dadmm.errors import InputError
from dadmm.networks.files.agreement import Agreement, try_out
from dadmm.networks.network import network_of
from dadmm.store.replace import replace_file

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".onnx")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")


def save(model: Any, path: str | Path, *, overwrite: bool = False) -> Agreement | None:
    """Write a network to a file, whole or not at all.

    Parameters
    ----------
    model : Network or fitted estimator
    path : path
        Ends in ``.safetensors`` or ``.onnx``.  A safetensors file holds parameters, scaling and
        labels to the bit; `dadmm.load` reads it.  An ONNX file holds a graph (opset 13) whose input
        is "x", (rows, features) in the units of the data and the dtype of the parameters.  Its
        outputs are "outputs", as of `dadmm.Network.forward`; for classes "labels" and
        "probabilities", else "targets", as of `predict`; and if the network factorises "codes", as
        of `transform`.
    overwrite : bool
        Whether to replace a file at `path`.

    Returns
    -------
    Agreement or None
        The comparison of an ONNX file with the network, if ONNX Runtime is installed.

    Raises
    ------
    InputError
        For another ending, a file in the way, a missing package, or a network that the format
        cannot hold.
    DadmmError
        If ONNX Runtime's results differ, or the disk is full: nothing is written.
    """
    network = network_of(model)
    check_place(path, overwrite)
    path = Path(path)
    agreement = None
    if path.suffix == ".onnx":
        from dadmm.networks.files import onnx_file

        content = onnx_file.encode(network)
        agreement = try_out(content, network)
    else:
        from dadmm.networks.files import safetensors_file

        content = safetensors_file.encode(network)
    replace_file(path, content, new=not overwrite)
    return agreement


def to_torch(model: Any) -> torch.nn.Module:
    """Return a network as a new torch module in the dtype of the parameters.

    It maps (rows, features) in the units of the data to the outputs of `dadmm.Network.forward`, and
    can be trained further.

    Parameters
    ----------
    model : Network or fitted estimator

    Raises
    ------
    InputError
        If torch is not installed.
    """
    from dadmm.networks.files.torch_module import as_module

    return as_module(network_of(model))


def check_place(path: str | Path, overwrite: bool) -> None:
    """Raise `InputError` unless a network can be saved there."""
    if "://" in str(path):
        raise InputError(f"{path} is a URL: save to a local file, and copy it")
    path = Path(path).expanduser()
    if path.suffix in PICKLES:
        raise InputError(
            f"{path}: {path.suffix} files are pickles, which run code when they are loaded: save "
            "to .safetensors, from which dadmm.to_torch(dadmm.load(...)) makes a module"
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: end the file's name in {' or '.join(SUFFIXES)}")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists: choose another name, or use --overwrite (overwrite=True)")
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise InputError(f"{path} is not a plain file, so it is not replaced: remove it first")
