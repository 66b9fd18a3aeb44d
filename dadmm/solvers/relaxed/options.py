"""Options of relaxed ADMM, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dadmm.errors import OptionError, unknown
from dadmm.solvers.problem import Problem

VARIANTS = ("proximal", "linearized")
STATES = ("keep", "recompute")


@dataclass(frozen=True)
class Task:
    """What a part does.

    Parameters
    ----------
    sweep : (int, int) or None
        First and last layer whose per-sample blocks are updated.
    couple : tuple of int
        Layers whose sums for the weight update are formed.
    evaluate : bool
        Whether the network is run forward too, for loss, score and head refit.
    """

    sweep: tuple[int, int] | None = None
    couple: tuple[int, ...] = ()
    evaluate: bool = False


@dataclass(frozen=True)
class RelaxedOptions:
    """Options of the relaxed ADMM; penalties are per sample, so they do not change with n.

    Parameters
    ----------
    splitting : {3, 2}
        Auxiliary U and V, or V alone (half the state).
    variant : {"proximal", "linearized"}
        Solve every subproblem exactly, or replace its non-quadratic terms by their first-order
        model at the current point with a proximal weight of at least the curvature.
    regions : int
        1 updates the layers one after another with the newest values; R > 1 cuts them into R
        contiguous groups that are updated side by side, each with its neighbours' values of the
        previous iteration; N is fully layer-parallel.
    state : {"keep", "recompute"}
        Keep U, V, V_N, L per sample between iterations (the theory's setting), or start each
        visit from a forward pass and store nothing.
    mu, nu, beta : float
        Weights of the pre-activation, activation and head penalties.  `beta` of at least 1 keeps
        F falling for every loss with a Lipschitz gradient; the hinge's jumps, and wants 10.
    tau : float
        Weight of the proximal term of every block.
    over_relaxation : float
        Length of the V steps whose subproblem is quadratic, in (0, 2).
    head_refit : bool
        Fit the head that predicts to the network's forward features, along the way and after the
        last iteration, instead of using ADMM's own W_N.
    inner_steps : int
        Most steps on a subproblem of the proximal 2-splitting, which has no closed form.  Each
        step on the weights is a pass over the kept state; with ``state="recompute"`` it is one.
    inner_tol : float
        Relative step length at which those steps end.
    dtype : {"float32", "float64"}
        Of the state and of the weights during a visit; sums and solves are float64 anyway.
    """

    splitting: int = 3
    variant: str = "proximal"
    regions: int = 1
    state: str = "keep"
    mu: float = 1.0
    nu: float = 1.0
    beta: float = 1.0
    tau: float = 1e-3
    over_relaxation: float = 1.0
    head_refit: bool = True
    inner_steps: int = 10
    inner_tol: float = 1e-3
    dtype: str = "float32"

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        depth = problem.architecture.depth
        for option in ("mu", "nu", "beta", "tau", "over_relaxation", "inner_tol"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise OptionError(f"{option}={value!r}: use a number")
            if not (0 <= value < np.inf if option == "tau" else 0 < value < np.inf):
                least = "0 or more" if option == "tau" else "above 0"
                raise OptionError(f"{option}={value!r}: use a number {least}")
        for option in ("splitting", "regions", "inner_steps"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise OptionError(f"{option}={value!r}: use a whole number")
        if self.splitting not in (2, 3):
            raise OptionError(f"splitting={self.splitting!r}: use 2 or 3")
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if self.state not in STATES:
            raise unknown("state", self.state, STATES)
        if not 1 <= self.regions <= depth:
            raise OptionError(
                f"regions={self.regions!r}: this network has {depth} layers, so use 1 (serial) "
                f"to {depth} (layer-parallel)"
            )
        if self.tau + problem.alpha <= 0:
            raise OptionError("tau and alpha are both 0: the weight solve is singular; raise one")
        if not 0 < self.over_relaxation < 2:
            raise OptionError(f"over_relaxation={self.over_relaxation!r}: use 0 < value < 2")
        if self.dtype not in ("float32", "float64"):
            raise unknown("dtype", self.dtype, ("float32", "float64"))
        if self.inner_steps < 1:
            raise OptionError(f"inner_steps={self.inner_steps!r}: use 1 or more")

    def blocks(self, problem: Problem) -> dict[str, int]:
        """Return name and width of each array per sample: V, U in the 3-splitting, and L."""
        arch = problem.architecture
        widths = arch.widths
        kinds = "vu" if self.splitting == 3 else "v"
        blocks = {f"{kind}_{i}": widths[i] for i in range(1, arch.depth) for kind in kinds}
        return {**blocks, f"v_{arch.depth}": widths[-1], "l": widths[-1]}

    def spans(self, problem: Problem) -> list[tuple[int, int]]:
        """First and last layer of each region, from the first layer to the head."""
        groups = np.array_split(np.arange(1, problem.architecture.depth + 1), self.regions)
        return [(int(group[0]), int(group[-1])) for group in groups]

    def layers(self, problem: Problem) -> tuple[int, ...]:
        """Layers 1 to N and, as N+1, the refitted head that predicts."""
        last = problem.architecture.depth + int(self.head_refit)
        return tuple(range(1, last + 1))

    def readout(self, problem: Problem) -> int:
        """Return the number of the layer that turns the last features into predictions."""
        return problem.architecture.depth + int(self.head_refit)

    def border(self, problem: Problem, i: int) -> bool:
        """Whether layers i and i+1 are in different regions."""
        return self.regions > 1 and any(hi == i for _, hi in self.spans(problem)[:-1])

    @property
    def refines(self) -> bool:
        """Whether passes that repeat only the weight step follow the first one."""
        return self.splitting == 2 and self.variant == "proximal" and self.state == "keep"
