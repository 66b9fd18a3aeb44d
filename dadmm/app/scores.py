"""Score predictions, in numbers that JSON can hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from dadmm.data.labels import encode_labels
from dadmm.estimators.nmf import NMF
from dadmm.estimators.regressor import ADMMRegressor


def count_rows(model: Any, x: Any, y: Any) -> int:
    """Return the number of rows to score."""
    if y is None:
        return int(model.matrix(x).shape[0])
    return int(y.size if isinstance(y, xr.DataArray) else len(y))


def metrics(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Return scikit-learn's usual scores of a fitted estimator.

    Factorization: explained, the share of the squares.  Classification: accuracy,
    balanced_accuracy, f1_macro, and the confusion matrix (rows: true classes, columns: predicted
    ones).  Several labels per row: accuracy (all labels of a row), hamming_loss, f1_macro, and a
    confusion matrix for each label.  Regression: r2, rmse, mae, averaged over targets.

    Raises
    ------
    DataError, ShapeError
        If the data do not fit the network, as for `score`.
    """
    from sklearn import metrics as sk

    if isinstance(model, NMF):
        return {"explained": model.score(x)}
    predicted, y, _ = model.compare(x, y)
    if isinstance(model, ADMMRegressor):
        return {
            "r2": float(sk.r2_score(y, predicted)) if len(y) > 1 else math.nan,
            "rmse": float(sk.root_mean_squared_error(y, predicted)),
            "mae": float(sk.mean_absolute_error(y, predicted)),
        }
    classes = model.classes_
    if predicted.ndim == 2:
        return {
            "accuracy": float(sk.accuracy_score(y, predicted)),
            "hamming_loss": float(sk.hamming_loss(y, predicted)),
            "f1_macro": float(sk.f1_score(y, predicted, average="macro", zero_division=0)),
            "classes": classes.tolist(),
            "confusion": sk.multilabel_confusion_matrix(y, predicted).tolist(),
        }
    # scikit-learn refuses labels that are objects and no text.
    y, predicted = encode_labels(y, classes), encode_labels(predicted, classes)
    codes = np.arange(len(classes))
    average: dict[str, Any] = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": float(sk.accuracy_score(y, predicted)),
        "balanced_accuracy": float(sk.recall_score(y, predicted, labels=np.unique(y), **average)),
        "f1_macro": float(sk.f1_score(y, predicted, labels=codes, **average)),
        "classes": classes.tolist(),
        "confusion": sk.confusion_matrix(y, predicted, labels=codes).tolist(),
    }
