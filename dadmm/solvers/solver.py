"""The seam: what a training method is.

An iteration is one or more *passes*.  A pass visits every data chunk with the current weights
(`Solver.visit`: pure NumPy, no Dask, no files), adds up what the visits return in a fixed tree
(`dadmm.solvers.sums.combine`), and updates the weights from the total, layer by layer
(`Solver.update`).  Whatever fits this form gets threads, clusters, state that is larger than
memory, checkpoints, progress and recovery from crashes from `dadmm.engine`.

Everything that crosses the seam is a flat dict of named arrays, with layers counted from 1:
parameters ``w_i`` and ``b_i``, state per sample such as ``v_i``, and sums such as ``gram_i``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dadmm.errors import OptionError
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array, Arrays
from dadmm.solvers import evaluate
from dadmm.solvers.parts import Layout, Part, Pass, Phase, Schedule
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.stopping import HeldOut, StepBelow, Stopping
from dadmm.solvers.sums import Sums, numbers

# `Part.work` of parts that evaluate on the rows that `HeldOut` holds out.
HELD_OUT = "held out"


class Weights(dict[str, Any]):
    """One layer's arrays by name, as `Solver.update` gets them.

    Attributes
    ----------
    start : dict
        The arrays as they were when the iteration began.
    details : dict
        Numbers that the updates of the iteration's earlier passes have returned.
    """

    def __init__(self, arrays: Mapping[str, Any], start: Arrays, details: Sums) -> None:
        super().__init__(arrays)
        self.start, self.details = start, details


class Solver(ABC):
    """A training method: a frozen dataclass of its options, with three methods to write.

    `layout` says which arrays there are, `visit` computes sums from one chunk, and `update` forms
    a layer's new arrays from the totals.  All other methods have defaults.

    Attributes
    ----------
    name : str
        What the method is called in messages and in the run's store.
    hint : str
        What to try when training diverges.
    weighted : bool
        Whether visits heed `Chunk.weight`.  Sample weights are refused where they do not.
    order_matters : bool
        Whether results depend, beyond rounding, on which rows lie in a chunk together.
    stopping : Stopping
        When training stops: `StepBelow`, `NoBetterLoss`, `HeldOut` or `ObjectiveFlat`.
    dtype : {"float32", "float64"}
        Of the weights and the state during a visit.
    """

    name: ClassVar[str]
    hint: ClassVar[str] = "Take shorter steps, and standardise the data."
    weighted: ClassVar[bool] = False
    order_matters: bool = True
    dtype: str = "float32"
    stopping: Stopping = StepBelow()

    @abstractmethod
    def layout(self, problem: Problem) -> Layout:
        """Return the arrays of the method, and the network that predicts.

        It is called in the driver and in every task, so it must be cheap.  It may depend on the
        options and the problem alone.
        """

    @abstractmethod
    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Compute what one chunk adds to the sums; update its state in place.

        Called by a worker for each chunk and each part of a pass that does not evaluate.

        Parameters
        ----------
        part : Part
            What the pass asks for: the default schedule has one kind of part.
        weights : dict
            The arrays of the part's layers, as `prepare` returned them.
        chunk : Chunk
            Inputs, targets and state.

        Returns
        -------
        dict
            Arrays and numbers that are added up over the chunks, in float64; of names that start
            with ``max_`` the largest is taken.
        """

    @abstractmethod
    def update(
        self, problem: Problem, layer: int, weights: Weights, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Return a layer's new arrays, and numbers for the report.

        Called once per pass for each layer that the pass updates.

        Parameters
        ----------
        weights : Weights
            The layer's arrays as they are now.
        sums : dict
            Totals over the chunks, of the layer's group, and the layer's constants.  Sums that
            this pass has not formed are missing.
        """

    def check(self, problem: Problem) -> None:  # noqa: B027 - by default nothing is refused
        """Raise `OptionError` for options that cannot work on this problem.

        The range of each option by itself is checked by its description (`dadmm.options`).
        """

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw the starting arrays: those of the network, by default."""
        network: Any = self.layout(problem).network
        drawn: Arrays = network.initial(seed, problem.dtype)
        return drawn

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """Return the first state of a chunk, by default zeros, and sums that never change."""
        layout = self.layout(problem)
        state = {name: np.zeros((chunk.rows, w), problem.dtype) for name, w in layout.state.items()}
        state |= {name: np.zeros((1, size), problem.dtype) for name, size in layout.memory.items()}
        return state, {}

    def passes(self, problem: Problem, chunks: int) -> Schedule:
        """Return the passes of a run over so many chunks.

        By default an iteration is one pass over all chunks, whose visits need all layers, all
        state, inputs and targets; and the finished network is scored.  Where `stopping` is
        `HeldOut`, a second pass evaluates the network on the rows that `visit` leaves out.
        """
        layout = self.layout(problem)
        kept = (*layout.state, *layout.memory)
        layers = tuple(layout.layers)
        visit = Part(
            "visit-chunk", reads=kept, writes=kept, layers=layers, x=True, y=problem.supervised
        )
        passes = [Pass((visit,), layers)]
        if isinstance(self.stopping, HeldOut):
            passes.append(scoring(layout, held_out=True))
        return Schedule(tuple(passes), after=(scoring(layout),))

    def prepare(self, problem: Problem, layer: int, params: Arrays) -> Arrays:
        """Return what visits need of a layer: its arrays, and what is derived from them.

        After training, `params` has only the arrays that predictions need.
        """
        return params

    def evaluate(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Run the network forward on a chunk, or on its rows that are held out.

        Returns
        -------
        dict
            Losses and scores as sums, see `dadmm.solvers.evaluate.forward`.
        """
        layout = self.layout(problem)
        params: Arrays = {}
        for layer in layout.exported:
            params |= self.export(problem, layer, weights)

        def predict(x: Array) -> Array:
            return layout.network.forward(params, x)

        return evaluate.forward(problem, predict, chunk, evaluated(self, problem, part, chunk))

    def export(self, problem: Problem, layer: int, weights: Arrays) -> Arrays:
        """Return a layer's parameters under the names that the network has for them."""
        layout = self.layout(problem)
        return {n: weights[n] for n in layout.layers[layer] if n in layout.network.shapes}

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """Turn the numbers of an iteration into one row of history.

        By default `objective` and `train_score`, where visits return the sums of
        `dadmm.solvers.scores`, and `step` and `size`, the norms of what moved and of all
        parameters.  `summary` adds these numbers for this report; one of a subclass gets only
        what `update` returns.
        """
        row = evaluate.training_row(problem, details) if "mass" in details else {}
        if "forward_rows" in details:
            row |= validation_row(self.score(problem, details))
        for name in ("step", "size"):
            squares = (v for key, v in details.items() if key.startswith(f"{name}_"))
            row[name] = float(sum(squares)) ** 0.5
        return row

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        """Return `forward_loss` and `train_score` of the finished network, from its last pass."""
        return evaluate.final_scores(problem, sums)

    def heeds_rows_of_weight_0(self, problem: Problem) -> bool:
        """Whether rows of weight 0 shape what is learnt, as they do in factors; by default no."""
        return False

    def incremental(self) -> Solver | None:
        """Return the method that `partial_fit` uses for one pass; None where it cannot."""
        return None


def call(solver: Solver, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
    """Call `Solver.evaluate` or `Solver.visit`, by the phase of the part."""
    evaluates = part.phase is Phase.EVALUATE
    return (solver.evaluate if evaluates else solver.visit)(problem, part, weights, chunk)


def scoring(layout: Layout, held_out: bool = False) -> Pass:
    """Return the pass that scores a network, on all rows or on those that are held out."""
    name, work = ("validate-chunk", HELD_OUT) if held_out else ("evaluate-chunk", None)
    layers = tuple(layout.exported)
    return Pass((Part(name, Phase.EVALUATE, layers=layers, x=True, y=True, work=work),), ())


def evaluated(solver: Solver, problem: Problem, part: Part, chunk: Chunk) -> Array | None:
    """Return the rows that a part scores: those that are held out, or None for all.

    Rows of weight 0 are left out: they may have no known label.
    """
    if part.work == HELD_OUT and isinstance(solver.stopping, HeldOut):
        _, rows = solver.stopping.split(problem, chunk)
    elif chunk.weight is None:
        return None
    else:
        rows = np.arange(chunk.rows)
    return rows if chunk.weight is None else rows[chunk.weight[rows] > 0]


def validation_row(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the columns of history for scores on rows that are held out."""
    names = {"validation_loss": "forward_loss", "validation_score": "train_score"}
    return {column: scores[name] for column, name in names.items()}


def summary(layer: int, weights: Weights, new: Arrays, sums: Sums) -> Sums:
    """Return the numbers that the default report needs of a layer's update."""
    start = {name: weights.start[name] for name in new if name in weights.start}
    moved = (square((np.asarray(new[n]) - a).reshape(1, -1)) for n, a in start.items())
    size = (square(np.asarray(new[n]).reshape(1, -1)) for n in start)
    return {**numbers(sums), f"step_{layer}": sum(moved), f"size_{layer}": sum(size)}


def check_weights(solver: Solver, problem: Problem) -> None:
    """Raise `OptionError` if samples have weights that the method does not heed."""
    if problem.weighted and not solver.weighted:
        raise OptionError("sample_weight and class_weight need solver='block'")
