"""Stochastic Block-ADMM (arXiv 2105.00339), batch and online, with consensus over data chunks.

The network is cut into T blocks f_1 .. f_T joined by auxiliary variables Z_t (rows, width_t) with
scaled multipliers U_t, t < T::

    min  loss(f_T(Z_{T-1}), Y) + sum_t r(theta_t)   s.t.  Z_t = f_t(Z_{t-1}),  Z_t in C_t,  Z_0 = X
    AL = 1/n [ loss(f_T(Z_{T-1}), Y) + sum_{t<T} rho/2 |Z_t - f_t(Z_{t-1}) + U_t|^2 ] + sum_t r

Per mini-batch (see `dadmm.solvers.block.minibatch`):

* *online*: Z starts from the forward pass and U from 0; Z moves from T-1 down to 1, then the
  parameters of every block take `inner_steps` optimiser steps on the block's own term.  Nothing
  is stored per sample.
* *batch*: Z, then the parameters, then ``U_t += Z_t - f_t(Z_{t-1})``; Z and U are kept per sample.
  (Parameters first, which is as valid, learnt markedly slower: they then see what the loss asked
  for a pass ago.)

At the exact minimiser over Z the residuals ``e_t = Z_t - f_t(Z_{t-1})`` obey ``rho e_{t-1} = J_t'
rho e_t``: backpropagation's recursion.  One short Z step leaves them shrunk by its length, so
each block's gradient is scaled back by it, one factor per block crossed.  With one Z step online
(the default) the parameters' problems are taken at the point where that step was taken, where the
residual is the step itself: the direction is backpropagation's, found block by block, and exactly
Adam's for T = 1.  With more steps, or constraints, it is not.

Over data chunks, every agent trains a copy on its chunk, and the copies meet in a consensus
(`dadmm.solvers.block.consensus`).  The formulas were rebuilt from the papers' abstracts and published
relatives, and checked numerically: derived, not quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import Chain, flatten, size, views
from dadmm.numerics.algebra import square
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.types import Arrays
from dadmm.solvers.block import consensus, counts, grid
from dadmm.solvers.block.cut import chain_of, frozen
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.block.learning_rate import check_schedule, momentum, plateau
from dadmm.solvers.block.minibatch import EVALUATED, Local, Span, held_out, per_chunk, steps
from dadmm.solvers.counts import Work
from dadmm.solvers.nmf.dictionary import check_features, look, looked, settled
from dadmm.solvers.rows import batches, inputs
from dadmm.solvers.solver import (
    Chunk,
    Footprint,
    Part,
    Pass,
    Problem,
    Sums,
    combine,
    numbers,
    target_bytes,
)

MODES = ("online", "batch")
OPTIMIZERS = ("adam", "sgd")
CONSENSUS = ("average", "admm")
SCHEDULES = ("fused", "grid")


@dataclass(frozen=True)
class BlockADMM:
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

    name: ClassVar[str] = "block"
    raw: ClassVar[bool] = True
    hint: ClassVar[str] = "Lower learning_rate, set clip_norm, and standardise the data."

    # ------------------------------------------------------------------ what the method is made of

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
                if self._factors(problem, t):
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
            return grid.variables(self, problem)
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
            f"{kind}_{t}": self._size(problem, t)
            for t in self.multiplied(problem)
            for kind in ("pi", "sent")
        }

    def multiplied(self, problem: Problem) -> tuple[int, ...]:
        """Return the blocks whose consensus has multipliers."""
        if self.consensus == "average":
            return ()
        return tuple(t for t in self.layers(problem) if not self._factors(problem, t))

    def _factors(self, problem: Problem, t: int) -> NMFBlock | None:
        """Return a block of the method if it is a factorisation."""
        block = self.chain(problem).blocks[self.spans(problem)[t - 1][0] - 1]
        return block if isinstance(block, NMFBlock) else None

    def _size(self, problem: Problem, t: int) -> int:
        return size(self._shapes(problem, t))

    def _shapes(self, problem: Problem, t: int) -> dict[str, tuple[int, ...]]:
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
        learnt = ("gram", "cross") if self._factors(problem, layer) else ("m", "v")
        return tuple(f"{kind}_{layer}" for kind in ("theta", *learnt, "count"))

    def exported(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the parameters alone."""
        return (f"theta_{layer}",)

    def passes(self, problem: Problem, chunks: int) -> tuple[Pass, ...]:
        """Return the rounds of a pass over the data: `agents` chunks, then a consensus."""
        layers = self.layers(problem)
        names = tuple(self.variables(problem))
        memory = tuple(self.memory(problem))
        parts: tuple[Part, ...] = (
            Part(
                "visit-chunk",
                reads=names + memory,
                writes=names + memory,
                layers=layers,
                x=True,
                y=True,
            ),
        )
        if self.schedule == "grid":
            parts = grid.parts(self, problem)
        found = [
            Pass(parts, layers, tuple(range(first, min(first + self.agents, chunks))))
            for first in range(0, chunks, self.agents)
        ]
        if self.early_stopping:
            found.append(Pass((self._evaluation(problem, "validate-chunk"),), ()))
        return tuple(found)

    def _evaluation(self, problem: Problem, name: str) -> Part:
        return Part(name, evaluate=True, layers=self.layers(problem), x=True, y=True)

    def finish(self, problem: Problem) -> Pass:
        """Run the network forward on all rows."""
        return Pass((self._evaluation(problem, "evaluate-chunk"),), ())

    def finish_passes(self, problem: Problem) -> int:
        """Return 0: nothing is refitted."""
        return 0

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw starting parameters; moments and counts are 0."""
        params = self.chain(problem).initial(seed, problem.dtype)
        found: Arrays = {}
        for t in self.layers(problem):
            theta = flatten(params, self._shapes(problem, t), problem.dtype)
            found[f"theta_{t}"] = theta
            first, second = theta.shape, theta.shape
            if self._factors(problem, t):
                ((r, d),) = self._shapes(problem, t).values()
                first, second = (r, r), (r, d)
            _, *sums, count = self.parameters(problem, t)
            for name, shape in zip(sums, (first, second), strict=True):
                found[name] = np.zeros(shape, problem.dtype)
            found[count] = np.zeros(())
        return found

    def looks(self, problem: Problem) -> tuple[Part, ...]:
        """Return two looks at what each factorisation reads that starts from its data."""
        found = []
        for t in self.layers(problem):
            block = self._factors(problem, t)
            if block is not None and block.init == "nndsvd":
                found += [
                    Part(f"look-{stage}", couple=(t,), layers=self.layers(problem)[:t], x=True)
                    for stage in ("gram", "signs")
                ]
        return tuple(found)

    def begin(self, problem: Problem, part: Part, params: Arrays, sums: Sums) -> Arrays:
        """Return the starting parameters after a look."""
        (t,), stage = part.couple, part.name.removeprefix("look-")
        (shape,) = self._shapes(problem, t).values()
        s = looked(stage, params[f"theta_{t}"].reshape(shape), sums, unit=True)
        return params | {f"theta_{t}": s.reshape(-1)}

    def _look(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Add up, over a chunk, what the start of a factorisation needs to know of its features."""
        (t,), at = part.couple, self.spans(problem)[part.couple[0] - 1][0] - 1
        (shape,) = self._shapes(problem, t).values()
        below = self.chain(problem).up_to(at)
        params: Arrays = {}
        for i in part.layers[:-1]:
            params |= self.export(problem, i, weights)
        s = weights[f"theta_{t}"].reshape(shape)
        total: Sums = {}
        for rows in batches(chunk.rows, EVALUATED):
            x = inputs(chunk, np.arange(rows.start, rows.stop), problem.dtype)
            z = below.forward(params, x) if at else x
            total = combine([total, look(z, part.name.removeprefix("look-"), s)])
        return total

    def export(self, problem: Problem, layer: int, weights: Mapping[str, Any]) -> Arrays:
        """Return a block's parameters under their names in the network."""
        return views(weights[f"theta_{layer}"], self._shapes(problem, layer))

    def _network(self, problem: Problem, weights: Arrays) -> Arrays:
        """Return the parameters of all blocks under their names in the network."""
        found: Arrays = {}
        for t in self.layers(problem):
            found |= self.export(problem, t, weights)
        return found

    def model(self, problem: Problem) -> Architecture | Chain:
        """Return the shape of the network that predicts."""
        blocks = frozen(self.blocks)
        plain = isinstance(blocks, int) or all(isinstance(i, (int, np.integer)) for i in blocks)
        if plain and not self.chain(problem).constraints:
            return problem.architecture
        return self.chain(problem)

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """Batch: Z from the forward pass, U = 0.  Consensus ADMM: pi = 0."""
        state: Arrays = {}
        if self.mode == "batch":
            widths = {n: w for n, w in self.variables(problem).items() if n[:2] in ("z_", "u_")}
            state = {n: np.zeros((chunk.rows, w), problem.dtype) for n, w in widths.items()}
            params = self._network(problem, weights)
            ends = {hi: f"z_{t}" for t, (_, hi) in enumerate(self.spans(problem)[:-1], start=1)}
            for rows in batches(chunk.rows, EVALUATED):
                x = inputs(chunk, np.arange(chunk.rows)[rows], problem.dtype)
                for i, v in enumerate(steps(self, problem, params, x), start=1):
                    if i in ends:
                        state[ends[i]][rows] = v
        state |= consensus.start(self, problem, weights)
        return state, {}

    def span(
        self, problem: Problem, weights: Arrays, t: int, state: Arrays, slot: int = 0
    ) -> Span | FactorSpan:
        """Return a block of the method, ready to be trained on a chunk."""
        if self._factors(problem, t):
            return FactorSpan(self, problem, weights, t)
        return Span(self, problem, weights, t, per_chunk(state, f"pi_{t}"), slot)

    def constants(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return nothing: no sum stays the same."""
        return ()

    def prepare(self, problem: Problem, layer: int, params: Arrays) -> Arrays:
        """Return the parameters as they are."""
        return {name: params[name] for name in self.parameters(problem, layer) if name in params}

    def granularity(self, problem: Problem) -> tuple[int, int, int]:
        """Return (fewest chunks, what their number is a multiple of, most bytes of one)."""
        return self.agents, self.agents, 64 * 2**20

    def footprint(self, problem: Problem, inputs: int, chunks: int) -> Footprint:
        """Return what a run holds in memory; see `Solver.footprint`."""
        size = np.dtype(problem.dtype).itemsize
        chain, spans = self.chain(problem), self.spans(problem)
        widths, grid = chain.widths, self.schedule == "grid"
        sizes = [self._size(problem, t) for t in self.layers(problem)]

        # Inputs and targets; the rows in some order; what is kept, and (grid) what is being made.
        row = inputs * widths[0] + target_bytes(problem) + 24
        row += size * sum(self.variables(problem).values())
        ends = [widths[hi] for _, hi in spans[:-1]]
        if grid and ends:
            made = max(a + b for a, b in pairwise([0, *ends, 0]))
            row += size * (max(ends) if self.mode == "online" else made + 1)

        # Parameters, both moments and the gradient, of one block in the grid; consensus ADMM's
        # multiplier, what was sent, and what is to be sent.
        at_once = max(sizes) if grid else sum(sizes)
        visit = 4 * size * at_once
        if self.consensus == "admm":
            visit += size * (2 * sum(sizes) + max(sizes))
        # A mini-batch: its inputs, what each link keeps, Z and U.  More rows of the same in the
        # grid, and of the outputs of all links in an evaluation.
        links = [5 * sum(widths[lo - 1 : hi + 1]) for lo, hi in spans]
        batch = self.batch_rows(problem)
        batch_bytes = (
            max(batch, EVALUATED) * max(links) if grid else batch * (sum(links) + 6 * sum(ends))
        )
        visit += size * (batch_bytes + EVALUATED * (widths[0] + 2 * sum(widths[1:])))

        # Parameters and moments; between rounds also those that the iteration started from.
        rounds = len(self.passes(problem, chunks))
        weights = 3 * size * sum(sizes) * (1 if rounds == 1 else 2)
        weights += max(getattr(block, "library", 0) for block in chain.blocks)
        summed = sum(sizes) * (3 if self.optimizer == "adam" else 2)
        # The new ones, how far they moved, and (consensus ADMM) the step in float64.
        solve = max(sizes) * (4 * size + (8 if self.consensus == "admm" else 0))
        share = at_once / sum(sizes)
        sums, total = size * summed, 8 * summed
        # Factorisations: a dictionary and its sums in float64; before the first pass, products of
        # all features with each other.
        for i, block in enumerate(chain.blocks):
            if isinstance(block, NMFBlock):
                solve = max(solve, 8 * 4 * widths[i] * widths[i + 1])
                if block.init == "nndsvd":
                    square_bytes = 8 * widths[i] ** 2
                    visit, solve = max(visit, 3 * square_bytes), max(solve, 3 * square_bytes)
                    sums, total = max(sums, square_bytes), max(total, square_bytes)
        return Footprint(row, visit, weights, sums, total, solve, share)

    def visit_work(self, problem: Problem, part: Part, rows: int) -> Work:
        """Return what a visit computes, counted; see `Counted.visit_work`."""
        return counts.visit(self, problem, part, rows)

    def weight_work(self, problem: Problem, layer: int) -> tuple[Work, Work]:
        """Return what `prepare` and `solve` compute for a layer, counted."""
        return counts.prepare(self, problem, layer), counts.solve(self, problem, layer)

    def momentum_at(self, done: float) -> float:
        """Return the optimiser's momentum when the share `done` of a run is behind it."""
        if self.optimizer == "sgd":
            return self.momentum
        return momentum(self.learning_rate_schedule, done, self.momentum)

    def batch_rows(self, problem: Problem) -> int:
        """Return the rows of a mini-batch."""
        return self.batch_size or int(np.clip(problem.rows // (16 * self.agents), 8, 128))

    def idle(self, problem: Problem, part: Part, weights: Arrays) -> bool:
        """Return False: every visit has something to do."""
        return False

    # --------------------------------------------------------------------------- once per chunk

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Train a copy of the parameters on a chunk, or score them on its rows."""
        if part.name.startswith("look"):
            return self._look(problem, part, weights, chunk)
        if part.evaluate:
            rows = held_out(self, chunk)[1] if part.name == "validate-chunk" else None
            if rows is not None and chunk.weight is not None:
                rows = rows[chunk.weight[rows] > 0]  # of the others no label may be known
            return self._evaluate(problem, weights, chunk, rows)
        if self.schedule == "grid":
            return grid.visit(self, problem, part, weights, chunk)
        spans = [self.span(problem, weights, t, chunk.state, slot=t) for t in self.layers(problem)]
        train, _ = held_out(self, chunk)
        local = Local(self, problem, spans)
        local.run(chunk, train, chunk.pace)
        sums: Sums = {**local.scores(), "residual": local.residual}
        return sums | consensus.contribution(self, spans, len(train), chunk)

    def _evaluate(self, problem: Problem, weights: Arrays, chunk: Chunk, rows: Any | None) -> Sums:
        """Run the network forward on some rows of a chunk, or on all."""
        assert chunk.x is not None
        local = Local(self, problem, [])
        picked = np.arange(chunk.rows) if rows is None else rows
        local.evaluate(chunk, picked, self._network(problem, weights))
        found: Sums = {
            "forward_loss": local.loss,
            "forward_mass": local.mass,
            "forward_rows": local.seen,
        }
        if problem.classes:
            found["forward_correct"] = local.right
        else:
            found["forward_error"] = local.error
            first, second = local.targets
            found |= {f"forward_first_{j}": float(total) for j, total in enumerate(first)}
            found["forward_second"] = float(second.sum())
        return found

    # ---------------------------------------------------------------------- once per iteration

    def solve(
        self, problem: Problem, layer: int, anchor: Arrays, weights: Arrays, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Form the consensus of a block; carry the numbers of the report along."""
        before: Sums = dict(weights.get("details", {}))
        details = dict(before)
        last = layer == self.layers(problem)[-1]
        own = [f"{kind}_{layer}" for kind in ("residual", "factor_error", "factor_energy")]
        for name, value in numbers(sums).items():
            if (last or name in own) and not name.startswith(("rows", "max_")):
                details[name] = before.get(name, 0) + value
        if f"theta_{layer}" not in sums:
            new = {name: weights[name] for name in self.parameters(problem, layer)}
        else:
            new = consensus.update(self, problem, layer, weights, sums)
        factors = self._factors(problem, layer)
        if factors is not None and f"gram_{layer}" in sums:
            ((r, d),) = self._shapes(problem, layer).values()
            s, gram, cross = (new[f"{kind}_{layer}"] for kind in ("theta", "gram", "cross"))
            s, dead = settled(s.reshape(r, d), gram, cross, True, overlap=factors.overlap)
            new[f"theta_{layer}"] = s.reshape(-1)
            details[f"reseeded_{layer}"] = before.get(f"reseeded_{layer}", 0) + dead
        moved = new[f"theta_{layer}"] - anchor[f"theta_{layer}"]
        details[f"step_{layer}"] = square(moved[None])
        details[f"size_{layer}"] = square(new[f"theta_{layer}"][None])
        return new, details

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """One row of history: the loss and the score are those seen while training."""
        seen = max(details["seen"], 1)
        row = {"objective": details["loss"] / max(details["mass"], 1e-300)}
        if problem.classes:
            row["train_score"] = details["correct"] / seen
        else:
            spread = max(problem.target_variation, 1e-300) / problem.rows
            row["train_score"] = 1.0 - details["squared_error"] / seen / spread
        layers = self.layers(problem)
        if len(layers) > 1:
            residual = sum(v for name, v in details.items() if name.startswith("residual"))
            row["primal_residual"] = (residual / seen) ** 0.5
        totals = {
            kind: sum(v for name, v in details.items() if name.startswith(kind))
            for kind in ("factor_error", "factor_energy", "reseeded")
        }
        if totals["factor_energy"]:
            row["reconstruction_error"] = (totals["factor_error"] / totals["factor_energy"]) ** 0.5
            row["reseeded"] = totals["reseeded"]
        if "forward_rows" in details:
            scores = self.score(problem, details)
            row["validation_loss"] = scores["forward_loss"]
            row["validation_score"] = scores["train_score"]
        row["step"] = sum(details[f"step_{t}"] for t in layers) ** 0.5
        row["size"] = sum(details[f"size_{t}"] for t in layers) ** 0.5
        return {name: float(value) for name, value in row.items()}

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        """Mean loss and score of the network on the rows that it was run forward on."""
        rows = sums["forward_rows"]
        if not rows:
            raise OptionError("early_stopping needs chunks of 2 rows or more: none can be held out")
        if problem.classes:
            score = sums["forward_correct"] / rows
        else:
            outputs = problem.architecture.widths[-1]
            firsts = sum(sums[f"forward_first_{j}"] ** 2 for j in range(outputs))
            spread = sums["forward_second"] - firsts / rows
            score = 1.0 - sums["forward_error"] / spread if spread > 0 else 0.0
        mean = sums["forward_loss"] / max(sums["forward_mass"], 1e-300)
        return {"forward_loss": mean, "train_score": float(score)}

    # ------------------------------------------------------------------------- once per pass

    def factor(self, rows: Sequence[Mapping[str, float]]) -> float:
        """Return what the learning rate is multiplied by after passes with these rows."""
        return plateau(rows) if self.learning_rate_schedule == "plateau" else 1.0

    def best(self, rows: Sequence[Mapping[str, float]]) -> int | None:
        """Return the iteration (from 1) whose parameters to keep; None for the last.

        Rows lack what damage to the run store has taken.
        """
        if not self.early_stopping or not rows:
            return None
        scores = [row.get("validation_score", -np.inf) for row in rows]
        return int(np.argmax(scores)) + 1 if max(scores) > -np.inf else None

    def converged(self, rows: Sequence[Mapping[str, float]], tol: float) -> bool:
        """Whether the passes so far say that more would not help."""
        patience = self.n_iter_no_change
        if len(rows) <= patience or tol <= 0:
            return False
        if self.early_stopping:
            scores = [row.get("validation_score", -np.inf) for row in rows]
            return max(scores[-patience:]) <= max(scores[:-patience])
        losses = [row.get("objective", np.inf) for row in rows]
        return min(losses[-patience:]) > min(losses[:-patience]) - tol
