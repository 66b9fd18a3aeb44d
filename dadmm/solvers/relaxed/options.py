"""Options of relaxed ADMM, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dadmm.errors import OptionError
from dadmm.options import check_options, option
from dadmm.solvers.problem import Problem


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
    """Options of relaxed ADMM, and what follows from them."""

    splitting: int = option(
        3,
        choices=(2, 3),
        means="Auxiliary V alone, which is half the state, or U and V.",
    )
    variant: str = option(
        "proximal",
        choices=("proximal", "linearized"),
        means="Solve every subproblem exactly, or use first-order models. They replace the terms "
        "that are not quadratic, at the current point, with a proximal weight of at least the "
        "curvature.",
    )
    regions: int = option(
        1,
        least=1,
        means="Groups of layers that are updated side by side. 1 updates the layers one after "
        "another with the newest values; R > 1 cuts them into R contiguous groups, each with its "
        "neighbours' values of the previous iteration; as many as layers is fully layer-parallel.",
    )
    state: str = option(
        "keep",
        choices=("keep", "recompute"),
        means="Keep U, V and the multiplier per sample, or store nothing. The theory is about "
        "kept state; without it each visit starts from a forward pass.",
    )
    mu: float = option(1.0, above=0, means="Weight of the penalty on pre-activations.")
    nu: float = option(1.0, above=0, means="Weight of the penalty on activations.")
    beta: float = option(
        1.0,
        above=0,
        means="Weight of the penalty on the head. At least 1 keeps F falling for every loss with "
        "a Lipschitz gradient; the gradient of the hinge jumps, which needs 10.",
    )
    tau: float = option(1e-3, least=0, means="Weight of the proximal term of every block.")
    over_relaxation: float = option(
        1.0, above=0, below=2, means="Length of the V steps whose subproblem is quadratic."
    )
    head_refit: bool = option(
        True,
        means="Whether to fit the head that predicts to the network's forward features. This is "
        "done along the way and after the last iteration; otherwise ADMM's own W_N predicts.",
    )
    inner_steps: int = option(
        10,
        least=1,
        means="Most steps on a subproblem that has no closed form. The proximal 2-splitting has "
        "such subproblems. Each step on the weights is a pass over the kept state; with "
        '``state="recompute"`` it is one.',
    )
    inner_tol: float = option(
        1e-3, above=0, means="Relative step length at which the inner steps end."
    )
    dtype: str = option(
        "float32",
        choices=("float32", "float64"),
        means="Precision of the state and of the weights during a visit. Sums and solves are in "
        "float64.",
    )

    def check(self, problem: Problem) -> None:
        """Raise `OptionError`, naming the option and its range, for options that cannot work."""
        check_options(self)
        depth = problem.architecture.depth
        if self.regions > depth:
            raise OptionError(
                f"regions={self.regions!r}: this network has {depth} layers, so use 1 (serial) "
                f"to {depth} (layer-parallel)"
            )
        if self.tau + problem.alpha <= 0:
            raise OptionError("tau and alpha are both 0: the weight solve is singular; raise one")

    def kept(self, problem: Problem) -> dict[str, int]:
        """Return name and width of each array per sample: V, U in the 3-splitting, and L."""
        arch = problem.architecture
        widths = arch.widths
        kinds = "vu" if self.splitting == 3 else "v"
        blocks = {f"{kind}_{i}": widths[i] for i in range(1, arch.depth) for kind in kinds}
        return {**blocks, f"v_{arch.depth}": widths[-1], "l": widths[-1]}

    def spans(self, problem: Problem) -> list[tuple[int, int]]:
        """Return the first and last layer of each region, from the first layer to the head."""
        groups = np.array_split(np.arange(1, problem.architecture.depth + 1), self.regions)
        return [(int(group[0]), int(group[-1])) for group in groups]

    def layers(self, problem: Problem) -> tuple[int, ...]:
        """Return the layers: 1 to N and, as N+1, the refitted head that predicts."""
        return tuple(range(1, self.readout(problem) + 1))

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
