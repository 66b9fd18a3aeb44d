"""Record the tasks of an iteration and what each waits for, without their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dadmm.engine.layout import TaskLayout
from dadmm.engine.plan import Plan, Step
from dadmm.engine.tasks import add, load_weights, report, solve, visit
from dadmm.solvers.parts import Part


class Ref(int):
    """The number of a task; plain ints among the arguments are not references."""


@dataclass(frozen=True)
class Kind:
    """What tasks of equal cost have in common.

    Parameters
    ----------
    name : {"load", "visit", "add", "solve", "report"}
    layer : int
        Load, solve: the layer.
    part : Part or None
        Visit: its part.
    rows : int
        Visit: rows of its chunk.
    expects : bool
        Visit: whether the same worker is likely to visit another chunk next, so that reading that
        one overlaps with computing this one.
    saves : bool
        Solve: whether it stores the weights instead of returning them.
    parts : tuple of (frozenset of Part, bool)
        Add: for each summand the parts that it holds, and whether it is a total.
    spread : bool
        Whether the task may go to any worker, rather than to one that holds an input.
    """

    name: str
    layer: int = 0
    part: Part | None = None
    rows: int = 0
    expects: bool = False
    saves: bool = False
    parts: tuple[tuple[frozenset[Part], bool], ...] = ()
    spread: bool = False


@dataclass(frozen=True)
class Tasks:
    """The tasks of an iteration, each after all that it needs.

    Parameters
    ----------
    kinds : tuple of Kind
    kind : list of int
        The number of each task's kind.
    needs : list of tuple of int
        The tasks that each task waits for, without repetition.
    turn : list of int
        The priority of each task among those that are ready, the smallest first.
    """

    kinds: tuple[Kind, ...]
    kind: list[int]
    needs: list[tuple[int, ...]]
    turn: list[int]

    def __len__(self) -> int:
        return len(self.kind)


class Recorded(TaskLayout):
    """A layout that records each task's name, its kind and the tasks it waits for."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.names: list[tuple[Any, ...]] = []
        self.kind: list[int] = []
        self.needs: list[tuple[int, ...]] = []
        self.kinds: list[Kind] = []
        self._known: dict[tuple[Any, ...], int] = {}
        # For each task: the parts whose sums it holds, as a set of bits, and whether it is a total.
        self._holds: list[tuple[int, bool]] = []
        self._parts: list[Part] = []
        self._bits: dict[int, tuple[Part, int]] = {}

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Ref]:
        """Return a function that records a task for its arguments and returns a reference to it."""

        def call(*args: Any) -> Ref:
            needs: list[int] = []
            for arg in args:
                if isinstance(arg, Ref):
                    needs.append(arg)
                elif isinstance(arg, list):
                    needs.extend(each for each in arg if isinstance(each, Ref))
            key, holds = self._describe(function, args, spread)
            number = self._known.get(key)
            if number is None:
                number = self._known[key] = len(self.kinds)
                self.kinds.append(self._kind(key))
            self.names.append((prefix, *ident))
            self.kind.append(number)
            self.needs.append(tuple(dict.fromkeys(needs)))
            self._holds.append(holds)
            return Ref(len(self.kind) - 1)

        return call

    def _describe(
        self, function: Any, args: Sequence[Any], spread: bool
    ) -> tuple[tuple[Any, ...], tuple[int, bool]]:
        """Return a key of the task's kind, and the sums that its result holds."""
        if function is visit:
            part, _, chunk, _, then, *_ = args
            # By identity: hashing every part would take longer than all the rest.
            if id(part) not in self._bits:
                self._bits[id(part)] = part, self._bit(part)
            bit = self._bits[id(part)][1]
            return ("visit", bit, self.plan.chunks[chunk], then is not None, spread), (bit, False)
        if function is add:
            summands = tuple(self._holds[each] for each in args[0])
            whole = 0
            for bits, _ in summands:
                whole |= bits
            return ("add", summands), (whole, True)
        if function is load_weights:
            return ("load", args[1]), (0, False)
        if function is solve:
            return ("solve", args[0], args[1] is not None), (0, False)
        assert function is report
        return ("report",), (0, False)

    def _bit(self, part: Part) -> int:
        if part not in self._parts:
            self._parts.append(part)
        return 1 << self._parts.index(part)

    def _kind(self, key: tuple[Any, ...]) -> Kind:
        name, *rest = key
        if name == "visit":
            bit, rows, expects, spread = rest
            (part,) = self._of(bit)
            return Kind(name, part=part, rows=rows, expects=expects, spread=spread)
        if name == "add":
            return Kind(name, parts=tuple((self._of(bits), total) for bits, total in rest[0]))
        if name == "solve":
            return Kind(name, layer=rest[0], saves=rest[1])
        return Kind(name, layer=rest[0]) if rest else Kind(name)

    def _of(self, bits: int) -> frozenset[Part]:
        return frozenset(part for i, part in enumerate(self._parts) if bits >> i & 1)


def record(plan: Plan) -> Recorded:
    """Lay out an iteration of a plan without looking at its run."""
    layout = Recorded(plan)
    layout.iteration(Step(0, 0, 1))
    return layout


def tasks_of(plan: Plan) -> Tasks:
    """Return the tasks of an iteration; like Dask, leave out those whose results nobody needs."""
    layout = record(plan)
    turns = _turns(layout.needs)
    number = {task: i for i, task in enumerate(sorted(turns))}
    return Tasks(
        tuple(layout.kinds),
        [layout.kind[task] for task in number],
        [tuple(number[need] for need in layout.needs[task]) for task in number],
        [turns[task] for task in number],
    )


def _turns(needs: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return the turn of each task that the last one needs, itself included.

    The order is depth first from the last task, as Dask orders such graphs: sums are added up
    before more chunks are visited.
    """
    found: dict[int, int] = {}
    stack = [(len(needs) - 1, 0)]
    while stack:
        task, done = stack.pop()
        wanted = needs[task]
        while done < len(wanted) and wanted[done] in found:
            done += 1
        if done < len(wanted):
            stack += [(task, done), (wanted[done], 0)]
        elif task not in found:
            found[task] = len(found)
    return found
