"""`Trained`, the base of all estimators: train in a run, take its network, predict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Self

import numpy as np
from dask.base import normalize_token
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from dadmm.cluster.connection import current_client, resources
from dadmm.data.containers import Container, Task, check_width
from dadmm.data.moments import Moments
from dadmm.data.prepare import contain, opened
from dadmm.engine import loop
from dadmm.engine.live.dashboard import open_page, telling
from dadmm.engine.live.progress import progress
from dadmm.engine.memory import budget
from dadmm.engine.recovery import rows_of
from dadmm.engine.session import Session
from dadmm.engine.timing import is_measured
from dadmm.errors import DadmmError, DataError, FactorWarning, OptionError, RunError, ShapeError
from dadmm.estimators.callbacks import CallbackSupportMixin, FitTasks
from dadmm.estimators.problem import Posed, Trainable, pose
from dadmm.estimators.refine import refine
from dadmm.estimators.start import begin, place
from dadmm.networks.form import Form
from dadmm.networks.names import is_text
from dadmm.networks.network import Network
from dadmm.numerics import algebra
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.options import check_options, option
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver, solver_table
from dadmm.solvers.solver import Solver
from dadmm.solvers.stopping import still_better
from dadmm.store import ZarrBlocks


@dataclass(eq=False, repr=False)
class Trained(Trainable, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator whose fit is a run, in memory or in a store.

    It is a dataclass of its options: the generated ``__init__`` only assigns them, and has the
    signature that scikit-learn reads.
    """

    _: KW_ONLY
    max_iter: int = option(50, least=1, means="Most iterations. Each is one pass over the data.")
    tol: float = option(
        1e-4,
        least=0,
        means="When to stop early; 0 never does. Block: the loss has not fallen by `tol` for "
        "`n_iter_no_change` iterations. Relaxed: an iteration moves all variables together by at "
        "most `tol` times their norm.",
    )
    random_state: int | None = option(
        None,
        kinds=(int, NoneType),
        least=0,
        sample=0,
        means="Seed of the starting weights. None draws one, which the run records.",
    )
    run: str | Path | None = option(
        None,
        kinds=(str, PathLike, NoneType),
        least=1,
        use="a path, a URL, or None",
        says="path, URL or None",
        means="The run's zarr store; None keeps the run in memory.",
    )
    overwrite: bool = option(False, means="Whether a run that exists at `run` may be replaced.")
    memory_limit: int | str | None = option(
        None,
        kinds=(float, str, NoneType),
        use="a number of bytes, text such as '2GiB', or None",
        says="int, str or None",
        means='Memory of one worker, such as "2GiB". Training uses 3/4 of it, which decides the '
        "rows per chunk. None takes the limit of the smallest worker of the current client. On "
        "threads all threads of this process share it, beside the data and a run kept in memory.",
    )
    chunks: int | Sequence[int] | str = option(
        "auto",
        kinds=(int, str, list, Sequence),
        choices=("auto",),
        items=(int,),
        use="'auto', a number of rows, or every chunk's rows",
        says='"auto", int or sequence of int',
        means='Rows per chunk, or "auto". The same chunks give the same bits, whatever runs them.',
    )
    copy_data: bool = option(
        False,
        means="Whether to copy inputs that lie in zarr into the run. Otherwise they are read "
        "where they are, at every pass, if their chunks are small enough (see `shuffle`). With a "
        "copy the run needs nothing else, and reads faster than from compressed chunks. Other "
        "inputs are always copied.",
    )
    shuffle: bool | str = option(
        "auto",
        kinds=(bool, str),
        choices=("auto", "copy", True, False),
        sample="auto",
        means="Whether each chunk has rows from everywhere, instead of a contiguous range: agents "
        "that see different worlds do not agree. Rows that the run copies are dealt to the chunks "
        "at random. Inputs in zarr that stay in place are dealt by whole stored chunks; where "
        "these are too large for that, the inputs are copied. auto: do so for methods whose "
        "result depends on the order, and leave inputs in place if there is no room for a copy. "
        "copy: always copy. false: leave the rows in their order.",
    )
    categorical: str = option(
        "refuse",
        choices=("refuse", "one_hot"),
        means="How to treat columns of text or categories. refuse: raise an error. one_hot: make "
        "a column of 0 and 1 for each value.",
    )
    missing: str = option(
        "refuse",
        choices=("refuse", "impute"),
        means="How to treat empty cells and NaN in the inputs. refuse: raise an error. impute: "
        "fill in the column's mean, or its most frequent category.",
    )
    handle_unknown: str = option(
        "error",
        choices=("error", "ignore"),
        means="How prediction treats categories that training never saw. error: raise an error. "
        "ignore: encode them as zeros.",
    )
    sample_dims: str | Sequence[str] | None = option(
        None,
        kinds=(str, Sequence, NoneType),
        items=(str,),
        least=1,
        use="names of dimensions, or None",
        says="str, sequence of str or None",
        means='The dimensions of xarray inputs that are samples, such as ("time", "lat", "lon"). '
        "The others are features. None takes those that inputs and targets share, or else the "
        "first.",
    )
    warm_start: bool = option(
        False,
        means="Whether `fit` starts from the parameters, scaling, columns and categories of the "
        "last fit. What was constant there is scaled once it varies.",
    )
    verbose: bool = option(False, means="Whether to show progress.")

    def check_options(self) -> None:
        check_options(self)

    def make_solver(self) -> Solver:
        return make_solver(self.solver)

    def given_parameters(self, problem: Problem) -> dict[str, Array] | None:
        return None

    def last_parameters(
        self, solver: Solver, problem: Problem, classes: Array | None
    ) -> dict[str, Array]:
        if not hasattr(self, "_parameters"):
            raise OptionError(
                "a network from a file has no training state to go on from: start a new estimator, "
                "or set warm_start=False"
            )
        check_width(problem.architecture.widths[0], self.network_.architecture.widths[0])
        needed = solver.initial(problem, 0)
        found, wanted = ({n: a.shape for n, a in of.items()} for of in (self._parameters, needed))
        losses = get_loss(problem.loss), get_loss(self.network_.target.loss)
        if (
            (classes is not None and not np.array_equal(classes, self.classes_))
            or losses[0].multi_label != losses[1].multi_label
            or solver.layout(problem).network != self.network_.architecture
            or found != wanted
        ):
            raise ShapeError(
                "this data or network differs from those of the last fit (features, classes, "
                "layers or solver): start a new estimator, or set warm_start=False"
            )
        return {name: array.astype(needed[name].dtype) for name, array in self._parameters.items()}

    def config(self, solver: Solver) -> dict[str, Any]:
        skipped = ("run", "overwrite", "verbose", "solver", "memory_limit")
        given = {k: v for k, v in self.get_params(deep=False).items() if k not in skipped}
        params = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
        for name in params:
            if name.endswith("_layer_sizes"):
                params[name] = [int(h) for h in params[name]]
        if isinstance(self.chunks, Sequence) and not isinstance(self.chunks, str):
            params["chunks"] = [int(rows) for rows in self.chunks]
        if isinstance(params.get("class_weight"), Mapping):  # JSON would make its labels text
            pairs = params["class_weight"].items()
            params["class_weight"] = [[np.asarray(k).item(), float(w)] for k, w in pairs]
        return {
            "estimator": type(self).__name__,
            "params": params,
            "solver": solver_table(solver),
        }

    def __dask_tokenize__(self) -> Any:
        """Return what tells estimators apart; Dask's default takes a dataclass's fields alone."""
        return normalize_token((type(self), vars(self)))

    def _run(self, X: Any, y: Any, sample_weight: Any, callback: loop.Callback | None) -> Self:
        """Train on `X` and `y`, from scratch or (warm start) from the last fit."""
        continues = hasattr(self, "network_") and bool(self.warm_start)
        posed = pose(self, X, y, sample_weight, continues=continues)
        seen = getattr(self, "_seen", {}) if continues and posed.problem.supervised else {}
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        tasks = FitTasks(self, {"X": X, "y": y, "metadata": metadata}, self.max_iter)
        self._fit(refine(posed, seen), callback, tasks=tasks, earlier=seen)
        tasks.finish(dict)
        ended = self.history_.attrs["status"] == "finished" and self.tol > 0
        # A warm start may well go one iteration at a time.
        if ended and not self.warm_start:
            patience = getattr(posed.solver.stopping, "patience", 10)
            if still_better(rows_of(self.history_), self.tol, patience):
                warnings.warn(
                    f"max_iter={self.max_iter} ended the training of {type(self).__name__} while "
                    "its loss was still falling: raise max_iter",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        return self

    def _fit(
        self,
        posed: Posed,
        callback: loop.Callback | None = None,
        max_iter: int | None = None,
        tasks: FitTasks | None = None,
        earlier: Mapping[str, Moments] = MappingProxyType({}),
    ) -> Self:
        """Train in a new run; `earlier` are the moments of earlier batches."""
        with place(self.run, self.overwrite, posed) as run:
            plan, found = begin(run, posed)
            # What the scaling goes by.
            self._seen = {k: earlier[k] + m if k in earlier else m for k, m in found.items()}
            return self.train(Session.of(plan), callback, max_iter, tasks)

    def train(
        self,
        session: Session,
        callback: loop.Callback | None = None,
        max_iter: int | None = None,
        tasks: FitTasks | None = None,
    ) -> Self:
        """Train from a run's current iteration, and set the fitted attributes.

        Parameters
        ----------
        session : Session
        callback : callable or None
            As for `fit`.
        max_iter : int or None
            Most iterations; None takes the option.
        tasks : FitTasks or None
            Reports to scikit-learn's callbacks.
        """
        most, client = max_iter or self.max_iter, current_client()
        needed = budget(session.plan, *resources(client, self.memory_limit))
        session = Session.of(replace(session.plan, budget=needed))
        plan = session.plan
        if isinstance(plan.run.blocks, ZarrBlocks):
            plan.run.blocks.sync_late()
        page = open_page(client)
        with progress(most, enabled=bool(self.verbose), link=page) as shown:
            done = session.iteration
            earlier = session.rows(mend=True) if done and page else []
            tell = telling(client if page else None, plan, most, earlier)

            def told(k: int, row: Mapping[str, float]) -> None:
                shown(k, row)
                tell(k, row)
                stop = tasks is not None and tasks.end(lambda: self.fitted(session.network()))
                if callback is not None:
                    callback(k, row)
                if stop:
                    raise StopIteration

            if done:
                shown(done, {})
            try:
                before = None if tasks is None else tasks.begin
                loop.train(plan, loop.Until(most, self.tol, told, before))
            except BaseException as error:
                with suppress(DadmmError, OSError):
                    if session.record is not None:
                        self.adopt(session)
                if isinstance(error, MemoryError):
                    what = f"there is not enough memory for this network: {error}"
                    raise RunError(what) from error
                raise
        self.adopt(session)
        if "reseeded" in self.history_ and (died := self.history_["reseeded"]).sum() > 0:
            where = ", ".join(str(k) for k in died["iteration"].values[died.values > 0][:8])
            warnings.warn(
                f"{int(died.sum())} factors died (no row used them) and were seeded again, in "
                f"iteration {where}",
                FactorWarning,
                stacklevel=4,
            )
        return self

    def adopt(self, session: Session) -> None:
        """Set the fitted attributes from a run's last commit."""
        run, record = session.run, session.record or {}
        history = session.history()
        best = session.best()
        hidden = [name for name in history if name == "generation" or is_measured(str(name))]
        self.history_ = history.drop_vars(hidden)
        self.adopt_network(session.network(best))
        self._parameters = session.parameters(best)
        self.n_iter_ = int(record["iteration"])
        if {"stationarity", "step"} <= set(self.history_):  # damage may have removed either
            rate, fit = algebra.convergence_rate(self.history_["step"].values)
            self.history_.attrs.update(rate=rate, rate_r2=fit)
        self.history_.attrs["status"] = record["status"]
        if (apart := run.attributes.get("chunk_difference")) is not None:
            self.history_.attrs["chunk_difference"] = float(apart)
        self.history_.attrs.update(record.get("final") or {})
        self.loss_curve_ = (
            self.history_["objective"].values.tolist() if "objective" in self.history_ else []
        )
        self.run_ = run.url if run.durable else None

    def adopt_network(self, network: Network) -> None:
        """Set the attributes that prediction needs."""
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        for name, value in self.fitted(network).items():
            setattr(self, name, value)

    def fitted(self, network: Network) -> dict[str, Any]:
        """Return the attributes that prediction needs, all taken from the network."""
        form = network.form or Form()
        widths, target = network.architecture.widths, network.target
        found = {
            "network_": network,
            "_form": form,
            "n_features_in_": len(form.columns) or widths[0],
            "n_outputs_": widths[-1],
            "n_layers_": len(widths),
            "_one_column": target.flat,
        }
        if is_text(form.names):
            found["feature_names_in_"] = np.array(form.names, object)
        return found if target.classes is None else found | {"classes_": target.classes}

    def _outputs(
        self,
        X: Any,
        finish: Callable[[Array], Array],
        labels: Sequence[Any] | None,
        dtype: Any,
        network: Network | None = None,
    ) -> Any:
        """Run the network on `X` and `finish` on its outputs; lazily if `X` is lazy.

        `labels` are the names of the columns that `finish` returns, None for one dimension.
        `network` replaces the trained network; it reads the same inputs.
        """
        check_is_fitted(self, "network_")
        function = _Predict(network or self.network_, finish)
        features = self.network_.architecture.widths[0]
        task = Task(function, self._form, features, labels, dtype, self.handle_unknown)
        return self._contain(X).apply(task)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.missing == "impute"
        return tags

    def matrix(self, X: Any) -> Any:
        """Return `X` as the numbers that the network reads, before scaling; lazily if `X` is."""
        return self._contain(X).matrix(self._form)

    def _contain(self, X: Any) -> Container:
        dims = self._form.dims or self.sample_dims
        return contain(X, dims, self._form, getattr(self, "classes_", None))

    def opened(self, path: Any) -> Any:
        """Return what a path or `dadmm.Table` names, read as in training; it may be lazy."""
        check_is_fitted(self, "network_")
        return opened(path, self._form, getattr(self, "classes_", None))


class _Predict:
    """A network and the function of its outputs, applied to a block of rows."""

    def __init__(self, network: Network, finish: Callable[[Array], Array]) -> None:
        self.network, self.finish = network, finish

    def __call__(self, block: Array, name: str) -> Array:
        outputs = self.network.forward(block)
        good = np.isfinite(outputs).all(axis=1)
        if not good.all():
            raise DataError(
                f"{name} has no finite prediction in row {good.argmin()}: its numbers, or those of "
                f"training, are too large for {self.network.dtype}; scale them down, or use "
                "dtype='float64'"
            )
        return self.finish(outputs)


def same(outputs: Array) -> Array:
    """Return outputs as they are."""
    return outputs
