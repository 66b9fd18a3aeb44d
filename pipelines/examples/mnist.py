"""MNIST as a script to copy: stochastic Block-ADMM on two worker processes.

Run it again after stopping it: it goes on where it stopped, to the same network.

    python pipelines/examples/mnist.py [RUN]
"""

import sys
from pathlib import Path

import dask
from distributed import Client, LocalCluster

import dadmm
from dadmm.cluster import WORKER_SETTINGS
from dadmm.datasets import load_data


def main(run: str) -> None:
    x_train, y_train, x_test, y_test = load_data({"dataset": "mnist"})
    with (
        dask.config.set(WORKER_SETTINGS),  # the allocator, one BLAS thread, no spilling
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        print("dashboard", client.dashboard_link)
        if Path(run).exists():
            model = dadmm.resume(run, verbose=True)
        else:
            model = dadmm.ADMMClassifier(
                hidden_layer_sizes=(256, 256, 256),
                solver=dadmm.BlockADMM(agents=2),
                max_iter=10,
                standardize="global",
                random_state=0,
                run=run,
                verbose=True,
            ).fit(x_train, y_train)
        print(f"test accuracy  {model.score(x_test, y_test):.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/mnist-script")
