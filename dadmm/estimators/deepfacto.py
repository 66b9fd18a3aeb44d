"""`DeepFacto`: a classifier with a non-negative factorisation inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from dadmm.errors import OptionError
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.codes import Codes, as_numpy, given_dictionary
from dadmm.networks.blocks import Dense, NMFBlock, Residual
from dadmm.networks.chain import Chain
from dadmm.networks.names import text_of
from dadmm.networks.network import Network
from dadmm.networks.target import Target
from dadmm.numerics.matching import AttributeScores, match
from dadmm.numerics.types import Array
from dadmm.options import check_type, documented, like, option
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.problem import Problem
from dadmm.solvers.solver import Solver

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False)
class _ByPosition:
    """The first arguments of `DeepFacto`: a dataclass puts the fields of its last base first."""

    n_components: int = option(16, least=1, means="The number of factors.")
    hidden_layer_sizes: Sequence[int] = ()
    head_layer_sizes: Sequence[int] = like(
        ADMMClassifier,
        "hidden_layer_sizes",
        default=(),
        means="Widths of the layers between the codes and the linear head.",
    )


@documented
@dataclass(eq=False, repr=False)
class DeepFacto(Codes, ADMMClassifier, _ByPosition):
    """A classifier through factors: a network with a non-negative factorisation inside.

    Hidden layers make features that are not negative.  An `NMFBlock` codes these by factors.  The
    rest of the network reads the codes alone.  Block-ADMM trains all of it (arXiv 2105.00339):
    backpropagation cannot go through a code, which is the solution of a problem.

    Attributes
    ----------
    components_ : (n_components, features) array
        The dictionary of the features; without hidden layers, of the inputs, in their units.
    history_ : xarray.Dataset
        As that of `ADMMClassifier`, and reconstruction_error, ``|Z - M S| / |Z|`` of the features
        Z in training, and reseeded, the number of factors that died and were seeded again.

    Notes
    -----
    All other attributes are those of `ADMMClassifier`.  Rows of unknown class still shape the
    factors: give them any label and a `sample_weight` of 0.
    """

    hidden_layer_sizes: Sequence[int] = like(
        ADMMClassifier,
        "hidden_layer_sizes",
        default=(256,),
        means="Widths of the layers below the factors; none factorises the inputs themselves.",
    )
    activation: str = like(
        ADMMClassifier,
        "activation",
        means="Activation of the layers. The layer below the factors must give nothing below 0.",
    )
    _: KW_ONLY
    factor_weight: float = like(NMFBlock, "weight")
    sparsity: float = like(NMFBlock, "l1")
    overlap: float = like(NMFBlock, "overlap")
    factor_init: Any = like(
        NMFBlock,
        "init",
        kinds=(str, object),
        says='{"random", "nndsvd"} or (n_components, features) array or fitted estimator',
        means='The first dictionary. "random" draws it, "nndsvd" forms it from two passes over '
        "the features of the first network. A given one may be the `components_` of an estimator "
        "such as scikit-learn's.",
    )
    code_sweeps: int = like(NMFBlock, "sweeps")
    solver: str | Solver = like(
        ADMMClassifier,
        "solver",
        says='"block" or BlockADMM',
        means="Block-ADMM, by its name or as an object with options, except `blocks`.",
    )
    standardize: str = like(
        ADMMClassifier,
        "standardize",
        default="scale",
        means='How inputs are scaled. "scale" divides them by one number, so that 0 stays 0; '
        '"shift" first moves the least value of each to 0. Factors of the inputs themselves need '
        'one of these, or "none".',
    )
    stem: str = field(default="dense", init=False)

    def layers(self) -> list[Any]:
        """Return the blocks of the network, without its head."""
        found: list[Any] = []
        for sizes in (self.hidden_layer_sizes, self.head_layer_sizes):
            widths = [int(width) for width in sizes]
            for i, width in enumerate(widths):
                equal = i > 0 and widths[i - 1] == width
                found.append(Residual(self.activation) if equal else Dense(width, self.activation))
            if sizes is self.hidden_layer_sizes and len(found) == len(widths):
                found.append(self._factors)
        return found

    @property
    def _factors(self) -> NMFBlock:
        return NMFBlock(
            int(self.n_components),
            float(self.factor_weight),
            float(self.sparsity),
            overlap=float(self.overlap),
            sweeps=int(self.code_sweeps),
            init=self.factor_init if isinstance(self.factor_init, str) else "random",
        )

    def make_solver(self) -> Solver:
        solver = super().make_solver()
        if not isinstance(solver, BlockADMM):
            raise OptionError(f"DeepFacto needs solver='block', not {solver.name!r}")
        return replace(solver, blocks=self.layers())

    def given_parameters(self, problem: Problem) -> dict[str, Array] | None:
        if isinstance(self.factor_init, str):
            return None
        t = len(self.hidden_layer_sizes) + 1
        shape = (int(self.n_components), problem.architecture.widths[t - 1])
        s = given_dictionary(self.factor_init, "factor_init", shape)
        s = s / np.maximum(np.linalg.norm(s, axis=1, keepdims=True), 1e-30)
        return {f"theta_{t}": s.astype(problem.dtype).reshape(-1)}

    def config(self, solver: Solver) -> dict[str, Any]:
        if isinstance(self.factor_init, str):
            return super().config(solver)
        # The store has the numbers of a given dictionary.
        return dict(clone(self).set_params(factor_init="random").config(solver))

    def _widths(self) -> tuple[int, ...]:
        return (*self.hidden_layer_sizes, int(self.n_components), *self.head_layer_sizes)

    def fitted(self, network: Network) -> dict[str, Any]:
        at = _factor_at(network)
        s = network.params[f"s_{at}"]
        scale = network.inputs.scale
        found = {"components_": s * scale.astype(s.dtype) if at == 1 else s}
        return super().fitted(network) | found

    def transform(self, X: Any) -> Any:
        """Return the codes of each row, (rows, n_components), which the network's head reads.

        They come in the container of `X`, as predictions do.
        """
        check_is_fitted(self, "network_")
        return self._code(X, _up_to(self.network_, _factor_at(self.network_)))

    def score_attributes(
        self, X: Any, attributes: Any, names: Sequence[str] | None = None
    ) -> AttributeScores:
        """Return how well the factors match known attributes of the samples.

        Parameters
        ----------
        X : array-like or table
        attributes : (samples,) or (samples, attributes) array-like or data frame
            Numbers; categories as columns of 0 and 1.
        names : sequence of str or None
            Names of the attributes; None takes a data frame's columns, or numbers.

        Returns
        -------
        AttributeScores
            Absolute Pearson correlations: of the best factor per attribute, and after a one-to-one
            assignment.
        """
        codes = as_numpy(self.transform(X)).reshape(-1, self._n_features_out)
        return match(codes, as_numpy(attributes, plain=False), names)

    def plot_factors(
        self, X: Any, image_shape: Sequence[int] | None = None, columns: int = 8
    ) -> Figure:
        """Draw what each factor responds to.

        That is the mean of the inputs weighted by the factor's codes, less the plain mean.

        Parameters
        ----------
        X : array-like or table
            Rows to look at; some thousands are enough.
        image_shape : sequence of int or None
            Height, width and, if any, channels of inputs that are images. None takes square images
            if the number of features allows it, and draws bars otherwise.
        columns : int
            Factors in a row of the figure.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OptionError
            If the shape does not fit the features.
        InputError
            If matplotlib is not installed.
        """
        from dadmm.estimators.pictures import factors

        check_is_fitted(self, "network_")
        check_type("columns", columns, int)
        codes = as_numpy(self.transform(X)).reshape(-1, self._n_features_out)
        x = as_numpy(self.matrix(X))
        names = list(map(text_of, self._form.names or ()))
        named = len(names) == x.shape[1]  # one-hot columns have none
        return factors(x, codes, image_shape, columns, names if named else None)


def _factor_at(network: Network) -> int:
    """Return the number of the first block that factorises."""
    chain = network.architecture
    assert isinstance(chain, Chain)
    return next(i for i, b in enumerate(chain.blocks, start=1) if isinstance(b, NMFBlock))


def _up_to(network: Network, last: int) -> Network:
    """Return the network up to the block of a number."""
    chain = network.architecture
    assert isinstance(chain, Chain)
    part = chain.up_to(last)
    params = {name: network.params[name] for name in part.shapes}
    return replace(network, architecture=part, params=params, outputs=None, target=Target())
