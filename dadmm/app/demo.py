"""The demo: digits on a cluster of worker processes, beside scikit-learn's MLPClassifier."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from rich.console import Console
from rich.table import Table

from dadmm.app.report.plot import plot_history
from dadmm.engine.session import Session
from dadmm.errors import InputError, StoreError
from dadmm.estimators.classifier import ADMMClassifier

CONFIG: dict[str, Any] = {
    "data": {"dataset": "digits", "test_fraction": 0.25, "seed": 0},
    "model": {
        "task": "classification",
        "hidden_layer_sizes": [256, 256],
        "max_iter": 60,
        "standardize": "global",
        "random_state": 0,
    },
    "solver": {"name": "relaxed", "splitting": 3, "variant": "proximal"},
    "cluster": {"workers": 2, "memory_limit": "2GiB", "dashboard": 0},
}


def run_demo(path: str, workers: int, out: Console) -> None:
    """Train, compare, draw, and print what to try next.

    Parameters
    ----------
    path : str
        Where to keep the run; it replaces that of an earlier demo.
    workers : int
        Worker processes; 0 runs on threads.
    """
    from dadmm.app.fit import run_config

    table = {**CONFIG, "cluster": {**CONFIG["cluster"], "workers": workers}}
    out.print(
        "A residual network learns handwritten digits by ADMM: every iteration is one Dask graph,\n"
        "and its state lies in zarr.\n"
    )
    ours, (x, y, x_test, y_test) = run_config(table, path, overwrite=_is_demo(path))
    centre, scale = x.mean(axis=0), x.std()
    plain, scaled = (x, x_test), ((x - centre) / scale, (x_test - centre) / scale)
    begin = time.perf_counter()
    block = _block(x, y)
    between = time.perf_counter()
    theirs = _mlp(scaled[0], y)
    seconds = time.perf_counter() - between
    history = ours.history_
    result = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("", "objective", "residual", "seconds", "train", "test"):
        result.add_column(column, justify="left" if not column else "right")
    residual = f"{float(history['primal_residual'][-1]):.1e}"
    wall = float(history["seconds"].sum())
    for name, model, inputs, objective, left, taken in (
        ("dadmm, 3-splitting", ours, plain, float(history["objective"][-1]), residual, wall),
        ("dadmm, Block-ADMM", block, plain, block.loss_curve_[-1], "", between - begin),
        ("scikit-learn MLPClassifier", theirs, scaled, theirs.loss_, "", seconds),
    ):
        train, test = model.score(inputs[0], y), model.score(inputs[1], y_test)
        cells = (f"{objective:.4f}", left, f"{taken:.1f}", f"{train:.4f}", f"{test:.4f}")
        result.add_row(name, *cells)
    out.print()
    out.print(result)
    out.print()
    _plot(history, Path(path).with_suffix(".png"), out)
    out.print("\nTry next:")
    out.print(f"  dadmm show {path}")
    out.print(f"  dadmm resume {path} --max-iter 100")
    out.print("  dadmm fit pipelines/examples/wine.toml --run runs/wine")
    out.print("  dadmm resume runs/wine    # after Ctrl-C")
    out.print("  python pipelines/examples/codes.py    # 16 bits that backpropagation cannot train")


def _is_demo(path: str) -> bool:
    """Whether `path` holds the run of an earlier demo, which may be replaced."""
    try:
        stored = Session.open(path).pipeline
    except StoreError:
        return False
    return all(stored.get(table) == CONFIG[table] for table in ("data", "model", "solver"))


def _plot(history: xr.Dataset, picture: Path, out: Console) -> None:
    try:
        plot_history(history, picture)
    except InputError as error:  # matplotlib is an extra
        out.print(f"no plot    {error}")
    else:
        out.print(f"plot       {picture}")


def _block(x: Any, y: Any) -> Any:
    """Fit the same network with the mini-batch solver, on threads."""
    model = ADMMClassifier((256, 256), standardize="global", random_state=0)
    with dask.config.set(scheduler="threads"):
        return model.fit(x, y)


def _mlp(x: Any, y: Any) -> Any:
    """Fit scikit-learn's network of the same size."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((256, 256), random_state=0, max_iter=100).fit(x, y)
