"""What the tasks of an iteration do: read, call the solver, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from dadmm.engine.plan import WHOLE, Plan, Step
from dadmm.engine.result import load_scaling
from dadmm.engine.timing import phase
from dadmm.networks.scaling import Scaling
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Arrays
from dadmm.numerics.workspace import lasting
from dadmm.solvers.parts import Pace, Part
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.solver import Solver, Weights, call, summary
from dadmm.solvers.sums import Sums, combine, numbers

CHUNK = "chunk"

_work = lasting()


def load_weights(plan: Plan, generation: int, layer: int, training: bool = True) -> Arrays:
    """Read a layer's arrays and prepare them for visits; or, after training, for evaluations."""
    layout = plan.layout
    names = (layout.layers if training else layout.exported)[layer]
    with phase(plan.session, "load"):
        params = plan.run.load_params(generation, names)
        return plan.solver.prepare(plan.problem, layer, params)


def visit(
    plan: Plan,
    part: Part,
    step: Step,
    chunk: int,
    pace: Pace,
    then: int | None,
    weights: Sequence[Arrays],
    after: Sequence[Any] = (),
) -> Sums:
    """Load a chunk, visit it, save it.

    Parameters
    ----------
    then : int or None
        A chunk that will be visited soon: it is read while this one is computed.
    weights : sequence of dict
        Of the layers that the part needs.
    after : sequence
        Outputs of the tasks that wrote what this one reads.
    """
    merged = _merged(weights)
    if rests(part, merged):
        return {}
    read = plan.run.blocks.read
    with phase(plan.session, "read"):
        state = {name: read(f"state/{step.source}/{name}", chunk) for name in part.reads}
        state |= {name: read(f"state/{step.target}/{name}", chunk) for name in part.fresh}
        seen = _chunk(plan, part, chunk, state, step.iteration, pace)
        if then is not None:
            _expect(plan, part, step, then)
    with phase(plan.session, part.phase.value):
        sums = call(plan.solver, plan.problem, part, merged, seen)
    with phase(plan.session, "write"):
        for name in part.writes:
            plan.run.blocks.write(f"state/{step.target}/{name}", chunk, state[name])
    return sums


def rests(part: Part, weights: Arrays) -> bool:
    """Whether the updates have settled all layers of a part."""
    return bool(part.layers) and all(f"settled_{layer}" in weights for layer in part.layers)


def aligned(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays that are aligned in memory: copies of those that are not.

    An array from a connection lies anywhere in its message, and NumPy multiplies matrices that
    are not aligned without BLAS: slowly, and to other last bits.
    """
    return {
        name: np.require(each, requirements="A") if isinstance(each, np.ndarray) else each
        for name, each in arrays.items()
    }


def _merged(weights: Sequence[Arrays]) -> Arrays:
    """Return the weights of several layers as one dict."""
    return {name: array for layer in weights for name, array in aligned(layer).items()}


def _expect(plan: Plan, part: Part, step: Step, chunk: int) -> None:
    """Have a chunk read that will be visited soon."""
    weighted = plan.problem.weighted and part.y
    for name, wanted in (("x", part.x), ("y", part.y), ("weight", weighted)):
        if wanted:
            plan.run.expect_data(name, chunk)
    for name in part.reads:
        plan.run.blocks.expect(f"state/{step.source}/{name}", chunk)


def start(plan: Plan, generation: int | None, chunk: int, weights: Sequence[Arrays]) -> Sums:
    """Make the first state of a chunk, and save it unless only the sums are wanted."""
    merged = _merged(weights)
    seen = _chunk(plan, Part("start-chunk", x=True, y=plan.problem.supervised), chunk, {}, 0, WHOLE)
    state, sums = plan.solver.start(plan.problem, merged, seen)
    if generation is not None:
        for name, block in state.items():
            plan.run.blocks.write(f"state/{generation}/{name}", chunk, block)
    return sums


def update(
    solver: Solver, problem: Problem, layer: int, start: Arrays, weights: Arrays, sums: Sums
) -> dict[str, Any]:
    """Call the solver for a layer's new arrays; numbers for the report are under "details"."""
    before: Any = weights.get("details", {})
    now = Weights({k: v for k, v in weights.items() if k != "details"}, start, before)
    new, details = solver.update(problem, layer, now, sums)
    if type(solver).report is Solver.report:
        details = summary(layer, now, new, sums) | details
    return {**now, **new, "details": now.details | details}


def kept(weights: Mapping[str, Any], sums: Sums) -> dict[str, Any]:
    """Return a layer's arrays as they are, with the numbers of a pass that does not update it."""
    return {**weights, "details": {**numbers(sums), **weights.get("details", {})}}


def solve(
    plan: Plan,
    layer: int,
    save: str | None,
    start: Arrays,
    weights: dict[str, Any],
    sums: Sums,
    updates: bool = True,
) -> dict[str, Any]:
    """Update a layer's weights from the total, and return them for the next pass.

    A pass that does not update the layer leaves its weights as they are.

    After the last pass, store them in the group `save` and return only the layer's numbers for
    the report.
    """
    with phase(plan.session, "solve"):
        if updates:
            names = plan.layout.constants_of(layer)
            known = {name: plan.run.blocks.get(f"constants/{name}") for name in names}
            given = (aligned(arrays) for arrays in (start, weights, {**sums, **known}))
            new = update(plan.solver, plan.problem, layer, *given)
        else:
            new = kept(weights, sums)
        if save is None:
            return new
        stored = plan.layout.layers[layer]
        plan.run.save_params(save, {name: new[name] for name in stored})
        return {"details": new["details"]}


def begin(plan: Plan, layer: int, save: str, weights: dict[str, Any], sums: Sums) -> None:
    """Update a layer's starting arrays from a pass before training; store them."""
    given = (aligned(arrays) for arrays in (weights, sums))
    new = update(plan.solver, plan.problem, layer, weights, *given)
    plan.run.save_params(save, {name: new[name] for name in plan.layout.layers[layer]})


def carry(plan: Plan, layer: int, save: str, weights: Arrays) -> None:
    """Store a layer's parameters as the network has them."""
    plan.run.save_params(save, plan.solver.export(plan.problem, layer, weights))


def report(plan: Plan, solved: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Turn the layers' numbers into one row of history."""
    details: Sums = {}
    for layer in solved:
        details |= layer["details"]
    return plan.solver.report(plan.problem, details)


def done(plan: Plan, saved: Sequence[Any]) -> None:
    """Do nothing, once the tasks that store something are done."""


def final_report(plan: Plan, total: Sums, saved: Sequence[None]) -> dict[str, float]:
    """Score the finished network, once all of it is stored."""
    return plan.solver.score(plan.problem, total)


def keep_constants(plan: Plan, sums: Sums) -> int:
    """Store the sums that never change; return how many there are."""
    for name, value in sums.items():
        plan.run.blocks.put(f"constants/{name}", np.asarray(value))
    return len(sums)


def _chunk(plan: Plan, part: Part, chunk: int, state: Arrays, iteration: int, pace: Pace) -> Chunk:
    """Read a chunk's inputs, targets and weights; encode the targets."""
    problem, read = plan.problem, plan.run.read_data
    scaling = _scaling(plan)
    x = read("x", chunk) if part.x else None
    y = weight = None
    if part.y:
        y = read("y", chunk)
        if problem.classes:
            loss = get_loss(problem.loss)
            codes = y if loss.multi_label else y[:, 0]
            y = loss.encode(codes, problem.classes, problem.dtype)
        else:
            out = _work.take("y", y.shape, problem.dtype)
            y = scaling["y"].apply(y, problem.dtype, out)
        if problem.weighted:
            weight = read("weight", chunk)[:, 0].astype(problem.dtype)
    seed = plan.seed, iteration, chunk
    return Chunk(x, y, state, seed, pace, weight, scaling["x"], problem.dtype)


_kept_scaling: tuple[str, dict[str, Scaling]] = "", {}


def _scaling(plan: Plan) -> dict[str, Scaling]:
    """Return how inputs and targets are scaled; a process reads it once for a session."""
    global _kept_scaling
    session, scaling = _kept_scaling
    if session != plan.session:
        scaling = load_scaling(plan.run)
        _kept_scaling = plan.session, scaling
    return scaling


_limited = False


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold this process's BLAS to one thread per task, and give it back afterwards."""
    global _limited
    before = _limited
    with threadpool_limits(1):
        _limited = True
        try:
            yield
        finally:
            _limited = before


def limit_blas() -> None:
    """Limit a worker process once, for good: the limit is global, and tasks would race for it."""
    global _limited
    if not _limited:
        threadpool_limits(1)
        _limited = True


def chunk_id(chunk: int) -> str:
    """Return the end of the key of a task that works on a chunk."""
    return f"{CHUNK}{chunk}"


def task_of(key: str) -> str | None:
    """Return in words which chunk the task of a key works on; None if on none."""
    _, found, number = key.rpartition(f"-{CHUNK}")
    return f"{CHUNK} {number} ({key})" if found and number.isdecimal() else None


def add(plan: Plan, parts: Sequence[Sums]) -> Sums:
    """Add up sums in their order."""
    with phase(plan.session, "add"):
        return combine(parts)


def run(function: Any, plan: Plan, *args: Any) -> Any:
    """Run a task, on one BLAS thread, without warnings: the report shows what is not finite."""
    limit_blas()
    with np.errstate(all="ignore"):
        return function(plan, *args)
