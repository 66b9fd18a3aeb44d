"""MNIST through 32 non-negative factors, as a script to copy: accuracy, and what factors stand for.

The head of the network reads the factors' codes alone.  Printed are the test accuracy, how much of
the features the factors leave out (relative error, in the last pass), and how well the best factor
of each correlates with what can be measured of the digits, beside NMF of the pixels, which has
seen no label.

Run it again after stopping it: it goes on where it stopped, to the same network.

    DADMM_DATA=folder/with/mnist.npz python pipelines/examples/deepfacto.py [RUN [ROWS]]

Without DADMM_DATA the data is downloaded by scikit-learn.  ROWS trains on fewer.
"""

import sys
from pathlib import Path

import dadmm
from dadmm.datasets import load_data, stroke_attributes
from dadmm.numerics.matching import match


def main(run: str, rows: int | None) -> None:
    x_train, y_train, x_test, y_test = load_data({"dataset": "mnist"})
    x_train, y_train = x_train[:rows], y_train[:rows]
    if Path(run).exists():
        model = dadmm.resume(run, verbose=True)
    else:
        model = dadmm.DeepFacto(
            n_components=32,
            hidden_layer_sizes=(256,),
            head_layer_sizes=(128,),
            max_iter=10,
            standardize="scale",
            random_state=0,
            run=run,
            verbose=True,
        ).fit(x_train, y_train)
    print(f"test accuracy         {model.score(x_test, y_test):.4f}")
    print(f"reconstruction error  {float(model.history_['reconstruction_error'][-1]):.4f}")
    attributes, names = stroke_attributes(x_test.reshape(-1, 28, 28))
    found = model.score_attributes(x_test, attributes, names)
    pixels = dadmm.NMF(32, max_iter=30).fit(x_train)
    plain = match(pixels.transform(x_test), attributes, names)
    print("best factor           DeepFacto  NMF of the pixels")
    for name, ours, theirs in zip(names, found.best, plain.best, strict=True):
        print(f"  {name:<20}{ours:9.3f}  {theirs:.3f}")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "runs/deepfacto-script",
        int(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
