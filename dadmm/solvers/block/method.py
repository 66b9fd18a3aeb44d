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
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.networks.blocks import NMFBlock
from dadmm.networks.chain import Chain, flatten, views
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Arrays
from dadmm.options import documented
from dadmm.solvers.block import consensus, counts, grid
from dadmm.solvers.block.cut import frozen
from dadmm.solvers.block.factor_span import FactorSpan
from dadmm.solvers.block.learning_rate import plateau
from dadmm.solvers.block.minibatch import (
    EVALUATED,
    Learner,
    Local,
    Span,
    held_out,
    per_chunk,
    steps,
)
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.counts import Work
from dadmm.solvers.nmf.dictionary import look, looked, settled
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


@documented
class BlockADMM(BlockOptions):
    """Stochastic Block-ADMM (arXiv 2105.00339)."""

    name: ClassVar[str] = "block"
    raw: ClassVar[bool] = True
    hint: ClassVar[str] = "Lower learning_rate, set clip_norm, and standardise the data."

    # ------------------------------------------------------------------ what the method is made of

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

    def looks(self, problem: Problem) -> tuple[Part, ...]:
        """Return two looks at what each factorisation reads that starts from its data."""
        found = []
        for t in self.layers(problem):
            block = self.factors(problem, t)
            if block is not None and block.init == "nndsvd":
                found += [
                    Part(f"look-{stage}", couple=(t,), layers=self.layers(problem)[:t], x=True)
                    for stage in ("gram", "signs")
                ]
        return tuple(found)

    def begin(self, problem: Problem, part: Part, params: Arrays, sums: Sums) -> Arrays:
        """Return the starting parameters after a look."""
        (t,), stage = part.couple, part.name.removeprefix("look-")
        (shape,) = self.shapes(problem, t).values()
        s = looked(stage, params[f"theta_{t}"].reshape(shape), sums, unit=True)
        return params | {f"theta_{t}": s.reshape(-1)}

    def _look(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Add up, over a chunk, what the start of a factorisation needs to know of its features."""
        (t,), at = part.couple, self.spans(problem)[part.couple[0] - 1][0] - 1
        (shape,) = self.shapes(problem, t).values()
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
        return views(weights[f"theta_{layer}"], self.shapes(problem, layer))

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
    ) -> Learner:
        """Return a block of the method, ready to be trained on a chunk."""
        if self.factors(problem, t):
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
        sizes = [self.size(problem, t) for t in self.layers(problem)]

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
            (t,) = part.couple
            if part.name.startswith("move-block"):
                grid.move(self, problem, t, chunk)
                return {}
            return grid.visit(
                self, problem, part, self.span(problem, weights, t, chunk.state), chunk
            )
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
        factors = self.factors(problem, layer)
        if factors is not None and f"gram_{layer}" in sums:
            ((r, d),) = self.shapes(problem, layer).values()
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
