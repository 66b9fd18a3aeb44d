"""Options of stochastic Block-ADMM, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import Chain, size
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.types import Array
from dadmm.solvers.block.cut import chain_of, frozen
from dadmm.solvers.block.learning_rate import check_schedule, momentum
from dadmm.solvers.nmf.dictionary import check_features
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.stopping import HeldOut

MODES = ("online", "batch")
OPTIMIZERS = ("adam", "sgd")
CONSENSUS = ("average", "admm")
SCHEDULES = ("fused", "grid")
# The work of parts that evaluate on the rows held out.
HELD_OUT = "held out"


@dataclass(frozen=True)
class BlockOptions:
    """Options of stochastic Block-ADMM.

    Parameters
    ----------
    blocks : int, list of int, or list of blocks
        T, cutting the layers (the head included) evenly; or the first layer (from 1) of each
        block but the first; or the blocks themselves (`dadmm.Dense`, `dadmm.Residual`,
        `dadmm.TorchBlock`, `dadmm.NMFBlock`), which then stand for the hidden layers: a linear head
        is added to the last one, or after a last `NMFBlock`.
    mode : {"online", "batch"}
        Start Z from a forward pass and store nothing, or keep Z and U per sample.
    rho : float
        Penalty of the constraints between blocks, per sample.  Where one Z step online has no
        constraint to meet, it cancels out.
    constraints : str or list of str
        What each Z_t (t < T), or all of them, must lie in: "non_negative", "binary", "simplex",
        "k_sparse:8", "l2_ball:1.5", "box:1", or a proximal map, "l1:0.1", "squared_l2:0.1"; "" for
        nothing.  They hold at prediction too.
    inner_steps : int
        Optimiser steps on each block's own problem per mini-batch.
    z_steps : int
        Gradient steps on Z per mini-batch.
    z_rate : float
        Length of those steps, in units of 1 / (estimated curvature), below 2.  Not used by the
        one step that the default takes, nor with "binary" and "k_sparse": these are of length
        1 / rho.
    optimizer : {"adam", "sgd"}
    learning_rate : float
        The largest of the run.
    learning_rate_schedule : {"one_cycle", "constant", "cosine", "plateau"}
    momentum, beta2, epsilon : float
        Of the optimiser; `momentum` is Adam's beta1 too, for which one cycle sets its own.
    weight_decay : float
        Decoupled: weights shrink by learning rate times this at every step.  (`alpha` of the
        estimators is the weight of ``|W|^2 / 2`` in the objective.)
    clip_norm : float
        Largest norm of a block's gradient; 0 does not clip.
    batch_size : int
        Rows of a mini-batch; 0 takes 128, or fewer, so that a pass is 16 steps of each agent.
    local_epochs : int
        Times an agent goes through its chunk before a consensus.
    consensus : {"average", "admm"}
        Average the agents' parameters, or full consensus ADMM with a multiplier per chunk.
    sigma : float
        Its penalty on parameters that differ from the consensus.
    agents : int
        Chunks that are trained on side by side, before each consensus: of C chunks, C / agents
        rounds make a pass.  Part of the method: results do not depend on the workers.
    schedule : {"fused", "grid"}
        A task runs all blocks of a chunk, or only one: a worker then holds one block's
        parameters and the activations on its two sides.  In the grid's batch mode the loss and
        the score reported along the way are those of the last block on its Z.
    early_stopping : bool
        Hold rows out, stop when the network stops getting better on them (unless the estimator's
        `tol` is 0), return the best one: by accuracy or R^2, whatever the samples' weights.
    validation_fraction : float
        Share of the rows held out.
    n_iter_no_change : int
        Passes without a better score (or, without early stopping, a loss lower by `tol`) before
        training stops.
    dtype : {"float32", "float64"}
    """

    blocks: Any = field(
        default=1, metadata={"types": (int, np.integer, list, tuple), "words": "a number or a list"}
    )
    mode: str = "online"
    rho: float = 1.0
    constraints: Any = field(
        default="", metadata={"types": (str, list, tuple), "words": "a name or a list"}
    )
    inner_steps: int = 1
    z_steps: int = 1
    z_rate: float = 1.0
    optimizer: str = "adam"
    learning_rate: float = 4e-3
    learning_rate_schedule: str = "one_cycle"
    momentum: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    batch_size: int = 0
    local_epochs: int = 1
    consensus: str = "average"
    sigma: float = 0.1
    agents: int = 2
    schedule: str = "fused"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    dtype: str = "float32"

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        for option, least, most in (
            ("rho", 0, np.inf),
            ("z_rate", 0, 2),
            ("learning_rate", 0, np.inf),
            ("epsilon", 0, 1),
            ("sigma", 0, np.inf),
            ("validation_fraction", 0, 1),
        ):
            value = getattr(self, option)
            if not least < value < most:
                bound = "" if most == np.inf else f" and below {most}"
                raise OptionError(f"{option}={value!r}: use a number above {least}{bound}")
        for option in ("momentum", "beta2"):
            if not 0 <= getattr(self, option) < 1:
                raise OptionError(f"{option}={getattr(self, option)!r}: use 0 to below 1")
        for option in ("weight_decay", "clip_norm", "batch_size"):
            if not 0 <= getattr(self, option) < np.inf:
                raise OptionError(f"{option}={getattr(self, option)!r}: use 0 or more")
        for option in (
            "inner_steps", "z_steps", "local_epochs", "agents", "n_iter_no_change"
        ):  # fmt: skip
            if getattr(self, option) < 1:
                raise OptionError(f"{option}={getattr(self, option)!r}: use 1 or more")
        for option, known in (
            ("mode", MODES),
            ("optimizer", OPTIMIZERS),
            ("consensus", CONSENSUS),
            ("schedule", SCHEDULES),
            ("dtype", ("float32", "float64")),
        ):
            if getattr(self, option) not in known:
                raise unknown(option, getattr(self, option), known)
        check_schedule(self.learning_rate_schedule)
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

        What a factorisation reads and gives is not negative.  Where Z does not move before it is
        read, that holds of itself, and to project what is asked for onto it would let features
        grow but not shrink.
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
        """Z_t and U_t in batch mode; nothing online; in a grid, what lies between tasks too."""
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
        """Multipliers, and what was last sent, of each chunk in consensus ADMM."""
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
        """Name and width of what lies between the tasks, beside Z and U in batch mode."""
        chain, spans = self.chain(problem), self.spans(problem)
        widths = {t: chain.widths[hi] for t, (_, hi) in enumerate(spans[:-1], start=1)}
        if self.mode == "online":
            return {f"{kind}_{t}": width for t, width in widths.items() for kind in ("z", "target")}
        found = {
            f"{kind}_{t}": width for t, width in widths.items() for kind in ("z", "u", "f", "pull")
        }
        return found | {f"bend_{t}": 1 for t in widths}

    def split(self, chunk: Chunk) -> tuple[Array, Array]:
        """Return the rows of a chunk to train on, and those held out for validation."""
        if not self.early_stopping:
            return np.arange(chunk.rows), np.arange(0)
        return HeldOut(self.validation_fraction).split(chunk.rows, chunk.seed)
