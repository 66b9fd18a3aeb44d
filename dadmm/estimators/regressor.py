"""`ADMMRegressor`: a residual network for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dadmm.data import targets
from dadmm.errors import ShapeError
from dadmm.estimators.supervised import Supervised, has_partial_fit
from dadmm.numerics.types import Array
from dadmm.options import documented


@documented
@dataclass(eq=False, repr=False)
class ADMMRegressor(RegressorMixin, Supervised):  # type: ignore[misc]
    """A residual network for regression on one or several targets, trained by ADMM on Dask.

    Runs on the current `distributed.Client` if there is one, else on threads.

    Notes
    -----
    The losses are "squared" (taken by "auto") and "huber".  The attributes are those of
    `ADMMClassifier`, without `classes_`.
    """

    @available_if(has_partial_fit)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go once through `X` and `y`, as `ADMMClassifier.partial_fit` does."""
        return self._partial_fit(X, y, None, sample_weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def encode_target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        return targets.as_targets(y, rows), None

    def predict(self, X: Any) -> Any:
        """Return the predicted targets: (rows,) if `y` was so, else (rows, targets).

        They come in the container of `X`, as predictions of `ADMMClassifier` do.  Several targets
        are float64, as scikit-learn asks; one has the dtype of the network, or float64 if that is
        too coarse for it.
        """
        check_is_fitted(self, "network_")
        if self._one_column:
            return self._outputs(X, _first_column, None, self.network_.output_dtype)
        labels = self._form.targets or range(self.n_outputs_)
        return self._outputs(X, _columns, labels, np.float64)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2 on `X` and `y`, averaged over targets."""
        from sklearn.metrics import r2_score

        predicted, y, weights = self.compare(X, y, sample_weight)
        return float(r2_score(y, predicted, sample_weight=weights))

    def _truth(self, y: Any, rows: int) -> Array:
        y = targets.as_targets(y, rows)
        if y.shape[1] != self.n_outputs_:
            raise ShapeError(f"y has {y.shape[1]} targets, training had {self.n_outputs_}")
        return np.asarray(y)


def _columns(outputs: Array) -> Array:
    return outputs.astype(np.float64, copy=False)


def _first_column(outputs: Array) -> Array:
    return outputs[:, 0]
