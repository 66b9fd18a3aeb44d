"""What `NMF` and `DeepFacto` share: codes, and a given dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags

from dadmm.cluster.slot import compute
from dadmm.data.arrays import as_matrix
from dadmm.errors import OptionError, ShapeError
from dadmm.estimators.base import same
from dadmm.networks.network import Network
from dadmm.numerics.types import Array


class Codes(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """The parts of an estimator that gives codes."""

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes have the dtype of the network
        return tags

    def _code(self, X: Any, network: Network) -> Any:
        """Return codes, the outputs of a network up to its factors, in the container of X."""
        names = [f"{type(self).__name__.lower()}{k}" for k in range(self._n_features_out)]
        return self._outputs(X, same, names, network.dtype, network)


def given_dictionary(given: Any, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """Return the dictionary of an option that is an array or a fitted estimator.

    Raises
    ------
    ShapeError, OptionError
        If it has another shape, numbers below 0, or nothing but zeros.
    """
    if hasattr(given, "get_params") and not hasattr(given, "components_"):
        kind = type(given).__name__  # scikit-learn's clone drops the fitted attributes
        raise OptionError(f"{name} is a {kind} that is not fitted: give its components_ instead")
    found = np.asarray(as_matrix(getattr(given, "components_", given), name))
    if shape is not None and found.shape != shape:
        raise ShapeError(f"{name} has shape {found.shape}: this factorisation needs {shape}")
    if found.min() < 0 or not found.any():
        what = "has numbers below 0" if found.min() < 0 else "is all zeros"
        raise OptionError(f"{name} {what}: a dictionary is not negative, and not all 0")
    return found


def as_numpy(values: Any, plain: bool = True) -> Any:
    """Return lazy values computed; `plain` makes a NumPy array of them."""
    if hasattr(values, "compute"):
        (values,) = compute(values)
    return np.asarray(values) if plain else values
