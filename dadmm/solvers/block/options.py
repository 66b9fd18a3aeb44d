"""Options of stochastic Block-ADMM, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dadmm.errors import OptionError
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import Chain, size
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.types import Array
from dadmm.options import check_options, option
from dadmm.solvers.block.cut import chain_of, frozen
from dadmm.solvers.block.learning_rate import SCHEDULES, momentum
from dadmm.solvers.block.rounds import ORDERS
from dadmm.solvers.nmf.dictionary import check_features
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.stopping import HeldOut


@dataclass(frozen=True)
class BlockOptions:
    """Options of stochastic Block-ADMM, and what follows from them."""

    blocks: Any = option(
        1,
        kinds=(int, list),
        items=(int, dict, object),
        use="a whole number, or a list of first layers or of blocks",
        says="int, list of int, or list of blocks",
        means="T, the number of blocks that the layers are cut into. They are cut evenly, the "
        "head included. Or the first layer (from 1) of each block but the first. Or the blocks "
        "themselves (`dadmm.Dense`, `dadmm.Residual`, `dadmm.TorchBlock`, `dadmm.NMFBlock`), "
        "which then stand for the hidden layers: a linear head is added to the last one, or after "
        "a last `NMFBlock`.",
    )
    mode: str = option(
        "online",
        choices=("online", "batch"),
        means="Start Z from a forward pass and store nothing, or keep Z and U per sample.",
    )
    rho: float = option(
        1.0,
        above=0,
        means="Penalty of the constraints between blocks, per sample. It cancels out if one Z "
        "step online has no constraint to meet.",
    )
    constraints: Any = option(
        "",
        kinds=(str, list),
        says="str or list of str",
        means='What Z must lie in, such as "binary" or "k_sparse:8". One name is for all Z_t (t < '
        'T); a list has one for each, "" for nothing. There are sets, "non_negative", "binary", '
        '"simplex", "k_sparse:8", "l2_ball:1.5" and "box:1", and proximal maps, "l1:0.1" and '
        '"squared_l2:0.1". They hold at prediction too.',
    )
    inner_steps: int = option(
        1, least=1, means="Optimiser steps on each block's own problem per mini-batch."
    )
    z_steps: int = option(1, least=1, means="Gradient steps on Z per mini-batch.")
    z_rate: float = option(
        1.0,
        above=0,
        below=2,
        means="Length of the Z steps, in units of 1 / curvature, which is estimated. The one step "
        'that the default takes does not use it, nor do "binary" and "k_sparse": these steps have '
        "length 1 / rho.",
    )
    optimizer: str = option("adam", choices=("adam", "sgd"), means="Optimiser of the parameters.")
    learning_rate: float = option(4e-3, above=0, means="Largest learning rate of the run.")
    learning_rate_schedule: str = option(
        "one_cycle",
        choices=SCHEDULES,
        means="How the learning rate changes along the run.",
    )
    momentum: float = option(
        0.9,
        least=0,
        below=1,
        means="Momentum of sgd, and beta1 of adam. With one_cycle the schedule sets adam's beta1.",
    )
    beta2: float = option(0.999, least=0, below=1, means="The beta2 of adam.")
    epsilon: float = option(1e-8, above=0, below=1, means="The epsilon of adam.")
    weight_decay: float = option(
        0.0,
        least=0,
        means="Decoupled weight decay. Every step shrinks the weights by the learning rate times "
        "this. (The estimators' `alpha` is the weight of ``|W|^2 / 2`` in the objective.)",
    )
    clip_norm: float = option(
        0.0, least=0, means="Largest norm of a block's gradient; 0 does not clip."
    )
    batch_size: int = option(
        0,
        least=0,
        means="Rows of a mini-batch; 0 takes 128 or fewer. They are fewer if a pass would be less "
        "than 16 steps of each agent.",
    )
    local_epochs: int = option(
        1, least=1, means="Times that an agent goes through its chunk before a consensus."
    )
    consensus: str = option(
        "average",
        choices=("average", "admm"),
        means="Average the agents' parameters, or keep a multiplier per chunk. The latter is full "
        "consensus ADMM.",
    )
    sigma: float = option(
        0.1,
        above=0,
        means="Penalty of consensus ADMM on parameters that differ from the consensus.",
    )
    agents: int = option(
        2,
        least=1,
        means="Chunks that are trained side by side before each consensus. Of C chunks, C / "
        "agents rounds make a pass. It is part of the method: results do not depend on the "
        "workers.",
    )
    chunk_order: str = option(
        "stored",
        choices=ORDERS,
        means="Visit the chunks in the order of the data, or so that those of a round, and of "
        'rounds after each other, lie far apart. Take "scattered" and small chunks for rows that '
        "are sorted or drift and must stay where they are.",
    )
    schedule: str = option(
        "fused",
        choices=("fused", "grid"),
        means="A task runs all blocks of a chunk, or only one. In a grid a worker holds the "
        "parameters of one block and the activations on its two sides. In the grid's batch mode "
        "the loss and the score reported along the way are those of the last block on its Z. With "
        "early stopping every task of a classifier reads the classes too.",
    )
    early_stopping: bool = option(
        False,
        means="Whether to hold rows out, and stop when the network gets no better on them. The "
        "best network is returned, by accuracy or R^2, in which rows count by their weight. If "
        "the estimator's `tol` is 0, training does not stop early. Where scores tie, or are not "
        "defined because the targets held out do not vary, the lower loss is better.",
    )
    validation_fraction: float = option(
        0.1,
        above=0,
        below=1,
        means="Share of the rows held out for early stopping, of each class alike; at least one "
        "row of each class that has several, and two rows of targets that are numbers.",
    )
    n_iter_no_change: int = option(
        10,
        least=1,
        means="Passes without a better score before training stops. Without early stopping it "
        "counts passes whose loss is not lower by `tol`.",
    )
    dtype: str = option(
        "float32",
        choices=("float32", "float64"),
        means="Precision of the state and of the parameters.",
    )

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        check_options(self)
        if self.schedule == "grid" and self.z_steps > 1:
            raise OptionError(
                f"schedule='grid' moves Z once per visit: use z_steps=1, not {self.z_steps}"
            )
        chain = self.chain(problem)
        for i, constraint in chain.constraints:
            if constraint.name == "k_sparse" and (constraint.number or 0) >= chain.widths[i]:
                raise OptionError(
                    f"constraint {constraint} keeps all of the {chain.widths[i]} entries there: "
                    "use fewer"
                )
            activation = getattr(chain.blocks[i - 1], "activation", None)
            if constraint.name == "binary" and activation in ("relu", "sigmoid", "softplus"):
                raise OptionError(
                    f"constraint 'binary' after {activation}, which is never negative, makes every "
                    "code 1: use activation='tanh', or dadmm.Dense(width, 'identity') there"
                )
        for i, block in enumerate(chain.blocks, start=1):
            if isinstance(block, NMFBlock) and block.init == "nndsvd":
                check_features(chain.widths[i - 1])

    def chain(self, problem: Problem) -> Chain:
        """Return the network as a chain, with the constraints at the ends of the blocks."""
        return chain_of(problem.architecture, frozen(self.blocks), frozen(self.constraints))[0]

    def spans(self, problem: Problem) -> tuple[tuple[int, int], ...]:
        """Return the first and last link of the chain in each of the T blocks."""
        return chain_of(problem.architecture, frozen(self.blocks), frozen(self.constraints))[1]

    def boundaries(self, problem: Problem) -> list[Constraint | None]:
        """Return the constraint on the output of each block; the last has none.

        A factorisation reads and gives what is not negative.  If Z is not updated before it is
        read, it is non-negative already; projecting the target as well would let features grow
        but never shrink.
        """
        chain = self.chain(problem)
        found = [chain.constraint(hi) for _, hi in self.spans(problem)]
        if self.mode == "batch" or (self.schedule == "fused" and not self.plain):
            for t in self.layers(problem):
                if self.factors(problem, t):
                    for end in range(max(t - 2, 0), t):
                        found[end] = replace(found[end] or Constraint("non_negative"), above=True)
        return found

    @property
    def plain(self) -> bool:
        """Whether the shortcut of one Z step and one parameter step applies."""
        return self.mode == "online" and self.z_steps == 1 and self.inner_steps == 1

    def variables(self, problem: Problem) -> dict[str, int]:
        """Return the widths of the state: Z_t, U_t in batch mode, none online; more in a grid."""
        if self.schedule == "grid":
            return self.between(problem)
        if self.mode == "online":
            return {}
        chain = self.chain(problem)
        inner = self.spans(problem)[:-1]
        return {
            f"{kind}_{t}": chain.widths[hi]
            for t, (_, hi) in enumerate(inner, start=1)
            for kind in "zu"
        }

    def memory(self, problem: Problem) -> dict[str, int]:
        """Return what consensus ADMM keeps of each chunk: multipliers, and what was last sent."""
        return {
            f"{kind}_{t}": self.size(problem, t)
            for t in self.multiplied(problem)
            for kind in ("pi", "sent")
        }

    def multiplied(self, problem: Problem) -> tuple[int, ...]:
        """Return the blocks whose consensus has multipliers."""
        if self.consensus == "average":
            return ()
        return tuple(t for t in self.layers(problem) if not self.factors(problem, t))

    def factors(self, problem: Problem, t: int) -> NMFBlock | None:
        """Return a block of the method if it is a factorisation."""
        block = self.chain(problem).blocks[self.spans(problem)[t - 1][0] - 1]
        return block if isinstance(block, NMFBlock) else None

    def size(self, problem: Problem, t: int) -> int:
        """Return how many parameters block t has."""
        return size(self.shapes(problem, t))

    def shapes(self, problem: Problem, t: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of block t's parameters, under their names in the network."""
        chain = self.chain(problem)
        lo, hi = self.spans(problem)[t - 1]
        return {
            name: shape for i in range(lo, hi + 1) for name, shape in chain.shapes_of(i).items()
        }

    def layers(self, problem: Problem) -> tuple[int, ...]:
        """Return the numbers of the T blocks."""
        return tuple(range(1, len(self.spans(problem)) + 1))

    def parameters(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return what is stored of a block: flat parameters, both moments, the step count.

        In the moments' place a factorisation has the sums behind its dictionary.
        """
        learnt = ("gram", "cross") if self.factors(problem, layer) else ("m", "v")
        return tuple(f"{kind}_{layer}" for kind in ("theta", *learnt, "count"))

    def momentum_at(self, done: float) -> float:
        """Return the optimiser's momentum when the share `done` of a run is behind it."""
        if self.optimizer == "sgd":
            return self.momentum
        return momentum(self.learning_rate_schedule, done, self.momentum)

    def batch_rows(self, problem: Problem) -> int:
        """Return the rows of a mini-batch."""
        return self.batch_size or int(np.clip(problem.rows // (16 * self.agents), 8, 128))

    def between(self, problem: Problem) -> dict[str, int]:
        """Return the state's widths by name in a grid: what tasks hand on, Z and U included."""
        chain, spans = self.chain(problem), self.spans(problem)
        widths = {t: chain.widths[hi] for t, (_, hi) in enumerate(spans[:-1], start=1)}
        if self.mode == "online":
            return {f"{kind}_{t}": width for t, width in widths.items() for kind in ("z", "target")}
        kinds = ("z", "u", "f", "pull")
        found = {f"{kind}_{t}": width for t, width in widths.items() for kind in kinds}
        return found | {f"bend_{t}": 1 for t in widths}

    def split(self, problem: Problem, chunk: Chunk) -> tuple[Array, Array]:
        """Return the rows of a chunk to train on, and those held out for validation."""
        train, held = np.arange(chunk.rows), np.arange(0)
        if self.early_stopping:
            train, held = HeldOut(self.validation_fraction).split(problem, chunk)
        if chunk.weight is not None and not self.heeds_rows_of_weight_0(problem):
            train = train[chunk.weight[train] > 0]
        return train, held

    def splits_by_targets(self, problem: Problem) -> bool:
        """Whether `split` needs the targets or the weights."""
        return (self.early_stopping and problem.one_class) or problem.weighted

    def heeds_rows_of_weight_0(self, problem: Problem) -> bool:
        """Whether the network has factors, which rows without a label shape too."""
        return any(self.factors(problem, t) for t in self.layers(problem))
