"""Whether sorted and drifting rows train as well as rows in random order, in every container.

    python benchmarks/sorted_rows.py [--seeds 3] [--cases mnist,wine,target,drift,nmf] [--quick]

For each problem: rows in random order in a NumPy array, then the same rows sorted (MNIST by class,
white wine and a made regression by target) or drifting in time, in NumPy, a data frame, dask, and
zarr with stored chunks of 100 rows (which stay in place), 500, 1000 and 5000 rows, and copied; with
2 and 8 agents, on threads and on two worker processes.  The score is the accuracy or R^2 on test
rows, for NMF online the relative error; medians over seeds.

DADMM_DATA names the folder of mnist.npz and winequality-white.csv.
"""

import argparse
import os
import tempfile
import warnings
from pathlib import Path
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import dask.array as da
import numpy as np
import pandas as pd
import zarr
from distributed import Client, LocalCluster
from rich.console import Console
from rich.table import Table

import dadmm

STORED = (100, 500, 1000, 5000)


# ------------------------------------------------------------------------------------- the problems


def mnist(rng):
    with np.load(Path(os.environ["DADMM_DATA"]) / "mnist.npz") as file:
        x, y, *test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, test[0] = x.reshape(len(x), -1), test[0].reshape(len(test[0]), -1)
    order = np.argsort(y, kind="stable")
    return x[order], y[order], *test


def wine(rng):
    table = np.loadtxt(
        Path(os.environ["DADMM_DATA"]) / "winequality-white.csv", delimiter=",", skiprows=1
    )
    order = rng.permutation(len(table))
    test, train = table[order[:980]], table[order[980:]]
    train = train[np.argsort(train[:, -1], kind="stable")]
    return train[:, :-1], train[:, -1], test[:, :-1], test[:, -1]


def made(rng, drifts):
    rows, test, features = 40_000, 8_000, 20
    count = rows + test
    w = np.random.default_rng(0).standard_normal((features, 3))
    x = rng.standard_normal((count, features))
    time = np.linspace(0, 1, count)
    if drifts:
        x[:, :5] += 4 * np.sin(4 * np.pi * time[:, None] + np.arange(5))
    y = np.tanh(x @ w / 3) @ [1.0, 2.0, -1.0] + 0.1 * rng.standard_normal(count)
    held = np.zeros(count, bool)
    held[rng.permutation(count)[:test]] = True
    x, y, xt, yt = x[~held], y[~held], x[held], y[held]
    if not drifts:
        order = np.argsort(y)
        x, y = x[order], y[order]
    return x, y, xt, yt


PROBLEMS = {
    "mnist": mnist,
    "wine": wine,
    "target": lambda rng: made(rng, drifts=False),
    "drift": lambda rng: made(rng, drifts=True),
    "nmf": mnist,
}


def model(case, seed, agents, rows, **options):
    chunks = -(-rows // max(8, agents))
    options = {"random_state": seed, "tol": 0, "chunks": chunks, **options}
    if case == "nmf":
        return dadmm.NMF(16, mode="online", max_iter=3, **options)
    solver = dadmm.BlockADMM(agents=agents)
    if case == "mnist":
        options = {"max_iter": 4, "standardize": "global", **options}
        return dadmm.ADMMClassifier((256, 256, 256), solver=solver, **options)
    if case == "wine":
        solver = dadmm.BlockADMM(agents=agents, early_stopping=True)
        return dadmm.ADMMRegressor((64, 64), solver=solver, max_iter=60, **options)
    return dadmm.ADMMRegressor((64, 64), solver=solver, max_iter=10, **options)


def score(case, fitted, data):
    x, _, test, truth = data
    if case == "nmf":
        return float(fitted.reconstruction_err_ / np.linalg.norm(x.astype(float)))
    return float(fitted.score(test, truth))


# ----------------------------------------------------------------------------------- the containers


def containers(folder, x, quick):
    """Yield the name of a container, its inputs, and options."""
    yield "numpy", x, {}
    yield "frame", pd.DataFrame(x).rename(columns=str), {}
    yield "dask", da.from_array(x, chunks=(1700, x.shape[1])), {}
    for rows in STORED[:1] if quick else STORED:
        path = f"{folder}/{rows}"
        if not Path(path).exists():
            zarr.create_array(path, data=x, chunks=(rows, x.shape[1]))
        yield f"zarr, chunks of {rows}", zarr.open_array(path, mode="r"), {}
    yield "zarr, copied", zarr.open_array(f"{folder}/{STORED[0]}", mode="r"), {"shuffle": "copy"}


def measure(case, seeds, quick, client, found):
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        data = PROBLEMS[case](rng)
        x, y, *_ = data
        target = None if case == "nmf" else y
        for agents in (2,) if case == "nmf" else (2, 8):
            order = rng.permutation(len(x))

            def fit(name, x, y, agents=agents, seed=seed, data=data, **options):
                fitted = model(case, seed, agents, len(data[0]), **options)
                fitted.fit(x) if case == "nmf" else fitted.fit(x, y)
                key = case, agents, name
                found.setdefault(key, []).append(
                    (score(case, fitted, data), fitted.history_.attrs["chunk_difference"])
                )

            fit("random order", x[order], None if target is None else y[order], shuffle=False)
            with tempfile.TemporaryDirectory(dir=".") as folder:
                fit("in order", x, target, shuffle=False)
                for name, given, options in containers(folder, x, quick):
                    fit(name, given, target, **options)
                    if client is not None and name == "numpy":
                        with client.as_current():
                            fit("numpy, processes", given, target, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(PROBLEMS))
    parser.add_argument("--quick", action="store_true", help="one size of stored chunks")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for case in options.cases.split(","):
            measure(case, options.seeds, options.quick, client, found)
            show({key: runs for key, runs in found.items() if key[0] == case})


def show(found):
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("problem", "agents", "rows", "score", "to random order", "chunks differ by"):
        table.add_column(column, no_wrap=True)
    for (case, agents, name), runs in found.items():
        middle = median(score for score, _ in runs)
        base = median(score for score, _ in found[case, agents, "random order"])
        apart = median(apart for _, apart in runs)
        table.add_row(
            case, str(agents), name, f"{middle:.4f}", f"{middle - base:+.4f}", f"{apart:.3f}"
        )
    Console(soft_wrap=True, highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
