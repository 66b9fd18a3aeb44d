"""What the estimators that give codes share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags

from dadmm.data.arrays import as_matrix
from dadmm.errors import OptionError, ShapeError
from dadmm.estimators.base import same
from dadmm.networks.network import Network
from dadmm.numerics.types import Array


class Codes(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """What an estimator that gives codes has."""

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes have the dtype of the network
        return tags

    def _code(self, X: Any, network: Network) -> Any:
        """Return the outputs of a network that ends with a factorisation, in the container of X."""
        names = [f"{type(self).__name__.lower()}{k}" for k in range(self._n_features_out)]
        return self._outputs(X, same, names, network.dtype, network)


def given_dictionary(given: Any, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """Return a dictionary that an option gives, as an array or an estimator that has one.

    Raises
    ------
    ShapeError, OptionError
        If it has another shape, numbers below 0, or nothing but zeros.
    """
    if hasattr(given, "get_params") and not hasattr(given, "components_"):
        kind = type(given).__name__  # scikit-learn's clone forgets what an estimator has learnt
        raise OptionError(f"{name} is a {kind} that is not fitted: give its components_ instead")
    found = np.asarray(as_matrix(getattr(given, "components_", given), name))
    if shape is not None and found.shape != shape:
        raise ShapeError(f"{name} has shape {found.shape}: this factorisation needs {shape}")
    if found.min() < 0 or not found.any():
        what = "has numbers below 0" if found.min() < 0 else "is all zeros"
        raise OptionError(f"{name} {what}: a dictionary is not negative, and not all 0")
    return found


def as_numpy(values: Any, plain: bool = True) -> Any:
    """Return what is lazy computed; as NumPy has it, or a data frame as it is."""
    if hasattr(values, "compute"):
        values = values.compute()
    return np.asarray(values) if plain else values
