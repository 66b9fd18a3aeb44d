"""scikit-learn estimators: `ADMMClassifier` and `ADMMRegressor`."""

from __future__ import annotations

import warnings
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from types import NoneType
from typing import Any, Self

import numpy as np
from dask.base import compute
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dadmm.data import arrays, targets
from dadmm.data.containers import Container, check_width
from dadmm.data.prepare import prepare_training, rows_of, take_targets
from dadmm.engine import loop
from dadmm.errors import DadmmError, OptionError, ShapeError
from dadmm.estimators.base import Trained, same
from dadmm.estimators.callbacks import with_callbacks
from dadmm.networks.architecture import Architecture
from dadmm.numerics.activations import ACTIVATIONS
from dadmm.numerics.losses import LOSSES, get_loss
from dadmm.numerics.types import Array
from dadmm.options import documented, option
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.registry import make_solver
from dadmm.solvers.solver import Problem, Solver


def _has_partial_fit(estimator: Any) -> bool:
    """Whether the solver learns from pieces; `OptionError`, which hides the method, if not."""
    try:
        solver = make_solver(estimator.solver)
    except DadmmError:
        return True  # the call says what is wrong
    if not isinstance(solver, BlockADMM):
        raise OptionError(f"partial_fit needs solver='block', not {solver.name!r}")
    return True


@dataclass(eq=False, repr=False)
class _ADMMEstimator(Trained):
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

    def _problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        """Return what is to be minimised over so many rows of so many features."""
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
        self._check_options()
        solver = self._make_solver()
        assert isinstance(solver, BlockADMM)
        if self.run is not None:
            raise OptionError("partial_fit keeps its state in the estimator: leave run=None")
        # One pass is no schedule, and its rows are too few to hold some out.
        solver = replace(solver, learning_rate_schedule="constant", early_stopping=False)
        before = self if hasattr(self, "network_") else None
        form = None if before is None else self._form
        given = prepare_training(X, y, self.categorical, self.missing, self.sample_dims, form)
        if before is not None:
            check_width(given.x.shape[1], self.network_.architecture.widths[0])
        known = getattr(self, "classes_", None) if before is not None else classes
        target, found = self._target(given.y, given.x.shape[0], known)
        return self._fit(solver, given, target, found, sample_weight, before, None, max_iter=1)

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

    def _scored(self, X: Any, y: Any) -> tuple[Array, Array, Container]:
        """Return predictions and targets as NumPy arrays of as many dimensions, in one pass."""
        check_is_fitted(self, "network_")
        container, y, _ = take_targets(self._contain(X), y, self._form.targets)
        predicted = self.predict(container)
        with arrays.computing("X"):
            if hasattr(predicted, "partitions"):  # a frame cannot be computed together with arrays
                predicted = predicted.compute()
            predicted, y = compute(predicted, arrays.unwrap(y))
        flat = np.asarray(predicted)
        if self._flat:
            return flat.reshape(-1), y, container
        return flat.reshape(-1, self.n_outputs_), y, container


@documented
@dataclass(eq=False, repr=False)
class ADMMClassifier(ClassifierMixin, _ADMMEstimator):  # type: ignore[misc]
    """A residual network for classification, trained by ADMM on Dask.

    Runs on the current `distributed.Client` if there is one, else on threads.

    Attributes
    ----------
    network_ : Network
    classes_ : (classes,) array
        The labels; of several per row the columns, ``0, 1, ...``.
    n_features_in_, n_iter_ : int
    feature_names_in_ : (features,) array of str
        Of tables, data sets, and arrays of xarray whose features have text coordinates.  Prediction
        takes columns by these names, in any order, and those of arrays by their position.
    loss_curve_ : list of float
        The objective of each iteration: the loss seen while training (block), or the Lagrangian
        at its start (relaxed).
    history_ : xarray.Dataset
        Over `iteration`: objective, train_score, step, seconds; of several blocks primal_residual,
        of rows held out validation_loss and validation_score; relaxed: forward_loss,
        primal_residual, stationarity, and residuals per layer.  Its attributes hold the status
        and the final scores; relaxed: the fitted convergence rate with its R^2.
    """

    _: KW_ONLY
    class_weight: Mapping[Any, float] | str | None = option(
        None,
        kinds=(str, Mapping, NoneType),
        choices=("balanced",),
        sample="balanced",
        use="'balanced' or a dict of class: weight",
        says='dict, "balanced" or None',
        means="Weights of the classes' samples. Balanced weights are inverse to the numbers of "
        "samples.",
    )

    @available_if(_has_partial_fit)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go once through `X` and `y`, from where the last call or fit stopped.

        The first call decides the scaling of the inputs, and the classes: those of `y`, unless
        all are named in `classes` (``0, 1, ...`` for the columns of several labels per row).  The
        learning rate is constant.  Other parameters and errors are those of `fit`.
        """
        return self._partial_fit(X, y, classes, sample_weight)

    def _target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        given, y = y, targets.as_column(y, rows)
        if y.ndim == 2:
            labels = np.arange(y.shape[1]) if classes is None else np.unique(classes)
            return targets.as_indicators(y, len(labels)), labels
        if not targets.is_flat(given):
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected: use y[:, 0]",
                DataConversionWarning,
                stacklevel=3,
            )
        classes = targets.find_classes(y if classes is None else np.asarray(classes))
        if arrays.is_dask(y):
            codes = y.map_blocks(targets.encode_labels, classes, dtype=np.int32)[:, None]
        else:
            codes = targets.encode_labels(y, classes)[:, None]
        return codes, classes

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row.

        They come in the container of `X`, with its index or coordinates, lazily where it is lazy:
        a Series for a data frame, a DataArray over the sample dimensions for xarray, NumPy for
        NumPy and sparse matrices, a dask array for dask and zarr.

        Where training had several labels per row: which of them are more likely than not, as 1
        and 0, (rows, labels).
        """
        check_is_fitted(self, "network_")
        if self._multi_label:
            return self._outputs(X, _likely, self._labels, np.int64)
        return self._outputs(X, _TakeClass(self.classes_), None, self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (rows, classes), or of each label by itself.

        They come in the container of `X`, as those of `predict`.

        Raises
        ------
        OptionError
            If the network was trained with a loss that gives no probabilities.
        """
        check_is_fitted(self, "network_")
        loss = get_loss(self.network_.target.loss)
        if not loss.has_proba:
            raise OptionError(f"loss={loss.name!r} gives no probabilities: use 'cross_entropy'")
        return self._outputs(X, loss.predict_proba, self._labels, self.network_.dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on `X` and `y`: the share of rows with the right label, or labels.

        Raises
        ------
        DataError
            If `y` has a label that training never saw.
        """
        predicted, y, container = self._scored(X, y)
        y = targets.as_column(y, len(predicted))
        if self._multi_label:
            right = (predicted == targets.as_indicators(y, len(self.classes_))).all(axis=1)
        else:
            targets.encode_labels(y, self.classes_)
            right = predicted == y
        weights = _score_weights(rows_of(container, sample_weight), y)
        return float(np.average(right, weights=weights))

    @property
    def _multi_label(self) -> bool:
        return get_loss(self.network_.target.loss).multi_label

    @property
    def _flat(self) -> bool:
        return not self._multi_label

    @property
    def _labels(self) -> Sequence[Any]:
        """Return what the columns of the outputs are called."""
        named = self._multi_label and self._form.targets
        return named or self.classes_.tolist()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class _TakeClass:
    """Outputs to class labels."""

    def __init__(self, classes: Array) -> None:
        self.classes = classes

    def __call__(self, outputs: Array) -> Array:
        return np.asarray(self.classes[outputs.argmax(axis=1)])


@documented
@dataclass(eq=False, repr=False)
class ADMMRegressor(RegressorMixin, _ADMMEstimator):  # type: ignore[misc]
    """A residual network for regression on one or several targets, trained by ADMM on Dask.

    Runs on the current `distributed.Client` if there is one, else on threads.

    Notes
    -----
    The losses are "squared", which "auto" takes, and "huber".  The attributes are those of
    `ADMMClassifier`, without `classes_`.
    """

    @available_if(_has_partial_fit)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go once through `X` and `y`; see `ADMMClassifier.partial_fit`."""
        return self._partial_fit(X, y, None, sample_weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        return targets.as_targets(y, rows), None

    def predict(self, X: Any) -> Any:
        """Return the predicted targets, (rows,) if `y` was, else (rows, targets).

        They come in the container of `X`, as those of `ADMMClassifier.predict`.
        """
        dtype = self.network_.dtype if hasattr(self, "network_") else None
        if self._flat:
            return self._outputs(X, _first_column, None, dtype)
        labels = self._form.targets or range(self.n_outputs_)
        return self._outputs(X, same, labels, dtype)

    @property
    def _flat(self) -> bool:
        return getattr(self, "_one_column", True)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2 on `X` and `y`, averaged over targets."""
        from sklearn.metrics import r2_score

        predicted, y, container = self._scored(X, y)
        y = targets.as_targets(y, len(predicted))
        if y.shape[1] != self.n_outputs_:
            raise ShapeError(f"y has {y.shape[1]} targets, training had {self.n_outputs_}")
        weights = _score_weights(rows_of(container, sample_weight), y)
        return float(r2_score(y, predicted, sample_weight=weights))


def _score_weights(sample_weight: Any, y: Array) -> Array | None:
    if sample_weight is None:
        return None
    return np.asarray(targets.as_weights(sample_weight, y))[:, 0]


def _likely(outputs: Array) -> Array:
    return (outputs > 0).astype(np.int64)


def _first_column(outputs: Array) -> Array:
    return outputs[:, 0]
