"""Where a network may be saved, and what is never replaced."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import dadmm
from dadmm import ADMMClassifier, BlockADMM, save
from dadmm.errors import InputError
from dadmm.networks.blocks import Dense
from support.messages import naming
from support.networks import (
    X,
    Y,
    agree,
    each_dtype,
    layered,
    needs_safetensors,
    needs_torch,
    same,
)

pytestmark = pytest.mark.usefixtures("here")


# ------------------------------------------------------------------------------------------- torch


@needs_torch
@needs_safetensors
@each_dtype
def test_blocks_of_torch_modules_go_everywhere_but_into_onnx(dtype):
    import torch

    inner = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3, padding=1), torch.nn.Tanh())
    inner[0].bias.requires_grad_(False)
    blocks = [dadmm.TorchBlock(inner, in_shape=(1, 5)), Dense(4, "tanh")]
    solver = BlockADMM(blocks=blocks, constraints="l2_ball:1", dtype=np.dtype(dtype).name)
    fitted = ADMMClassifier(max_iter=1, random_state=0, solver=solver).fit(X, Y)
    network = fitted.network_
    agree(network)
    save(network, "model.safetensors")
    found = dadmm.load("model.safetensors", solver=solver)
    same(network, found.network_)
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))
    with pytest.raises(InputError, match=naming("'TorchBlock'", "solver")):
        dadmm.load("model.safetensors")
    with pytest.raises(InputError, match=naming("blocks", "solver")):
        dadmm.load("model.safetensors", solver=BlockADMM(blocks=blocks[::-1]))
    if find_spec("onnx") is not None:
        with pytest.raises(InputError, match=naming("block 1", "TorchBlock", "torch.onnx.export")):
            save(network, "model.onnx")


# ------------------------------------------------------------------------------ files and commands


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model.pt", ["model.pt", "pickles", ".safetensors"]),
        ("model.pkl", ["model.pkl", "pickles", ".safetensors"]),
        ("model", ["model", ".safetensors", ".onnx"]),
        ("model.h5", ["model.h5", ".safetensors", ".onnx"]),
        ("none/model.onnx", ["none/model.onnx", "folder"]),
        ("s3://bucket/model.onnx", ["s3://bucket/model.onnx", "local"]),
    ],
)
def test_places_that_cannot_be_written_are_refused(path, said):
    with pytest.raises(InputError, match=naming(*said)):
        save(layered(), path)
    assert not os.listdir()


@needs_safetensors
def test_a_file_that_is_there_is_replaced_only_if_told():
    network = layered()
    save(network, "model.safetensors")
    first = Path("model.safetensors").read_bytes()
    other = layered("relu")
    with pytest.raises(InputError, match=naming("model.safetensors", "overwrite=True")):
        save(other, "model.safetensors")
    assert Path("model.safetensors").read_bytes() == first
    save(other, "model.safetensors", overwrite=True)
    same(other, dadmm.load("model.safetensors").network_)
    os.symlink("model.safetensors", "link.safetensors")
    os.mkdir("folder.onnx")
    for name in ("link.safetensors", "folder.onnx"):
        with pytest.raises(InputError, match=naming(name)):
            save(network, name, overwrite=True)
    assert set(os.listdir()) == {"model.safetensors", "link.safetensors", "folder.onnx"}
