"""An iteration of a stored run done again by hand, as by workers that are late."""

from dadmm.engine import graph, tasks
from dadmm.estimators.load import open_plan
from dadmm.solvers.parts import Pace
from dadmm.solvers.sums import combine
from dadmm.store import Run


def repeat(path, step, limit):
    """Do an iteration of a run of `limit` by hand, as workers would that are late."""
    late = open_plan(Run.open(path))
    solver, problem = late.solver, late.problem
    count = len(Run.open(path).attributes["chunks"])
    weights = {i: tasks.load_weights(late, step.source, i) for i in solver.layers(problem)}
    anchor = dict(weights)
    passes = solver.passes(problem, count)
    pace = Pace(step.iteration / limit, (step.iteration + 1) / limit)
    for each, now in zip(passes, pace.shared(passes), strict=True):
        found = {}
        for c in range(count) if each.chunks is None else each.chunks:
            for part in each.parts:
                needed = [weights[i] for i in part.layers]
                sums = tasks.visit(late, part, step, c, now, None, needed)
                found.setdefault(part.group, []).append(sums)
        totals = {group: added(sums) for group, sums in found.items()}
        last = each is passes[-1]
        for i in anchor if last else each.solves:
            save = f"params/{step.target}" if last else None
            total = totals.get(i, totals.get(0, {}))
            weights[i] = tasks.solve(late, i, save, anchor[i], weights[i], total)


def added(sums):
    """Add up as the graph's tree does."""
    level = 0
    while len(sums) > 1 or not level:
        sums = [combine(group) for group in graph.groups(sums, level)]
        level += 1
    return sums[0]
