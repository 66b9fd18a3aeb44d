"""A network as a torch module, built from torch's own layers where they exist."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from dadmm.errors import InputError
from dadmm.networks.blocks import Dense, NMFBlock
from dadmm.networks.chain import as_chain, own
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.numerics.activations import PIECEWISE, SIGMOID, TANH, get_activation
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.types import Array

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise InputError(
        "a torch module needs PyTorch, which is not installed: pip install 'dadmm[torch]'"
    ) from error

from dadmm.networks.torch_block import TorchBlock


def as_module(network: Network) -> torch.nn.Module:
    """Return a network as an equivalent `torch.nn.Sequential`."""
    chain = as_chain(network.architecture)
    parts: dict[str, nn.Module] = {"inputs": Scale(network.inputs, network.dtype)}
    for i, block in enumerate(chain.blocks, start=1):
        params = own(network.params, i)
        if isinstance(block, TorchBlock):
            parts[f"block_{i}"] = block.module(params)
        elif isinstance(block, NMFBlock):
            parts[f"block_{i}"] = Codes(block, params["s"])
        else:
            assert isinstance(block, Dense)
            parts[f"block_{i}"] = _layer(block, params["w"], params["b"])
        constraint = chain.constraint(i)
        if constraint is not None:
            parts[f"constraint_{i}"] = Projection(constraint)
    if network.outputs is not None:
        parts["outputs"] = Unscale(network.outputs, network.output_dtype)
    return nn.Sequential(OrderedDict(parts))


class Scale(nn.Module):  # type: ignore[misc]
    """``(x - centre) * factor`` in the dtype of `factor`, as by `Scaling.apply`."""

    def __init__(self, scaling: Scaling, dtype: Any) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(scaling.centre))
        self.register_buffer("factor", torch.tensor((1.0 / scaling.scale).astype(dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled inputs, centred in a dtype that holds both them and the result."""
        x = x if x.is_floating_point() else x.double()
        wide = torch.promote_types(x.dtype, self.factor.dtype)
        centred = x.to(wide) - self.centre.to(wide)
        return (centred * self.factor.to(wide)).to(self.factor.dtype)


class Unscale(nn.Module):  # type: ignore[misc]
    """``v * scale + centre``."""

    def __init__(self, scaling: Scaling, dtype: Any) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scaling.scale.astype(dtype)))
        self.register_buffer("centre", torch.tensor(scaling.centre.astype(dtype)))

    def forward(self, v: Tensor) -> Tensor:
        """Return outputs in the units of the targets."""
        return v.to(self.scale.dtype) * self.scale + self.centre


class Skip(nn.Sequential):  # type: ignore[misc]
    """``v + inner(v)``."""

    def forward(self, v: Tensor) -> Tensor:
        """Return the sum."""
        return v + super().forward(v)


class Codes(nn.Module):  # type: ignore[misc]
    """The codes of rows in a dictionary, by the sweeps of a `dadmm.NMFBlock`.

    Gradients flow through the sweeps to the features and to the dictionary.  For that torch keeps,
    per sweep, an array as large as the codes for each factor.
    """

    def __init__(self, block: NMFBlock, s: Array) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(s))
        self.l1, self.l2, self.sweeps = float(block.l1), float(block.l2), int(block.sweeps)

    def forward(self, z: Tensor) -> Tensor:
        """Return the codes, (rows, factors), with the start and order of `nonnegative.coded`."""
        eye = torch.eye(len(self.s), dtype=self.s.dtype, device=self.s.device)
        gram = self.s @ self.s.T + self.l2 * eye
        curved = gram.diagonal() > 0
        inverse = torch.where(curved, gram.diagonal(), 1.0).reciprocal() * curved
        # Transposed: a factor's codes lie side by side.
        b = self.s @ z.T - self.l1
        # The best multiple of max(b, 0).
        along = b.relu() * curved[:, None]
        up, down = (along * b).sum(dim=0), (along * (gram @ along)).sum(dim=0)
        v = along * (up / torch.where(down > 0, down, 1.0) * (down > 0))
        for _ in range(self.sweeps):
            for k in range(len(gram)):
                new = (v[k] + (b[k] - gram[k] @ v) * inverse[k]).relu()
                if new.requires_grad:  # a gradient needs the old codes
                    v = torch.cat((v[:k], new[None], v[k + 1 :]))
                else:
                    v[k] = new
        return v.T

    def extra_repr(self) -> str:
        """Return the sizes."""
        r, width = self.s.shape
        return f"{r} factors of {width} features, {self.sweeps} sweeps"


class Projection(nn.Module):  # type: ignore[misc]
    """A `dadmm.numerics.constraints.Constraint` on rows."""

    def __init__(self, constraint: Constraint) -> None:
        super().__init__()
        self.constraint = str(constraint)
        self._project = PROJECTIONS[constraint.name]
        self._number = 0.0 if constraint.number is None else constraint.number

    def forward(self, v: Tensor) -> Tensor:
        """Return the constrained rows."""
        return self._project(v, self._number)

    def extra_repr(self) -> str:
        """Return the constraint as text."""
        return self.constraint


def _layer(block: Dense, w: Array, b: Array) -> nn.Module:
    weight = torch.tensor(w.T.copy())
    # Drawing starting weights would change the state of torch's generator.
    linear = nn.utils.skip_init(nn.Linear, *w.shape, dtype=weight.dtype)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(torch.tensor(b))
    return (Skip if block.skip else nn.Sequential)(linear, _activation(block.activation))


def _activation(name: str) -> nn.Module:
    activation = get_activation(name)
    if activation.kind == PIECEWISE:
        if activation.slope == 1.0:
            return nn.Identity()
        return nn.LeakyReLU(activation.slope) if activation.slope else nn.ReLU()
    if activation.kind in (TANH, SIGMOID):
        return nn.Tanh() if activation.kind == TANH else nn.Sigmoid()
    return nn.Softplus(threshold=40.0)  # above it, float64 cannot tell it from the identity


def _binary(v: Tensor, _: float) -> Tensor:
    return torch.where(v < 0, -torch.ones_like(v), torch.ones_like(v))


def _l2_ball(v: Tensor, radius: float) -> Tensor:
    length = torch.linalg.vector_norm(v.double(), dim=-1, keepdim=True)
    scale = torch.where(length > radius, radius / length, torch.ones_like(length))
    return v * scale.to(v.dtype)


def _simplex(v: Tensor, _: float) -> Tensor:
    # As in `dadmm.numerics.prox.simplex`; the right threshold is the largest.
    x = v - v.amax(dim=-1, keepdim=True)
    falling = torch.sort(x, dim=-1, descending=True).values.double()
    count = torch.arange(1, v.shape[-1] + 1, device=v.device)
    theta = ((falling.cumsum(dim=-1) - 1.0) / count).amax(dim=-1, keepdim=True)
    return (x - theta.to(v.dtype)).clamp(min=0.0)


def _k_sparse(v: Tensor, k: float) -> Tensor:
    order = torch.sort(v.abs(), dim=-1, descending=True, stable=True).indices
    return v.scatter(-1, order[..., int(k) :], 0.0)


PROJECTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "non_negative": lambda v, _: v.clamp(min=0.0),
    "binary": _binary,
    "simplex": _simplex,
    "k_sparse": _k_sparse,
    "l2_ball": _l2_ball,
    "l1": lambda v, weight: v - v.clamp(-weight, weight),
    "squared_l2": lambda v, weight: v / (1.0 + weight),
    "box": lambda v, half: v.clamp(-half, half),
}
