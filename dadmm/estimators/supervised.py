"""What the classifier and the regressor share: a network with hidden layers."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from dask.base import compute
from sklearn.utils.validation import check_is_fitted

from dadmm.data import arrays, targets
from dadmm.data.prepare import rows_of, take_targets
from dadmm.engine import loop
from dadmm.errors import DadmmError, OptionError
from dadmm.estimators.base import Trained
from dadmm.estimators.callbacks import with_callbacks
from dadmm.estimators.problem import pose
from dadmm.networks.architecture import Architecture
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.losses import LOSSES, get_loss
from dadmm.numerics.types import Array
from dadmm.options import option
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


@dataclass(eq=False, repr=False)
class Supervised(Trained):
    """What the classifier and the regressor share: a network with hidden layers."""

    hidden_layer_sizes: Sequence[int] = option(
        (128, 128),
        kinds=(list, Sequence, np.ndarray),
        items=(int,),
        means="Width of each hidden layer. Layers between equal widths are residual.",
    )
    activation: str = option("relu", choices=ACTIVATIONS, means="Activation of the hidden layers.")
    _: KW_ONLY
    solver: str | Solver = option(
        "block",
        kinds=(object,),  # see make_solver
        says="str or solver object",
        means='"block" (`BlockADMM`: mini-batches, fast) or "relaxed" (`RelaxedADMM`: closed '
        "forms), or one of these objects with options of its own.",
    )
    loss: str = option(
        "auto",
        choices=ChainMap[str, Any](LOSSES, {"auto": None}),
        means='Loss of the outputs. "auto" is the cross-entropy for classes, the binary one for '
        "several labels per row, and the squared loss for regression.",
    )
    stem: str = option(
        "dense",
        choices=("dense", "identity"),
        means="Kind of the first layer. It is dense, or residual too: that needs as many units as "
        "features.",
    )
    alpha: float = option(1e-3, least=0, means="Weight of ``|W|^2 / 2``, per sample.")
    standardize: str = option(
        "feature",
        choices=("feature", "global", "scale", "shift", "none"),
        means="How inputs are scaled. feature: centre each feature and divide it by its own "
        "deviation. global: divide by one deviation for all (images). scale: divide all by one "
        "number, so that 0 stays 0. shift: likewise, after the least value of each feature has "
        "become 0. none: take the data as it is. For regression the targets are scaled too, each "
        'by its own deviation, unless "none"; predictions are in the units of the targets.',
    )

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
