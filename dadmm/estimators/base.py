"""What all estimators share: a fit is a run, and a run becomes what predicts."""

from __future__ import annotations

import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_info

from dadmm.cluster.connection import current_client, resources
from dadmm.data import arrays, ingest, targets
from dadmm.data.containers import Container, Task
from dadmm.data.prepare import Training, check_options, contain, prepare_training
from dadmm.engine import loop
from dadmm.engine.compute import store_errors
from dadmm.engine.live.dashboard import open_page, telling
from dadmm.engine.live.progress import progress
from dadmm.engine.memory import budget, chunk_rows
from dadmm.engine.plan import Plan
from dadmm.engine.recovery import last_record, rows_of
from dadmm.engine.result import load_network, save_scaling
from dadmm.engine.timing import is_measured
from dadmm.errors import DadmmError, DataError, FactorWarning, OptionError, RunError, ShapeError
from dadmm.estimators.callbacks import CallbackSupportMixin, FitTasks
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import labels_to_json
from dadmm.numerics import algebra
from dadmm.numerics.losses import get_loss
from dadmm.numerics.types import Array
from dadmm.options import TYPES, check_type
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver, solver_table
from dadmm.solvers.solver import Solver, check_weights
from dadmm.store import Run, ZarrBlocks


def _versions() -> dict[str, str]:
    names = ("dadmm", "dask", "distributed", "numpy", "scipy", "zarr", "numba", "scikit-learn")
    return {name: version(name) for name in names}


def _machine() -> dict[str, Any]:
    """Return what the bits of a result depend on: results repeat on one kind of processor."""
    blas = [
        f"{i['internal_api']} {i['version']} {i.get('architecture')}" for i in threadpool_info()
    ]
    return {"python": platform.python_version(), "cpu": platform.machine(), "blas": sorted(blas)}


class Trained(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator whose fit is a run of the loop, in memory or in a store."""

    # --------------------------------------------------------------------------------- training

    def _run(self, X: Any, y: Any, sample_weight: Any, callback: loop.Callback | None) -> Self:
        """Train on `X` and `y`, from scratch or (warm start) from the last fit."""
        self._check_options()
        solver = self._make_solver()
        before = self if self.warm_start and hasattr(self, "network_") else None
        form = None if before is None else self._form  # the parameters are for these columns
        given = prepare_training(X, y, self.categorical, self.missing, self.sample_dims, form)
        target, classes = self._target(given.y, given.x.shape[0])
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        tasks = FitTasks(self, {"X": X, "y": y, "metadata": metadata}, self.max_iter)
        self._fit(solver, given, target, classes, sample_weight, before, callback, tasks=tasks)
        tasks.finish(dict)
        return self

    def _fit(
        self,
        solver: Solver,
        given: Training,
        target: Any,
        classes: Array | None,
        sample_weight: Any,
        before: Any,
        callback: loop.Callback | None,
        max_iter: int | None = None,
        tasks: FitTasks | None = None,
    ) -> Self:
        """Train from scratch, or from where the estimator `before` stopped."""
        X, y = given.x, given.y
        seed = self.random_state
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        weight = self._weights(given.rows(sample_weight), target, classes)
        problem = self._problem(X.shape, target, classes, solver)
        problem = replace(problem, weighted=weight is not None)
        check_weights(solver, problem)
        solver.check(problem)
        initial = self._initial(problem)
        if before is not None:
            initial = _continue_from(before, solver, problem, classes)
            # Other orders of the rows than the last time.
            steps = int(initial.get("count_1", 0))
            seed = int(np.random.SeedSequence([seed, steps]).generate_state(1)[0])
        memory, threads = resources(current_client(), self.memory_limit)
        stored = None if self.copy_data else given.stored
        chunks = chunk_rows(
            solver,
            problem,
            self.chunks,
            memory,
            threads,
            X.dtype.itemsize,
            streamed=arrays.is_dask(X),
            in_place=stored is not None,
        )
        attributes: dict[str, Any] = {
            "config": self._config(solver),
            "pipeline": getattr(self, "pipeline", None),
            "problem": asdict(problem),
            "chunks": list(chunks),
            "input_bytes": X.dtype.itemsize,
            "seed": int(seed),
            "classes": None if classes is None else labels_to_json(classes),
            "flat": y is not None and targets.is_flat(y),
            "inputs": given.form.to_json(),
            "versions": _versions(),
            "machine": _machine(),
        }
        with self._store(attributes, problem, solver) as run:
            source = ingest.in_place(stored, chunks)
            with store_errors():
                x_moments, y_moments = ingest.store(run, X, target, chunks, weight, source)
            scaling = {"x": x_moments.scaling(self.standardize), "y": Scaling.identity(1)}
            if y_moments is None:
                scaling["y"] = Scaling.identity(problem.architecture.widths[-1])
            elif classes is None:
                how = "none" if self.standardize == "none" else "feature"
                scaling["y"] = y_moments.scaling(how)
            if before is not None:  # the parameters were learnt in these units
                scaling["x"] = before.network_.inputs
                scaling["y"] = before.network_.outputs or scaling["y"]
            if y_moments is not None and classes is None:
                variation = float((y_moments.squares / scaling["y"].scale ** 2).sum())
                problem = replace(problem, target_variation=variation)
            with store_errors():
                run.update(problem=asdict(problem))
                if initial is not None:
                    run.save_params("initial", initial)
                    run.blocks.settle("initial")
                save_scaling(run, scaling)  # last: it says that the run can go on by itself
            plan = Plan(run, solver, problem, chunks, int(seed))
            return self._train(plan, callback, max_iter, tasks)

    def _make_solver(self) -> Solver:
        """Return the solver that the options ask for."""
        return make_solver(self.solver)

    def _problem(
        self, shape: tuple[int, int], target: Any, classes: Array | None, solver: Solver
    ) -> Problem:
        """Return what is to be minimised over so many rows of so many features."""
        raise NotImplementedError  # pragma: no cover

    def _initial(self, problem: Problem) -> dict[str, Array] | None:
        """Return parameters to start from that the options give; None for the solver's own."""
        return None

    def _weights(self, sample_weight: Any, target: Any, classes: Array | None) -> Any:
        """Return a column of weights whose mean is 1, or None."""
        balance = getattr(self, "class_weight", None)
        if balance is not None and classes is not None:
            if target.shape[1] > 1:
                raise OptionError("class_weight is for one label per row: use sample_weight")
            return targets.as_weights(
                sample_weight, target, targets.class_weights(balance, classes)
            )
        return None if sample_weight is None else targets.as_weights(sample_weight, target)

    def _target(self, y: Any, rows: int, classes: Any = None) -> tuple[Any, Array | None]:
        raise NotImplementedError  # pragma: no cover

    def _train(
        self,
        plan: Plan,
        callback: loop.Callback | None,
        max_iter: int | None = None,
        tasks: FitTasks | None = None,
    ) -> Self:
        most = max_iter or self.max_iter
        client = current_client()
        plan = replace(plan, budget=budget(plan, *resources(client, self.memory_limit)))
        if isinstance(plan.run.blocks, ZarrBlocks):
            plan.run.blocks.sync_late()
        page = open_page(client)
        with progress(most, enabled=bool(self.verbose), link=page) as shown:
            done = (last_record(plan.run) or {}).get("iteration", 0)
            earlier = rows_of(plan.run.history(mend=True)) if done and page else []
            tell = telling(client if page else None, plan, most, earlier)

            def so_far() -> dict[str, Any]:
                best = plan.judge(rows_of(plan.run.history())).keep
                return self._fitted(
                    load_network(plan.run, plan.solver, plan.problem, plan.run.generation(best))
                )

            def both(k: int, row: Mapping[str, float]) -> None:
                shown(k, row)
                tell(k, row)
                stop = tasks is not None and tasks.end(so_far)
                if callback is not None:
                    callback(k, row)
                if stop:
                    raise StopIteration

            if done:
                shown(done, {})
            try:
                before = None if tasks is None else tasks.begin
                loop.train(plan, most, self.tol, both, before)
            except BaseException as error:
                with suppress(DadmmError, OSError):
                    if plan.run.committed() is not None:
                        self._take(plan)
                if isinstance(error, MemoryError):
                    what = f"there is not enough memory for this network: {error}"
                    raise RunError(what) from error
                raise
        self._take(plan)
        if "reseeded" in self.history_ and (died := self.history_["reseeded"]).sum() > 0:
            where = ", ".join(str(k) for k in died["iteration"].values[died.values > 0][:8])
            warnings.warn(
                f"{int(died.sum())} factors died, which no row used, and were seeded again, in "
                f"iteration {where}",
                FactorWarning,
                stacklevel=4,
            )
        return self

    def _take(self, plan: Plan) -> None:
        """Set the fitted attributes from what the run has committed."""
        run = plan.run
        record = run.committed() or {}
        history = run.history()
        generation = run.generation(plan.judge(rows_of(history)).keep)
        hidden = [name for name in history if name == "generation" or is_measured(str(name))]
        self.history_ = history.drop_vars(hidden)
        self._take_network(load_network(plan.run, plan.solver, plan.problem, generation))
        self._parameters = {
            name: array
            for names in plan.layout.layers.values()
            for name, array in run.load_params(generation, names).items()
        }
        self.n_iter_ = int(record["iteration"])
        if {"stationarity", "step"} <= set(self.history_):  # damage may have taken either
            rate, fit = algebra.convergence_rate(self.history_["step"].values)
            self.history_.attrs.update(rate=rate, rate_r2=fit)
        self.history_.attrs["status"] = record["status"]
        self.history_.attrs.update(record.get("final") or {})
        self.loss_curve_ = (
            self.history_["objective"].values.tolist() if "objective" in self.history_ else []
        )
        self.run_ = run.url if run.durable else None

    def _take_network(self, network: Network) -> None:
        """Set what prediction needs."""
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        for name, value in self._fitted(network).items():
            setattr(self, name, value)

    def _fitted(self, network: Network) -> dict[str, Any]:
        """Return the attributes that prediction needs."""
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
        if form.names is not None:
            found["feature_names_in_"] = np.array(form.names, object)
        return found if target.classes is None else found | {"classes_": target.classes}

    @contextmanager
    def _store(
        self, attributes: Mapping[str, Any], problem: Problem, solver: Solver
    ) -> Iterator[Run]:
        """Open the run's store: the given path; else memory, which local workers share."""
        if self.run is not None:
            run = Run.create(self.run, attributes, overwrite=self.overwrite)
            with run.locked():
                try:
                    yield run
                except BaseException:
                    with suppress(OSError, DadmmError):
                        if not run.has_data:
                            run.check_lock()  # it may be another driver's by now
                            run.delete()  # nobody could resume it, and it would be in the way
                    raise
            return
        if current_client() is None:
            yield Run.in_memory(attributes)
            return
        with _shared_folder(problem, solver) as folder:
            yield Run.create(folder, attributes, overwrite=True, durable=False)

    def _config(self, solver: Solver) -> dict[str, Any]:
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

    def _check_options(self) -> None:
        """Raise `OptionError` for options that cannot work; each estimator adds its own."""
        for option in ("overwrite", "verbose", "warm_start", "copy_data"):
            check_type(option, getattr(self, option), bool)
        self._check_numbers(("max_iter", int, 1), ("random_state", int, 0), ("tol", float, 0))
        if not isinstance(self.run, (str, PathLike, NoneType)) or self.run == "":
            raise OptionError(f"run={self.run!r}: use a path, a URL, or None")
        check_options(self)

    def _check_numbers(self, *given: tuple[str, type, int]) -> None:
        """Check options that are numbers, each with its kind and its least value."""
        for option, kind, least in given:
            value = getattr(self, option)
            if value is None and option == "random_state":
                continue
            check_type(option, value, kind)
            if not least <= value < np.inf:
                raise OptionError(f"{option}={value!r}: use {TYPES[kind][1]}, {least} or more")

    # ------------------------------------------------------------------------------- prediction

    def _outputs(
        self,
        X: Any,
        finish: Callable[[Array], Array],
        labels: Sequence[Any] | None,
        dtype: Any,
        network: Network | None = None,
    ) -> Any:
        """Run the network on `X` and `finish` on its outputs; lazily where `X` is lazy.

        `labels` are the names of the columns that `finish` returns, None for one dimension;
        `network` another network than the trained one, of the same inputs.
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

    def _contain(self, X: Any) -> Container:
        return contain(X, self._form.dims or self.sample_dims)


class _Predict:
    """A network, and what is made of its outputs, as a function of blocks."""

    def __init__(self, network: Network, finish: Callable[[Array], Array]) -> None:
        self.network, self.finish = network, finish

    def __call__(self, block: Array, name: str) -> Array:
        return self.finish(_forward(self.network, block, name))


def _forward(network: Network, x: Array, name: str) -> Array:
    outputs = network.forward(x)
    good = np.isfinite(outputs).all(axis=1)
    if not good.all():
        raise DataError(
            f"{name} has no finite prediction in row {good.argmin()}: its numbers, or those of "
            f"training, are too large for {network.dtype}; scale them down, or use "
            "dtype='float64'"
        )
    return outputs


def _continue_from(
    before: Any, solver: Solver, problem: Problem, classes: Array | None
) -> dict[str, Array]:
    """Return the parameters at which an estimator stopped, if they fit."""
    if not hasattr(before, "_parameters"):
        raise OptionError(
            "a network from a file has no training state to go on from: start a new estimator, or "
            "set warm_start=False"
        )
    params: dict[str, Array] = before._parameters
    needed = solver.initial(problem, 0)
    same = classes is None or np.array_equal(classes, before.classes_)
    same = (
        same
        and get_loss(problem.loss).multi_label == get_loss(before.network_.target.loss).multi_label
    )
    same = same and solver.layout(problem).network == before.network_.architecture
    found, wanted = ({n: a.shape for n, a in arrays.items()} for arrays in (params, needed))
    if not same or found != wanted:
        raise ShapeError(
            "this data or network differs from those of the last fit (features, classes, layers "
            "or solver): start a new estimator, or set warm_start=False"
        )
    return {name: array.astype(needed[name].dtype) for name, array in params.items()}


# ------------------------------------------------------------------------------------------ places


@contextmanager
def _shared_folder(problem: Problem, solver: Solver) -> Iterator[str]:
    """Make a temporary folder that the workers of a local cluster share; removed at the end.

    In the system's shared memory if the run fits there, else where temporary files go.
    """
    client = current_client()
    address = client.scheduler.address
    if not any(host in address for host in ("inproc://", "127.0.0.1", "localhost", "[::1]")):
        raise RunError(
            f"the workers of {address} may not see this machine's memory: give run=, a path or URL "
            "that all of them reach"
        )
    memory = Path("/dev/shm")
    width = problem.architecture.widths[0] + 3 * sum(solver.layout(problem).state.values())
    needed = 2 * problem.rows * width * np.dtype(problem.dtype).itemsize
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > needed
    with tempfile.TemporaryDirectory(prefix="dadmm-", dir=memory if roomy else None) as folder:
        yield folder


def same(outputs: Array) -> Array:
    """Return outputs as they are."""
    return outputs
