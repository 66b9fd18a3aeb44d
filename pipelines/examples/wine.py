"""White-wine quality as a script to copy: a regression on threads, beside ridge.

    DADMM_DATA=folder/with/winequality-white.csv python pipelines/examples/wine.py [RUN]

Without DADMM_DATA the data is downloaded by scikit-learn.
"""

import sys
from pathlib import Path

from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

import dadmm
from dadmm.datasets import load_dataset


def main(run: str) -> None:
    x, y = load_dataset("wine-white")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
    if Path(run).exists():
        model = dadmm.resume(run, verbose=True)
    else:
        model = dadmm.ADMMRegressor(
            hidden_layer_sizes=(128, 128),
            solver=dadmm.RelaxedADMM(over_relaxation=1.6),
            max_iter=40,
            random_state=0,
            run=run,
            verbose=True,
        ).fit(x_train, y_train)
    ridge = Ridge().fit(x_train, y_train)
    ours, theirs = model.score(x_test, y_test), ridge.score(x_test, y_test)
    print(f"test R2  dadmm {ours:.4f}  ridge {theirs:.4f}")
    rate, fit = model.history_.attrs["rate"], model.history_.attrs["rate_r2"]
    print(f"step shrinks by {rate:.4f} per iteration, R2 of that fit {fit:.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/wine-script")
