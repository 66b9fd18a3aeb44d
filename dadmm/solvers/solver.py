"""The form that every training method here has: map, sum, update.

An iteration is one or more *passes*.  A pass visits every data chunk with the current weights
(`Solver.visit`: pure NumPy, no Dask, no I/O), adds up what the visits return in a fixed tree
(`combine`), and updates the weights from the total, layer by layer (`Solver.solve`).  Whatever
fits this form gets threads, clusters, out-of-core state, checkpoints, progress and crash
recovery from `dadmm.engine.graph`, `dadmm.engine.loop` and `dadmm.store`.

Everything that crosses this seam is a flat dict of named arrays, with layers counted from 1:
parameters ``w_i`` and ``b_i``, per-sample state such as ``v_i``, and sums such as ``gram_i``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dadmm.networks.architecture import Architecture, Model
from dadmm.networks.scaling import Scaling
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers.counts import Work

Sums = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is to be minimised, apart from the data.

    Parameters
    ----------
    architecture : Architecture
    loss : str
        A name in `dadmm.numerics.losses.LOSSES`.
    alpha : float
        lambda, the weight of ``|W|^2 / 2`` per sample; biases are free.
    rows : int
        n, the number of samples.
    classes : int
        Number of classes, or of labels if each row may have several; 0 for regression.
    target_variation : float
        Regression: the sum of squares of the scaled targets about their mean, for R^2.
    dtype : str
        Dtype of the state and of the weights during a visit.
    weighted : bool
        Whether the samples have weights.
    supervised : bool
        Whether there are targets.
    """

    architecture: Architecture
    loss: str
    alpha: float
    rows: int
    classes: int = 0
    target_variation: float = 0.0
    dtype: str = "float32"
    weighted: bool = False
    supervised: bool = True


@dataclass(frozen=True)
class Part:
    """One task of a pass over one chunk: what it does, and what it reads and writes.

    Parameters
    ----------
    name : str
        Prefix of the task's key, as the dashboard shows it.
    sweep : (int, int) or None
        First and last layer whose per-sample blocks are updated.
    couple : tuple of int
        Layers whose sums for the weight update are formed.
    evaluate : bool
        Whether the network is run forward on the chunk, for loss, score and head refit.
    reads, fresh, writes : tuple of str
        State read from the generation that the iteration starts from, read from the one that it
        writes (by parts that `wait`), and written.
    layers : tuple of int
        Layers whose weights the part needs.
    x, y : bool
        Whether the part needs the inputs and the targets.
    group : int
        Sums are added up among parts of one group: that of the layer that they are for, or 0 for
        those that all layers need.
    """

    name: str
    sweep: tuple[int, int] | None = None
    couple: tuple[int, ...] = ()
    evaluate: bool = False
    reads: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    x: bool = False
    y: bool = False
    group: int = 0


@dataclass(frozen=True)
class Pass:
    """One round of map, sum, update.

    Parameters
    ----------
    parts : tuple of Part
        What each chunk is visited for; parts that read `fresh` wait for those that write.
    solves : tuple of int
        Layers whose weights the total updates; none for a pass that only looks.
    chunks : tuple of int or None
        The chunks visited; None for all.
    """

    parts: tuple[Part, ...]
    solves: tuple[int, ...]
    chunks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Pace:
    """Where a visit stands in the whole run.

    Parameters
    ----------
    begin, end : float
        Shares of the run done before and after this visit, 0 to 1.
    factor : float
        What the learning rate is multiplied by beside its schedule.
    """

    begin: float = 0.0
    end: float = 0.0
    factor: float = 1.0

    def shared(self, passes: Sequence[Pass]) -> list[Pace]:
        """Return where each pass of an iteration stands; one that only looks takes no time."""
        training = [bool(each.solves) for each in passes]
        length = (self.end - self.begin) / max(sum(training), 1)
        ends = self.begin + length * np.cumsum(training)
        return [
            Pace(float(end - length * trains), float(end), self.factor)
            for end, trains in zip(ends, training, strict=True)
        ]


@dataclass(frozen=True)
class Chunk:
    """What a visit is given of one chunk of data: rows of everything, in one order.

    Parameters
    ----------
    x : (rows, features) array or None
        Inputs, scaled unless `scaling` is given.
    y : (rows, outputs) array or None
        Targets in the loss's own encoding.
    state : dict of str to (rows, width) array
        Owned by the visit, which updates it in place.
    seed : tuple of int
        (seed, iteration, chunk), for whatever a visit draws at random.
    pace : Pace
        How much of the run is done, for methods that slow down.
    weight : (rows,) array or None
        Weights of the samples, whose mean over all is 1.
    scaling : Scaling or None
        How `x` is yet to be scaled, for solvers that ask for raw inputs: a visit that works on a
        few rows at a time needs no scaled copy of them all.
    """

    x: Array | None
    y: Array | None
    state: Arrays
    seed: tuple[int, ...] = (0,)
    pace: Pace = Pace()
    weight: Array | None = None
    scaling: Scaling | None = None

    @property
    def rows(self) -> int:
        """The number of samples in the chunk; what is kept per chunk has one row."""
        given = (self.x, self.y, *self.state.values())
        return max((len(block) for block in given if block is not None), default=0)


@dataclass(frozen=True)
class Footprint:
    """What a worker holds in memory during a run, in bytes, apart from Python itself.

    Parameters
    ----------
    row : int
        Of each visit, for each row of its chunk.
    visit : int
        Of each visit, whatever the rows.
    weights : int
        Of the weights, which all visits share.
    sums : int
        Of what the visits of one chunk return; totals, of float64, may be twice as large.
    total : int
        Of such a total.
    solve : int
        Of one layer's weight update, or of what makes its weights ready, beside the total.
    share : float
        The largest share of the sums that is added up at once.
    """

    row: int
    visit: int
    weights: int
    sums: int
    total: int
    solve: int
    share: float = 1.0


class Solver(Protocol):
    """A training method.  Implementations are frozen dataclasses of their options."""

    name: str
    hint: str  # what to try when training diverges
    raw: bool  # whether visits scale the inputs themselves
    dtype: str

    def check(self, problem: Problem) -> None:
        """Raise `OptionError` for options that cannot work on this problem."""

    def variables(self, problem: Problem) -> dict[str, int]:
        """Name and width of each array kept per sample from one iteration to the next."""

    def memory(self, problem: Problem) -> dict[str, int]:
        """Name and size of each array kept per chunk from one iteration to the next."""

    def granularity(self, problem: Problem) -> tuple[int, int, int]:
        """Return the fewest chunks, what their number is a multiple of, and a chunk's most bytes.

        What the data's size and the memory allow goes before the first two.
        """

    def footprint(self, problem: Problem, inputs: int, chunks: int) -> Footprint:
        """Return what a run holds in memory.

        Parameters
        ----------
        inputs : int
            Bytes of one of the stored inputs.
        chunks : int
            How many there are.
        """

    def layers(self, problem: Problem) -> tuple[int, ...]:
        """Return the numbers of the layers that `prepare` and `solve` are called for."""

    def parameters(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the names of the arrays that are stored of a layer."""

    def exported(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return which of these arrays the network that predicts is made of."""

    def export(self, problem: Problem, layer: int, weights: Arrays) -> Arrays:
        """Return a layer's parameters as the network that predicts names them."""

    def model(self, problem: Problem) -> Model:
        """Return the shape of the network that predicts."""

    def passes(self, problem: Problem, chunks: int) -> tuple[Pass, ...]:
        """Return the passes of an iteration over so many chunks."""

    def finish(self, problem: Problem) -> Pass:
        """Return the pass that ends a run: its only part needs the finished network's layers."""

    def finish_passes(self, problem: Problem) -> int:
        """Return how often that pass updates weights, before it scores the network."""

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw the starting parameters."""

    def looks(self, problem: Problem) -> tuple[Part, ...]:
        """Return what chunks are looked at for, one after another, before training starts."""

    def begin(self, problem: Problem, part: Part, params: Arrays, sums: Sums) -> Arrays:
        """Return starting parameters that take a look at all chunks into account."""

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """First state of a chunk, and the sums that never change during the run."""

    def constants(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the names, among the sums of `start`, of what `solve` needs for a layer."""

    def prepare(self, problem: Problem, layer: int, params: Arrays) -> Arrays:
        """Return what visits need of a layer: its parameters and what is derived from them."""

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Do a part on a chunk: update its state in place, return its sums."""

    def idle(self, problem: Problem, part: Part, weights: Arrays) -> bool:
        """Whether a part has nothing left to do with these weights, so need not even read."""

    def solve(
        self, problem: Problem, layer: int, anchor: Arrays, weights: Arrays, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Return a layer's new parameters, and all its numbers for the report.

        `weights` holds under "details" those of the iteration's earlier passes.
        """

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """Turn the layers' numbers into one row of history."""

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        """Return `forward_loss` and `train_score` of the network that predicts."""

    def factor(self, rows: Sequence[Mapping[str, float]]) -> float:
        """Return what a learning rate is multiplied by after iterations with these rows."""

    def best(self, rows: Sequence[Mapping[str, float]]) -> int | None:
        """Return the iteration whose parameters to keep; None for the last."""

    def converged(self, rows: Sequence[Mapping[str, float]], tol: float) -> bool:
        """Whether the iterations with these rows say that more would not help."""


@runtime_checkable
class Counted(Solver, Protocol):
    """A training method that can say what it will compute, which `dadmm plan` asks for."""

    def visit_work(self, problem: Problem, part: Part, rows: int) -> Work:
        """Return what a visit of a chunk of so many rows computes, counted."""

    def weight_work(self, problem: Problem, layer: int) -> tuple[Work, Work]:
        """Return what `prepare` and `solve` compute for a layer, counted."""


def numbers(sums: Sums) -> Sums:
    """Return the sums that are plain numbers."""
    return {name: value for name, value in sums.items() if np.ndim(value) == 0}


def combine(parts: Sequence[Mapping[str, Any]]) -> Sums:
    """Add up sums in the given order; names that start with ``max_`` take the maximum instead.

    Arrays are added in float64, whatever their dtype.
    """
    total: Sums = {}
    for sums in parts:
        for name, value in sums.items():
            if name not in total:
                array = isinstance(value, np.ndarray)
                total[name] = np.array(value, np.float64) if array else value
            elif name.startswith("max_"):
                total[name] = np.maximum(total[name], value)
            else:
                total[name] += value
    return total


def iterate(
    solver: Solver,
    problem: Problem,
    params: Arrays,
    constants: Sums,
    chunks: Sequence[Chunk],
    pace: Pace | None = None,
) -> tuple[Arrays, dict[str, float]]:
    """Do one iteration in a plain loop: what `dadmm.engine.graph` does as a graph, to read and to test.

    `chunks` holds each chunk's data and whole state, which is updated in place; `constants` the
    combined sums of `Solver.start`.  Returns the new parameters and the report.
    """
    prepared = {i: solver.prepare(problem, i, params) for i in solver.layers(problem)}
    weights: dict[int, dict[str, Any]] = {i: dict(own) for i, own in prepared.items()}
    pace = pace or Pace()
    passes = solver.passes(problem, len(chunks))
    for j, (each, now) in enumerate(zip(passes, pace.shared(passes), strict=True)):
        merged = {name: array for own in weights.values() for name, array in own.items()}
        found: dict[int, list[Sums]] = {}
        for c in range(len(chunks)) if each.chunks is None else each.chunks:
            chunk = replace(chunks[c], pace=now)
            before = {name: block.copy() for name, block in chunk.state.items()}
            for part in each.parts:
                if solver.idle(problem, part, merged):
                    continue
                state = {name: before[name] for name in part.reads}
                state |= {name: chunk.state[name] for name in part.fresh}
                state = {name: block.copy() for name, block in state.items()}
                x, y = chunk.x if part.x else None, chunk.y if part.y else None
                seen = replace(chunk, state=state, x=x, y=y)
                visited = solver.visit(problem, part, merged, seen)
                found.setdefault(part.group, []).append(visited)
                chunk.state.update({name: state[name] for name in part.writes})
        totals = {group: combine(sums) for group, sums in found.items()}
        for layer in prepared if j == len(passes) - 1 else each.solves:
            known = {name: constants[name] for name in solver.constants(problem, layer)}
            own, sums = weights[layer], totals.get(layer, totals.get(0, {}))
            new, details = solver.solve(problem, layer, prepared[layer], own, {**sums, **known})
            weights[layer] = {**own, **new, "details": details}
    merged = {name: array for own in weights.values() for name, array in own.items()}
    every = {name: v for own in weights.values() for name, v in own["details"].items()}
    return {name: merged[name] for name in params}, solver.report(problem, every)


def target_bytes(problem: Problem) -> int:
    """Return the bytes of one row's targets and weight, as stored and as a visit wants them."""
    size = np.dtype(problem.dtype).itemsize
    outputs = problem.architecture.widths[-1]
    stored = 4 if problem.classes else 8 * outputs
    if get_loss(problem.loss).multi_label:
        stored = outputs
    return stored + size * outputs + (8 + size) * problem.weighted
