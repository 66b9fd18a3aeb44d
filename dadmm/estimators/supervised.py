"""`Supervised`, the base of the classifier and the regressor."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dadmm.cluster.slot import compute
from dadmm.data import arrays
from dadmm.data.prepare import take_targets, weights_of
from dadmm.data.weights import as_weights, heeded
from dadmm.engine import loop
from dadmm.errors import DadmmError, OptionError
from dadmm.estimators.base import Trained
from dadmm.estimators.callbacks import with_callbacks
from dadmm.estimators.problem import pose
from dadmm.estimators.refine import refine
from dadmm.networks.architecture import Architecture
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.losses import LOSSES, get_loss
from dadmm.numerics.types import Array
from dadmm.options import option
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver
from dadmm.solvers.solver import Solver


def has_partial_fit(estimator: Any) -> bool:
    """Return True if the solver learns from pieces; else `OptionError` hides `partial_fit`."""
    try:
        solver = make_solver(estimator.solver)
    except DadmmError:
        return True  # the call of the method names the bad option
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
        means='Method of training. "block" (`BlockADMM`: mini-batches, fast), "relaxed" '
        "(`RelaxedADMM`: closed forms), or an object of these classes with options.",
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
        means="Kind of the first layer. dense: any width. identity: residual, with as many units "
        "as features.",
    )
    alpha: float = option(1e-3, least=0, means="Weight of ``|W|^2 / 2``, per sample.")
    standardize: str = option(
        "feature",
        choices=("feature", "global", "scale", "shift", "none"),
        means="How inputs are scaled. feature: centre each feature and divide it by its own "
        "deviation. global: divide by one deviation for all (images). scale: divide all by one "
        "number, so that 0 stays 0. shift: likewise, after moving the least value of each feature "
        "to 0. none: leave the data as it is. Regression scales each target too, by its own "
        'deviation, unless "none"; predictions are in the units of the targets.',
    )

    @with_callbacks
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, callback: loop.Callback | None = None
    ) -> Self:
        """Train on `X` and `y`.

        Parameters
        ----------
        X : (samples, features) array-like or table
            In memory: NumPy or what converts to it, pandas, xarray, SciPy's sparse matrices, dicts
            of columns, arrays of records, and tables of any library that speaks Arrow, such as
            polars and pyarrow.  Lazy, never loaded whole: dask arrays and data frames, lazy xarray,
            zarr arrays, sparse matrices in zarr as AnnData stores them.  Columns with names are
            taken by name.  The rows of dask data frames, and of dask arrays of unknown chunk sizes,
            are counted first, which computes each of `X` and `y` once more.  Rows match by
            position; indices with the same labels in different orders are an error.
        y : (samples,) or (samples, targets) array-like, or name or list of names
            As `X`; or names of the columns or variables of `X` that are targets, not inputs.
            A classifier reads several columns of 0 and 1 as labels that hold or not.
        sample_weight : (samples,) array-like or None
            Weights of the samples; only their ratios matter.  They reach the scaling, fills of
            missing values and all scores, and samples of weight 0 are as if they were not there:
            what stands there is no class, no category and no target, but missing values are
            refused.  Those of xarray, such as weights by latitude, are repeated over the sample
            dimensions that they lack.
        callback : callable or None
            Called as ``callback(iteration, row)`` after each committed iteration.  It may raise
            `StopIteration` to stop there.  `set_callbacks` sets scikit-learn's own callbacks, from
            its version 1.9 on.

        Returns
        -------
        self

        Raises
        ------
        ShapeError, DataError, OptionError
            If the input cannot be trained on: what, where, and the cure.
        StoreError
            If `run` exists and `overwrite` is not set, or cannot be written.
        DivergenceError
            If a number of training is not finite; the fitted attributes are then those of the
            last good iteration.
        """
        return self._run(X, y, sample_weight, callback)

    def make_problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        n_outputs = target.shape[1] if classes is None else len(classes)
        widths = self._widths()
        arch = Architecture.build(shape[1], widths, n_outputs, self.activation, self.stem)
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
        assert solver is not None  # `has_partial_fit` hides the method otherwise
        if self.run is not None:
            raise OptionError("partial_fit keeps its state in the estimator: leave run=None")
        continues = hasattr(self, "network_")
        known = getattr(self, "classes_", None) if continues else classes
        posed = pose(
            self,
            X,
            y,
            sample_weight,
            solver=solver,
            classes=known,
            continues=continues,
            in_order=True,
        )
        seen = getattr(self, "_seen", {}) if continues else {}
        return self._fit(refine(posed, seen), max_iter=1, earlier=seen)

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
        """Return predictions, true values and the samples' weights, in one pass.

        Predictions and true values are NumPy arrays of one shape: labels, indicators of several
        labels, or numbers, one column per target.

        Raises
        ------
        DataError, ShapeError
            If `y` has labels that training never saw, or another number of targets.
        """
        check_is_fitted(self, "network_")
        container, y, _ = take_targets(self._contain(X), y, self._form.targets)
        predicted = self.predict(container)
        with arrays.computing("X"):
            if hasattr(predicted, "partitions"):  # a frame cannot be computed together with arrays
                (predicted,) = compute(predicted)
            predicted, y = compute(predicted, arrays.unwrap(y))
        predicted = np.asarray(predicted)
        rows = predicted.size // self._columns  # samples may have many dimensions
        weights = weights_of(container, sample_weight)
        y = self._truth(heeded(y, weights, rows), rows)
        if weights is not None:
            weights = np.asarray(as_weights(weights, y))[:, 0]
        return predicted.reshape(y.shape), y, weights

    @property
    def _columns(self) -> int:
        """How many numbers or labels are predicted for a sample."""
        return int(self.n_outputs_)

    def _truth(self, y: Any, rows: int) -> Array:
        """Return true labels or targets, checked, in the form of predictions."""
        raise NotImplementedError  # pragma: no cover
