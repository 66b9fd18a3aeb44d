"""Options of non-negative matrix factorisation, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

from dadmm.errors import OptionError
from dadmm.networks.blocks import NMFBlock
from dadmm.options import check_options, like, option
from dadmm.solvers.nmf.dictionary import MOST_FEATURES, check_features
from dadmm.solvers.problem import Problem

# Rows of a mini-batch online, and of what is coded at once: z of 784 float32 stays in the cache.
ROWS = 512
# Chunks of a round online, or the root of their number if that is more.  More at once keep more
# workers busy; more rounds give a better dictionary after a pass.
TOGETHER = 8


@dataclass(frozen=True)
class FactorizationOptions:
    """Options of non-negative matrix factorisation by itself, and what follows from them."""

    mode: str = option(
        "batch",
        choices=("batch", "online"),
        means="Keep the codes of every sample, or store nothing per sample. With kept codes the "
        "objective never rises, as in scikit-learn's NMF. Online the dictionary improves after "
        "every mini-batch, which needs fewer passes.",
    )
    init: str = option(
        "auto",
        choices=("auto", "nndsvd", "random"),
        means='Form the first dictionary from two looks at the data, or draw it. "auto" draws it '
        "if there are more than 4096 features.",
    )
    sweeps: int = like(
        NMFBlock,
        "sweeps",
        default=1,
        means="Sweeps of a visit over the kept codes of its rows (batch).",
    )
    code_sweeps: int = like(
        NMFBlock,
        "sweeps",
        means="Sweeps over the codes of rows that start from nothing: online, and at prediction.",
    )
    alpha_codes: float = option(
        0.0,
        least=0,
        means="Weight of the codes' penalty, times the number of features. It is scikit-learn's "
        "`alpha_W`.",
    )
    alpha_dictionary: float = option(
        0.0,
        least=0,
        means="Weight of the dictionary's penalty, times the number of samples. It is "
        "scikit-learn's `alpha_H`.",
    )
    l1_ratio: float = option(
        0.0,
        least=0,
        most=1,
        means="Share of the sums in the penalties; the rest is half the squares.",
    )
    batch_size: int = option(512, least=1, means="Rows of a mini-batch (online).")
    window: int = option(
        1024,
        least=1,
        means="Mini-batches that the sums behind the dictionary remember (online).",
    )
    dtype: str = option(
        "float32",
        choices=("float32", "float64"),
        means="Precision of the codes and the dictionary.",
    )

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        check_options(self)
        if problem.supervised:
            raise OptionError("solver='nmf' learns no targets: use dadmm.NMF")
        features, r = self.sizes(problem)
        most = min(features, problem.rows)
        if r > most:
            raise OptionError(
                f"n_components={r}: use at most {most}, for {problem.rows} rows of {features} "
                "features"
            )
        if self.init == "nndsvd":
            check_features(features)

    def from_data(self, problem: Problem) -> bool:
        """Whether the first dictionary is formed from the data."""
        few = self.sizes(problem)[0] <= MOST_FEATURES
        return self.init == "nndsvd" or (self.init == "auto" and few)

    def penalties(self, problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the weights of the codes' sum and squares per sample, and of the dictionary's."""
        codes = self.alpha_codes * self.sizes(problem)[0]
        both = [
            {"l1": a * self.l1_ratio, "l2": a * (1 - self.l1_ratio)}
            for a in (codes, self.alpha_dictionary)
        ]
        return both[0], both[1]

    @staticmethod
    def sizes(problem: Problem) -> tuple[int, int]:
        """Return (features, factors)."""
        return problem.architecture.widths[0], problem.architecture.widths[-1]

    def block(self, problem: Problem) -> NMFBlock:
        """Return the factorisation as a block of a network."""
        _, r = self.sizes(problem)
        return NMFBlock(r, sweeps=self.code_sweeps, **self.penalties(problem)[0])

    def rounds(self, chunks: int) -> int:
        """Return how many rounds of chunks an iteration has."""
        return -(-chunks // max(TOGETHER, isqrt(chunks))) if self.mode == "online" else 1
