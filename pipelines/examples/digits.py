"""Digits as a script to copy: data, a cluster, a run store, scores.

Run it again after stopping it: it goes on where it stopped, to the same network.

    python pipelines/examples/digits.py [RUN]
"""

import sys
from pathlib import Path

from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import dadmm


def main(run: str) -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        print("dashboard", client.dashboard_link)
        if Path(run).exists():
            model = dadmm.resume(run, verbose=True)
        else:
            model = dadmm.ADMMClassifier(
                hidden_layer_sizes=(256, 256),
                solver=dadmm.RelaxedADMM(splitting=3, variant="proximal"),
                max_iter=60,
                standardize="global",
                random_state=0,
                run=run,
                verbose=True,
            ).fit(x_train, y_train)
        print(f"train accuracy {model.score(x_train, y_train):.4f}")
        print(f"test accuracy  {model.score(x_test, y_test):.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/digits-script")
