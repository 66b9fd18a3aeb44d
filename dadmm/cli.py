"""The command line: ``dadmm fit | resume | predict | show | demo``.

Exit codes: 0; 1 for a run that failed; 2 for bad usage or bad input; 130 for Ctrl-C.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dadmm import __version__, cluster
from dadmm.config import differences, load_config
from dadmm.datasets import load_data, read_array
from dadmm.errors import DadmmError, InputError, StoreError
from dadmm.estimator import ADMMClassifier, ADMMRegressor, load, make_solver, resume
from dadmm.store import Run

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; turn every error that dadmm raises into one line."""
    warnings.filterwarnings("ignore", module="distributed")
    try:
        code = commands(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except (InputError, StoreError) as error:
        err.print(f"[bold red]error:[/] {error}", markup=True)
        code = 2
    except DadmmError as error:
        err.print(f"[bold red]failed:[/] {error}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Train residual neural networks by ADMM, as a dataflow on Dask."""


@commands.command()
@click.argument("config", type=click.Path(dir_okay=False))
@click.option("--run", "path", required=True, help="Folder or URL of the run's zarr store.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is there.")
@click.option("--workers", type=int, help="Worker processes, instead of the config's.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def fit(config: str, path: str, overwrite: bool, workers: int | None, quiet: bool) -> None:
    """Train as CONFIG (a TOML file) says; keep everything in --run."""
    table = load_config(config)
    if workers is not None:
        table["cluster"] = {**table.get("cluster", {}), "workers": workers}
    run_config(table, path, overwrite, quiet)


def run_config(
    table: Mapping[str, Any], path: str, overwrite: bool = False, quiet: bool = False
) -> Any:
    """Train as a checked config says, print the scores, return the estimator and its data."""
    estimator = _make_estimator(table, path, overwrite)
    estimator.pipeline = dict(table)
    if not overwrite:
        _refuse_existing(path, estimator)
    data = load_data(table["data"])
    estimator.verbose = not quiet
    with cluster.connect(table.get("cluster", {})) as dashboard:
        _say_where(dashboard, path, quiet)
        try:
            estimator.fit(data[0], data[1])
        except KeyboardInterrupt:
            _say_interrupted(path)
            raise
    if not quiet:
        _scores(estimator, data)
        _next_steps(path)
    return estimator, data


def _make_estimator(table: Mapping[str, Any], path: str, overwrite: bool) -> Any:
    model = dict(table.get("model", {}))
    task = model.pop("task", "classification")
    if "hidden_layer_sizes" in model:
        model["hidden_layer_sizes"] = tuple(model["hidden_layer_sizes"])
    kind = ADMMClassifier if task == "classification" else ADMMRegressor
    return kind(
        solver=make_solver(table.get("solver", {})),
        run=path,
        overwrite=overwrite,
        memory_limit=table.get("cluster", {}).get("memory_limit"),
        **model,
    )


def _refuse_existing(path: str, estimator: Any) -> None:
    """Say, before any work, that a run is in the way, and how its config differs."""
    try:
        stored = Run.open(path).attributes["config"]
    except StoreError:
        return  # nothing there, or nothing of ours: the store says so when it is created
    here = estimator._config(make_solver(estimator.solver))
    changed = differences(stored, here)
    if changed:
        raise StoreError(
            f"{path} exists with another config ({'; '.join(changed[:3])}): choose another path, "
            "or replace it with --overwrite"
        )
    raise StoreError(f"{path} exists: go on with `dadmm resume {path}`, or use --overwrite")


def _say_where(dashboard: str | None, path: str, quiet: bool) -> None:
    if quiet:
        return
    if dashboard:
        out.print(f"dashboard  {dashboard}")
    out.print(f"run        {path}")


def _say_interrupted(path: str) -> None:
    try:
        record = Run.open(path).committed()
    except StoreError:
        record = None
    if record is None:
        err.print(f"stopped before the first iteration; start again with --overwrite ({path})")
    else:
        err.print(
            f"stopped; iteration {record['iteration']} is stored. Go on with: dadmm resume {path}"
        )


def _scores(estimator: Any, data: Any) -> None:
    name = "accuracy" if isinstance(estimator, ADMMClassifier) else "R2"
    parts = [f"train {name} {estimator.score(data[0], data[1]):.4f}"]
    if data[2] is not None:
        parts.append(f"test {name} {estimator.score(data[2], data[3]):.4f}")
    seconds = float(estimator.history_["seconds"].sum())
    status = estimator.history_.attrs["status"]
    parts.append(f"{estimator.n_iter_} iterations in {seconds:.1f} s, {status}")
    out.print(" · ".join(parts))


def _next_steps(path: str) -> None:
    out.print(f"see it     dadmm show {path} --plot convergence.png")


@commands.command(name="resume")
@click.argument("path", metavar="RUN")
@click.option("--max-iter", type=int, help="A new limit on the iterations in all.")
@click.option("--workers", type=int, help="Worker processes, instead of the config's.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def resume_command(path: str, max_iter: int | None, workers: int | None, quiet: bool) -> None:
    """Go on with RUN from its last committed iteration, to the same bits."""
    table = Run.open(path).attributes.get("pipeline") or {}
    place = dict(table.get("cluster", {}))
    if workers is not None:
        place["workers"] = workers
    with cluster.connect(place) as dashboard:
        _say_where(dashboard, path, quiet)
        try:
            estimator = resume(path, max_iter=max_iter, verbose=not quiet)
        except KeyboardInterrupt:
            _say_interrupted(path)
            raise
    if not quiet:
        final = estimator.history_.attrs
        out.print(
            f"{estimator.n_iter_} iterations, {final['status']}; train score "
            f"{final.get('train_score', float('nan')):.4f}"
        )
        if table:
            _scores(estimator, load_data(table["data"]))
        _next_steps(path)


@commands.command()
@click.argument("path", metavar="RUN")
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option("--proba", is_flag=True, help="Class probabilities instead of classes.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it is there.")
def predict(path: str, source: str, target: str, proba: bool, overwrite: bool) -> None:
    """Predict for the rows of INPUT (.npy, .csv, zarr) into OUTPUT (.npy, .csv, .zarr)."""
    estimator = load(path)
    if Path(target).exists() and not overwrite:
        raise InputError(f"{target} exists: choose another name, or use --overwrite")
    if Path(target).suffix not in (".npy", ".csv", ".zarr"):
        raise InputError(f"{target}: end the output's name in .npy, .csv or .zarr")
    x = read_array(source)
    if proba and not hasattr(estimator, "predict_proba"):
        raise InputError(f"{path} is a regression: it has no probabilities; leave out --proba")
    predicted = estimator.predict_proba(x) if proba else estimator.predict(x)
    _write(predicted, target)
    out.print(f"{predicted.shape[0]} rows -> {target}")


def _write(predicted: Any, target: str) -> None:
    """Write predictions; to zarr chunk by chunk, so that they need not fit into memory."""
    try:
        if target.endswith(".zarr"):
            import dask.array as da

            if not isinstance(predicted, da.Array):
                predicted = da.from_array(predicted)
            predicted.rechunk("auto").to_zarr(target, overwrite=True)
            return
        values = np.asarray(predicted)
        if target.endswith(".npy"):
            np.save(target, values, allow_pickle=False)
        else:
            np.savetxt(target, values, delimiter=",", fmt="%s")
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from error


@commands.command()
@click.argument("path", metavar="RUN")
@click.option("--plot", "picture", help="Draw the convergence into this file.")
@click.option("--digest", is_flag=True, help="Print only a SHA-256 of the parameters.")
def show(path: str, picture: str | None, digest: bool) -> None:
    """Show the state and the history of RUN."""
    estimator = load(path)
    if digest:
        out.print(parameter_digest(estimator))
        return
    history = estimator.history_
    out.print(_summary(estimator, path))
    out.print(_history_table(history))
    if picture:
        from dadmm.plot import plot_history

        plot_history(history, picture)
        out.print(f"plot       {picture}")


def parameter_digest(estimator: Any) -> str:
    """Return a SHA-256 over names, shapes, dtypes and bytes of the network's parameters."""
    found = hashlib.sha256()
    for name, array in sorted(estimator.network_.params.items()):
        found.update(f"{name} {array.dtype.str} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _summary(estimator: Any, path: str) -> Table:
    attributes = Run.open(path).attributes
    history = estimator.history_
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    arch = estimator.network_.architecture
    solver = attributes["config"]["solver"]
    rows = {
        "run": path,
        "network": f"{' - '.join(map(str, arch.widths))}, {arch.activation}, "
        f"{sum(arch.skips)} residual, {arch.n_parameters:,} parameters",
        "solver": ", ".join(f"{k} {v}" for k, v in solver.items()),
        "data": f"{attributes['problem']['rows']:,} rows in {len(attributes['chunks'])} chunks",
        "status": f"{history.attrs['status']} after {estimator.n_iter_} iterations",
    }
    if "train_score" in history.attrs:
        rows["train score"] = f"{history.attrs['train_score']:.4f}"
    if np.isfinite(history.attrs.get("rate", np.nan)):
        rows["step shrinks"] = (
            f"by {history.attrs['rate']:.4f} per iteration (R2 {history.attrs['rate_r2']:.3f})"
        )
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", value)
    return table


def _history_table(history: Any) -> Table:
    columns = {
        "objective": ("objective", ".5g"),
        "forward_loss": ("loss", ".5g"),
        "train_score": ("score", ".4f"),
        "primal_residual": ("residual", ".1e"),
        "stationarity": ("gradient", ".1e"),
        "step": ("step", ".1e"),
        "seconds": ("seconds", ".2f"),
    }
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("iteration", justify="right", no_wrap=True)
    shown = [name for name in columns if name in history]
    for name in shown:
        table.add_column(columns[name][0], justify="right", no_wrap=True)
    count = history.sizes["iteration"]
    picked = np.unique(np.linspace(0, count - 1, min(count, 12)).astype(int)) if count else []
    for i in picked:
        cells = [format(float(history[name][i]), columns[name][1]) for name in shown]
        table.add_row(str(int(history["iteration"][i])), *cells)
    return table


@commands.command()
@click.option("--run", "path", default="runs/demo", show_default=True, help="Where to keep it.")
@click.option("--workers", default=2, show_default=True, help="Worker processes; 0: threads.")
def demo(path: str, workers: int) -> None:
    """Train on scikit-learn's digits beside its MLPClassifier, and show what happened."""
    from dadmm.demo import run_demo

    run_demo(path, workers, out)


if __name__ == "__main__":
    main()
