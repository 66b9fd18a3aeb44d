"""Non-negative matrix factorisation as map, sum, update: alone, and as a block of a network.

Features ``Z >= 0`` (rows, d) are approximated by ``M S``, with codes ``M >= 0`` (rows, r) and a
dictionary ``S >= 0`` (r, d).  The sweeps are in `dadmm.numerics.nonnegative`.

**Alone** (`Factorization`)::

    min  1/2 |Z - M S|^2 + l1_M sum M + l2_M/2 |M|^2 + l1_S sum S + l2_S/2 |S|^2

* *batch*: M is kept per sample.  A visit sweeps over the codes of its rows and returns M'M and M'Z;
  the update sweeps over S on their totals.  Every sweep is exact in its coordinate, so the
  objective never rises: it is scikit-learn's coordinate descent, chunk by chunk.
* *online*: nothing is kept.  A visit codes its rows a mini-batch at a time, from nothing, and
  improves a dictionary of its own after each, on sums that forget (Mairal et al. 2010); the update
  averages dictionaries and sums over the chunks, and sweeps on these.  Many chunks are taken in
  rounds of some, each of which starts from what the round before has learnt.

**In a network** (`FactorSpan`: the `dadmm.NMFBlock` of `dadmm.BlockADMM`; arXiv 2105.00339).  The
block's output is the solution of a problem, so what it is trained by is that problem, with a
penalty on the distance from what the next block asks for::

    M   = argmin_{M >= 0}  1/2 |Z - M S|^2 + l1 sum M
    M+  = argmin_{M >= 0}  1/2 |Z - M S|^2 + l1 sum M + rho/2 |M - T|^2
    T   = M - pull / rho, where pull is rho_Z (M - Z_t - U_t) in batch mode

S is swept on the sums of M+.  What lies below is asked for ``(M - M+) S + gamma (Z - M S)``.  The
second part is the gradient in Z of the reconstruction ``gamma/2 |Z - M S|^2``, which makes features
that factorise.  The first is what the loss asks for: where no code changes between 0 and more,
``M - M+ = pull (S_a S_a' + rho I)^-1`` on the positive codes a, so that it is ``pull (S_a S_a' +
rho I)^-1 S_a``: for rho -> 0 the derivative of the codes, and damped where factors are alike.
Derived; checked against finite differences in tests/test_facto.py.  (One gamma for both parts, as
if the reconstruction were a penalty on Z = M S, drowned the loss: features collapsed onto the
factors, and digits went from 0.97 to 0.80.)

The rows of S have length 1 and a penalty on their products, which keeps ``S S'`` well conditioned.
Without, they all turn to where features are largest, features grow where rows are, and codes and
their derivative mean less and less: figures of 9 classes were told apart in 0.5 to 0.7 of cases,
with it in 0.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isqrt
from typing import Any, ClassVar

import numpy as np

from dadmm.errors import DataError
from dadmm.networks.chain import Chain
from dadmm.numerics import nonnegative
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array, Arrays
from dadmm.options import documented
from dadmm.solvers.counts import Work
from dadmm.solvers.nmf import counts
from dadmm.solvers.nmf.dictionary import (
    SWEEPS,
    Dictionary,
    look,
    looked,
    negative,
    settled,
)
from dadmm.solvers.nmf.options import FactorizationOptions
from dadmm.solvers.rows import batches, inputs
from dadmm.solvers.solver import Chunk, Footprint, Part, Pass, Problem, Sums, combine

PATIENCE = 10
# Rows of a mini-batch online, and of what is coded at once: z of 784 float32 stays in the cache.
ROWS = 512
# Chunks of a round online, or the root of their number if that is more: more at once are more
# workers' work, more rounds a better dictionary after a pass.
TOGETHER = 8


@documented
class Factorization(FactorizationOptions):
    """Non-negative matrix factorisation by itself; `dadmm.NMF` is its estimator."""

    name: ClassVar[str] = "nmf"
    raw: ClassVar[bool] = True
    hint: ClassVar[str] = "Scale the data down, or use dtype='float64'."

    # ------------------------------------------------------------------ what the method is made of

    def variables(self, problem: Problem) -> dict[str, int]:
        """M, in batch mode."""
        return {"m": self.sizes(problem)[1]} if self.mode == "batch" else {}

    def memory(self, problem: Problem) -> dict[str, int]:
        """Nothing is kept per chunk."""
        return {}

    def layers(self, problem: Problem) -> tuple[int, ...]:
        """Return 1: there is one dictionary."""
        return (1,)

    def parameters(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the dictionary's name, and those of the sums behind it."""
        return ("s_1",) if self.mode == "batch" else ("s_1", "gram_1", "cross_1", "count_1")

    def exported(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the dictionary's name."""
        return ("s_1",)

    def export(self, problem: Problem, layer: int, weights: Arrays) -> Arrays:
        """Return the dictionary."""
        return {"s_1": weights["s_1"]}

    def model(self, problem: Problem) -> Chain:
        """Return the network that predicts: it maps inputs to codes."""
        return Chain.build(self.sizes(problem)[0], [self.block(problem)])

    def _part(self, name: str, **more: Any) -> Part:
        return Part(name, layers=(1,), x=True, **more)

    def passes(self, problem: Problem, chunks: int) -> tuple[Pass, ...]:
        """Return one pass over all chunks; or rounds of chunks from all over the data."""
        kept = tuple(self.variables(problem))
        parts = (self._part("visit-chunk", reads=kept, writes=kept),)
        online = self.mode == "online"
        rounds = -(-chunks // max(TOGETHER, isqrt(chunks))) if online else 1
        if rounds == 1:
            return (Pass(parts, (1,)),)
        return tuple(Pass(parts, (1,), tuple(range(j, chunks, rounds))) for j in range(rounds))

    def finish(self, problem: Problem) -> Pass:
        """Code all rows from nothing."""
        return Pass((self._part("evaluate-chunk", evaluate=True),), ())

    def finish_passes(self, problem: Problem) -> int:
        """Return 0: nothing is refitted."""
        return 0

    def looks(self, problem: Problem) -> tuple[Part, ...]:
        """Return two looks at the data, for its singular vectors; or one, for its size."""
        stages = ("gram", "signs") if self.from_data(problem) else ("scale",)
        return tuple(self._part(f"look-{stage}") for stage in stages)

    def begin(self, problem: Problem, part: Part, params: Arrays, sums: Sums) -> Arrays:
        """Return the starting parameters after a look."""
        stage = part.name.removeprefix("look-")
        s = params["s_1"]
        if stage != "signs":
            _check_energy(sums["look_energy"], problem)
        if stage == "scale":
            mean = sums["look_sum"] / (problem.rows * s.shape[1])
            return params | {"s_1": (s * np.sqrt(mean / len(s))).astype(s.dtype)}
        return params | {"s_1": looked(stage, s, sums, unit=False)}

    def initial(self, problem: Problem, seed: int) -> Arrays:
        """Draw a dictionary of numbers of size 1, which the first look at the data replaces."""
        d, r = self.sizes(problem)
        drawn = np.abs(np.random.default_rng((seed, 1)).normal(size=(r, d)))
        found: Arrays = {"s_1": drawn.astype(problem.dtype)}
        if self.mode == "online":
            found |= {
                "gram_1": np.zeros((r, r), problem.dtype),
                "cross_1": np.zeros((r, d), problem.dtype),
                "count_1": np.zeros(()),
            }
        return found

    def start(self, problem: Problem, weights: Arrays, chunk: Chunk) -> tuple[Arrays, Sums]:
        """First codes of a chunk, from nothing; and the sum of squares of its rows."""
        energy, m = 0.0, np.empty((chunk.rows, self.sizes(problem)[1]), problem.dtype)
        for rows, z in _pieces(chunk, problem, ROWS):
            if z.min() < 0:
                raise DataError(negative(z, first=True))
            energy += square(z)
            if self.mode == "batch":
                m[rows] = self._codes(problem, z, weights["s_1"])
        return {"m": m} if self.mode == "batch" else {}, {"energy": energy}

    def constants(self, problem: Problem, layer: int) -> tuple[str, ...]:
        """Return the name of the sum of squares of all rows."""
        return ("energy",)

    def prepare(self, problem: Problem, layer: int, params: Arrays) -> Arrays:
        """Return the parameters as they are."""
        return params

    def granularity(self, problem: Problem) -> tuple[int, int, int]:
        """Return (fewest chunks, what their number is a multiple of, most bytes of one)."""
        return 2, 1, 64 * 2**20

    def footprint(self, problem: Problem, inputs: int, chunks: int) -> Footprint:
        """Return what a run holds in memory; see `Solver.footprint`."""
        size = np.dtype(problem.dtype).itemsize
        d, r = self.sizes(problem)
        row = inputs * d + size * r * (self.mode == "batch") + 8
        rows = max(ROWS, self.batch_size)
        # The sums in float64, what is added to them, and a few rows with their codes.
        visit = 12 * r * (d + r) + size * rows * (2 * d + 6 * r) + size * 3 * r * d
        weights = size * (2 * r * d + r * r) * (1 if len(self.passes(problem, chunks)) == 1 else 2)
        sums = (8 if self.mode == "batch" else size) * (2 * r * d + r * r)
        solve = 8 * 4 * r * d
        if self.from_data(problem):  # once, before the first pass
            visit = max(visit, 2 * 8 * d * d)
            sums, solve = max(sums, 8 * d * d), max(solve, 3 * 8 * d * d)
        return Footprint(row, visit, weights, sums, sums, solve)

    def visit_work(self, problem: Problem, part: Part, rows: int) -> Work:
        """Return what a visit computes, counted; see `Counted.visit_work`."""
        each = self.batch_size if self.mode == "online" else ROWS
        return counts.visit(self, problem, part, rows, min(each, rows))

    def weight_work(self, problem: Problem, layer: int) -> tuple[Work, Work]:
        """Return what `prepare` and `solve` compute, counted."""
        return counts.prepare(self, problem), counts.solve(self, problem, SWEEPS)

    def idle(self, problem: Problem, part: Part, weights: Arrays) -> bool:
        """Return False: every visit has something to do."""
        return False

    # --------------------------------------------------------------------------- once per chunk

    def _codes(self, problem: Problem, z: Array, s: Array, start: Array | None = None) -> Array:
        sweeps = self.code_sweeps if start is None else self.sweeps
        return nonnegative.codes(z, s, sweeps, start, **self.penalties(problem)[0])

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Code the rows of a chunk; return the sums that the dictionary is improved on."""
        if part.name.startswith("look"):
            return self._look(problem, part, weights, chunk)
        s = weights["s_1"]
        if part.evaluate:
            error = 0.0
            for _, z in _pieces(chunk, problem, ROWS):
                error += square(z - self._codes(problem, z, s) @ s)
            return {"forward_error": error}
        if self.mode == "online":
            return self._learn(problem, weights, chunk)
        gram = np.zeros((len(s), len(s)))
        cross = np.zeros(s.shape)
        mass = 0.0
        for rows, z in _pieces(chunk, problem, ROWS):
            m = chunk.state["m"][rows]
            m[...] = self._codes(problem, z, s, m)
            gram += m.T @ m
            cross += m.T @ z
            mass += float(m.sum(dtype=np.float64))
        return {"gram": gram, "cross": cross, "mass": mass}

    def _look(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        stage, found = part.name.removeprefix("look-"), {"look_energy": 0.0, "look_sum": 0.0}
        total: Sums = {}
        for _, z in _pieces(chunk, problem, ROWS):
            if z.min() < 0:
                raise DataError(negative(z, first=True))
            found["look_energy"] += square(z)
            found["look_sum"] += float(z.sum(dtype=np.float64))
            if stage != "scale":
                total = combine([total, look(z, stage, weights["s_1"])])
        return found | total

    def _learn(self, problem: Problem, weights: Arrays, chunk: Chunk) -> Sums:
        """Go through a chunk in mini-batches, each of which improves a dictionary of its own."""
        names = (weights[f"{kind}_1"] for kind in ("s", "gram", "cross", "count"))
        s, gram, cross, count = names
        own = Dictionary(
            s, gram, cross, float(count), self.window, False, **self.penalties(problem)[1]
        )
        error = mass = 0.0
        order = np.random.default_rng(chunk.seed).permutation(chunk.rows)
        for piece in batches(chunk.rows, self.batch_size):
            z = inputs(chunk, order[piece], problem.dtype)
            m = self._codes(problem, z, own.s)
            error += square(z - m @ own.s)
            mass += float(m.sum(dtype=np.float64))
            own.absorb(z, m)
        share = s.dtype.type(chunk.rows)
        return {
            "s": own.s * share,
            "gram": own.gram * share,
            "cross": own.cross * share,
            "max_count": own.count,
            "error": error,
            "mass": mass,
            "rows": chunk.rows,
        }

    # ---------------------------------------------------------------------- once per iteration

    def solve(
        self, problem: Problem, layer: int, anchor: Arrays, weights: Arrays, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Sweep over the dictionary on the sums; report the objective (batch: after it)."""
        before: Sums = dict(weights.get("details", {}))
        online, n, s = self.mode == "online", problem.rows, weights["s_1"]
        here = sums["rows"] if online else n  # of this round
        gram, cross = sums["gram"] / here, sums["cross"] / here
        begin = (sums["s"] / here).astype(s.dtype) if online else s
        on_codes, on_s = self.penalties(problem)
        # A factor that a penalty has switched off is meant to be off.
        free = not any((*on_codes.values(), *on_s.values()))
        new, dead = settled(begin, gram, cross, False, revive=free, **on_s)
        _check_energy(sums["energy"], problem)
        energy, wide = sums["energy"] / n, new.astype(np.float64)
        found: Arrays = {"s_1": new}
        if online:
            found |= {"gram_1": gram.astype(s.dtype), "cross_1": cross.astype(s.dtype)}
            found["count_1"] = np.array(float(sums["max_count"]))
            error = before.get("error", 0.0) + sums["error"] / n
        else:
            error = 2.0 * nonnegative.objective(energy, gram, cross, new)
        mass = before.get("mass", 0.0) + sums["mass"] / n
        value = 0.5 * error + on_codes["l1"] * mass
        value += 0.5 * on_codes["l2"] * float(np.trace(gram))
        value += on_s["l1"] * wide.sum() + 0.5 * on_s["l2"] * square(wide)
        return found, {
            "error": error,
            "mass": mass,
            "objective": value,
            "train_score": 1.0 - error / energy,
            "reseeded": before.get("reseeded", 0.0) + dead,
            "step": float(np.linalg.norm(new - anchor["s_1"])),
            "size": float(np.linalg.norm(new)),
        }

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """One row of history; the score is the share of the squares that is explained."""
        names = ("objective", "train_score", "reseeded", "step", "size")
        return {name: float(details[name]) for name in names}

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        """Half the mean squared error of the codes that prediction gives."""
        return {"forward_loss": 0.5 * sums["forward_error"] / problem.rows}

    # ------------------------------------------------------------------------- once per pass

    def factor(self, rows: Sequence[Mapping[str, float]]) -> float:
        """Return 1: there is no learning rate."""
        return 1.0

    def best(self, rows: Sequence[Mapping[str, float]]) -> int | None:
        """Return None: the last iteration."""
        return None

    def converged(self, rows: Sequence[Mapping[str, float]], tol: float) -> bool:
        """Whether ten iterations have lowered the objective by less than `tol` of the first."""
        found = [row["objective"] for row in rows if "objective" in row]
        if len(found) <= PATIENCE or tol <= 0:
            return False
        return found[-1 - PATIENCE] - found[-1] < tol * found[0]


def _check_energy(energy: float, problem: Problem) -> None:
    if not energy > 0 and np.isfinite(energy):
        what = f"{problem.rows} sample(s) of {problem.architecture.widths[0]} feature(s)"
        raise DataError(f"x is all zeros, in {what}: there is nothing to factorise")


def _pieces(chunk: Chunk, problem: Problem, length: int) -> Iterator[tuple[slice, Array]]:
    """Yield slices of a chunk's rows, with these rows scaled, in memory that is used again."""
    for rows in batches(chunk.rows, length):
        picked = np.arange(rows.start, rows.stop)
        yield rows, inputs(chunk, picked, problem.dtype)
