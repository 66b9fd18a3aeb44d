"""scikit-learn estimators that factorise: `NMF` alone, and `DeepFacto` inside a network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from dadmm import loop
from dadmm.attributes import AttributeScores, match
from dadmm.blocks import Chain, Dense, NMFBlock, Residual
from dadmm.callbacks import with_callbacks
from dadmm.data import as_matrix
from dadmm.errors import FactorWarning, OptionError, ShapeError, unknown
from dadmm.estimator import ADMMClassifier
from dadmm.factors import SWEEPS
from dadmm.fitting import Trained, same
from dadmm.graph import Plan
from dadmm.inputs import check_width
from dadmm.network import Architecture, Network, Target
from dadmm.options import check_type, make_solver
from dadmm.solvers.algebra import square
from dadmm.solvers.base import Problem, Solver
from dadmm.solvers.block import BlockADMM
from dadmm.solvers.facto import STARTS
from dadmm.solvers.minibatch import batches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
# Rows that are scored at once.
BLOCK = 8192


class _Codes(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
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


class NMF(_Codes, Trained):
    """Non-negative matrix factorisation on Dask, for data larger than memory.

    ``X`` (samples, features) is approximated by ``M S``, with codes ``M >= 0`` and a dictionary
    ``S >= 0``: scikit-learn's `sklearn.decomposition.NMF` with its coordinate descent, over chunks
    of the samples.  Runs on the current `distributed.Client` if there is one, else on threads.

    Parameters
    ----------
    n_components : int or "auto"
        r; "auto" takes as many as there are features.
    init : {None, "auto", "nndsvd", "random"} or (n_components, features) array or fitted estimator
        The first dictionary: formed from two looks at the data; drawn; or given, or taken from the
        `components_` of an estimator such as scikit-learn's.  "auto", or None, takes "nndsvd" up
        to 4096 features, else "random".
    max_iter : int
        Most iterations; each is one pass over the data.
    tol : float
        Stop when ten iterations have lowered the objective by less than `tol` of its first value;
        0 never stops early.
    random_state : int or None
        Seed of a dictionary that is drawn.
    alpha_W : float
        Weight of the codes' penalty, times the number of features.
    alpha_H : float or "same"
        Weight of the dictionary's, times the number of samples; "same" as `alpha_W`.
    l1_ratio : float
        Share of the sums in these penalties; the rest is half the squares.
    mode : {"batch", "online"}
        Keep the codes of every sample, and never let the objective rise; or store nothing per
        sample and improve the dictionary after every mini-batch, which needs fewer passes.
    dtype : {"float32", "float64"}
    shift : bool
        Whether to subtract the least value of each feature first: data below 0 is refused
        otherwise.  All is then divided by one number, too: the objective and the penalties are
        in these units.

    Attributes
    ----------
    components_ : (n_components, features) array
        S.
    n_components_, n_features_in_, n_iter_ : int
    reconstruction_err_ : float
        ``|X - M S|``, with the codes that `transform` gives.
    loss_curve_ : list of float
        The objective of each iteration, per sample.
    history_ : xarray.Dataset
        Over `iteration`: objective; train_score, the share of the squares that is explained;
        reseeded, how many factors had died and were seeded again; step, size, seconds.

    Notes
    -----
    `run`, `overwrite`, `memory_limit`, `chunks`, `copy_data`, `categorical`, `missing`,
    `handle_unknown`, `sample_dims`, `warm_start` and `verbose` are those of `ADMMClassifier`.
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        init: Any = None,
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        mode: str = "batch",
        dtype: str = "float32",
        shift: bool = False,
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
        self.n_components = n_components
        self.init = init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.mode = mode
        self.dtype = dtype
        self.shift = shift
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

    # --------------------------------------------------------------------------------- training

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, callback: loop.Callback | None = None) -> Self:
        """Factorise `X`.

        Parameters
        ----------
        X : (samples, features) array-like or table, or path
            As for `ADMMClassifier.fit`; not negative, unless `shift`.
        y : ignored
        callback : callable or None
            As for `ADMMClassifier.fit`.

        Returns
        -------
        self

        Raises
        ------
        ShapeError, DataError, OptionError
            For input that cannot be factorised, such as numbers below 0: what, and the cure.
        StoreError
            If `run` exists and `overwrite` is not set, or cannot be written.
        """
        self._run(X, None, None, callback)
        if "train_score" in self.history_ and self.history_["train_score"].values[-1] <= 0:
            warnings.warn(
                "no row uses any factor: lower alpha_W and alpha_H",
                FactorWarning,
                stacklevel=2,
            )
        return self

    @property
    def standardize(self) -> str:
        """How the data is scaled: not at all, or shifted so that its least values are 0."""
        return "shift" if self.shift else "none"

    def _check_options(self) -> None:
        check_type("shift", self.shift, bool)
        if isinstance(self.init, str) and self.init not in STARTS:
            raise unknown("init", self.init, STARTS)
        if self.n_components is not None and self.n_components != "auto":
            self._check_numbers(("n_components", int, 1))
        self._check_numbers(("alpha_W", float, 0), ("l1_ratio", float, 0))
        if self.alpha_H != "same":
            self._check_numbers(("alpha_H", float, 0))
        super()._check_options()

    def _make_solver(self) -> Solver:
        alpha_h = self.alpha_W if self.alpha_H == "same" else self.alpha_H
        table = {
            "name": "nmf",
            "mode": self.mode,
            "init": self.init if isinstance(self.init, str) else "auto",
            "alpha_codes": self.alpha_W,
            "alpha_dictionary": alpha_h,
            "l1_ratio": self.l1_ratio,
            "dtype": self.dtype,
        }
        return make_solver(table)

    def _problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        if self.n_components not in (None, "auto"):
            r = int(self.n_components)
        elif self.init is None or isinstance(self.init, str):
            r = min(shape)
        else:
            r = len(given_dictionary(self.init, "init"))
        arch = Architecture((shape[1], r), (False,), "identity")
        return Problem(arch, "squared", 0.0, rows=shape[0], dtype=solver.dtype, supervised=False)

    def _target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        return None, None

    def _initial(self, problem: Problem) -> dict[str, Array] | None:
        if self.init is None or isinstance(self.init, str):
            return None
        given = given_dictionary(self.init, "init", problem.architecture.widths[::-1])
        return {"s_1": given.astype(problem.dtype)}

    def _config(self, solver: Solver) -> dict[str, Any]:
        if isinstance(self.init, (str, type(None))):
            return super()._config(solver)
        config = clone(self).set_params(init=None)._config(solver)  # the store has the numbers
        return dict(config)

    # ------------------------------------------------------------------------------- prediction

    def _fitted(self, network: Network) -> dict[str, Any]:
        s = network.params["s_1"]
        scale = network.inputs.scale
        found = {"components_": s if (scale == 1).all() else s * scale.astype(s.dtype)}
        return super()._fitted(network) | found | {"n_components_": len(s)}

    def _take(self, plan: Plan) -> None:
        super()._take(plan)
        loss = self.history_.attrs.get("forward_loss", np.nan)
        size = float(self.network_.inputs.scale[0])
        self.reconstruction_err_ = float(np.sqrt(2.0 * loss * plan.problem.rows)) * size

    def transform(self, X: Any) -> Any:
        """Return the codes of each row, (rows, n_components).

        They are not negative, solve the same problem as in training to `Factorization.code_sweeps`
        sweeps, and come in the container of `X`, as predictions of `ADMMClassifier` do.
        """
        check_is_fitted(self, "network_")
        return self._code(X, self.network_)

    def fit_transform(self, X: Any, y: Any = None, **options: Any) -> Any:
        """Factorise `X` and return its codes: `fit`, then `transform`."""
        return self.fit(X, **options).transform(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the share of the squares of `X` that the factorisation explains, at most 1.

        ``1 - |X - M S|^2 / |X|^2``, after the shift, if there is one.
        """
        check_is_fitted(self, "network_")
        matrix = self._contain(X).matrix(self._form)
        check_width(matrix.shape[1], self.network_.architecture.widths[0])
        if hasattr(matrix, "to_delayed"):
            blocks = matrix.rechunk({1: -1}).to_delayed()[:, 0]
            found = compute(*(delayed(_squares)(self.network_, block) for block in blocks))
        else:
            found = tuple(
                _squares(self.network_, matrix[rows]) for rows in batches(len(matrix), BLOCK)
            )
        error, energy = np.sum(found, axis=0)
        return float(1.0 - error / max(energy, 1e-300))

    def inverse_transform(self, X: Any) -> Any:
        """Return what codes stand for, (rows, features), in the units of the data.

        `X` are codes as NumPy or dask arrays, or what converts to NumPy; so is what is returned.
        """
        check_is_fitted(self, "network_")
        codes = X if hasattr(X, "dask") and hasattr(X, "rechunk") else np.asarray(X)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ShapeError(
                f"codes have shape {codes.shape}: there are {len(self.components_)} factors"
            )
        found = codes @ self.components_
        centre = self.network_.inputs.centre
        return found + centre.astype(found.dtype) if centre.any() else found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = not self.shift
        return tags


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


def _squares(network: Network, block: Any) -> tuple[float, float]:
    """Return squared errors of the reconstruction of some rows, and what they are of."""
    z = network.inputs.apply(np.asarray(block), network.dtype)
    m = network.architecture.forward(network.params, z)
    return square(z - m @ network.params["s_1"]), square(z)


class DeepFacto(_Codes, ADMMClassifier):
    """A classifier through factors: a network with a non-negative factorisation inside.

    Hidden layers make features that are not negative; an `NMFBlock` codes these by factors; the
    rest of the network reads the codes alone.  Block-ADMM trains all of it (arXiv 2105.00339):
    backpropagation does not go through a code, which is the solution of a problem.

    Parameters
    ----------
    n_components : int
        The number of factors.
    hidden_layer_sizes : sequence of int
        Layers below the factors; none factorises the inputs themselves.
    head_layer_sizes : sequence of int
        Layers between the codes and the linear head.
    activation : {"relu", "sigmoid", "softplus", ...}
        The last layer below the factors must give nothing below 0.
    factor_weight : float
        Weight of the reconstruction of the features, beside the loss, in what layers below learn.
    sparsity : float
        Weight of the sum of the codes beside that of the reconstruction.
    overlap : float
        Weight of the products of the dictionary's rows with each other; see `NMFBlock`.
    factor_init : {"random", "nndsvd"} or (n_components, features) array or fitted estimator
        The first dictionary: drawn; formed from two looks at the features of the first network; or
        given, or taken from the `components_` of an estimator such as scikit-learn's.
    code_sweeps : int
        Sweeps over each row's codes.
    solver : "block" or BlockADMM
        With options of its own, except `blocks`.
    standardize : {"scale", "shift", "global", "feature", "none"}
        "scale" divides the inputs by one number, so that 0 stays 0; "shift" first moves the least
        value of each to 0.  Factors of the inputs themselves need one of these, or "none".

    Attributes
    ----------
    components_ : (n_components, features) array
        The dictionary: of the features; without hidden layers of the inputs, in their units.
    history_ : xarray.Dataset
        As that of `ADMMClassifier`, and reconstruction_error, ``|Z - M S| / |Z|`` of the features
        Z in training, and reseeded, how many factors had died and were seeded again.

    Notes
    -----
    All other parameters and attributes are those of `ADMMClassifier`.  Rows whose class is not
    known still shape the factors if they have a `sample_weight` of 0, whatever their label.
    """

    def __init__(
        self,
        n_components: int = 16,
        hidden_layer_sizes: Sequence[int] = (256,),
        head_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        *,
        factor_weight: float = 0.01,
        sparsity: float = 0.0,
        overlap: float = 0.003,
        factor_init: Any = "random",
        code_sweeps: int = SWEEPS,
        solver: str | Solver = "block",
        loss: str = "auto",
        alpha: float = 1e-3,
        max_iter: int = 50,
        tol: float = 1e-4,
        standardize: str = "scale",
        class_weight: Mapping[Any, float] | str | None = None,
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
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            loss=loss,
            alpha=alpha,
            max_iter=max_iter,
            tol=tol,
            standardize=standardize,
            class_weight=class_weight,
            random_state=random_state,
            run=run,
            overwrite=overwrite,
            memory_limit=memory_limit,
            chunks=chunks,
            copy_data=copy_data,
            categorical=categorical,
            missing=missing,
            handle_unknown=handle_unknown,
            sample_dims=sample_dims,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.n_components = n_components
        self.head_layer_sizes = head_layer_sizes
        self.factor_weight = factor_weight
        self.sparsity = sparsity
        self.overlap = overlap
        self.factor_init = factor_init
        self.code_sweeps = code_sweeps

    # --------------------------------------------------------------------------------- training

    def _check_options(self) -> None:
        self._check_widths("head_layer_sizes")
        self._check_numbers(("n_components", int, 1), ("code_sweeps", int, 1))
        self._check_numbers(("factor_weight", float, 0), ("sparsity", float, 0))
        self._check_numbers(("overlap", float, 0))
        super()._check_options()

    def _layers(self) -> list[Any]:
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

    def _make_solver(self) -> Solver:
        solver = super()._make_solver()
        if not isinstance(solver, BlockADMM):
            raise OptionError(f"DeepFacto needs solver='block', not {solver.name!r}")
        return replace(solver, blocks=self._layers())

    def _initial(self, problem: Problem) -> dict[str, Array] | None:
        if isinstance(self.factor_init, str):
            return None
        t = len(self.hidden_layer_sizes) + 1
        shape = (int(self.n_components), problem.architecture.widths[t - 1])
        s = given_dictionary(self.factor_init, "factor_init", shape)
        s = s / np.maximum(np.linalg.norm(s, axis=1, keepdims=True), 1e-30)
        return {f"theta_{t}": s.astype(problem.dtype).reshape(-1)}

    def _config(self, solver: Solver) -> dict[str, Any]:
        if isinstance(self.factor_init, str):
            return super()._config(solver)
        return dict(clone(self).set_params(factor_init="random")._config(solver))

    def _widths(self) -> tuple[int, ...]:
        return (*self.hidden_layer_sizes, int(self.n_components), *self.head_layer_sizes)

    # ------------------------------------------------------------------------------- prediction

    def _fitted(self, network: Network) -> dict[str, Any]:
        at = _factor_at(network)
        s = network.params[f"s_{at}"]
        scale = network.inputs.scale
        found = {"components_": s * scale.astype(s.dtype) if at == 1 else s}
        return super()._fitted(network) | found

    def transform(self, X: Any) -> Any:
        """Return the codes of each row, (rows, n_components): what the head of the network reads.

        They come in the container of `X`, as predictions do.
        """
        check_is_fitted(self, "network_")
        return self._code(X, _up_to(self.network_, _factor_at(self.network_)))

    def score_attributes(
        self, X: Any, attributes: Any, names: Sequence[str] | None = None
    ) -> AttributeScores:
        """Return how well the factors match attributes that are known of the samples.

        Parameters
        ----------
        X : array-like or table
        attributes : (samples,) or (samples, attributes) array-like or data frame
            Numbers; categories as columns of 0 and 1.
        names : sequence of str or None
            Of the attributes; None takes a data frame's columns, or numbers.

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
        """Draw what each factor responds to: the mean of the inputs, weighted by its codes.

        Shown is how that differs from the plain mean.

        Parameters
        ----------
        X : array-like or table
            Rows to look at; some thousands are enough.
        image_shape : sequence of int or None
            Height and width, and channels if there are any, where inputs are images; None takes
            square ones if the number of features allows it, and draws bars otherwise.
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
        from dadmm.watch.pictures import factors

        check_is_fitted(self, "network_")
        check_type("columns", columns, int)
        codes = as_numpy(self.transform(X)).reshape(-1, self._n_features_out)
        x = as_numpy(self._contain(X).matrix(self._form))
        names = self._form.names
        named = names is not None and len(names) == x.shape[1]  # one-hot columns have none
        return factors(x, codes, image_shape, columns, names if named else None)


def _factor_at(network: Network) -> int:
    """Return the number of the first block that factorises."""
    chain = network.architecture
    assert isinstance(chain, Chain)
    return next(i for i, b in enumerate(chain.blocks, start=1) if isinstance(b, NMFBlock))


def _up_to(network: Network, last: int) -> Network:
    """Return the network that ends with some block."""
    chain = network.architecture
    assert isinstance(chain, Chain)
    part = chain.up_to(last)
    params = {name: network.params[name] for name in part.shapes}
    return replace(network, architecture=part, params=params, outputs=None, target=Target())


def as_numpy(values: Any, plain: bool = True) -> Any:
    """Return what is lazy computed; as NumPy has it, or a data frame as it is."""
    if hasattr(values, "compute"):
        values = values.compute()
    return np.asarray(values) if plain else values
