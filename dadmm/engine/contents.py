"""The arrays that a stored run must have, by its attributes and its commit record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dadmm.engine.plan import Plan, Position
from dadmm.store.run import SCALING


@dataclass(frozen=True)
class Contents:
    """The arrays that a stored run must have.

    Parameters
    ----------
    whole : frozenset of str
        Arrays of which all chunks must be there.
    begun : frozenset of str
        Arrays that have metadata, and chunks only if the method wrote them.
    """

    whole: frozenset[str]
    begun: frozenset[str] = frozenset()

    @property
    def groups(self) -> set[str]:
        """The groups that hold the arrays."""
        parts = (name.split("/") for name in self.whole | self.begun)
        return {"/".join(each[:n]) for each in parts for n in range(1, len(each))}


def contents(
    plan: Plan, record: Mapping[str, Any] | None, rows: list[dict[str, float]]
) -> Contents:
    """Return the arrays that a stored run must have.

    Parameters
    ----------
    plan : Plan
    record : mapping or None
        The commit record; None before the first commit.
    rows : list of dict
        The history.
    """
    whole, begun = {*_data(plan)}, set[str]()
    if record is None:
        return Contents(frozenset(whole))
    at = Position.of(record, rows)
    states = {at.generation} if at.previous is None else {at.generation, at.previous}
    params = states | set(at.held(plan.judge(rows).keep))
    whole |= {name for generation in params for name in plan.parameters(generation)}
    # The first state of a method has what an iteration reads; the rest is only made room for.
    started = record.get("started", plan.run.first)
    for generation in states:
        for name in (*plan.layout.state, *plan.layout.memory):
            needed = generation != started or name in plan.read
            (whole if needed else begun).add(f"state/{generation}/{name}")
    constants = {*plan.layout.constants, *plan.run.blocks.names("constants")}
    whole |= {f"constants/{name}" for name in constants}
    if record["columns"]:
        whole |= {f"history/{name}" for name in ("iteration", *record["columns"])}
    if record["final"]:
        whole |= {f"network/{record['network']}/{name}" for name in plan.layout.network.shapes}
    return Contents(frozenset(whole), frozenset(begun))


def _data(plan: Plan) -> Iterator[str]:
    """Yield the arrays of data and scaling that must be there."""
    problem, stored = plan.problem, plan.run.attributes
    if problem.supervised:
        yield "data/y"
    if problem.weighted:
        yield "data/weight"
    if stored.get("pending") is not None:  # the inputs are not stored yet
        yield from (f"scaling/{name}" for name in SCALING if name.startswith("y"))
        return
    yield from (f"scaling/{name}" for name in SCALING)
    source = stored.get("sources", {}).get("x")
    if source is None:
        yield "data/x"
        if stored.get("dealt"):
            yield "data/row"
    else:
        yield "data/x_crc32c"
        if source.get("unit"):
            yield "data/x_pieces"
