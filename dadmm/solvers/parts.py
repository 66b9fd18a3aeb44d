"""What a method asks the engine to do: the layout of its arrays, and a schedule of passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from dadmm.networks.architecture import Model


class Phase(Enum):
    """What a part of a pass is for; timings are kept by phase."""

    VISIT = "visit"
    COUPLE = "couple"
    EVALUATE = "evaluate"
    LOOK = "look"


@dataclass(frozen=True)
class Layout:
    """The arrays of a method.

    Parameters
    ----------
    layers : mapping of int to tuple of str
        For each layer, counted from 1, the names of the arrays that are stored from one
        iteration to the next.  A name ends in the layer's number, ``w_1``.
    network : Architecture or Chain
        The network that predicts.
    state : mapping of str to int
        Name and width of each array that is kept per sample.
    memory : mapping of str to int
        Name and size of each array that is kept per chunk.
    constants : tuple of str
        Names of the sums of `Solver.start` that `Solver.update` needs.  One that ends in a
        layer's number, ``gram_1``, is for that layer; others are for all layers.
    predicting : mapping of int to tuple of str, or None
        For each layer that the network is made of, the stored arrays that `Solver.export` needs.
        None: those that the network names too.
    """

    layers: Mapping[int, tuple[str, ...]]
    network: Model
    state: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    constants: tuple[str, ...] = ()
    predicting: Mapping[int, tuple[str, ...]] | None = None

    @property
    def exported(self) -> Mapping[int, tuple[str, ...]]:
        """Return the layers that the network is made of, each with the arrays that it needs."""
        if self.predicting is not None:
            return self.predicting
        known = self.network.shapes
        found = {i: tuple(n for n in names if n in known) for i, names in self.layers.items()}
        return {layer: names for layer, names in found.items() if names}

    def constants_of(self, layer: int) -> tuple[str, ...]:
        """Return the names of the constants that a layer's update needs."""
        ends = {name: name.rpartition("_")[2] for name in self.constants}
        return tuple(n for n, end in ends.items() if end == str(layer) or not end.isdecimal())


@dataclass(frozen=True)
class Part:
    """One task of a pass over one chunk: what it reads and writes.

    Parameters
    ----------
    name : str
        Prefix of the task's key, as the dashboard shows it.
    phase : Phase
        What it is for.  Parts that evaluate go to `Solver.evaluate`, all others to
        `Solver.visit`.
    reads, fresh, writes : tuple of str
        State read from the generation that the iteration starts from, read from the one that it
        writes (by parts that wait for those that write), and written.
    layers : tuple of int
        Layers whose weights the part needs.
    x, y : bool
        Whether the part needs the inputs and the targets.
    group : int
        Sums are added up among parts of one group.  Its number is the layer that needs them, or
        0 if all layers do.
    work : object
        Tells the method what to do; only the method reads it.  It must be hashable.
    """

    name: str
    phase: Phase = Phase.VISIT
    reads: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    x: bool = False
    y: bool = False
    group: int = 0
    work: object = None


@dataclass(frozen=True)
class Pass:
    """One round of map, sum, update.

    Parameters
    ----------
    parts : tuple of Part
        What each chunk is visited for; parts that read `fresh` wait for those that write.
    updates : tuple of int
        Layers whose weights the total updates; none for a pass that only evaluates.
    chunks : tuple of int or None
        The chunks visited; None for all.
    """

    parts: tuple[Part, ...]
    updates: tuple[int, ...]
    chunks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Schedule:
    """The passes of a run.

    Parameters
    ----------
    iteration : tuple of Pass
        Of each iteration.
    before : tuple of Pass
        Before the first iteration, one after another: their updates change the starting
        parameters.
    after : tuple of Pass
        Once training is over, on the arrays that predictions need.  The last one updates
        nothing: its sums give the scores of the finished network.
    """

    iteration: tuple[Pass, ...]
    before: tuple[Pass, ...] = ()
    after: tuple[Pass, ...] = ()


@dataclass(frozen=True)
class Pace:
    """Where a visit stands in the whole run.

    Parameters
    ----------
    begin, end : float
        Shares of the run done before and after this visit, 0 to 1.
    factor : float
        A multiplier of the learning rate, beside its schedule.
    """

    begin: float = 0.0
    end: float = 0.0
    factor: float = 1.0

    def shared(self, passes: Sequence[Pass]) -> list[Pace]:
        """Return where each pass of an iteration stands; one that updates nothing takes no time."""
        training = [bool(each.updates) for each in passes]
        length = (self.end - self.begin) / max(sum(training), 1)
        ends = self.begin + length * np.cumsum(training)
        return [
            Pace(float(end - length * trains), float(end), self.factor)
            for end, trains in zip(ends, training, strict=True)
        ]
