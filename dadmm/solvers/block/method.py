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
  (Parameters first is as valid, but learnt markedly slower: they follow the loss of a pass ago.)

At the exact minimiser over Z the residuals ``e_t = Z_t - f_t(Z_{t-1})`` obey ``rho e_{t-1} = J_t'
rho e_t``: backpropagation's recursion.  One short Z step leaves them shrunk by its length, so
each block's gradient is scaled back by it, one factor per block crossed.  With one Z step online
(the default) the parameters' problems are taken at the point where that step was taken, where the
residual is the step itself: the direction is backpropagation's, found block by block, and exactly
Adam's for T = 1.  With more steps or constraints it is not.

Over data chunks, every agent trains a copy on its chunk, and the copies meet in a consensus
(`consensus`).  The formulas were rebuilt from the papers' abstracts and published
relatives, and checked numerically: derived, not quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from dadmm.networks.architecture import Architecture
from dadmm.networks.chain import Chain, flatten, views
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array, Arrays
from dadmm.options import documented
from dadmm.solvers.block import consensus, grid
from dadmm.solvers.block.counts import BlockCounts
from dadmm.solvers.block.cut import frozen
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.block.learning_rate import plateau
from dadmm.solvers.block.minibatch import Learner, Local, Span, per_chunk, steps
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.block.rounds import rounds
from dadmm.solvers.counts import register
from dadmm.solvers.evaluate import EVALUATED, forward, training_row
from dadmm.solvers.nmf.dictionary import STAGES, look, looked, settled
from dadmm.solvers.parts import Layout, Part, Pass, Phase, Schedule
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.rows import batches
from dadmm.solvers.solver import Solver, Weights, evaluated, scoring, validation_row
from dadmm.solvers.stopping import HeldOut, NoBetterLoss, Stopping, steady
from dadmm.solvers.sums import Sums, combine, numbers


@documented
class BlockADMM(BlockOptions, Solver):
    """Stochastic Block-ADMM (arXiv 2105.00339)."""

    name: ClassVar[str] = "block"
    weighted: ClassVar[bool] = True
    hint: ClassVar[str] = "Lower learning_rate, set clip_norm, and standardise the data."

    @property
    def order_matters(self) -> bool:  # type: ignore[override]
        """Whether chunks must be alike: a scattered order is for rows that stay as they lie."""
        return self.chunk_order == "stored"

    def layout(self, problem: Problem) -> Layout:
        """Return flat parameters and moments per block, Z and U, and multipliers per chunk."""
        layers = self.layers(problem)
        return Layout(
            {t: self.parameters(problem, t) for t in layers},
            self._model(problem),
            state=self.variables(problem),
            memory=self.memory(problem),
            predicting={t: (f"theta_{t}",) for t in layers},
        )

    def _model(self, problem: Problem) -> Architecture | Chain:
        """Return the shape of the network that predicts."""
        blocks = frozen(self.blocks)
        plain = isinstance(blocks, int) or all(isinstance(i, (int, np.integer)) for i in blocks)
        if plain and not self.chain(problem).constraints:
            return problem.architecture
        return self.chain(problem)

    @property
    def stopping(self) -> Stopping:  # type: ignore[override]
        """Return how the history is judged, by the rows held out or by the loss."""
        rate = plateau if self.learning_rate_schedule == "plateau" else steady
        if self.early_stopping:
            return HeldOut(self.validation_fraction, self.n_iter_no_change, rate)
        return NoBetterLoss(self.n_iter_no_change, rate)

    def incremental(self) -> BlockADMM:
        """Return the method for one pass: without a schedule, and without rows held out."""
        return replace(self, learning_rate_schedule="constant", early_stopping=False)

    def passes(self, problem: Problem, chunks: int) -> Schedule:
        """Return the rounds of a pass over the data: `agents` chunks, then a consensus.

        Before them come two looks at what each factorisation reads that starts from its data.
        """
        layers = self.layers(problem)
        kept = (*self.variables(problem), *self.memory(problem))
        parts: tuple[Part, ...] = (
            Part("visit-chunk", reads=kept, writes=kept, layers=layers, x=True, y=True),
        )
        if self.schedule == "grid":
            parts = grid.parts(self, problem)
        passes = [
            Pass(parts, layers, visited)
            for visited in rounds(chunks, self.agents, self.chunk_order)
        ]
        if self.early_stopping:
            passes.append(scoring(self.layout(problem), held_out=True))
        after = (scoring(self.layout(problem)),)
        return Schedule(tuple(passes), before=self._looks(problem), after=after)

    def _looks(self, problem: Problem) -> tuple[Pass, ...]:
        found = []
        for t in self.layers(problem):
            block = self.factors(problem, t)
            if block is not None and block.init == "nndsvd":
                below = self.layers(problem)[:t]
                found += [
                    Part(f"look-{stage}", Phase.LOOK, layers=below, x=True, work=stage)
                    for stage in STAGES
                ]
        return tuple(Pass((part,), part.layers[-1:]) for part in found)

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw starting parameters; moments and counts are 0."""
        params = self.chain(problem).initial(seed, problem.dtype)
        found: Arrays = {}
        for t in self.layers(problem):
            theta = flatten(params, self.shapes(problem, t), problem.dtype)
            found[f"theta_{t}"] = theta
            first, second = theta.shape, theta.shape
            if self.factors(problem, t):
                ((r, d),) = self.shapes(problem, t).values()
                first, second = (r, r), (r, d)
            _, *sums, count = self.parameters(problem, t)
            for name, shape in zip(sums, (first, second), strict=True):
                found[name] = np.zeros(shape, problem.dtype)
            found[count] = np.zeros(())
        return found

    def export(self, problem: Problem, layer: int, weights: Mapping[str, Any]) -> Arrays:
        return views(weights[f"theta_{layer}"], self.shapes(problem, layer))

    def _network(self, problem: Problem, weights: Arrays) -> Arrays:
        """Return the parameters of all blocks under their names in the network."""
        found: Arrays = {}
        for t in self.layers(problem):
            found |= self.export(problem, t, weights)
        return found

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """Batch: Z from the forward pass, U = 0.  Consensus ADMM: pi = 0."""
        state: Arrays = {}
        if self.mode == "batch":
            widths = {n: w for n, w in self.variables(problem).items() if n[:2] in ("z_", "u_")}
            state = {n: np.zeros((chunk.rows, w), problem.dtype) for n, w in widths.items()}
            params = self._network(problem, weights)
            ends = {hi: f"z_{t}" for t, (_, hi) in enumerate(self.spans(problem)[:-1], start=1)}
            for rows in batches(chunk.rows, EVALUATED):
                x = chunk.take(np.arange(chunk.rows)[rows])
                for i, v in enumerate(steps(self, problem, params, x), start=1):
                    if i in ends:
                        state[ends[i]][rows] = v
        state |= consensus.start(self, problem, weights)
        return state, {}

    def span(
        self, problem: Problem, weights: Arrays, t: int, state: Arrays, slot: int = 0
    ) -> Learner:
        """Return a block of the method, ready to be trained on a chunk."""
        if self.factors(problem, t):
            return FactorSpan(self, problem, weights, t)
        return Span(self, problem, weights, t, per_chunk(state, f"pi_{t}"), slot)

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Train a copy of the parameters on a chunk; or look at what a factorisation reads."""
        if part.phase is Phase.LOOK:
            return self._look(problem, part, weights, chunk)
        if self.schedule == "grid":
            assert isinstance(part.work, grid.Task)
            t = part.work.block
            if part.work.does == "move":
                grid.move(self, problem, t, chunk)
                return {}
            span = self.span(problem, weights, t, chunk.state)
            return grid.visit(self, problem, part.work, span, chunk)
        spans = [self.span(problem, weights, t, chunk.state, slot=t) for t in self.layers(problem)]
        train, _ = self.split(problem, chunk)
        local = Local(self, problem, spans)
        local.run(chunk, train, chunk.pace)
        sums: Sums = {**local.measured, "residual": local.residual}
        return sums | consensus.contribution(self, spans, len(train), chunk)

    def _look(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Add up over a chunk what the start of a factorisation needs of its features."""
        *below, t = part.layers
        at = self.spans(problem)[t - 1][0] - 1
        (shape,) = self.shapes(problem, t).values()
        network = self.chain(problem).up_to(at)
        params: Arrays = {}
        for i in below:
            params |= self.export(problem, i, weights)
        s = weights[f"theta_{t}"].reshape(shape)
        total: Sums = {}
        for rows in batches(chunk.rows, EVALUATED):
            x = chunk.take(np.arange(rows.start, rows.stop))
            z = network.forward(params, x) if at else x
            total = combine([total, look(z, part.work, s)])
        return total

    def evaluate(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Run the network forward on the rows that are held out, or on all."""
        params = self._network(problem, weights)

        def predict(x: Array) -> Array:
            *_, out = steps(self, problem, params, x)
            return out

        return forward(problem, predict, chunk, evaluated(self, problem, part, chunk))

    def update(
        self, problem: Problem, layer: int, weights: Weights, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Form the consensus of a block; carry the numbers of the report along."""
        if not {"above", "look"}.isdisjoint(sums):
            return self._looked(problem, layer, weights, sums), {}
        before: Sums = weights.details
        details = dict(before)
        last = layer == self.layers(problem)[-1]
        own = [f"{kind}_{layer}" for kind in ("residual", "factor_error", "factor_energy")]
        for name, value in numbers(sums).items():
            if (last or name in own) and not name.startswith(("rows", "max_")):
                details[name] = before.get(name, 0) + value
        new = consensus.update(self, problem, layer, weights, sums)
        factors = self.factors(problem, layer)
        if factors is not None and f"gram_{layer}" in sums:
            ((r, d),) = self.shapes(problem, layer).values()
            s, gram, cross = (new[f"{kind}_{layer}"] for kind in ("theta", "gram", "cross"))
            s, dead = settled(s.reshape(r, d), gram, cross, True, overlap=factors.overlap)
            new[f"theta_{layer}"] = s.reshape(-1)
            details[f"reseeded_{layer}"] = before.get(f"reseeded_{layer}", 0) + dead
        moved = new[f"theta_{layer}"] - weights.start[f"theta_{layer}"]
        details[f"step_{layer}"] = square(moved[None])
        details[f"size_{layer}"] = square(new[f"theta_{layer}"][None])
        return new, details

    def _looked(self, problem: Problem, t: int, weights: Weights, sums: Sums) -> Arrays:
        """Return the start of a factorisation after a look at what it reads."""
        (shape,) = self.shapes(problem, t).values()
        s = looked(weights[f"theta_{t}"].reshape(shape), sums, unit=True)
        return {**weights, f"theta_{t}": s.reshape(-1)}

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """Return one row of history, with the loss and the score seen while training."""
        seen = max(details["seen"], 1)
        row = training_row(problem, details)
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
            row |= validation_row(self.score(problem, details))
        row["step"] = sum(details[f"step_{t}"] for t in layers) ** 0.5
        row["size"] = sum(details[f"size_{t}"] for t in layers) ** 0.5
        return {name: float(value) for name, value in row.items()}


register(BlockADMM, BlockCounts())
