"""Options of non-negative matrix factorisation, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.networks.blocks import MOST_SWEEPS, NMFBlock
from dadmm.numerics import nonnegative
from dadmm.solvers.nmf.dictionary import MOST_FEATURES, check_features
from dadmm.solvers.problem import Problem

MODES = ("batch", "online")
STARTS = ("auto", "nndsvd", "random")
# Rows of a mini-batch online, and of what is coded at once: z of 784 float32 stays in the cache.
ROWS = 512
# Chunks of a round online, or the root of their number if that is more: more at once are more
# workers' work, more rounds a better dictionary after a pass.
TOGETHER = 8


@dataclass(frozen=True)
class FactorizationOptions:
    """Options of non-negative matrix factorisation by itself; `dadmm.NMF` is its estimator.

    Parameters
    ----------
    mode : {"batch", "online"}
        Keep the codes of every sample, as scikit-learn's NMF does; or nothing, and improve the
        dictionary after every mini-batch.
    init : {"auto", "nndsvd", "random"}
        Form the first dictionary from two looks at the data, or draw it; "auto" draws it of more
        than 4096 features.
    sweeps : int
        Of a visit over the codes of its rows: on those kept (batch); online, and at prediction,
        `code_sweeps` from nothing.
    code_sweeps : int
    alpha_codes, alpha_dictionary, l1_ratio : float
        Penalties as scikit-learn has them: that of the codes weighs features times `alpha_codes`,
        that of the dictionary samples times `alpha_dictionary`; sums have the share `l1_ratio`.
    batch_size : int
        Rows of a mini-batch (online).
    window : int
        Mini-batches that the sums behind the dictionary remember (online).
    dtype : {"float32", "float64"}
    """

    mode: str = "batch"
    init: str = "auto"
    sweeps: int = 1
    code_sweeps: int = nonnegative.SWEEPS
    alpha_codes: float = 0.0
    alpha_dictionary: float = 0.0
    l1_ratio: float = 0.0
    batch_size: int = 512
    window: int = 1024
    dtype: str = "float32"

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        for option, known in (
            ("mode", MODES),
            ("init", STARTS),
            ("dtype", ("float32", "float64")),
        ):
            if getattr(self, option) not in known:
                raise unknown(option, getattr(self, option), known)
        for option in ("sweeps", "code_sweeps", "batch_size", "window"):
            if getattr(self, option) < 1:
                raise OptionError(f"{option}={getattr(self, option)!r}: use 1 or more")
        for option in ("sweeps", "code_sweeps"):
            if getattr(self, option) > MOST_SWEEPS:
                raise OptionError(f"{option}={getattr(self, option)!r}: use at most {MOST_SWEEPS}")
        for option, most in (
            ("alpha_codes", np.inf),
            ("alpha_dictionary", np.inf),
            ("l1_ratio", 1.0),
        ):
            if not 0 <= getattr(self, option) <= most or getattr(self, option) == np.inf:
                bound = "or more" if most == np.inf else "to 1"
                raise OptionError(f"{option}={getattr(self, option)!r}: use 0 {bound}")
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
