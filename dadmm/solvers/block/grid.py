"""Block-ADMM's grid schedule: one task per block and chunk.

Each task holds one block's parameters and the activations on its two sides, which reach the next
task through the store.  The updates are those of `BlockADMM`, with Z moved once per
visit for all rows of the chunk instead of once per mini-batch::

    online    forward-block 1 .. T-1     Z_t = P(f_t(Z_{t-1}))
              train-block T .. 1         target_{t-1} = P(Z_{t-1} - J_t' e_t), where rho e_t is
                                         the loss's gradient or rho (f_t - target_t); then
                                         mini-batches on the block's own problem
    batch     pull-block 1 .. T          f_t(Z_{t-1}), and the pull on Z_{t-1}      (side by side)
              move-block 1 .. T-1        a gradient step on Z_t, projected          (side by side)
              train-block 1 .. T         mini-batches, then U_t += Z_t - f_t        (side by side)

If rows are held out, every task reads the classes, of which the rows are drawn evenly; and if
rows have weights, every task reads these.

Batch steps look at their neighbours' Z of before (Jacobi).  Derived, like the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dadmm.numerics.algebra import row_squares, square
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.solvers.block import consensus
from dadmm.solvers.block.minibatch import Learner, Local, mini_batches, project
from dadmm.solvers.block.options import BlockOptions
from dadmm.solvers.evaluate import EVALUATED
from dadmm.solvers.parts import Part
from dadmm.solvers.problem import Chunk, Problem, gather
from dadmm.solvers.rows import batches
from dadmm.solvers.sums import Sums


@dataclass(frozen=True)
class Task:
    """What a part does, and to which block: "forward", "pull", "move" or "train"."""

    does: str
    block: int


def parts(solver: BlockOptions, problem: Problem) -> tuple[Part, ...]:
    """Return the tasks of a chunk; those that read `fresh` state wait for its writers."""
    layers = solver.layers(problem)
    last = layers[-1]
    splits = solver.splits_by_targets(problem)
    memory = {t: tuple(n for n in solver.memory(problem) if n.endswith(f"_{t}")) for t in layers}

    def between(*names: tuple[str, int]) -> tuple[str, ...]:
        return tuple(f"{kind}_{t}" for kind, t in names if 1 <= t < last)

    def part(
        name: str, t: int, fresh: tuple[str, ...], writes: tuple[str, ...], **more: Any
    ) -> Part:
        return Part(
            f"{name}-block-{t}",
            fresh=fresh,
            writes=writes,
            layers=(t,),
            x=t == 1,
            work=Task(name, t),
            **more,
        )

    if solver.mode == "online":
        forward = [
            part("forward", t, between(("z", t - 1)), between(("z", t)), y=splits)
            for t in layers[:-1]
        ]
        train = [
            part(
                "train",
                t,
                between(("z", t - 1), ("target", t)),
                between(("target", t - 1)) + memory[t],
                reads=memory[t],
                y=splits or t == last,
                group=t,
            )
            for t in reversed(layers)
        ]
        return (*forward, *train)
    pull = [
        part(
            "pull",
            t,
            (),
            between(("f", t), ("pull", t - 1), ("bend", t - 1)),
            reads=between(("z", t - 1), ("z", t), ("u", t)),
            y=splits or t == last,
        )
        for t in layers
    ]
    move = [
        Part(
            f"move-block-{t}",
            work=Task("move", t),
            reads=between(("z", t), ("u", t)),
            fresh=between(("f", t), ("pull", t), ("bend", t)),
            writes=between(("z", t)),
            y=splits,
        )
        for t in layers[:-1]
    ]
    train = [
        part(
            "train",
            t,
            between(("z", t - 1), ("z", t)),
            between(("u", t)) + memory[t],
            reads=between(("u", t)) + memory[t],
            y=splits or t == last,
            group=t,
        )
        for t in layers
    ]
    return (*pull, *move, *train)


def visit(solver: BlockOptions, problem: Problem, task: Task, span: Learner, chunk: Chunk) -> Sums:
    """Do one of the tasks that need a block's parameters."""
    below = chunk.inputs if task.block == 1 else chunk.state[f"z_{task.block - 1}"]
    assert below is not None
    visit = _Visit(solver, problem, span, below, chunk)
    if task.does == "forward":
        visit.forward()
        return {}
    if task.does == "pull":
        visit.pull()
        return {}
    return visit.learn()


def move(solver: BlockOptions, problem: Problem, t: int, chunk: Chunk) -> None:
    """Take one gradient step on Z_t, as long as each row's curvature allows."""
    state, train = chunk.state, solver.split(problem, chunk)[0]
    rho = np.dtype(problem.dtype).type(solver.rho)
    constraint = solver.boundaries(problem)[t - 1]
    for piece in batches(len(train), EVALUATED):
        rows = train[piece]
        z, u, f, pull = (state[f"{kind}_{t}"][rows] for kind in ("z", "u", "f", "pull"))
        step = (z + u - f) * rho + pull
        if constraint is not None and not constraint.convex:
            step /= rho
        else:
            step *= rho.dtype.type(solver.z_rate) / (rho + state[f"bend_{t}"][rows])
        state[f"z_{t}"][rows] = project(constraint, z - step)


class _Visit:
    """A task on one block of one chunk."""

    def __init__(
        self, solver: BlockOptions, problem: Problem, span: Learner, below: Array, chunk: Chunk
    ) -> None:
        self.solver, self.problem, self.span = solver, problem, span
        self.below, self.chunk, self.dtype = below, chunk, np.dtype(problem.dtype)
        self.t, self.last = span.number, len(solver.layers(problem))
        self.constraint = solver.boundaries(problem)[self.t - 1]
        self.lower = solver.boundaries(problem)[self.t - 2] if self.t > 1 else None
        self.criterion = get_loss(problem.loss)
        self.local = Local(solver, problem, [span])
        self.train, _ = solver.split(problem, chunk)

    def _new(self, width: int) -> Array:
        """Return zeros for all rows of the chunk; those held out stay 0."""
        return np.zeros((len(self.below), width), self.dtype)

    def _rows(self, rows: Array) -> Array:
        """Return some rows of what the block reads."""
        if self.t == 1:
            return self.chunk.take(rows)
        return gather("below", self.below, rows)

    def _pieces(self) -> Iterator[tuple[Array, Array, Array]]:
        """Yield rows to train on, a few at a time, with the block's input and output for them."""
        for piece in batches(len(self.train), EVALUATED):
            rows = self.train[piece]
            v = self._rows(rows)
            yield rows, v, self.span.forward(v)

    def forward(self) -> None:
        """Set ``Z_t = P(f_t(Z_{t-1}))``."""
        z = self._new(self.span.width)
        for rows, _, out in self._pieces():
            z[rows] = project(self.constraint, out)
        self.chunk.state[f"z_{self.t}"] = z

    def pull(self) -> None:
        """Set ``f_t(Z_{t-1})``, and what the block asks of Z_{t-1}."""
        state, t = self.chunk.state, self.t
        f = self._new(self.span.width)
        pull, bend = self._new(self.below.shape[1] if t > 1 else 0), self._new(1)
        weight = min(self.criterion.lipschitz, 1.0) if t == self.last else self.solver.rho
        for rows, _, out in self._pieces():
            f[rows] = out
            if t > 1:
                upstream = self._upstream(out, rows)
                pull[rows] = found = self.span.pull(upstream)
                sizes = row_squares(upstream), row_squares(found)
                bend[rows, 0] = self.span.bend(*sizes, weight)
        if t < self.last:
            state[f"f_{t}"] = f
        if t > 1:
            state[f"pull_{t - 1}"], state[f"bend_{t - 1}"] = pull, bend

    def _upstream(self, out: Array, rows: Array) -> Array:
        """Return the gradient of the block's own term in its output, row by row."""
        chunk, t = self.chunk, self.t
        if t == self.last:
            assert chunk.y is not None
            weight = None if chunk.weight is None else chunk.weight[rows]
            return self.local.measure(out, chunk.y[rows], weight)
        rho = self.dtype.type(self.solver.rho)
        if self.solver.mode == "online":
            return (out - chunk.state[f"target_{t}"][rows]) * rho
        return (out - chunk.state[f"u_{t}"][rows] - chunk.state[f"z_{t}"][rows]) * rho

    def learn(self) -> Sums:
        """Move the targets below (online), learn, update U (batch); return the sums."""
        solver, t, state = self.solver, self.t, self.chunk.state
        if solver.mode == "online":
            target = self._new(self.below.shape[1] if t > 1 else 0)
            rho = self.dtype.type(solver.rho)
            for rows, v, out in self._pieces():
                upstream = self._upstream(out, rows)
                if t > 1:
                    moved = v - self.span.pull(upstream) / rho
                    target[rows] = project(self.lower, moved)
            if t > 1:
                state[f"target_{t - 1}"] = target
        elif t == self.last:
            for rows, _, out in self._pieces():
                self._upstream(out, rows)
        self._mini_batches()
        if solver.mode == "batch" and t < self.last:
            u, z = state[f"u_{t}"], state[f"z_{t}"]
            for rows, _, out in self._pieces():
                u[rows] += z[rows] - out
        sums: Sums = {f"residual_{t}": self.local.residual}
        if t == self.last:
            sums |= self.local.measured
        return sums | consensus.contribution(solver, [self.span], len(self.train), self.chunk)

    def _mini_batches(self) -> None:
        """Learn from mini-batches of the block's own problem."""
        solver, chunk, span, t = self.solver, self.chunk, self.span, self.t
        state, seed = chunk.state, [*chunk.seed, t]
        goal = None
        if t < self.last:
            goal = state[f"target_{t}"] if solver.mode == "online" else state[f"z_{t}"]
        batched = mini_batches(solver, self.problem, self.train, seed, chunk.pace)
        for picked, rate, beta1, epoch in batched:
            v = self._rows(picked)
            for inner in range(solver.inner_steps):
                out = span.forward(v)
                if goal is None:
                    assert chunk.y is not None
                    w = None if chunk.weight is None else chunk.weight[picked]
                    g = self.local.gradient(out, gather("y", chunk.y, picked), w)
                    g *= g.dtype.type(1.0 / len(picked))
                else:
                    g = out - gather("goal", goal, picked)
                    if not inner and not epoch:
                        self.local.residual += square(g)
                    if solver.mode == "batch":
                        g -= gather("u", state[f"u_{t}"], picked)
                    g *= g.dtype.type(solver.rho / len(picked))
                span.learn(g, rate, beta1, pull=False)
