"""What the classifier and the regressor share: a network with hidden layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from dask.base import compute
from sklearn.utils.validation import check_is_fitted

from dadmm.data import arrays, ingest, targets
from dadmm.data.prepare import rows_of, take_targets
from dadmm.engine import loop
from dadmm.errors import DadmmError, OptionError
from dadmm.estimators.base import Trained
from dadmm.estimators.callbacks import with_callbacks
from dadmm.estimators.problem import pose
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.options import check_type
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver
from dadmm.solvers.solver import Solver


def has_partial_fit(estimator: Any) -> bool:
    """Whether the solver learns from pieces; `OptionError`, which hides the method, if not."""
    try:
        solver = make_solver(estimator.solver)
    except DadmmError:
        return True  # the call says what is wrong
    if solver.incremental() is None:
        raise OptionError(f"partial_fit needs solver='block', not {solver.name!r}")
    return True


class Supervised(Trained):
    """What the classifier and the regressor share: a network with hidden layers."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "relu",
        *,
        solver: str | Solver = "block",
        loss: str = "auto",
        stem: str = "dense",
        alpha: float = 1e-3,
        max_iter: int = 50,
        tol: float = 1e-4,
        standardize: str = "feature",
        random_state: int | None = None,
        run: str | Path | None = None,
        overwrite: bool = False,
        memory_limit: int | str | None = None,
        chunks: int | Sequence[int] | str = "auto",
        copy_data: bool = False,
        categorical: str = "refuse",
        missing: str = "refuse",
        handle_unknown: str = "error",
        sample_dims: str | Sequence[str] | None = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.loss = loss
        self.stem = stem
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.random_state = random_state
        self.run = run
        self.overwrite = overwrite
        self.memory_limit = memory_limit
        self.chunks = chunks
        self.copy_data = copy_data
        self.categorical = categorical
        self.missing = missing
        self.handle_unknown = handle_unknown
        self.sample_dims = sample_dims
        self.warm_start = warm_start
        self.verbose = verbose

    @with_callbacks
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, callback: loop.Callback | None = None
    ) -> Self:
        """Train on `X` and `y`.

        Parameters
        ----------
        X : (samples, features) array-like or table
            NumPy or what converts to it, pandas, xarray, SciPy's sparse matrices; or lazy, never
            loaded whole: dask arrays and data frames, zarr, lazy xarray.  Of dask arrays whose
            chunk sizes are unknown, and of dask data frames, the rows are counted first, which
            computes each of `X` and `y` once more.  Rows are taken by position; indices
            that have the same labels in different orders are an error.
        y : (samples,) or (samples, targets) array-like, or str or list of str
            As `X`; or the names of columns of `X`, or variables, that are targets, not inputs.
            A classifier takes several columns, of 0 and 1, as labels that hold or not.
        sample_weight : (samples,) array-like or None
            Weights of the samples; only their ratios matter.
        callback : callable or None
            Called as ``callback(iteration, row)`` after each committed iteration; it may raise
            `StopIteration` to make that one the last.  scikit-learn's own callbacks are set with
            `set_callbacks`, where its version has them (1.9).

        Returns
        -------
        self

        Raises
        ------
        ShapeError, DataError, OptionError
            For input that cannot be trained on: what, where, and the cure.
        StoreError
            If `run` exists and `overwrite` is not set, or cannot be written.
        DivergenceError
            If training left the finite numbers; the fitted attributes are then those of the last
            good iteration.
        """
        return self._run(X, y, sample_weight, callback)

    def make_problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        """Return the loss of a residual network; see `Trainable.make_problem`."""
        n_outputs = target.shape[1] if classes is None else len(classes)
        arch = Architecture.build(
            shape[1],
            self._widths(),
            n_outputs,
            self.activation,
            self.stem,
        )
        return Problem(
            arch,
            self._loss(classes is not None, multi_label=target.shape[1] > 1),
            float(self.alpha),
            rows=shape[0],
            classes=0 if classes is None else n_outputs,
            dtype=solver.dtype,
        )

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        solver = self.make_solver().incremental()
        assert solver is not None  # or there would be no such method
        if self.run is not None:
            raise OptionError("partial_fit keeps its state in the estimator: leave run=None")
        continues = hasattr(self, "network_")
        known = getattr(self, "classes_", None) if continues else classes
        posed = pose(self, X, y, sample_weight, solver=solver, classes=known, continues=continues)
        return self._fit(posed, max_iter=1)

    def check_options(self) -> None:
        """Check the options of networks too; see `Trainable.check_options`."""
        for option in ("activation", "loss", "stem", "standardize"):
            check_type(option, getattr(self, option), str)
        self._check_widths("hidden_layer_sizes")
        self._check_numbers(("alpha", float, 0))
        ingest.check_standardize(self.standardize)
        super().check_options()

    def _check_widths(self, option: str) -> None:
        sizes = getattr(self, option)
        try:
            for width in sizes:
                check_type("width", width, int)
        except (TypeError, OptionError) as error:
            raise OptionError(
                f"{option}={sizes!r}: use whole numbers such as (128, 128)"
            ) from error

    def _widths(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""
        return tuple(int(width) for width in self.hidden_layer_sizes)

    def _loss(self, classification: bool, multi_label: bool) -> str:
        if self.loss == "auto":
            several = "binary_cross_entropy" if multi_label else "cross_entropy"
            return several if classification else "squared"
        loss = get_loss(self.loss)
        if loss.classification_only and not classification:
            raise OptionError(f"loss={self.loss!r} is for classes: use 'squared' or 'huber'")
        if classification and loss.multi_label != multi_label:
            which, other = "one label", "binary_cross_entropy"
            if loss.multi_label:
                which, other = "several labels", "cross_entropy"
            raise OptionError(f"loss={self.loss!r} is for {which} per row: use {other!r}")
        return str(loss.name)

    def compare(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[Array, Array, Array | None]:
        """Return what is predicted, what is true, and the samples' weights, in one pass.

        Both are NumPy arrays of one shape: labels, labels that hold or not, or numbers, one column
        per target.

        Raises
        ------
        DataError, ShapeError
            If `y` has labels that training never saw, or not as many targets.
        """
        check_is_fitted(self, "network_")
        container, y, _ = take_targets(self._contain(X), y, self._form.targets)
        predicted = self.predict(container)
        with arrays.computing("X"):
            if hasattr(predicted, "partitions"):  # a frame cannot be computed together with arrays
                predicted = predicted.compute()
            predicted, y = compute(predicted, arrays.unwrap(y))
        predicted = np.asarray(predicted)
        y = self._truth(y, len(predicted))
        weights = rows_of(container, sample_weight)
        if weights is not None:
            weights = np.asarray(targets.as_weights(weights, y))[:, 0]
        return predicted.reshape(y.shape), y, weights

    def _truth(self, y: Any, rows: int) -> Array:
        """Return true labels or targets, checked, in the form of predictions."""
        raise NotImplementedError  # pragma: no cover
