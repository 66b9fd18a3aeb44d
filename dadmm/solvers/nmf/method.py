"""Non-negative matrix factorisation as map, sum, update: alone, and as a block of a network.

Features ``Z >= 0`` (rows, d) are approximated by ``M S``, with codes ``M >= 0`` (rows, r) and a
dictionary ``S >= 0`` (r, d).  The sweeps are in `dadmm.numerics.nonnegative`.

**Alone** (`Factorization`)::

    min  1/2 |Z - M S|^2 + l1_M sum M + l2_M/2 |M|^2 + l1_S sum S + l2_S/2 |S|^2

* *batch*: M is kept per sample.  A visit sweeps over the codes of its rows and returns M'M and M'Z;
  the update sweeps over S on their totals.  Every sweep is exact in its coordinate, so the
  objective never rises: it is scikit-learn's coordinate descent, chunk by chunk.
* *online*: nothing is kept.  A visit codes its rows a mini-batch at a time, from nothing.  After
  each it improves its own dictionary, on sums that forget (Mairal et al. 2010).  The update
  averages dictionaries and sums over the chunks, and sweeps on these.  Many chunks are taken in
  rounds; each starts from what the round before has learnt.

**In a network** (`FactorSpan`: the `dadmm.NMFBlock` of `dadmm.BlockADMM`; arXiv 2105.00339).  The
block's output solves a problem, so the block is trained by that problem, with a penalty on the
distance from what the next block asks for::

    M   = argmin_{M >= 0}  1/2 |Z - M S|^2 + l1 sum M
    M+  = argmin_{M >= 0}  1/2 |Z - M S|^2 + l1 sum M + rho/2 |M - T|^2
    T   = M - pull / rho, where pull is rho_Z (M - Z_t - U_t) in batch mode

S is swept on the sums of M+.  The block below is asked for ``(M - M+) S + gamma (Z - M S)``.  The
second part is the gradient in Z of the reconstruction ``gamma/2 |Z - M S|^2``, which makes features
that factorise.  The first is what the loss asks for.  While no code turns to or from 0,
``M - M+ = pull (S_a S_a' + rho I)^-1`` on the positive codes a, so it is ``pull (S_a S_a' +
rho I)^-1 S_a``: for rho -> 0 the derivative of the codes, and damped where factors are alike.
Derived; checked against finite differences.  (One gamma for both parts, as for a penalty on
Z = M S, drowned the loss: features collapsed onto the factors, and the accuracy on digits fell from
0.97 to 0.80.)

The rows of S have length 1 and a penalty on their products, which keeps ``S S'`` well conditioned.
Without it all rows turn to where features are largest, features grow along the rows, and codes and
their derivative mean less and less: the accuracy on 9 classes of figures was 0.5 to 0.7, with it
0.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from dadmm.errors import DataError
from dadmm.networks.chain import Chain
from dadmm.numerics import nonnegative
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array, Arrays
from dadmm.options import documented
from dadmm.solvers.counts import register
from dadmm.solvers.nmf.counts import FactorizationCounts
from dadmm.solvers.nmf.dictionary import STAGES, Dictionary, look, looked, negative, settled
from dadmm.solvers.nmf.options import ROWS, FactorizationOptions
from dadmm.solvers.parts import Layout, Part, Pass, Phase, Schedule
from dadmm.solvers.problem import Chunk, Problem
from dadmm.solvers.rows import batches
from dadmm.solvers.solver import Solver, Weights
from dadmm.solvers.stopping import ObjectiveFlat
from dadmm.solvers.sums import Sums, combine

# A square of fewer times the smallest number of its dtype has lost too many digits.
DIGITS = 100


@documented
class Factorization(FactorizationOptions, Solver):
    """Non-negative matrix factorisation by itself; `dadmm.NMF` is its estimator."""

    name: ClassVar[str] = "nmf"
    stopping = ObjectiveFlat()
    hint: ClassVar[str] = "Scale the data down, or use dtype='float64'."

    @property
    def order_matters(self) -> bool:  # type: ignore[override]
        """Whether sums are not of all rows: online, each round has some of them."""
        return self.mode == "online"

    def layout(self, problem: Problem) -> Layout:
        """Return the dictionary and the sums behind it, and the codes in batch mode."""
        features, r = self.sizes(problem)
        batch = self.mode == "batch"
        return Layout(
            {1: ("s_1",) if batch else ("s_1", "gram_1", "cross_1", "count_1")},
            Chain.build(features, [self.block(problem)]),
            state={"m": r} if batch else {},
            constants=("energy",),
        )

    def passes(self, problem: Problem, chunks: int) -> Schedule:
        """Return one pass over all chunks; or rounds of chunks from all over the data.

        Before them come two looks at the data, for its singular vectors; or one, for its size.
        """
        kept = ("m",) if self.mode == "batch" else ()
        visit = Part("visit-chunk", reads=kept, writes=kept, layers=(1,), x=True)
        rounds = self.rounds(chunks)
        turns = [None] if rounds == 1 else [tuple(range(j, chunks, rounds)) for j in range(rounds)]
        looks = (
            Part(f"look-{stage}", Phase.LOOK, layers=(1,), x=True, work=stage)
            for stage in (STAGES if self.from_data(problem) else ("scale",))
        )
        score = Part("evaluate-chunk", Phase.EVALUATE, layers=(1,), x=True)
        return Schedule(
            tuple(Pass((visit,), (1,), turn) for turn in turns),
            before=tuple(Pass((look,), (1,)) for look in looks),
            after=(Pass((score,), ()),),
        )

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
        """Return the first codes of a chunk, from nothing, and the sum of squares of its rows."""
        energy, m = 0.0, np.empty((chunk.rows, self.sizes(problem)[1]), problem.dtype)
        for rows, z in _pieces(chunk, ROWS):
            energy += _energy(z)
            if self.mode == "batch":
                m[rows] = self._codes(problem, z, weights["s_1"])
        return {"m": m} if self.mode == "batch" else {}, {"energy": energy}

    def _codes(self, problem: Problem, z: Array, s: Array, start: Array | None = None) -> Array:
        sweeps = self.code_sweeps if start is None else self.sweeps
        return nonnegative.codes(z, s, sweeps, start, **self.penalties(problem)[0])

    def visit(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Code the rows of a chunk; return the sums that the dictionary is improved on."""
        if part.phase is Phase.LOOK:
            return self._look(part.work, weights["s_1"], chunk)
        if self.mode == "online":
            return self._learn(problem, weights, chunk)
        s = weights["s_1"]
        gram = np.zeros((len(s), len(s)))
        cross = np.zeros(s.shape)
        mass = 0.0
        for rows, z in _pieces(chunk, ROWS):
            m = chunk.state["m"][rows]
            m[...] = self._codes(problem, z, s, m)
            gram += m.T @ m
            cross += m.T @ z
            mass += float(m.sum(dtype=np.float64))
        return {"gram": gram, "cross": cross, "mass": mass}

    def _look(self, stage: object, s: Array, chunk: Chunk) -> Sums:
        found = {"max_look": 0.0, "look_sum": 0.0}
        total: Sums = {}
        for _, z in _pieces(chunk, ROWS):
            _energy(z)
            found["max_look"] = max(found["max_look"], float(z.max()))
            found["look_sum"] += float(z.sum(dtype=np.float64))
            if stage != "scale":
                total = combine([total, look(z, stage, s)])
        return found | total

    def evaluate(self, problem: Problem, part: Part, weights: Arrays, chunk: Chunk) -> Sums:
        """Code all rows from nothing; return the squared error."""
        error, s = 0.0, weights["s_1"]
        for _, z in _pieces(chunk, ROWS):
            error += square(z - self._codes(problem, z, s) @ s)
        return {"forward_error": error}

    def _learn(self, problem: Problem, weights: Arrays, chunk: Chunk) -> Sums:
        """Go through a chunk in mini-batches, each of which improves a dictionary of its own."""
        s, gram, cross, count = (weights[f"{kind}_1"] for kind in ("s", "gram", "cross", "count"))
        own = Dictionary(
            s, gram, cross, float(count), self.window, False, **self.penalties(problem)[1]
        )
        error = mass = 0.0
        order = np.random.default_rng(chunk.seed).permutation(chunk.rows)
        for piece in batches(chunk.rows, self.batch_size):
            z = chunk.take(order[piece])
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

    def update(
        self, problem: Problem, layer: int, weights: Weights, sums: Sums
    ) -> tuple[Arrays, Sums]:
        """Sweep over the dictionary on the sums; report the objective (batch: after it)."""
        if "max_look" in sums:
            return self._looked(problem, weights, sums), {}
        online, n, s = self.mode == "online", problem.rows, weights["s_1"]
        here = sums["rows"] if online else n  # of this round
        gram, cross = sums["gram"] / here, sums["cross"] / here
        begin = (sums["s"] / here).astype(s.dtype) if online else s
        on_codes, on_s = self.penalties(problem)
        # A factor that a penalty has switched off stays off.
        free = not any((*on_codes.values(), *on_s.values()))
        new, dead = settled(begin, gram, cross, False, revive=free, **on_s)
        _check_seen(sums["energy"], problem)
        energy, wide = sums["energy"] / n, new.astype(np.float64)
        found: Arrays = {"s_1": new}
        if online:
            found |= {"gram_1": gram.astype(s.dtype), "cross_1": cross.astype(s.dtype)}
            found["count_1"] = np.array(float(sums["max_count"]))
            error = weights.details.get("error", 0.0) + sums["error"] / n
        else:
            error = 2.0 * nonnegative.objective(energy, gram, cross, new)
        mass = weights.details.get("mass", 0.0) + sums["mass"] / n
        value = 0.5 * error + on_codes["l1"] * mass
        value += 0.5 * on_codes["l2"] * float(np.trace(gram))
        value += on_s["l1"] * wide.sum() + 0.5 * on_s["l2"] * square(wide)
        return found, {
            "error": error,
            "mass": mass,
            "objective": value,
            "train_score": 1.0 - error / energy,
            "reseeded": weights.details.get("reseeded", 0.0) + dead,
            "step": float(np.linalg.norm(new - weights.start["s_1"])),
            "size": float(np.linalg.norm(new)),
        }

    def _looked(self, problem: Problem, weights: Weights, sums: Sums) -> Arrays:
        """Return the first dictionary after a look at the data."""
        s = weights["s_1"]
        _check_seen(sums["max_look"] ** 2, problem)
        if "above" in sums or "look" in sums:
            return {"s_1": looked(s, sums, unit=False)}
        mean = sums["look_sum"] / (problem.rows * s.shape[1])
        return {"s_1": (s * np.sqrt(mean / len(s))).astype(s.dtype)}

    def report(self, problem: Problem, details: Sums) -> dict[str, float]:
        """Return one row of history; the score is the share of the squares that is explained."""
        names = ("objective", "train_score", "reseeded", "step", "size")
        return {name: float(details[name]) for name in names}

    def score(self, problem: Problem, sums: Sums) -> dict[str, float]:
        """Return half the mean squared error of the codes that prediction gives."""
        return {"forward_loss": 0.5 * sums["forward_error"] / problem.rows}


def _energy(z: Array) -> float:
    """Return the sum of squares of some rows.

    Raises
    ------
    DataError
        If a number is below 0, or the sum is more than the dtype holds.
    """
    if z.min() < 0:
        raise DataError(negative(z, first=True))
    with np.errstate(over="ignore"):
        energy = square(z)
    # Sums of products of the features are no larger.
    if not energy < np.finfo(z.dtype).max:
        cure = ", or use dtype='float64'" if z.dtype == np.float32 else ""
        raise DataError(f"x has numbers whose squares overflow in {z.dtype}: scale them down{cure}")
    return energy


def _check_seen(square: float, problem: Problem) -> None:
    """Raise `DataError` if the largest square, or the sum of all, is 0 or has lost its digits."""
    kind = np.dtype(problem.dtype)
    if square > DIGITS * float(np.finfo(kind).smallest_subnormal):
        return
    what = f"{problem.rows} sample(s) of {problem.architecture.widths[0]} feature(s)"
    cure = ", or use dtype='float64'" if kind == np.float32 else ""
    raise DataError(
        f"x is all zeros, or so near to 0 that {kind} does not hold the squares, in {what}: there "
        f"is nothing to factorise; scale small numbers up{cure}"
    )


def _pieces(chunk: Chunk, length: int) -> Iterator[tuple[slice, Array]]:
    """Yield slices of a chunk's rows, with these rows scaled, in memory that is used again."""
    for rows in batches(chunk.rows, length):
        yield rows, chunk.take(np.arange(rows.start, rows.stop))


register(Factorization, FactorizationCounts())
