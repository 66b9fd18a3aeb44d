"""Relaxed ADMM for residual networks (arXiv 2310.15334): serial, regional and layer-parallel.

The hidden constraints are penalties; only the last, linear one keeps a multiplier L.  Summed
over n samples (rows), with ``r_i = V_i - s_i V_{i-1} - act(.)``:

3-splitting (U and V auxiliary)::

    F = 1/n [ loss(V_N, Y) + sum_{i<N} mu/2 |U_i - A_i|^2 + nu/2 |V_i - s_i V_{i-1} - act(U_i)|^2
            + <L, A_N - V_N> + beta/2 |A_N - V_N|^2 ] + alpha/2 sum_i |W_i|^2

2-splitting (V auxiliary): the middle sum is ``mu/2 |V_i - s_i V_{i-1} - act(A_i)|^2``.

One iteration is one sweep over the per-sample blocks, and then the weight solves.  The sweep goes
from the head down, so that the loss reaches the first layer in one sweep.  In a sweep each block
is updated by ``V <- V - gradient M^-1`` with the curvature M of its subproblem, which is the exact
minimiser where that is quadratic.  Its gradients, each taken just before its block moves, are also
those of the stationarity report.

The formulas were rebuilt from the paper's abstract and published relatives and checked
numerically against their defining minimisations (tests/solvers); they are derived, not
quoted.  So is the extra curvature at region borders: two sides of a quadratic coupling
``q(a + b)`` that move at once raise it by at most ``<a, b> <= (|a|^2 + |b|^2) / 2`` over what each
expects, and that is added to both as a proximal term.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from dadmm.networks.architecture import layers as forward_layers
from dadmm.numerics.activations import get_activation
from dadmm.numerics.algebra import cross, gram, square
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import lasting
from dadmm.options import documented
from dadmm.solvers.counts import register
from dadmm.solvers.parts import Layout, Part, Pass, Phase, Schedule
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.relaxed import weights as weight_step
from dadmm.solvers.relaxed.counts import RelaxedCounts
from dadmm.solvers.relaxed.options import RelaxedOptions, Task
from dadmm.solvers.relaxed.sweep import sweep, tile_rows
from dadmm.solvers.solver import Solver, Weights, scoring
from dadmm.solvers.sums import Sums

_work = lasting()


@documented
class RelaxedADMM(RelaxedOptions, Solver):
    """Relaxed ADMM (arXiv 2310.15334); penalties are per sample, so they do not change with n."""

    name: ClassVar[str] = "relaxed"
    order_matters = False
    hint: ClassVar[str] = (
        "Raise beta (at least 1) and tau, lower over_relaxation to 1, and standardise the data."
    )

    def layout(self, problem: Problem) -> Layout:
        """Return weights and bias per layer, the refitted head as layer N+1, and the state."""
        layers = {i: (f"w_{i}", f"b_{i}") for i in self.layers(problem)}
        used = (*range(1, problem.architecture.depth), self.readout(problem))
        return Layout(
            layers,
            problem.architecture,
            state=self.kept(problem) if self.state == "keep" else {},
            constants=("gram_1",),  # X~'X~ never changes
            predicting={i: layers[i] for i in used},
        )

    def passes(self, problem: Problem, chunks: int) -> Schedule:
        """Return one pass per iteration, and the passes that refit and score the head.

        For the proximal 2-splitting there are more passes, which repeat only the weight step.
        """
        score = scoring(self.layout(problem))
        refits = (Pass(score.parts, (self.readout(problem),)),) * self._refits(problem)
        return Schedule(self._iteration(problem), after=(*refits, score))

    def _refits(self, problem: Problem) -> int:
        """Return 0 without a refit, 1 where it is exact in one step, else 8 Newton-like steps."""
        if not self.head_refit:
            return 0
        return 1 if problem.loss in ("squared", "hinge") else 8

    def _iteration(self, problem: Problem) -> tuple[Pass, ...]:
        depth = problem.architecture.depth
        everything = tuple(range(1, depth + 1))
        layers = self.layers(problem)
        if self.state == "recompute":
            work = Task((1, depth), everything, evaluate=True)
            return (Pass((Part("visit-chunk", layers=layers, x=True, y=True, work=work),), layers),)
        spans = self.spans(problem)
        parts = []
        for lo, hi in spans:
            own = tuple(name for i in range(lo, hi + 1) for name in self._names(problem, i))
            edges = self._names(problem, hi + 1) + ((f"v_{lo - 1}",) if lo > 1 else ())
            alone = len(spans) == 1
            parts.append(
                Part(
                    "visit-chunk" if alone else f"visit-region-{lo}-{hi}",
                    reads=own + edges,
                    writes=own,
                    layers=layers if alone else tuple(range(lo, min(hi + 1, depth) + 1)),
                    x=lo == 1,
                    y=hi == depth,
                    work=Task((lo, hi), tuple(range(lo if lo == 1 else lo + 1, hi + 1)), alone),
                )
            )
        if len(spans) > 1:
            # The first layer of a region couples to the newest V of the region on its left.
            parts += [self._coupling(problem, (lo, lo)) for lo, _ in spans[1:]]
            parts += scoring(self.layout(problem)).parts
        first = Pass(tuple(parts), layers)
        if not self.refines:
            return (first,)
        inner = [(lo, min(hi, depth - 1)) for lo, hi in spans if lo < depth]
        refine = Pass(tuple(self._coupling(problem, span) for span in inner), everything[:-1])
        return (first, *(refine for _ in range(self.inner_steps - 1)))

    def export(self, problem: Problem, layer: int, weights: Arrays) -> Arrays:
        """Return a layer's parameters, and those of the refitted head as the last layer's."""
        number = min(layer, problem.architecture.depth)
        return {f"{kind}_{number}": weights[f"{kind}_{layer}"] for kind in "wb"}

    def _names(self, problem: Problem, i: int) -> tuple[str, ...]:
        """Return the per-sample blocks of layer i; none beyond the head."""
        depth = problem.architecture.depth
        if i > depth:
            return ()
        if i == depth:
            return (f"v_{i}", "l")
        return (f"v_{i}", f"u_{i}") if self.splitting == 3 else (f"v_{i}",)

    def _coupling(self, problem: Problem, span: tuple[int, int]) -> Part:
        lo, hi = span
        names = [f"v_{i}" for i in range(max(lo - 1, 1), hi + 1)]
        if self.splitting == 3:
            names += [f"u_{i}" for i in range(lo, min(hi, problem.architecture.depth - 1) + 1)]
        if hi == problem.architecture.depth:
            names.append("l")
        inside = tuple(range(lo, hi + 1))
        return Part(
            "couple-chunk",
            Phase.COUPLE,
            fresh=tuple(names),
            layers=inside,
            x=lo == 1,
            work=Task(couple=inside),
        )

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw starting parameters; from 0 the refitted head's first step is least squares."""
        arch = problem.architecture
        params = arch.initial(seed, problem.dtype)
        if self.head_refit:
            for kind in "wb":
                params[f"{kind}_{arch.depth + 1}"] = np.zeros_like(params[f"{kind}_{arch.depth}"])
        return params

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """Run forward: U_i = A_i, V_i, V_N = A_N, L = gradient of the loss; and return X~'X~."""
        assert chunk.x is not None
        state = self._forward(problem, weights, chunk) if self.state == "keep" else {}
        return state, {"gram_1": gram(chunk.x)}

    def _forward(self, problem: Problem, weights: Arrays, chunk: Chunk) -> Arrays:
        arch = problem.architecture
        assert chunk.x is not None
        assert chunk.y is not None
        activation = get_activation(arch.activation)
        state: Arrays = {}
        v, tile = chunk.x, tile_rows(problem, chunk.rows)
        for i in range(1, arch.depth + 1):
            w = weights[f"w_{i}"]
            new = u = np.matmul(v, w, out=self._room(f"v_{i}", (len(v), w.shape[1]), v.dtype))
            new += weights[f"b_{i}"]
            if i < arch.depth:
                if self.splitting == 3:
                    state[f"u_{i}"] = u
                    new = self._room(f"u_{i}", u.shape, u.dtype)
                for first in range(0, len(v), tile):
                    rows = slice(first, first + tile)
                    activation.value(u[rows], out=new[rows])
                if arch.skip(i):
                    new += v
            state[f"v_{i}"] = v = new
        state["l"] = get_loss(problem.loss).gradient(v, chunk.y)
        return state

    def _room(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return room for a block of state: new if it is kept, or memory that is used again."""
        return np.empty(shape, dtype) if self.state == "keep" else _work.take(name, shape, dtype)

    def prepare(self, problem: Problem, layer: int, params: Arrays) -> Arrays:
        """Return a layer's weights, and the inverse of the curvature in the layer below."""
        return weight_step.prepare(self, problem, layer, params)

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Sweep, couple and evaluate a chunk, as the part says; `chunk.state` ends up new."""
        work, sums = part.work, Sums()
        assert isinstance(work, Task)
        if self.state == "recompute" and work.sweep is not None:
            chunk.state.update(self._forward(problem, weights, chunk))
        if work.evaluate:
            sums.update(self.evaluate(problem, part, weights, chunk))
        if work.sweep is not None and self.state == "recompute":
            # All regions in one task: each must see its neighbours' values of before the sweep.
            spans = self.spans(problem)
            edges = {f"v_{lo - 1}": chunk.state[f"v_{lo - 1}"].copy() for lo, _ in spans[1:]}
            for span in spans:
                left = edges.get(f"v_{span[0] - 1}")
                sums.update(sweep(self, problem, span, weights, chunk, left))
        elif work.sweep is not None:
            sums.update(sweep(self, problem, work.sweep, weights, chunk))
        for layer in work.couple:
            if f"settled_{layer}" not in weights:
                sums.update(self._couple(problem, layer, weights, chunk))
        return sums

    def _couple(self, problem: Problem, i: int, weights: Arrays, chunk: Chunk) -> Sums:
        """Form the chunk's sums for layer i's weight update, from the newest blocks."""
        arch = problem.architecture
        state = chunk.state
        below = chunk.x if i == 1 else state[f"v_{i - 1}"]
        assert below is not None
        sums: Sums = {}
        if i > 1:
            sums[f"gram_{i}"] = gram(below)
        if i == arch.depth:
            target = state[f"v_{i}"] - state["l"] / below.dtype.type(self.beta)
            sums[f"cross_{i}"] = cross(below, target)
        elif self.splitting == 3:
            sums[f"cross_{i}"] = cross(below, state[f"u_{i}"])
        else:
            residual, most = self._residual(problem, i, weights, below, state[f"v_{i}"])
            sums[f"cross_{i}"] = cross(below, residual)
            if get_activation(arch.activation).bend:
                sums[f"max_offset_{i}"] = most
        return sums

    def _residual(
        self, problem: Problem, i: int, weights: Arrays, below: Array, v: Array
    ) -> tuple[Array, float]:
        """Return ``(s V_{i-1} + act(A_i) - V_i) * act'(A_i)``, and the largest offset of act."""
        activation = get_activation(problem.architecture.activation)
        found = np.matmul(below, weights[f"w_{i}"], out=_work.take("whole", v.shape, v.dtype))
        found += weights[f"b_{i}"]
        most = 0.0
        tile = tile_rows(problem, len(v))
        for first in range(0, len(v), tile):
            rows = slice(first, first + tile)
            a = found[rows]
            offset = below[rows] - v[rows] if problem.architecture.skip(i) else -v[rows]
            value = activation.value(a)
            value += offset
            np.multiply(value, activation.derivative(a), out=a)
            most = float(np.maximum(most, np.abs(offset).max()))  # NaN stays
        return found, most

    def evaluate(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Run the network that predicts forward: its loss and score, and sums for the refit."""
        arch = problem.architecture
        loss = get_loss(problem.loss)
        assert chunk.x is not None
        assert chunk.y is not None
        last = self.readout(problem)
        if self.state == "recompute" and chunk.state:
            features = chunk.state[f"v_{arch.depth - 1}"]
        else:
            shape = (chunk.rows, arch.widths[-2])
            name = "whole" if self.state == "keep" else f"v_{arch.depth - 1}"
            features = _work.take(name, shape, problem.dtype)
            tile = tile_rows(problem, chunk.rows)
            for first in range(0, chunk.rows, tile):
                rows = slice(first, first + tile)
                *_, last_hidden = forward_layers(
                    arch, weights, chunk.x[rows], to=arch.depth - 1, work=_work
                )
                features[rows] = last_hidden
        out = features @ weights[f"w_{last}"]
        out += weights[f"b_{last}"]
        sums: Sums = {"forward_loss": loss.value(out, chunk.y)}
        if problem.classes:
            sums["correct"] = loss.right(out, chunk.y)
        else:
            sums["squared_error"] = square(out - chunk.y)
        if self.head_refit:
            sums[f"gram_{last}"] = gram(features)
            fit = out - chunk.y if problem.loss == "hinge" else loss.gradient(out, chunk.y)
            sums[f"cross_{last}"] = cross(features, fit)
        return sums

    def update(
        self, problem: Problem, layer: int, weights: Weights, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Solve for [W_i; b_i]."""
        return weight_step.solve(self, problem, layer, weights, sums)

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """Return one row of history; per-sample quantities are means over the samples.

        Everything but `step` and `size` describes the point that the iteration started from;
        `stationarity` is made of each block's gradient just before the block moved.  All of these
        are zero at stationary points only.
        """
        depth = problem.architecture.depth
        n = problem.rows
        row: dict[str, float] = {}

        def total(prefix: str) -> float:
            return float(sum(details[k] for k in sorted(details) if k.startswith(prefix)))

        residual = details["head_residual"] / n
        hidden = range(1, depth)
        split = {i: details[f"split_{i}"] / n for i in hidden}
        pre = {i: details.get(f"pre_{i}", 0.0) / n for i in hidden}
        outer = self.nu if self.splitting == 3 else self.mu
        row["objective"] = (
            (details["loss"] + details["multiplier_term"]) / n
            + self.beta / 2 * residual
            + outer / 2 * sum(split.values())
            + self.mu / 2 * sum(pre.values())
            + total("penalty_") / 2
        )
        row |= self.score(problem, details)
        row["primal_residual"] = residual**0.5
        slopes = (total("slope_v_") + total("slope_u_")) / n
        slopes += (1 + self.beta * self.beta) * residual + total("slope_w_")
        row["stationarity"] = slopes**0.5
        row["step"] = ((total("step_v_") + total("step_u_")) / n + total("step_w_")) ** 0.5
        row["size"] = ((total("size_v_") + total("size_u_")) / n + total("size_w_")) ** 0.5
        row["size"] += 0.0 * details.get("readout", 0.0)  # NaN there is divergence too
        for i in hidden:
            row[f"residual_v_{i}"] = split[i] ** 0.5
            if self.splitting == 3:
                row[f"residual_u_{i}"] = pre[i] ** 0.5
        return row

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        if problem.classes:
            score = sums["correct"] / problem.rows
        else:
            score = 1.0 - sums["squared_error"] / max(problem.target_variation, 1e-300)
        return {"forward_loss": sums["forward_loss"] / problem.rows, "train_score": score}


register(RelaxedADMM, RelaxedCounts())
