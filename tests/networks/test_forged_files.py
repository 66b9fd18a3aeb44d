"""Files of networks that anybody may have written: refused in one line, never believed."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dadmm
from dadmm import save
from dadmm.errors import InputError
from dadmm.networks.target import Target
from support.messages import naming
from support.networks import (
    LABELS,
    constrained,
    factored,
    layered,
    needs_safetensors,
)

pytestmark = pytest.mark.usefixtures("here")


def forge(change, path="model.safetensors"):
    """Save a network, let `change` alter its tensors and metadata, and write them again."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    target = Target("cross_entropy", LABELS["text"])
    networks = {"chain": lambda: constrained("box:1"), "factors": factored}
    network = networks.get(change.__name__, layered)()
    save(replace(network, target=target), path)
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    table = json.loads(metadata["dadmm"])
    text = change(tensors, table)
    metadata["dadmm"] = json.dumps(table) if text is None else text
    save_file(tensors, path, metadata)
    return path


def setting(*keys):
    """Return a change that sets an entry of the metadata: the last of `keys`, to what it is."""
    *path, last, value = keys

    def change(_, table):
        for key in path:
            table = table[key]
        table[last] = value

    return change


def chain(*keys):
    change = setting("network", *keys)
    change.__name__ = "chain"
    return change


def factors(*keys):
    change = setting("network", "blocks", 1, *keys)
    change.__name__ = "factors"
    return change


def tensor(name, value, kind="change"):
    def change(tensors, _):
        tensors[name] = value
        if value is None:
            del tensors[name]

    change.__name__ = kind
    return change


LABEL = ("target", "classes", "labels")


FORGED = {
    "not JSON": (lambda t, m: "{", ["double quotes"]),
    "deep": (lambda t, m: "[" * 10**5, ["metadata", "nested"]),
    "a list": (lambda t, m: "[]", ["format, network, inputs, target"]),
    "long": (lambda t, m: '{"format": ' + "1" * 5000 + "}", ["digits"]),
    "format": (setting("format", 2), ["format", "2", "1"]),
    "more": (setting("hook", "import os"), ["format, network, inputs, target"]),
    "widths": (
        setting("network", "widths", [5, 5, 5, 2**60, 3]),
        ["(1152921504606846976,)"],
    ),
    "width 0": (setting("network", "widths", [5, 0, 5, 4, 3]), ["[5, 0, 5, 4, 3]"]),
    "true width": (setting("network", "widths", [5, True, 5, 4, 3]), ["widths", "int"]),
    "no widths": (setting("network", "widths", []), ["widths", "[]"]),
    "text": (setting("network", "widths", "55543"), ["widths", "list"]),
    "features": (setting("network", "widths", [9, 5, 5, 4, 3]), ["[9, 5, 5, 4, 3]", "inputs", "5"]),
    "fewer skips": (setting("network", "skips", [False]), ["layers"]),
    "a skip": (setting("network", "skips", [False, True, True, False]), ["layers"]),
    "head": (setting("network", "skips", [False, True, False, True]), ["layers"]),
    "activation": (setting("network", "activation", "rellu"), ["activation", "'rellu'", "'relu'"]),
    "no name": (setting("network", "activation", ["relu"]), ["activation=['relu']"]),
    "loss": (setting("target", "loss", "hing"), ["loss", "'hing'", "'hinge'"]),
    "flat": (setting("target", "flat", 1), ["flat=1", "true or false"]),
    "no classes": (setting("target", "classes", None), ["cross_entropy", "classes"]),
    "no inputs": (setting("inputs", None), ["inputs"]),
    "names": (setting("inputs", "names", ["a", "b"]), ["columns", "network"]),
    "few labels": (setting(*LABEL, ["a", "b"]), ["2 classes", "3 outputs"]),
    "twins": (setting(*LABEL, ["a", "b", "a"]), ["3 classes"]),
    "wide labels": (
        setting("target", "classes", "dtype", "<U500000000"),
        ["classes", "2000000000 bytes"],
    ),
    "records": (setting("target", "classes", "dtype", "i4,i4,i4"), ["classes"]),
    "lists": (setting(*LABEL, [["a"], ["b"], ["c"]]), ["classes"]),
    "unknown": (tensor("w_9", np.zeros(1)), ["'w_9'"]),
    "missing": (tensor("b_2", None), ["b_2"]),
    "transposed": (tensor("w_3", np.zeros((4, 5), np.float32)), ["w_3", "(4, 5)", "(5, 4)"]),
    "mixed": (tensor("b_2", np.zeros(5)), ["parameters", "F32", "F64"]),
    "integers": (tensor("b_2", np.zeros(5, np.int32)), ["parameters", "I32"]),
    "narrow": (tensor("inputs.scale", np.ones(5, np.float32)), ["scaling", "float64"]),
    "zero": (tensor("inputs.scale", np.zeros(5)), ["inputs.scale", "numbers"]),
    "nan": (tensor("b_3", np.full(4, np.nan, np.float32)), ["b_3", "numbers"]),
    "unscaled": (tensor("inputs.centre", np.zeros(())), ["scale", "inputs"]),
    "outputs": (tensor("outputs.centre", np.zeros(3)), ["'outputs.centre'"]),
    "block": (chain("blocks", 0, {"kind": "exec"}), ["'exec'", "solver"]),
    "options": (chain("blocks", 0, "hook", 1), ["dense", "'hook'"]),
    "a list as kind": (chain("blocks", 0, {"kind": []}), ["kind", "solver"]),
    "a list as activation": (chain("blocks", 0, "activation", []), ["Dense", "activation=[]"]),
    "a wide block": (chain("blocks", 0, "width", 2**60), ["b_1", "(1152921504606846976,)"]),
    "too few options": (chain("blocks", 0, {"kind": "dense"}), ["block", "'width'"]),
    "too many factors": (
        factors("n_components", 2**60),
        ["n_components=1152921504606846976", "8 features"],
    ),
    "other factors": (factors("n_components", 5), ["s_2", "(4, 8)", "(5, 8)"]),
    "no sweeps": (factors("sweeps", 0), ["sweeps=0", "1"]),
    "endless sweeps": (factors("sweeps", 2**70), ["sweeps", "10000"]),
    "a large penalty": (factors("l2", 10**400), ["l2", "401 digits"]),
    "a bad penalty": (factors("l1", -1.0), ["l1=-1.0"]),
    "a bad start": (factors("init", "nnsvd"), ["init", "'nnsvd'", "'nndsvd'"]),
    "a dictionary below 0": (
        tensor("s_2", np.full((4, 8), -1, np.float32), "factors"),
        ["s_2", "below 0"],
    ),
    "no blocks": (chain("blocks", []), ["no blocks"]),
    "blocks": (chain("blocks", [3]), ["blocks", "dict"]),
    "place": (chain("constraints", [[3, "binary", None]]), ["constraint [3, 'binary', None]"]),
    "places": (chain("constraints", [[1, "binary", None]] * 2), ["constraint [1, 'binary', None]"]),
    "short": (chain("constraints", [[1]]), ["constraint [1]"]),
    "name": (chain("constraints", [[1, "binray", None]]), ["constraint", "'binray'", "'binary'"]),
    "number": (chain("constraints", [[1, "k_sparse", 2.5]]), ["constraint", "'k_sparse:2.5'"]),
    "text number": (chain("constraints", [[1, "k_sparse", {}]]), ["constraint", "k_sparse:8"]),
}


@needs_safetensors
@pytest.mark.parametrize("what", FORGED)
def test_a_forged_file_is_refused_in_one_line(what):
    change, said = FORGED[what]
    with pytest.raises(InputError, match=naming("model.safetensors", *said)) as caught:
        dadmm.load(forge(change))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 1200


@needs_safetensors
def test_every_length_of_a_torn_file_is_refused():
    save(layered(), "model.safetensors")
    content = Path("model.safetensors").read_bytes()
    for size in (*range(0, 40, 3), *range(40, len(content), 101)):
        Path("torn.safetensors").write_bytes(content[:size])
        with pytest.raises(InputError, match=naming("torn.safetensors")):
            dadmm.load("torn.safetensors")


@needs_safetensors
def test_damaged_headers_are_refused_in_one_line_or_say_something_else():
    target = Target("cross_entropy", LABELS["text"])
    save(constrained("box:1", target=target), "model.safetensors")
    content = Path("model.safetensors").read_bytes()
    rng = np.random.default_rng(0)
    start = content.index(b'"__metadata__"')
    stop = 8 + int.from_bytes(content[:8], "little")
    said = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(start, stop)] = rng.integers(32, 127)
        Path("damaged.safetensors").write_bytes(damaged)
        try:
            assert dadmm.load("damaged.safetensors").n_features_in_ == 5
        except InputError as error:
            said.append(str(error))
    assert len(said) > 200
    for line in said:
        assert line.startswith(f"{Path('damaged.safetensors').absolute()} ")
        assert "\n" not in line


@needs_safetensors
def test_a_file_of_another_program_is_refused():
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, "other.safetensors")
    with pytest.raises(InputError, match=naming("other.safetensors", "'dadmm'")):
        dadmm.load("other.safetensors")


@needs_safetensors
def test_what_is_no_file_is_refused():
    os.mkdir("folder.safetensors")
    os.mkfifo("pipe.safetensors")
    for name in ("none", "folder", "pipe"):
        with pytest.raises(InputError, match=naming(f"{name}.safetensors")):
            dadmm.load(f"{name}.safetensors")
