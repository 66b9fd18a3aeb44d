"""Who waits for whom in an iteration, without what the tasks would carry."""

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
    """What tasks that cost the same have in common.

    Parameters
    ----------
    name : {"load", "visit", "add", "solve", "report"}
    layer : int
        Of a load or a solve.
    part : Part or None
        Of a visit.
    rows : int
        Of a visit's chunk.
    expects : bool
        Of a visit, whether another of the same worker's is likely to follow, so that reading for
        one overlaps with computing the other.
    saves : bool
        Of a solve, whether it stores the weights instead of returning them.
    parts : tuple of (frozenset of Part, bool)
        Of an addition: for each summand the visits that it holds, and whether it is a total.
    spread : bool
        Whether the task goes to any worker, not to one that has something it needs.
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
    """The tasks of an iteration, in an order in which none comes before what it needs.

    Parameters
    ----------
    kinds : tuple of Kind
    kind : list of int
        Of each task, the number of its kind.
    needs : list of tuple of int
        Of each task, the tasks that it waits for, without repetition.
    turn : list of int
        Of each task, when it should be done among those that could be, the smallest first.
    """

    kinds: tuple[Kind, ...]
    kind: list[int]
    needs: list[tuple[int, ...]]
    turn: list[int]

    def __len__(self) -> int:
        return len(self.kind)


class Recorded(TaskLayout):
    """A layout that keeps of each task its name, its kind and what it waits for."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.names: list[tuple[Any, ...]] = []
        self.kind: list[int] = []
        self.needs: list[tuple[int, ...]] = []
        self.kinds: list[Kind] = []
        self._known: dict[tuple[Any, ...], int] = {}
        # Of each task, the parts whose sums it holds, as a set of bits, and whether it is a total.
        self._holds: list[tuple[int, bool]] = []
        self._parts: list[Part] = []
        self._bits: dict[int, tuple[Part, int]] = {}

    def add(
        self, function: Any, prefix: str, *ident: Any, spread: bool = False
    ) -> Callable[..., Ref]:
        """Return what takes a task's arguments to a reference to it."""

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
        """Return what tells a task's kind, and which sums its result holds."""
        if function is visit:
            part, _, chunk, _, then, *_ = args
            # By identity, for hashing each of many would take longer than all the rest.
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
    """Lay out an iteration of a plan, whose run is not looked at."""
    layout = Recorded(plan)
    layout.iteration(Step(0, 0, 1))
    return layout


def tasks_of(plan: Plan) -> Tasks:
    """Return the tasks of an iteration, without those whose results nobody needs, as Dask does."""
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

    Depth first from the last task, so that sums are added up before more is visited: as Dask
    orders such graphs.
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
