"""Any ``torch.nn.Module`` as a block: `TorchBlock`.

Importing this module imports torch; so does the first use of `dadmm.TorchBlock`.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from dadmm.errors import InputError, OptionError
from dadmm.networks.blocks import Differentiable, Params, Shapes, Tape
from dadmm.numerics.types import Array

try:
    import torch
except ModuleNotFoundError as error:
    raise InputError(
        "TorchBlock needs PyTorch, which is not installed: pip install 'dadmm[torch]'"
    ) from error


class TorchBlock(Differentiable):
    """A ``torch.nn.Module`` as a block of `dadmm.BlockADMM`.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (rows, ...) to (rows, ...), each row by itself, always alike.  Its parameters are
        learnt; those with ``requires_grad=False``, and its buffers, stay as they are.  The module
        itself is copied and never changed.
    in_shape : sequence of int or None
        The shape of one input row, such as ``(1, 28, 28)``.

    Raises
    ------
    OptionError
        For a module with nothing to learn, with dropout, or with batch statistics.

    Notes
    -----
    The submodules' ``reset_parameters`` draw the start of the parameters; without that method they
    start from their values.  They are trained in NumPy arrays in the solver's dtype, which torch
    reads without a copy.  From the first forward pass on, torch uses one CPU thread in the whole
    process, because the workers run in parallel.

    A block equals only itself and its copies, such as those on the workers.
    """

    library = 192 * 2**20  # bytes that importing torch adds to a process

    def __init__(self, module: torch.nn.Module, in_shape: Sequence[int] | None = None) -> None:
        if not isinstance(module, torch.nn.Module):
            raise OptionError(f"TorchBlock({module!r}): pass a torch.nn.Module")
        if in_shape is not None:
            sizes = in_shape if isinstance(in_shape, Sequence) else ()
            if not sizes or not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
                raise OptionError(
                    f"TorchBlock in_shape={in_shape!r}: use a tuple of sizes of 1 or more"
                )
            in_shape = tuple(int(n) for n in sizes)
        _refuse(module)
        self.in_shape: tuple[int, ...] | None = in_shape
        self._module = copy.deepcopy(module).cpu()
        self._identity = uuid.uuid4().hex
        self._begin()

    def _begin(self) -> None:
        named = dict(self._module.named_parameters())
        self._shapes = {n: tuple(p.shape) for n, p in named.items() if p.requires_grad}
        self._fixed = {n: p.detach() for n, p in named.items() if not p.requires_grad}
        self._fixed |= dict(self._module.named_buffers())
        self._widths: dict[int, int] = {}
        # A call replaces the module's tensors, so threads must not share a module.
        self._copies = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in ("_module", "_identity", "in_shape")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchBlock) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        shown = " ".join(repr(self._module).split())
        return f"TorchBlock({shown}, in_shape={self.in_shape})"

    def table(self) -> dict[str, Any]:
        """Return a JSON description of the block."""
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        return {"in_shape": list(self.in_shape) if self.in_shape else None, "parameters": shapes}

    def output(self, width: int) -> int:
        # Found by running the module on two rows of zeros.
        if width not in self._widths:
            self._widths[width] = self._try(width)
        return self._widths[width]

    def _try(self, width: int) -> int:
        name = type(self._module).__name__
        if self.in_shape is not None and prod(self.in_shape) != width:
            raise OptionError(
                f"TorchBlock({name}) in_shape={self.in_shape} holds {prod(self.in_shape)} numbers, "
                f"but {width} come in"
            )
        own = next((p.dtype for p in self._module.parameters() if p.is_floating_point()), None)
        rows = torch.zeros((2, *(self.in_shape or (width,))), dtype=own, device="cpu")
        trial = copy.deepcopy(self._module)
        before = [(b, b._version) for b in trial.buffers()]
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                out = trial(rows)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise OptionError(
                f"TorchBlock({name}) does not take (rows, {', '.join(map(str, rows.shape[1:]))}): "
                f"{lines[0]}"
            ) from error
        if not isinstance(out, torch.Tensor) or not out.ndim or len(out) != len(rows):
            what = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise OptionError(
                f"TorchBlock({name}) returned {what} for {len(rows)} rows: it must return one "
                "tensor, (rows, ...)"
            )
        if rows._version:
            raise OptionError(f"TorchBlock({name}) changes its input: set inplace=False")
        after = trial.buffers()
        if any(b is not a or a._version != v for a, (b, v) in zip(after, before, strict=True)):
            raise OptionError(f"TorchBlock({name}) changes its buffers when called: freeze them")
        return prod(out.shape[1:])

    def shapes(self, width: int) -> Shapes:
        # The names are those of the module, dots included.
        return dict(self._shapes)

    def initial(self, width: int, residual: int, seed: Sequence[int]) -> dict[str, Array]:
        # This does not change torch's own random state.
        made = copy.deepcopy(self._module)
        number = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(number)
            for part in reversed(list(made.modules())):  # the outer module resets last
                reset = getattr(part, "reset_parameters", None)
                if callable(reset):
                    reset()
        drawn = dict(made.named_parameters())
        return {name: drawn[name].detach().double().numpy().copy() for name in self._shapes}

    def forward(self, params: Params, v: Array, tape: Tape) -> Array:
        _one_thread()
        tape.saved.clear()  # frees the last graph before the next one is built
        leaves = {name: _tensor(params[name]).requires_grad_() for name in self._shapes}
        x = _tensor(v).requires_grad_()
        with torch.enable_grad():
            shaped = x if self.in_shape is None else x.reshape(len(v), *self.in_shape)
            given = {**leaves, **self._constants(x.dtype)}
            out = torch.func.functional_call(self._own(), given, (shaped,))
            out = out.reshape(len(v), prod(out.shape[1:])).contiguous()
        tape.saved["out"], tape.saved["x"], tape.saved["leaves"] = out, x, leaves
        found: Array = out.detach().numpy()
        # A module that only reshapes returns its input, which others may overwrite.
        return found.copy() if np.may_share_memory(found, v) else found

    def backward(
        self, params: Params, g: Array, tape: Tape, gradients: Params | None, pull: bool
    ) -> Array | None:
        out, x = tape.saved["out"], tape.saved["x"]
        names = () if gradients is None else tuple(self._shapes)
        wanted = [tape.saved["leaves"][name] for name in names]
        if pull:
            wanted.append(x)
        if not wanted:
            return None
        found: Sequence[Any] = [None] * len(wanted)
        if out.requires_grad:
            found = torch.autograd.grad(
                out, wanted, _tensor(g), retain_graph=True, allow_unused=True
            )
        if gradients is not None:
            for name, gradient in zip(names, found, strict=False):
                gradients[name][...] = 0.0 if gradient is None else gradient.numpy()
        if not pull:
            return None
        back: Array = np.zeros(x.shape, g.dtype) if found[-1] is None else found[-1].numpy()
        return back

    def module(self, params: Params) -> torch.nn.Module:
        """Return a new module with `params`, those of `forward`, in their dtype.

        It maps (rows, width) to (rows, width').
        """
        made = copy.deepcopy(self._module).to(_tensor(next(iter(params.values()))).dtype)
        own = dict(made.named_parameters())
        with torch.no_grad():
            for name in self._shapes:
                own[name].copy_(_tensor(params[name]))
        shape = [] if self.in_shape is None else [torch.nn.Unflatten(1, self.in_shape)]
        return torch.nn.Sequential(*shape, made, _Rows())

    def _own(self) -> torch.nn.Module:
        """Return this thread's module; all threads' modules share their tensors."""
        if not hasattr(self._copies, "module"):
            tensors = [*self._module.parameters(), *self._module.buffers()]
            self._copies.module = copy.deepcopy(self._module, {id(t): t for t in tensors})
        found: torch.nn.Module = self._copies.module
        return found

    def _constants(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return {n: t.to(dtype) if t.is_floating_point() else t for n, t in self._fixed.items()}


class _Rows(torch.nn.Module):  # type: ignore[misc]
    """Flatten (rows, ...) to (rows, width)."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v.flatten(1) if v.ndim > 1 else v[:, None]


def _refuse(module: torch.nn.Module) -> None:
    """Raise `OptionError` unless a module is a fixed function of its parameters and a row."""
    nn = torch.nn
    for name, part in module.named_modules():
        kind = type(part).__name__
        what = f"TorchBlock: {kind} ({name})" if name else f"TorchBlock: {kind}"
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise OptionError(f"{what} mixes the rows of a batch: use GroupNorm or LayerNorm")
        if getattr(part, "track_running_stats", False) is True:
            raise OptionError(f"{what} keeps statistics: set track_running_stats=False")
        drops = isinstance(part, nn.modules.dropout._DropoutNd)
        odds = part.p if drops else getattr(part, "dropout", 0)
        if (isinstance(odds, (int, float)) and odds > 0) or isinstance(part, nn.RReLU):
            raise OptionError(
                f"{what} draws at random, but a block must be one function: leave it out, and "
                "regularise by alpha or weight_decay"
            )
    if any(nn.parameter.is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
        raise OptionError("TorchBlock: a lazy module has no shapes yet: give its sizes")
    if not any(tensor.requires_grad for tensor in module.parameters()):
        raise OptionError(
            f"TorchBlock: {type(module).__name__} has nothing to learn: put it into one "
            "torch.nn.Sequential with a layer that has parameters"
        )


def _tensor(array: Array) -> torch.Tensor:
    """Return a tensor that shares the array's memory, or a copy if torch cannot."""
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


@cache
def _one_thread() -> None:
    torch.set_num_threads(1)
