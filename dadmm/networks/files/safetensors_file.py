"""A network in a safetensors file: parameters and scaling as tensors, the rest as JSON.

The tensors are the parameters, by name, "inputs.centre" and "inputs.scale", and for regressions
"outputs.centre" and "outputs.scale".  The metadata's entry "dadmm" describes the network.  A file
may come from anybody: each field of that entry is checked against the tensors before any of them
is read; safetensors checks the tensors against the size of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dadmm.errors import InputError, OptionError, StoreError
from dadmm.networks.architecture import Architecture, Model
from dadmm.networks.blocks import Block, NMFBlock, block_from_table, block_to_table
from dadmm.networks.chain import Chain, as_chain
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target, labels_from_json, labels_to_json
from dadmm.numerics.activations import get_activation
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.options import check_type

try:
    import safetensors
    import safetensors.numpy
except ModuleNotFoundError as error:
    raise InputError(
        "safetensors files need the package safetensors: pip install 'dadmm[export]'"
    ) from error

KEY = "dadmm"
FORMAT = 1
DTYPES = {"F32": "float32", "F64": "float64"}


def encode(network: Network) -> bytes:
    """Return a network as the content of a safetensors file."""
    tensors = dict(network.params)
    for name, scaling in (("inputs", network.inputs), ("outputs", network.outputs)):
        if scaling is not None:
            tensors |= {f"{name}.centre": scaling.centre, f"{name}.scale": scaling.scale}
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    target = asdict(network.target)
    if network.target.classes is not None:
        target["classes"] = labels_to_json(network.target.classes)
    table = {
        "format": FORMAT,
        "network": _shape(network.architecture),
        "inputs": (network.form or Form()).to_json(),
        "target": target,
    }
    return safetensors.numpy.save(plain, {KEY: json.dumps(table)})


def _shape(model: Model) -> dict[str, Any]:
    if isinstance(model, Architecture):
        return asdict(model)
    chain = as_chain(model)
    return {
        "blocks": [block_to_table(block) for block in chain.blocks],
        # `str` would round their numbers.
        "constraints": [[i, c.name, c.number] for i, c in chain.constraints],
    }


def decode(path: str | Path, blocks: Sequence[Block] = ()) -> Network:
    """Read a network from a safetensors file.

    Parameters
    ----------
    path : path
    blocks : sequence of Block
        All blocks but the head, needed if plain values cannot rebuild some of them.

    Raises
    ------
    InputError
        If there is no such file, or `encode` did not write it.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _network(file, blocks)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, StoreError, ValueError) as error:
        raise InputError(f"{path} cannot be used: {error}") from error


def _network(file: Any, blocks: Sequence[Block]) -> Network:
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise InputError(f"dadmm did not write it: its metadata has no entry {KEY!r}")
    try:
        table = json.loads(text)
    except RecursionError as error:
        raise InputError("its metadata is nested too deeply") from error
    _fields("its metadata", table, "format", "network", "inputs", "target")
    if table["format"] != FORMAT:
        raise InputError(f"its format is {table['format']!r}, but this version reads {FORMAT}")
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    shapes = {name: tuple(found.get_shape()) for name, found in slices.items()}
    model = _model(table["network"], shapes.get("inputs.centre", ()), blocks)
    target = _target(table["target"], model.widths[-1])
    form = Form.from_json(table["inputs"])
    if not form.fits(model.widths[0]):
        raise InputError("its columns do not fit its network")
    scaled = {"inputs": model.widths[0]}
    if target.classes is None and "outputs.centre" in shapes:
        scaled["outputs"] = model.widths[-1]
    ends = {f"{name}.{kind}": (n,) for name, n in scaled.items() for kind in ("centre", "scale")}
    _check_tensors({**model.shapes, **ends}, shapes)
    _check_dtypes({name: found.get_dtype() for name, found in slices.items()}, ends)
    arrays = {name: file.get_tensor(name) for name in shapes}
    for name, array in arrays.items():
        if not np.isfinite(array).all() or (name.endswith(".scale") and not array.all()):
            raise InputError(f"its tensor {name} has numbers that are not finite, or a scale of 0")
    scalings = {n: Scaling(arrays[f"{n}.centre"], arrays[f"{n}.scale"]) for n in scaled}
    params: dict[str, Array] = {name: arrays[name] for name in model.shapes}
    for i, block in enumerate(as_chain(model).blocks, start=1):
        if isinstance(block, NMFBlock) and params[f"s_{i}"].min() < 0:
            raise InputError(f"its tensor s_{i} is a dictionary, but has numbers below 0")
    return Network(model, params, scalings["inputs"], scalings.get("outputs"), target, form)


def _check_tensors(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    for name in sorted({*wanted, *found}):
        if name not in wanted:
            raise InputError(f"its tensor {name!r} is not in its network")
        if found.get(name) != wanted[name]:
            has = f"has shape {found[name]}" if name in found else "is missing"
            raise InputError(f"its tensor {name} {has}: use shape {wanted[name]}")


def _check_dtypes(found: Mapping[str, str], ends: Mapping[str, Any]) -> None:
    if any(found[name] != "F64" for name in ends):
        raise InputError("its scaling is not in float64")
    kinds = {dtype for name, dtype in found.items() if name not in ends}
    if len(kinds) != 1 or not kinds <= set(DTYPES):
        listed = ", ".join(sorted(kinds)) or "no dtype"
        raise InputError(f"its parameters are in {listed}: use F32 for all, or F64 for all")


def _model(table: Any, inputs: tuple[int, ...], blocks: Sequence[Block]) -> Architecture | Chain:
    """Return the network's shape; `inputs` is the shape of the scaling of its features."""
    features = inputs[0] if len(inputs) == 1 else 0
    if not features:
        raise InputError("it has no scale of its inputs")
    if isinstance(table, dict) and "blocks" in table:
        return _chain(table, features, blocks)
    _fields("its network", table, "widths", "skips", "activation")
    widths, skips = table["widths"], table["skips"]
    _list("widths", widths, int)
    _list("skips", skips, bool)
    check_type("activation", table["activation"], str)
    get_activation(table["activation"])
    if min(widths, default=0) < 1 or len(widths) < 2 or widths[0] != features:
        raise InputError(f"its widths {widths} do not fit its inputs, {features} features")
    steps = list(pairwise(widths))
    fits = [a == b or not skip for (a, b), skip in zip(steps, skips, strict=False)]
    if len(skips) != len(steps) or not all(fits) or skips[-1]:
        raise InputError("its layers do not fit together")
    return Architecture(tuple(widths), tuple(skips), table["activation"])


def _chain(table: Any, features: int, given: Sequence[Block]) -> Chain:
    _fields("its network", table, "blocks", "constraints")
    stored, constraints = table["blocks"], table["constraints"]
    _list("blocks", stored, dict)
    _list("constraints", constraints, list)
    if given and stored[:-1] != [block_to_table(block) for block in given]:
        raise OptionError("its blocks differ from those of the solver passed")
    blocks = [*given, *(_block(block) for block in stored[len(given) :])]
    if not blocks:
        raise InputError("it has no blocks")
    found = {}
    for item in constraints:
        i, name, number = item if len(item) == 3 else (0, "", None)
        if type(i) is not int or not 0 < i < len(blocks) or i in found:
            raise InputError(f"its constraint {item} belongs to no block")
        found[i] = Constraint.parse(name if number is None else f"{name}:{number}")
    return Chain.build(features, blocks, found)


def _block(table: Mapping[str, Any]) -> Block:
    try:
        return block_from_table(table)
    except TypeError as error:  # a required option is missing
        raise InputError(f"a block lacks an option: {error}") from error


def _target(table: Any, outputs: int) -> Target:
    _fields("its target", table, "loss", "classes", "flat")
    check_type("loss", table["loss"], str)
    check_type("flat", table["flat"], bool)
    classes = table["classes"]
    if classes is not None:
        classes = labels_from_json(classes)
        if len(classes) != outputs or len(set(classes.tolist())) != outputs:
            raise InputError(f"its {len(classes)} classes do not name its {outputs} outputs")
    elif get_loss(table["loss"]).classification_only:
        raise InputError(f"its loss, {table['loss']}, is for classes, but it has no classes")
    elif table["flat"] and outputs > 1:
        raise InputError(f"its {outputs} outputs cannot be flat")
    get_loss(table["loss"])
    return Target(table["loss"], classes, table["flat"])


def _fields(what: str, table: Any, *names: str) -> None:
    """Raise `InputError` unless a JSON value is an object with exactly these fields."""
    if not isinstance(table, dict) or set(table) != set(names):
        raise InputError(f"{what} must have the fields {', '.join(names)}, and no others")


def _list(name: str, values: Any, kind: type) -> None:
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise InputError(f"its {name} are not a list of {kind.__name__} values")
