"""`NMF`: non-negative matrix factorisation."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from types import NoneType
from typing import Any, Self

import numpy as np
from dask.delayed import delayed
from sklearn.base import clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from dadmm.cluster.slot import compute
from dadmm.data.containers import check_width
from dadmm.engine import loop
from dadmm.engine.session import Session
from dadmm.errors import FactorWarning, ShapeError
from dadmm.estimators.base import Trained
from dadmm.estimators.callbacks import with_callbacks
from dadmm.estimators.codes import Codes, given_dictionary
from dadmm.networks.architecture import Architecture
from dadmm.networks.network import Network
from dadmm.numerics.algebra import square
from dadmm.numerics.types import Array
from dadmm.options import documented, like, option
from dadmm.solvers.nmf.options import FactorizationOptions
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver
from dadmm.solvers.rows import batches
from dadmm.solvers.solver import Solver

# Rows scored at once.
BLOCK = 8192


@documented
@dataclass(eq=False, repr=False)
class NMF(Codes, Trained):
    """Non-negative matrix factorisation on Dask, for data larger than memory.

    ``X`` (samples, features) is approximated by ``M S``, with codes ``M >= 0`` and a dictionary
    ``S >= 0``: scikit-learn's `sklearn.decomposition.NMF` with its coordinate descent, over chunks
    of the samples.  Runs on the current `distributed.Client` if there is one, else on threads.

    Attributes
    ----------
    components_ : (n_components, features) array
        S.
    n_components_, n_features_in_, n_iter_ : int
    reconstruction_err_ : float
        ``|X - M S|``, with the codes that `transform` gives.
    loss_curve_ : list of float
        The objective of each iteration, per sample.
    history_ : xarray.Dataset
        Over `iteration`: objective; train_score, the explained share of the squares; reseeded,
        the number of factors that died and were seeded again; step, size, seconds.
    """

    n_components: int | str | None = option(
        "auto",
        kinds=(int, str, NoneType),
        choices=("auto",),
        least=1,
        says='int or "auto"',
        means='r, the number of factors; "auto" takes as many as there are features.',
    )
    _: KW_ONLY
    init: Any = option(
        None,
        kinds=(NoneType, str, object),
        choices=("auto", "nndsvd", "random"),
        sample="auto",
        says='{None, "auto", "nndsvd", "random"} or (n_components, features) array or fitted '
        "estimator",
        means='The first dictionary. "nndsvd" forms it from two passes over the data, "random" '
        "draws it. A given one may be the `components_` of an estimator such as scikit-learn's. "
        '"auto", or None, takes "nndsvd" up to 4096 features, else "random".',
    )
    alpha_W: float = like(
        FactorizationOptions,
        "alpha_codes",
        means="Weight of the codes' penalty, times the number of features.",
    )
    alpha_H: float | str = option(
        "same",
        kinds=(float, str),
        choices=("same",),
        least=0,
        sample=0.0,
        says='float or "same"',
        means="Weight of the dictionary's penalty, times the number of samples. It may be the "
        '"same" as `alpha_W`.',
    )
    l1_ratio: float = like(FactorizationOptions, "l1_ratio")
    mode: str = like(FactorizationOptions, "mode")
    dtype: str = like(FactorizationOptions, "dtype")
    shift: bool = option(
        False,
        means="Whether to subtract the least value of each feature first. Without it, data below 0 "
        "is refused. With it, one number also divides all data, and the objective and the "
        "penalties are in these units.",
    )
    max_iter: int = like(Trained, "max_iter", default=200)
    tol: float = like(
        Trained,
        "tol",
        means="Stop when ten iterations have lowered the objective by less than `tol` of its "
        "first value; 0 never stops early.",
    )
    random_state: int | None = like(
        Trained, "random_state", means="Seed of a dictionary that is drawn."
    )

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, callback: loop.Callback | None = None) -> Self:
        """Factorise `X`.

        Parameters
        ----------
        X : (samples, features) array-like or table, or path
            As for `ADMMClassifier.fit`; not negative, unless `shift`.
        y : ignored
        callback : callable or None
            As for `ADMMClassifier.fit`.

        Returns
        -------
        self

        Raises
        ------
        ShapeError, DataError, OptionError
            If the input cannot be factorised, such as numbers below 0: what, and the cure.
        StoreError
            If `run` exists and `overwrite` is not set, or cannot be written.
        """
        self._run(X, None, None, callback)
        if "train_score" in self.history_ and self.history_["train_score"].values[-1] <= 0:
            warnings.warn(
                "no row uses any factor: lower alpha_W and alpha_H",
                FactorWarning,
                stacklevel=2,
            )
        return self

    @property
    def standardize(self) -> str:
        """How the data is scaled: "none", or "shift", which moves the least values to 0."""
        return "shift" if self.shift else "none"

    def make_solver(self) -> Solver:
        alpha_h = self.alpha_W if self.alpha_H == "same" else self.alpha_H
        table = {
            "name": "nmf",
            "mode": self.mode,
            "init": self.init if isinstance(self.init, str) else "auto",
            "alpha_codes": self.alpha_W,
            "alpha_dictionary": alpha_h,
            "l1_ratio": self.l1_ratio,
            "dtype": self.dtype,
        }
        return make_solver(table)

    def make_problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        if self.n_components not in (None, "auto"):
            r = int(self.n_components)
        elif self.init is None or isinstance(self.init, str):
            r = min(shape)
        else:
            r = len(given_dictionary(self.init, "init"))
        arch = Architecture((shape[1], r), (False,), "identity")
        return Problem(arch, "squared", 0.0, rows=shape[0], dtype=solver.dtype, supervised=False)

    def encode_target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        return None, None

    def given_parameters(self, problem: Problem) -> dict[str, Array] | None:
        if self.init is None or isinstance(self.init, str):
            return None
        given = given_dictionary(self.init, "init", problem.architecture.widths[::-1])
        return {"s_1": given.astype(problem.dtype)}

    def config(self, solver: Solver) -> dict[str, Any]:
        if isinstance(self.init, (str, type(None))):
            return super().config(solver)
        # The store has the numbers of a given dictionary.
        return dict(clone(self).set_params(init=None).config(solver))

    def fitted(self, network: Network) -> dict[str, Any]:
        s = network.params["s_1"]
        scale = network.inputs.scale
        found = {"components_": s if (scale == 1).all() else s * scale.astype(s.dtype)}
        return super().fitted(network) | found | {"n_components_": len(s)}

    def adopt(self, session: Session) -> None:
        super().adopt(session)
        loss = self.history_.attrs.get("forward_loss", np.nan)
        size = float(self.network_.inputs.scale[0])
        self.reconstruction_err_ = float(np.sqrt(2.0 * loss * session.problem.rows)) * size

    def transform(self, X: Any) -> Any:
        """Return the codes of each row, (rows, n_components).

        They are not negative, solve the problem of training in `Factorization.code_sweeps` sweeps,
        and come in the container of `X`, as predictions of `ADMMClassifier` do.
        """
        check_is_fitted(self, "network_")
        return self._code(X, self.network_)

    def fit_transform(self, X: Any, y: Any = None, **options: Any) -> Any:
        """Factorise `X` and return its codes: `fit`, then `transform`."""
        return self.fit(X, **options).transform(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the share of the squares of `X` that the factorisation explains, at most 1.

        ``1 - |X - M S|^2 / |X|^2``, after the shift, if there is one.
        """
        check_is_fitted(self, "network_")
        matrix = self.matrix(X)
        check_width(matrix.shape[1], self.network_.architecture.widths[0])
        if hasattr(matrix, "to_delayed"):
            blocks = matrix.rechunk({1: -1}).to_delayed()[:, 0]
            found = compute(*(delayed(_squares)(self.network_, block) for block in blocks))
        else:
            found = tuple(
                _squares(self.network_, matrix[rows]) for rows in batches(len(matrix), BLOCK)
            )
        error, energy = np.sum(found, axis=0)
        return float(1.0 - error / (energy or 1e-300))

    def inverse_transform(self, X: Any) -> Any:
        """Return the data that codes stand for, (rows, features), in the units of the data.

        `X` holds codes: a dask array, or an array-like; the result is dask's or NumPy's likewise.
        """
        check_is_fitted(self, "network_")
        codes = X if hasattr(X, "dask") and hasattr(X, "rechunk") else np.asarray(X)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ShapeError(
                f"codes have shape {codes.shape}: there are {len(self.components_)} factors"
            )
        found = codes @ self.components_
        centre = self.network_.inputs.centre
        return found + centre.astype(found.dtype) if centre.any() else found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = not self.shift
        return tags


def _squares(network: Network, block: Any) -> tuple[float, float]:
    """Return the sum of squared errors of the rows' reconstruction, and of their squares."""
    z = network.inputs.apply(np.asarray(block), network.dtype)
    m = network.architecture.forward(network.params, z)
    return square(z - m @ network.params["s_1"]), square(z)
