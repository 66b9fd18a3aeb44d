"""`ADMMClassifier`: a residual network for classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from types import NoneType
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dadmm.data import labels, targets
from dadmm.errors import OptionError
from dadmm.estimators.base import same
from dadmm.estimators.supervised import Supervised, has_partial_fit
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.options import documented, option


@documented
@dataclass(eq=False, repr=False)
class ADMMClassifier(ClassifierMixin, Supervised):  # type: ignore[misc]
    """A residual network for classification, trained by ADMM on Dask.

    Runs on the current `distributed.Client` if there is one, else on threads.

    Attributes
    ----------
    network_ : Network
    classes_ : (classes,) array
        The labels; for several labels per row, the columns ``0, 1, ...``.
    n_features_in_, n_iter_ : int
    feature_names_in_ : (features,) array of str
        Column names of tables and data sets, or text coordinates of xarray's features.  Prediction
        takes columns of tables by name, in any order, and those of arrays by position.
    loss_curve_ : list of float
        The objective of each iteration: the loss seen while training (block), or the Lagrangian
        at its start (relaxed).
    history_ : xarray.Dataset
        Over `iteration`: objective, train_score, step, seconds; with several blocks
        primal_residual; with rows held out validation_loss and validation_score; relaxed:
        forward_loss, primal_residual, stationarity, and residuals per layer.  Its attributes hold
        the status and the final scores; relaxed: the fitted convergence rate with its R^2.
    """

    _: KW_ONLY
    class_weight: Mapping[Any, float] | str | None = option(
        None,
        kinds=(str, Mapping, NoneType),
        choices=("balanced",),
        sample="balanced",
        use="'balanced' or a dict of class: weight",
        says='dict, "balanced" or None',
        means="Weight of each class's samples. Balanced weights are inverse to the numbers of "
        "samples.",
    )

    @available_if(has_partial_fit)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go once through `X` and `y`, from the end of the last call or fit.

        The first call fixes the classes: all of `classes` (``0, 1, ...`` for the columns of several
        labels per row), or else those of `y`.  The learning rate is constant.  Other parameters and
        errors are those of `fit`.

        Each column's scaling, of inputs and of numbers to predict, is fixed by the first 10 rows or
        by `fit`; that of a column that has been constant until then, by the first call in which it
        varies.  Until a scaling is fixed each call refines it, and the weights of the first and the
        last layer follow, so that predictions do not jump.
        """
        return self._partial_fit(X, y, classes, sample_weight)

    def encode_target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        given, y = y, labels.as_label_column(y, rows)
        if y.ndim == 2:
            names = np.arange(y.shape[1]) if classes is None else np.unique(classes)
            return targets.as_indicators(y, len(names)), names
        if not targets.is_flat(given):
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected: use y[:, 0], or "
                "y.iloc[:, 0] of a table",
                DataConversionWarning,
                stacklevel=4,
            )
        if classes is None:
            found = labels.find_classes(y)
        else:
            found = labels.find_classes(labels.as_label_column(classes, np.size(classes)))
        return labels.as_codes(y, found), found

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row.

        They are a NumPy array for NumPy, sparse matrices and tables in memory, as scikit-learn's
        tools need.  Others come in the container of `X`, lazily if it is lazy: a dask Series for a
        dask frame, a dask array for dask and zarr, a DataArray over the sample dimensions for
        xarray.  Those of a file of a table are a Series with its index.

        If training had several labels per row, return (rows, labels): 1 for labels that are more
        likely than not, else 0.
        """
        check_is_fitted(self, "network_")
        if self._multi_label:
            return self._outputs(X, _likely, self._labels, np.int64)
        return self._outputs(X, _TakeClass(self.classes_), None, self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (rows, classes), or of each label by itself.

        They come in the container of `X`, as those of `predict` do.

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

    def decision_function(self, X: Any) -> Any:
        """Return the outputs of the network, (rows, classes) or (rows, labels).

        Likelier classes have larger ones.  Those of two classes are (rows,): that of the second
        less that of the first.  They come in the container of `X`, as those of `predict` do.
        """
        check_is_fitted(self, "network_")
        dtype = self.network_.dtype
        if len(self.classes_) == 2 and not self._multi_label:
            return self._outputs(X, _second_less_first, None, dtype)
        return self._outputs(X, same, self._labels, dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on `X` and `y`: the share of rows with the right label, or labels.

        Raises
        ------
        DataError
            If `y` has a label that training never saw.
        """
        predicted, y, weights = self.compare(X, y, sample_weight)
        right = predicted == y
        return float(np.average(right if y.ndim == 1 else right.all(axis=1), weights=weights))

    @property
    def _columns(self) -> int:
        return int(self.n_outputs_) if self._multi_label else 1

    def _truth(self, y: Any, rows: int) -> Array:
        if self._multi_label:
            y = targets.as_column(y, rows)
            return np.asarray(targets.as_indicators(y, len(self.classes_)))
        codes = labels.encode_labels(labels.as_label_column(y, rows), self.classes_)
        return np.asarray(self.classes_[codes])

    @property
    def _multi_label(self) -> bool:
        return get_loss(self.network_.target.loss).multi_label

    @property
    def _labels(self) -> Sequence[Any]:
        """The names of the output columns."""
        named = self._multi_label and self._form.targets
        return named or list(self.classes_)  # in NumPy's types: a list of large ones becomes floats

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class _TakeClass:
    """A function from outputs to class labels."""

    def __init__(self, classes: Array) -> None:
        self.classes = classes

    def __call__(self, outputs: Array) -> Array:
        return np.asarray(self.classes[outputs.argmax(axis=1)])


def _second_less_first(outputs: Array) -> Array:
    return np.asarray(outputs[:, 1] - outputs[:, 0])


def _likely(outputs: Array) -> Array:
    return (outputs > 0).astype(np.int64)
