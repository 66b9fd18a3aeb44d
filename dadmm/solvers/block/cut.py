"""How a network is cut into the blocks of Block-ADMM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import Block, Dense, NMFBlock
from dadmm.networks.chain import Chain, size
from dadmm.numerics.constraints import Constraint

# Activations and constraints that give nothing below 0.
POSITIVE = ("relu", "sigmoid", "softplus")
NOT_NEGATIVE = ("non_negative", "simplex")


def frozen(value: Any) -> Any:
    """Return an option in a form that can be hashed: a tuple for a list."""
    if isinstance(value, np.integer):
        return int(value)
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=64)
def chain_of(
    arch: Architecture, blocks: Any, constraints: Any
) -> tuple[Chain, tuple[tuple[int, int], ...]]:
    """Return the chain of an architecture's layers or of given blocks, and its cut."""
    if isinstance(blocks, int):
        depth = arch.depth
        if not 1 <= blocks <= depth:
            raise OptionError(f"blocks={blocks}: use 1 to {depth}, the number of layers")
        groups = np.array_split(np.arange(1, depth + 1), blocks)
        cut = tuple((int(g[0]), int(g[-1])) for g in groups)
        chain = Chain.of(arch)
    elif blocks and all(isinstance(b, (int, np.integer)) for b in blocks):
        depth = arch.depth
        firsts = (1, *(int(b) for b in blocks))
        if list(firsts) != sorted(set(firsts)) or firsts[-1] > depth:
            raise OptionError(
                f"blocks={list(blocks)}: give the first layers of the blocks after the first, "
                f"rising, from 2 to {depth}"
            )
        cut = tuple(zip(firsts, (*(b - 1 for b in firsts[1:]), depth), strict=True))
        chain = Chain.of(arch)
    elif blocks and all(isinstance(b, Block) and not isinstance(b, type) for b in blocks):
        links = [*blocks, Dense(arch.widths[-1], "identity")]
        chain = Chain.build(arch.widths[0], links)
        n = len(blocks)
        head = ((n, n), (n + 1, n + 1)) if isinstance(blocks[-1], NMFBlock) else ((n, n + 1),)
        cut = (*((i, i) for i in range(1, n)), *head)
    else:
        raise OptionError(
            f"blocks={blocks!r}: use their number, a list of layers that start one, or a list of "
            "dadmm.Dense, dadmm.Residual, dadmm.NMFBlock or dadmm.TorchBlock"
        )
    for t, (lo, hi) in enumerate(cut, start=1):
        if not any(size(chain.shapes_of(i)) for i in range(lo, hi + 1)):
            raise OptionError(f"block {t} has nothing to learn: join it with one that has")
    named = (constraints,) * (len(cut) - 1) if isinstance(constraints, str) else constraints
    if len(named) != len(cut) - 1:
        raise OptionError(
            f"constraints={constraints!r}: give one for each of the {len(cut) - 1} variables "
            "between blocks, or one for all"
        )
    at = {hi: Constraint.parse(c) for (_, hi), c in zip(cut[:-1], named, strict=True) if c}
    for i, block in enumerate(chain.blocks, start=1):
        if isinstance(block, NMFBlock):
            _check_reads(chain, at, i)
    if constraints and isinstance(constraints, str) and not at:
        raise OptionError(f"constraints={constraints!r} needs at least two blocks: blocks=2")
    return Chain.build(chain.widths[0], chain.blocks, at), cut


def _check_reads(chain: Chain, at: Mapping[int, Constraint], i: int) -> None:
    """Refuse a factorisation whose input may be negative, as far as the network shows."""
    if i == 1 or (i - 1 in at and at[i - 1].name in NOT_NEGATIVE):
        return
    if i - 1 in at and at[i - 1].name == "binary":
        raise OptionError(
            f"NMFBlock as block {i} factorises nothing below 0, and binary is -1 and 1: use "
            "constraints='non_negative' there"
        )
    below = chain.blocks[i - 2]
    activation = getattr(below, "activation", None)
    if activation is not None and activation not in POSITIVE:
        raise OptionError(
            f"NMFBlock as block {i} factorises what block {i - 1} gives, which {activation} may "
            "make negative: use activation='relu' there, or constraints='non_negative'"
        )
