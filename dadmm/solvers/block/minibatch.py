"""What Block-ADMM does with a chunk: mini-batches, block by block.

The mathematics is in `dadmm.solvers.block.method`.  Here a block of the method is a *span* of the
network's chain of blocks, with its parameters, gradient and moments in one flat array each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from dadmm.networks.blocks import Differentiable, Tape
from dadmm.networks.chain import views
from dadmm.numerics import optimizer_kernels
from dadmm.numerics.algebra import square
from dadmm.numerics.constraints import Constraint
from dadmm.numerics.losses import Loss, get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.numerics.workspace import lasting
from dadmm.solvers.block.learning_rate import rate
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.evaluate import measure
from dadmm.solvers.parts import Pace
from dadmm.solvers.problem import Chunk, Problem, gather
from dadmm.solvers.rows import batches
from dadmm.solvers.sums import Sums

_work = lasting()


@dataclass(frozen=True)
class Slot:
    """One parameter of a block, as pieces of the flat arrays: all (size,)."""

    theta: Array
    g: Array
    m: Array
    v: Array
    anchor: Array
    multiplier: Array | None
    matrix: bool  # biases are not regularised


@dataclass(frozen=True)
class Link:
    """One link of the network's chain: a block, its parameters and gradients, its tape."""

    block: Differentiable
    params: dict[str, Array]
    gradients: dict[str, Array]
    slots: tuple[Slot, ...]
    tape: Tape


class Learner(Protocol):
    """One of the T blocks during a visit: a function of its input, and how it learns.

    Attributes
    ----------
    number : int
        t.
    width : int
        Of the block's output.
    anchor : (size,) array
        The parameters of the consensus.
    """

    number: int
    width: int
    anchor: Array

    @property
    def theta(self) -> Array:
        """The copy's parameters, flat."""

    @property
    def count(self) -> float:
        """Optimiser steps behind the copy."""

    def forward(self, v: Array, /) -> Array:
        """Return the block's output for the input `v`, not projected."""

    def pull(self, g: Array, /) -> Array:
        """Return the gradient in the input, row by row, from that in the output."""

    def bend(self, upstream: Any, pull: Any, curvature: float, /) -> Any:
        """Return the curvature of the block's term in its input."""

    def learn(self, g: Array, rate: float, beta1: float, pull: bool) -> Array | None:
        """Take a step, given the gradient of a mean over rows; return the pull if wanted."""

    def learnt(self) -> dict[str, Array]:
        """Return what the consensus is formed of, by kind."""

    def numbers(self) -> Sums:
        """Return what was measured, as sums."""


class Span:
    """One of the T blocks: its parameters during a visit, and how they learn.

    Parameters
    ----------
    weights : dict
        The consensus: ``theta_t``, ``m_t``, ``v_t`` and ``count_t``, which are not changed.
    number : int
        t.
    multiplier : (size,) array or None
        This chunk's pi, for ``<pi, theta - w> + sigma/2 |theta - w|^2``.
    slot : int
        Spans that are alive at the same time need different ones: their arrays lie in memory that
        is used again.

    Attributes
    ----------
    theta, m, v : (size,) arrays
        Parameters and moments, changed in place by `learn`.
    count : float
        Optimiser steps behind them.
    width : int
        Of the block's output.
    """

    def __init__(
        self,
        solver: BlockOptions,
        problem: Problem,
        weights: Arrays,
        number: int,
        multiplier: Array | None = None,
        slot: int = 0,
    ) -> None:
        self.solver, self.alpha, self.number = solver, problem.alpha, number
        self.slot = slot
        self.anchor = weights[f"theta_{number}"]
        self.count = float(weights[f"count_{number}"])
        self.theta = self._own("theta", weights)
        self.m = self._own("m", weights)
        self.v = self._own("v", weights)
        self.gradient = _work.take(f"gradient {slot}", self.theta.shape, self.theta.dtype)
        chain = solver.chain(problem)
        lo, hi = solver.spans(problem)[number - 1]
        self.width = chain.widths[hi]
        self.links = []
        edge = 0
        for i in range(lo, hi + 1):
            block: Any = chain.blocks[i - 1]  # differentiable, or else a span of another kind
            shapes = block.shapes(chain.widths[i - 1])
            slots = []
            begin = edge
            for shape in shapes.values():
                here = slice(edge, edge + prod(shape))
                edge = here.stop
                pi = None if multiplier is None else multiplier[here]
                theta, g, m, v, anchor = (
                    flat[here] for flat in (self.theta, self.gradient, self.m, self.v, self.anchor)
                )
                slots.append(Slot(theta, g, m, v, anchor, pi, len(shape) > 1))
            params, gradients = (
                views(flat[begin:edge], shapes) for flat in (self.theta, self.gradient)
            )
            self.links.append(
                Link(block, params, gradients, tuple(slots), Tape(_work, f"{slot}.{i - lo}"))
            )

    def _own(self, kind: str, weights: Arrays) -> Array:
        given = weights[f"{kind}_{self.number}"]
        flat = _work.take(f"{kind} {self.slot}", given.shape, given.dtype)
        flat[...] = given
        return flat

    def learnt(self) -> dict[str, Array]:
        """Return what the consensus is formed of, by kind."""
        adam = self.solver.optimizer == "adam"
        return {"theta": self.theta, "m": self.m, **({"v": self.v} if adam else {})}

    def numbers(self) -> Sums:
        """Return nothing: all that is measured is in `Local`."""
        return {}

    def forward(self, v: Array) -> Array:
        """Return ``f_t(v)``, not projected; it stays until the next call."""
        for link in self.links:
            v = link.block.forward(link.params, v, link.tape)
        return v

    def pull(self, g: Array) -> Array:
        """Return ``J' g`` for the input, at the point of the last `forward`."""
        found: Array | None = g
        for link in reversed(self.links):
            assert found is not None
            found = link.block.backward(link.params, found, link.tape, None, True)
        assert found is not None
        return found

    def bend(self, upstream: Any, pull: Any, curvature: float) -> Any:
        """Return the curvature of the block's term in its input, along what is being pulled.

        A Rayleigh quotient of ``J J'``, times the `curvature` of what lies above the block; given
        the squared norms of both, of all rows together or of each.
        """
        return curvature * pull / np.maximum(upstream, 1e-30)

    def learn(self, g: Array, rate: float, beta1: float, pull: bool) -> Array | None:
        """Take one optimiser step along the gradient ``J' g``; return the pull, if wanted.

        The pull is that of the parameters before the step.
        """
        clip = self.solver.clip_norm
        self.count += 1
        found: Array | None = g
        for i in range(len(self.links) - 1, -1, -1):
            link = self.links[i]
            assert found is not None
            found = link.block.backward(
                link.params, found, link.tape, link.gradients, pull or i > 0
            )
            if not clip:  # while the gradient is in the cache
                self._update(link, rate, beta1)
        if clip:
            norm = float(np.linalg.norm(self.gradient))
            if norm > clip:
                self.gradient *= self.gradient.dtype.type(clip / norm)
            for link in self.links:
                self._update(link, rate, beta1)
        return found

    def _update(self, link: Link, rate: float, beta1: float) -> None:
        solver = self.solver
        for slot in link.slots:
            if slot.multiplier is not None:
                optimizer_kernels.augment(
                    slot.g, slot.multiplier, slot.theta, slot.anchor, solver.sigma
                )
            l2 = self.alpha if slot.matrix else 0.0
            shrink = 1.0 - rate * solver.weight_decay if slot.matrix else 1.0
            if solver.optimizer == "sgd":
                optimizer_kernels.sgd(slot.theta, slot.g, slot.m, rate, beta1, l2, shrink)
                continue
            optimizer_kernels.adam(
                slot.theta,
                slot.g,
                slot.m,
                slot.v,
                rate / (1.0 - beta1**self.count),
                beta1,
                solver.beta2,
                (1.0 - solver.beta2**self.count) ** -0.5,
                solver.epsilon,
                l2,
                shrink,
            )


class Local:
    """Local training on one chunk.

    Attributes
    ----------
    measured : dict
        Sums over the rows visited, see `dadmm.solvers.evaluate.scores`, each taken before the
        step that learns from the row.
    residual : float
        Sum of ``|Z_t - f_t(Z_{t-1})|^2``.
    """

    def __init__(self, solver: BlockOptions, problem: Problem, spans: Sequence[Learner]) -> None:
        self.solver, self.problem, self.spans = solver, problem, spans
        self.criterion: Loss = get_loss(problem.loss)
        self.constraints = solver.boundaries(problem)
        self.residual = 0.0
        answers: Sums = {"correct": 0} if problem.classes else {"squared_error": 0.0}
        self.measured: Sums = {"loss": 0.0, "mass": 0.0, "seen": 0, **answers}

    def run(self, chunk: Chunk, rows: Array, pace: Pace) -> None:
        """Visit `rows` of a chunk in fresh random orders, `local_epochs` times."""
        solver = self.solver
        assert chunk.y is not None
        names = tuple(solver.variables(self.problem))
        for picked, now, beta1, _ in mini_batches(solver, self.problem, rows, chunk.seed, pace):
            x = chunk.take(picked)
            y = gather("y", chunk.y, picked)
            w = None if chunk.weight is None else chunk.weight[picked]
            if solver.mode == "batch":
                kept = {name: chunk.state[name][picked] for name in names}
                self._batch(x, y, w, kept, now, beta1)
                for name, block in kept.items():
                    chunk.state[name][picked] = block
            elif solver.plain:
                self._online(x, y, w, now, beta1)
            else:
                self._sweeps(x, y, w, now, beta1)

    def _forward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """Return the outputs of all blocks, as they are and projected; a block reads the latter."""
        outs: list[Array] = []
        projected = [x]
        for span, constraint in zip(self.spans, self.constraints, strict=True):
            outs.append(span.forward(projected[-1]))
            projected.append(project(constraint, outs[-1]))
        return outs, projected[1:]

    def _online(self, x: Array, y: Array, w: Array | None, rate: float, beta1: float) -> None:
        """Take one Z step from the forward pass and one step of the parameters, block by block.

        ``Z_t = P(F_t - pull / rho)``, and block t learns from ``rho (F_t - Z_t)``, which is the
        pull itself where there is no constraint: it needs no second forward pass.
        """
        outs, _ = self._forward(x)
        g = self.measure(outs[-1], y, w)
        g *= g.dtype.type(1.0 / len(x))
        for t in range(len(self.spans) - 1, -1, -1):
            constraint = self.constraints[t]
            if constraint is not None:
                rho = g.dtype.type(self.solver.rho)
                f = outs[t]
                z = constraint.project(f - g * g.dtype.type(len(x)) / rho)
                g = (f - z) * (rho / g.dtype.type(len(x)))
            if t < len(self.spans) - 1:
                share = len(x) / self.solver.rho
                self.residual += square(g) * (share * share)  # ** would raise at 1e-160
            pull = self.spans[t].learn(g, rate, beta1, pull=t > 0)
            if pull is not None:
                g = pull

    def _sweeps(self, x: Array, y: Array, w: Array | None, rate: float, beta1: float) -> None:
        """Take several Z steps from the forward pass, then several steps of the parameters."""
        outs, projected = self._forward(x)
        self.measure(outs[-1], y, w)
        z = [block.copy() for block in projected[:-1]]  # outputs lie in memory used again
        zero = [np.zeros_like(block) for block in z]
        scale = self._move(x, y, w, z, zero)
        for _ in range(self.solver.inner_steps):
            self._parameters(x, y, w, z, zero, scale, rate, beta1)

    def _batch(
        self, x: Array, y: Array, w: Array | None, kept: Arrays, rate: float, beta1: float
    ) -> None:
        """Update Z, then the parameters, then U; Z and U are kept per sample."""
        last = len(self.spans) - 1
        z = [kept[f"z_{t + 1}"] for t in range(last)]
        u = [kept[f"u_{t + 1}"] for t in range(last)]
        outs, _ = self._forward(x)
        self.measure(outs[-1], y, w)
        self._move(x, y, w, z, u)
        for _ in range(self.solver.inner_steps):
            self._parameters(x, y, w, z, u, [1.0] * (last + 1), rate, beta1)
        for t in range(last):
            u[t] += z[t]
            u[t] -= self.spans[t].forward(x if t == 0 else z[t - 1])

    def _move(
        self, x: Array, y: Array, w: Array | None, z: list[Array], u: list[Array]
    ) -> list[float]:
        """Take `z_steps` gradient steps on every Z_t, from the last to the first, in place.

        Returns
        -------
        list of float
            What the gradient of each block's own problem must be multiplied by to be the size
            that it has at the minimiser over Z.
        """
        solver, last = self.solver, len(self.spans) - 1
        shares = [1.0] * (last + 1)
        for _ in range(solver.z_steps):
            outs = [s.forward(v) for s, v in zip(self.spans, [x, *z], strict=True)]
            upstream = self.gradient(outs[-1], y, w)
            curvature = min(self.criterion.lipschitz, 1.0)
            for t in range(last - 1, -1, -1):
                pull = self.spans[t + 1].pull(upstream)
                constraint, rho = self.constraints[t], solver.rho
                sizes = square(upstream), square(pull)
                bend = self.spans[t + 1].bend(*sizes, curvature)
                length = solver.z_rate / (rho + bend)
                if constraint is not None and not constraint.convex:
                    length = 1.0 / rho
                step = z[t] + u[t]
                step -= outs[t]
                step *= step.dtype.type(rho)
                step += pull
                z[t] -= step * step.dtype.type(length)
                if constraint is not None:
                    z[t][...] = constraint.project(z[t])
                shares[t] = 1.0 - (1.0 - length * rho) ** solver.z_steps
                upstream = outs[t] - u[t]
                upstream -= z[t]
                upstream *= upstream.dtype.type(rho)
                curvature = rho
        self.residual += sum(square(a - b) for a, b in zip(z, outs[:-1], strict=True))
        scale = [1.0] * (last + 1)
        for t in range(last - 1, -1, -1):
            scale[t] = scale[t + 1] / max(shares[t], 1e-6)
        return scale

    def _parameters(
        self,
        x: Array,
        y: Array,
        w: Array | None,
        z: list[Array],
        u: list[Array],
        scale: Sequence[float],
        rate: float,
        beta1: float,
    ) -> None:
        """Take one step of every block on its own problem, given Z and U."""
        for t, span in enumerate(self.spans):
            out = span.forward(x if t == 0 else z[t - 1])
            if t < len(z):
                g = out - z[t]
                g -= u[t]
                g *= g.dtype.type(self.solver.rho * scale[t] / len(x))
            else:
                g = self.gradient(out, y, w)
                g *= g.dtype.type(1.0 / len(x))
            span.learn(g, rate, beta1, pull=False)

    def gradient(self, out: Array, y: Array, w: Array | None) -> Array:
        """Return the gradient of each row's weighted loss in its outputs."""
        g = self.criterion.gradient(out, y)
        if w is not None:
            g *= w[:, None]
        return g

    def measure(self, out: Array, y: Array, w: Array | None) -> Array:
        """Add a mini-batch to the running scores; return the loss's gradient, row by row."""
        found, g = measure(self.problem, out, y, w)
        for name, value in found.items():
            self.measured[name] += value
        return g


def mini_batches(
    solver: BlockOptions, problem: Problem, rows: Array, seed: Sequence[int], pace: Pace
) -> Iterator[tuple[Array, float, float, int]]:
    """Yield (rows of a mini-batch, learning rate, momentum, epoch), in fresh random orders."""
    rng = np.random.default_rng(seed)
    size = solver.batch_rows(problem)
    total, step = -(-len(rows) // size) * solver.local_epochs, 0
    for epoch in range(solver.local_epochs):
        order = rng.permutation(rows)
        for piece in batches(len(order), size):
            done = pace.begin + (pace.end - pace.begin) * step / total
            now = solver.learning_rate * pace.factor * rate(solver.learning_rate_schedule, done)
            yield order[piece], now, solver.momentum_at(done), epoch
            step += 1


def project(constraint: Constraint | None, v: Array) -> Array:
    """Return `v` projected, or as it is where there is no constraint."""
    return v if constraint is None else constraint.project(v)


def steps(solver: BlockOptions, problem: Problem, params: Arrays, v: Array) -> Iterator[Array]:
    """Yield the outputs of the chain's links, which stay until the next call."""
    chain = solver.chain(problem)
    return chain.steps(params, v, [Tape(_work, str(i)) for i in range(1, chain.depth + 1)])


def per_chunk(state: Arrays, name: str) -> Array | None:
    """Return what a chunk remembers under a name, (size,), or None."""
    return state[name][0] if name in state else None
