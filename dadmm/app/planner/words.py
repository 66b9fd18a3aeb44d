"""Put a plan into lines and tables, for the command line and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask.utils import format_bytes

from dadmm.app.planner.forecast import WORTH, Forecast, Subject, enough
from dadmm.app.planner.machine import Machine

PHASES = {
    "load": "reading the weights and making them ready",
    "read": "reading chunks of data and state, scaling, encoding",
    "visit": "computing on the chunks",
    "write": "writing state",
    "transfer": "weights and sums on the network, while nothing could be computed",
    "add": "adding up what the visits return",
    "solve": "updating the weights, and storing them",
    "scheduler": "the scheduler, messages to it, and starting tasks",
    "waiting": "for slower workers, sums and solves",
    "settle": "the driver's wait for the disk before the commit",
    "driver": "the graph, the commit, deleting what is old, collecting what was measured",
}


@dataclass(frozen=True)
class Planned:
    """A plan.

    Parameters
    ----------
    subject : Subject
    machine : Machine
    chosen : Forecast
        For the number of workers asked for.
    scaling : sequence of Forecast
        For 1, 2, 4, ... workers.
    memory : int or None
        Bytes of memory of a worker.
    price : float or None
        Price of a worker's hour.
    assumed : dict of str to str
        Other assumptions of the plan, by name.
    """

    subject: Subject
    machine: Machine
    chosen: Forecast
    scaling: Sequence[Forecast]
    memory: int | None
    price: float | None
    assumed: dict[str, str]


def facts(plan: Planned) -> dict[str, str]:
    """Return the facts of a plan, one line each, by name."""
    subject, chosen = plan.subject, plan.chosen
    needed = format_bytes(int(subject.worker_bytes))
    limit = "" if plan.memory is None else f" of {format_bytes(plan.memory)}"
    widths = " - ".join(map(str, subject.problem.architecture.widths))
    found = {
        "network": f"{widths}, solver {subject.solver.name}",
        "rows": f"{subject.problem.rows:,} in {len(subject.chunks):,} chunks of "
        f"{subject.chunks[0]:,}",
        "memory": f"{needed}{limit} per worker",
        "disk": f"{format_bytes(int(subject.disk_bytes))}: 3 generations of "
        f"{format_bytes(int(subject.state_bytes))} of state, " + _copies(subject),
        "network traffic": f"{format_bytes(int(chosen.sent))} per iteration",
        "tasks": f"{chosen.tasks:,} per iteration",
        "iteration": f"{spell(chosen.seconds)} on {chosen.workers:,} workers",
        "run": f"{spell(chosen.seconds * subject.iterations)} for at most "
        f"{subject.iterations:,} iterations, without the first pass and the last",
        "enough": worth(plan.scaling),
    }
    if plan.price is not None:
        found["price"] = priced(plan)
    return found


def _copies(subject: Subject) -> str:
    """Say what is copied of the data."""
    if subject.in_place:
        return "inputs stay where they are"
    return "and a copy of the data" + ", two while it is shuffled" * subject.shuffled


def priced(plan: Planned) -> str:
    """Return the price of the workers asked for, and of those that are enough."""
    price = plan.price or 0.0

    def of(found: Forecast) -> str:
        hours = found.workers * found.seconds * plan.subject.iterations / 3600
        return f"{hours * price:,.2f} on {found.workers:,} workers ({hours:,.2f} worker hours)"

    best, _ = enough(plan.scaling)
    both = of(plan.chosen)
    return both if best.workers == plan.chosen.workers else f"{both}; {of(best)}"


def worth(scaling: Sequence[Forecast]) -> str:
    """Say where more workers stop helping."""
    few, many = enough(scaling)
    if many is None:
        return f"{few.workers:,} workers, or more: nothing beyond was looked at"
    gain = few.seconds / many.seconds
    return (
        f"{few.workers:,} workers: twice as many are {gain:.2f} times as fast, "
        f"less than {WORTH:g} times"
    )


def phase_rows(chosen: Forecast) -> list[list[str]]:
    """Return name, seconds, share and meaning of each phase."""
    return [
        [name, f"{chosen.phases[name]:.3g}", f"{chosen.phases[name] / chosen.seconds:.1%}", means]
        for name, means in PHASES.items()
        if chosen.phases.get(name, 0.0) > 0.0
    ]


def scaling_rows(scaling: Sequence[Forecast]) -> list[list[str]]:
    """Return workers, seconds, speed-up, efficiency and traffic of each forecast."""
    one = scaling[0].seconds * scaling[0].workers
    return [
        [
            f"{each.workers:,}",
            f"{each.seconds:.3g}",
            f"{one / each.seconds:.2f}",
            f"{one / each.seconds / each.workers:.0%}",
            format_bytes(int(each.sent)),
        ]
        for each in scaling
    ]


SCALING_HEADER = ("workers", "s/iteration", "to 1 worker", "efficiency", "sent")
PHASES_HEADER = ("phase", "seconds", "share", "what it is")


def spell(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172800 else f"{seconds / 86400:.3g} days"
