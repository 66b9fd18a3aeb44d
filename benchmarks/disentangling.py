"""How well the factors of a network stand for attributes that nobody named.

    python benchmarks/disentangling.py [--seeds 5] [--rows 20000]
    DADMM_DATA=... python benchmarks/disentangling.py --strokes

Figures (`dadmm.datasets.figures`) have a shape, a colour, a size, a position and a texture; the
class depends on shape and colour alone.  Each method gives 20 numbers for every figure (raw units
of the wide layer: 256); an attribute's score is the absolute Pearson correlation, on rows that no
method has seen, of the best of them, or of the one that a one-to-one assignment gives it.  Shown
are means and standard deviations over seeds, over all 13 attributes and over the 6 that the class
depends on.

Compared are factorisations of the pixels; of the features of a network that was trained without
factors (its hidden layer of 256); the units of that network; and DeepFacto, of pixels and of
features.  "Weakly supervised" learns the attributes themselves (numbers as above or below their
median) of 1 %, 10 % or all of the rows; the other rows shape the factors alone.

`--strokes` does the same for MNIST's digits and what can be measured of them (stroke width,
slant, loops, height, ink), of which the labels say little.
"""

import argparse
import os
import sys
import warnings
from collections import defaultdict

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA, FastICA

import dadmm
from dadmm.datasets import figures, load_dataset, stroke_attributes
from dadmm.networks.architecture import layers
from dadmm.numerics.matching import match

FACTORS, WIDTH, PASSES = 20, 256, 30
FRACTIONS = (0.01, 0.1, 1.0)


def drawn(rows, seed):
    """Return inputs, classes and attributes to learn from and to score on, and their names."""
    train, test = figures(rows, seed), figures(5000, seed, start=rows)
    decides = [i for i, name in enumerate(train.names) if name.startswith(("shape", "colour"))]
    return train, test, train.names, decides


class Digits:
    """Images of MNIST with what is measured of them, as figures have it."""

    def __init__(self, x, y):
        self.x, self.y = x, y
        self.attributes, self.names = stroke_attributes(x.reshape(-1, 28, 28))


def digits(rows, seed):
    """Return the same for MNIST; its classes decide no attribute."""
    x, y = load_dataset("mnist")
    order = np.random.default_rng(seed).permutation(60000)[:rows]
    train, test = Digits(x[order], y[order]), Digits(x[60000:], y[60000:])
    return train, test, train.names, []


def methods(train, seed):
    """Yield each method's name, what maps inputs to numbers, and its classifier if it is one."""
    options = {"max_iter": PASSES, "tol": 0, "random_state": seed}
    plain = dadmm.ADMMClassifier((WIDTH, FACTORS), standardize="scale", **options)
    plain.fit(train.x, train.y)

    def units(layer):
        network = plain.network_

        def of(x):
            v = network.inputs.apply(x, network.dtype)
            return list(layers(network.architecture, network.params, v, to=layer))[-1]

        return of

    def pixels(x):
        return x.astype(np.float32) / 255

    for name, features in (("pixels", pixels), (f"{WIDTH} features", units(1))):
        z = features(train.x)
        for kind, made in (
            ("NMF", dadmm.NMF(FACTORS, max_iter=100, tol=0)),
            ("PCA", PCA(FACTORS, random_state=seed)),
            ("FastICA", FastICA(FACTORS, max_iter=400, random_state=seed)),
        ):
            fitted = made.fit(z)
            yield f"{kind} of {name}", lambda x, f=features, m=fitted: m.transform(f(x)), None
    yield f"units without factors, layer of {WIDTH}", units(1), plain
    yield f"units without factors, layer of {FACTORS}", units(2), plain
    for hidden, name in (((), "pixels"), ((WIDTH,), "features")):
        model = dadmm.DeepFacto(FACTORS, hidden, **options).fit(train.x, train.y)
        yield f"DeepFacto of {name}", model.transform, model
    above = (train.attributes > np.median(train.attributes, axis=0)).astype(np.uint8)
    where = train.attributes.min(axis=0) < train.attributes.max(axis=0)
    for fraction in FRACTIONS:
        seen = np.random.default_rng(seed).random(len(train.x)) < fraction
        model = dadmm.DeepFacto(FACTORS, (WIDTH,), **options)
        model.fit(train.x, above[:, where], sample_weight=seen.astype(float))
        yield f"DeepFacto, attributes of {fraction:.0%} of rows", model.transform, None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--strokes", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found, order = defaultdict(list), []
    for seed in range(options.seeds):
        train, test, names, decides = (digits if options.strokes else drawn)(options.rows, seed)
        for name, codes, model in methods(train, seed):
            scores = match(codes(test.x), test.attributes, names)
            accuracy = np.nan if model is None else model.score(test.x, test.y)
            some = scores.best[decides].mean() if decides else np.nan
            found[name].append((scores.mean_best, scores.mean_assigned, some, accuracy))
            order += [name] if name not in order else []
            print(seed, name, *(f"{value:.3f}" for value in found[name][-1]), file=sys.stderr)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("")
    for column in ("best factor", "assigned", "of shape and colour", "test accuracy"):
        table.add_column(column, justify="right")
    for name in order:
        values = np.array(found[name])
        cells = [
            "" if np.isnan(m) else f"{m:.3f} ± {s:.3f}"
            for m, s in zip(values.mean(axis=0), values.std(axis=0), strict=True)
        ]
        table.add_row(name, *cells)
    Console(soft_wrap=True, highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
