"""What factorisations compute, counted; the counted code is beside this file."""

from __future__ import annotations

import numpy as np

from dadmm.solvers.counts import Counts, Footprint, Granularity, Work
from dadmm.solvers.nmf.dictionary import SWEEPS
from dadmm.solvers.nmf.options import ROWS, FactorizationOptions
from dadmm.solvers.parts import Part, Phase
from dadmm.solvers.problem import Problem


def coded(work: Work, rows: int, features: int, r: int, sweeps: int, fresh: bool = True) -> None:
    """Count codes of some rows, see `dadmm.numerics.nonnegative.codes`."""
    work.product(r, features, r)
    work.product(rows, features, r)
    swept(work, rows, r, sweeps + fresh)
    work.loop("pass", rows * r, 4)


def swept(work: Work, rows: int, r: int, sweeps: int) -> None:
    """Count sweeps over codes whose products are known, see `dadmm.numerics.nonnegative.coded`."""
    work.loop("code_sweep", float(rows) * r * r * sweeps, 4)


def absorbed(work: Work, rows: int, features: int, r: int) -> None:
    """Count what a mini-batch teaches a dictionary, see `Dictionary.absorb`."""
    work.product(r, rows, r)
    work.product(r, rows, features)
    work.loop("pass", 4 * r * (features + r), 8)
    work.loop("dictionary_sweep", r * r * features, 6)


def settled(work: Work, features: int, r: int, sweeps: int) -> None:
    """Count a dictionary's sweeps on the totals, in float64, see `dictionary.settled`."""
    work.loop("dictionary_sweep", 2.0 * sweeps * r * r * features, 20)
    work.moved += 8.0 * 4 * r * features


def pulled(work: Work, rows: int, features: int, r: int, sweeps: int, pull: bool) -> None:
    """Count what a block asks of what lies below, see `FactorSpan.pull` and `FactorSpan.learn`."""
    work.loop("pass", 3 * rows * r, 3)
    swept(work, rows, r, sweeps)
    work.product(rows, r, features)
    work.loop("pass", rows * features)
    if pull:
        work.product(rows, r, features)
        work.loop("pass", 2 * rows * features + rows * r, 3)


class FactorizationCounts(Counts):
    """What a run of a factorisation costs."""

    whole_inputs = False

    def granularity(self, solver: FactorizationOptions, problem: Problem) -> Granularity:
        """Return chunks for two workers or more."""
        return Granularity(2, 1, 64 * 2**20)

    def footprint(
        self, solver: FactorizationOptions, problem: Problem, inputs: int, chunks: int
    ) -> Footprint:
        size = np.dtype(problem.dtype).itemsize
        d, r = solver.sizes(problem)
        row = inputs * d + size * r * (solver.mode == "batch") + 8
        rows = max(ROWS, solver.batch_size)
        # The sums in float64, what is added to them, and a few rows with their codes.
        visit = 12 * r * (d + r) + size * rows * (2 * d + 6 * r) + size * 3 * r * d
        weights = size * (2 * r * d + r * r) * (1 if solver.rounds(chunks) == 1 else 2)
        sums = (8 if solver.mode == "batch" else size) * (2 * r * d + r * r)
        solve = 8 * 4 * r * d
        if solver.from_data(problem):  # once, before the first pass
            visit = max(visit, 2 * 8 * d * d)
            sums, solve = max(sums, 8 * d * d), max(solve, 3 * 8 * d * d)
        return Footprint(row, visit, weights, sums, sums, solve)

    def visit(self, solver: FactorizationOptions, problem: Problem, part: Part, rows: int) -> Work:
        each = min(solver.batch_size if solver.mode == "online" else ROWS, rows)
        work, item = Work(), np.dtype(problem.dtype).itemsize
        features, r = solver.sizes(problem)
        online = solver.mode == "online"
        piece = Work(calls=10)
        piece.loop("gather", each * features, 4)
        fresh = online or part.phase is Phase.EVALUATE
        coded(piece, each, features, r, solver.code_sweeps if fresh else solver.sweeps, fresh)
        if fresh:  # what the codes do not reconstruct
            piece.product(each, r, features)
            piece.loop("pass", 2 * each * features, 2)
        if part.phase is Phase.EVALUATE:
            work.result = 8.0
        elif online:
            absorbed(piece, each, features, r)
            piece.loop("pass", each * r, 1)
            work.result = item * r * (2.0 * features + r)
        else:
            piece.product(r, each, r)
            piece.product(r, each, features)
            piece.loop("pass", 2 * r * (features + r) + 2 * each * r, 5)
            work.result = 8.0 * r * (features + r)
        work.add(piece, rows / each)
        return work

    def weights(
        self, solver: FactorizationOptions, problem: Problem, layer: int
    ) -> tuple[Work, Work]:
        """Count reading the dictionary with the sums behind it, and `Factorization.update`."""
        features, r = solver.sizes(problem)
        numbers = r * features if solver.mode == "batch" else r * (2 * features + r)
        kept = float(np.dtype(problem.dtype).itemsize * numbers)
        update = Work(result=kept, constants=8.0)
        settled(update, features, r, SWEEPS)
        update.dense(r, 2.0 * r * r * features)
        return Work(moved=kept, result=kept), update
