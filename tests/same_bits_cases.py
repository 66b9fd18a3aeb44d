"""The small cases of same_bits.py, through the public interface of dadmm alone."""

from functools import partial
from inspect import signature

import dask.array as da
import numpy as np
import zarr
from sklearn.datasets import load_digits

ROWS = 70
CHUNKS = {1: 70, 4: 18}  # rows of each: the last of 4 has fewer


def data(name):
    """Return inputs, targets, and new inputs: of "digits", "digits 1100", "targets 3", "labels"."""
    kind, _, number = name.partition(" ")
    if kind == "digits":
        x, y = (array[: int(number or ROWS) + 30] for array in load_digits(return_X_y=True))
    else:
        rng = np.random.default_rng(5)
        columns = int(number or 3)
        x = rng.standard_normal((ROWS + 30, 6))
        y = np.tanh(x @ rng.standard_normal((6, columns)))
        y += 0.1 * rng.standard_normal(y.shape)
        if kind == "labels":
            y = (y > 0).astype(int)
        elif columns == 1:
            y = y[:, 0]
    return x[:-30], y[:-30], x[-30:]


def fits():
    """Return the cases that are a fit: name to (estimator, data, options of it)."""
    from dadmm import (
        NMF,
        ADMMClassifier,
        ADMMRegressor,
        BlockADMM,
        DeepFacto,
        Dense,
        NMFBlock,
        RelaxedADMM,
        Residual,
    )

    common = {"max_iter": 3, "tol": 0.0, "random_state": 3}
    layers = {"hidden_layer_sizes": (9, 9, 7), **common}
    square = {**layers, "hidden_layer_sizes": (6, 6), "stem": "identity"}
    table = {}

    def relaxed(name, given="digits", kind=ADMMClassifier, options=layers, **solver):
        own = ("activation", "loss", "tol")
        more = {k: solver.pop(k) for k in own if k in solver}
        options = {**options, **more, "solver": RelaxedADMM(**solver)}
        table[f"relaxed {name}"] = kind, given, options

    def block(name, given="digits", kind=ADMMClassifier, options=layers, **solver):
        own = ("activation", "loss", "tol", "class_weight", "max_iter", "standardize")
        more = {k: solver.pop(k) for k in own if k in solver}
        solver = {"batch_size": 8, "agents": 2, **solver}
        options = {**options, **more, "solver": BlockADMM(**solver)}
        table[f"block {name}"] = kind, given, options

    relaxed("3 proximal")
    relaxed("3 linearized, sigmoid", variant="linearized", activation="sigmoid")
    relaxed("3 recompute, leaky_relu", state="recompute", activation="leaky_relu", regions=2)
    relaxed("3 regions 2, long steps", regions=2, over_relaxation=1.5)
    relaxed("3 regions N, own head, tanh", regions=4, head_refit=False, activation="tanh")
    relaxed("3 softplus, several labels", "labels", activation="softplus", nu=0.5, mu=2.0)
    relaxed("3 hinge", loss="hinge", beta=10.0, activation="tanh")
    relaxed("3 squared of classes, identity", loss="squared", activation="identity", tau=0.1)
    relaxed("3 converges", tol=0.9)
    relaxed("3 many rows", "digits 1100", options={**layers, "max_iter": 2})
    relaxed("3 targets, float64", "targets 2", ADMMRegressor, square, dtype="float64")
    relaxed("3 huber", "targets 1", ADMMRegressor, loss="huber", activation="sigmoid")
    relaxed("2 proximal, relu", splitting=2, inner_steps=3)
    relaxed(
        "2 regions N, sigmoid, float64",
        splitting=2, regions=4, activation="sigmoid", dtype="float64", inner_steps=3,
    )  # fmt: skip
    relaxed("2 settles, tanh", splitting=2, inner_tol=0.5, activation="tanh")
    relaxed("2 recompute, tanh", splitting=2, state="recompute", activation="tanh", regions=2)
    relaxed("2 linearized", "targets 1", ADMMRegressor, splitting=2, variant="linearized")

    batch = {"mode": "batch", "blocks": 2}
    rule, rate = "learning_rate_schedule", "learning_rate"
    block("online")
    block("many rows", "digits 1300", batch_size=0, max_iter=2)
    block("admm, 3 agents", consensus="admm", agents=3, sigma=0.3)
    block("batch", **batch, rho=0.5)
    block("batch, admm, tanh", **batch, consensus="admm", activation="tanh")
    block("several steps", blocks=3, z_steps=2, inner_steps=2, z_rate=0.7)
    block("batch, several steps, hinge", **batch, z_steps=2, inner_steps=2, loss="hinge")
    block("grid", schedule="grid", blocks=[2, 4], activation="sigmoid")
    block("grid, batch, admm", **batch, schedule="grid", consensus="admm", agents=1)
    block("grid, inner steps, huber", "targets 3", ADMMRegressor, schedule="grid", blocks=3,
          inner_steps=2, loss="huber")  # fmt: skip
    block("binary", blocks=2, constraints="binary", activation="tanh")
    block("k_sparse, batch", **batch, constraints="k_sparse:4")
    block("non_negative", blocks=3, constraints="non_negative", activation="leaky_relu", z_steps=2)
    block("k_sparse, grid, batch", mode="batch", blocks=3, rho=0.5, schedule="grid",
          constraints="k_sparse:4")  # fmt: skip
    block("box, simplex, grid", blocks=3, constraints=["box:1", "simplex"], schedule="grid")
    block("l1, l2_ball", blocks=3, constraints=["l1:0.1", "l2_ball:1.5"])
    block("sgd, plateau", optimizer="sgd", **{rule: "plateau", rate: 0.5}, max_iter=9)
    block("cosine, decay, clip", **{rule: "cosine"}, weight_decay=0.1, clip_norm=0.1,
          local_epochs=2)  # fmt: skip
    block("early stopping, constant", **{rule: "constant", rate: 0.05}, early_stopping=True,
          n_iter_no_change=2, max_iter=8, tol=1e-4, blocks=2)  # fmt: skip
    block("converges", tol=1.0, n_iter_no_change=1)
    block("balanced", class_weight="balanced", standardize="global")
    block("several labels", "labels", blocks=2, activation="softplus")
    block("targets, float64", "targets 3", ADMMRegressor, dtype="float64", blocks=2)
    block("one target, early stopping", "targets 1", ADMMRegressor, early_stopping=True)
    blocks = [Dense(10, "sigmoid"), Residual("tanh"), Residual(), Dense(5, "identity")]
    block("own blocks", blocks=blocks, standardize="none")
    factors = NMFBlock(4, init="nndsvd", rho=0.5)
    for mode, schedule in (("online", "fused"), ("batch", "fused"), ("online", "grid")):
        block(f"factors, {mode}, {schedule}", blocks=[Dense(12), factors, Dense(6)], mode=mode,
              schedule=schedule)  # fmt: skip

    given = np.random.default_rng(1).uniform(size=(4, 64))
    penalties = {"alpha_W": 0.02, "alpha_H": 0.01, "l1_ratio": 0.5}
    for name, where, options in (
        ("batch", "digits", {"init": "nndsvd", "max_iter": 14, "tol": 0.05}),
        ("batch, random, penalties", "digits", {"init": "random", **penalties}),
        ("batch, given, float64", "digits", {"init": given, "dtype": "float64"}),
        ("batch, shift", "targets 1", {"shift": True, "n_components": 3}),
        ("online", "digits 1300", {"mode": "online", "init": "nndsvd"}),
        ("online, random, penalties", "digits", {"mode": "online", "init": "random", **penalties}),
    ):
        table[f"nmf {name}"] = NMF, where, {"n_components": 4, **common, **options}

    deep = {"n_components": 4, "hidden_layer_sizes": (12,), **common}
    solver = BlockADMM(batch_size=8)
    for name, options in (
        ("online", {"solver": solver}),
        ("head, nndsvd, sparse", {"head_layer_sizes": (6, 6), "factor_init": "nndsvd",
                                  "sparsity": 0.01, "solver": solver}),
        ("of inputs, given", {"hidden_layer_sizes": (), "factor_init": given, "solver": solver}),
        ("batch, softplus", {"solver": BlockADMM(mode="batch"), "activation": "softplus"}),
    ):  # fmt: skip
        table[f"deepfacto {name}"] = DeepFacto, "digits", {**deep, **options}
    return table


def stop_at(last):
    """Return a callback that stops after an iteration."""

    def callback(iteration, row):
        if iteration >= last:
            raise StopIteration

    return callback


def others(table):
    """Return the cases that are more than a fit: name to function of (chunks, digest, folder)."""
    from dadmm import load, resume

    def made(name, chunks, **more):
        kind, given, options = table[name]
        return kind(**options, **in_order(kind), chunks=CHUNKS[chunks], **more), *data(given)

    def partial_fit(chunks, digest, folder):
        estimator, x, y, new = made("block online", chunks)
        for rows in (slice(0, 40), slice(40, None), slice(10, 60)):
            estimator.partial_fit(x[rows], y[rows], classes=np.arange(10))
            digest.estimator(estimator, new)

    def warm_start(name):
        def case(chunks, digest, folder):
            estimator, x, y, new = made(name, chunks, warm_start=True)
            digest.estimator(estimator.fit(x, y), new)
            digest.estimator(estimator.fit(x[::-1], y[::-1]), new)

        return case

    def weights(name):
        def case(chunks, digest, folder):
            of_classes = dict.fromkeys(range(10), 1.0) | {0: 3.0, 1: 0.5}
            estimator, x, y, new = made(name, chunks, class_weight=of_classes)
            of_rows = np.maximum(np.linspace(-0.5, 2, len(x)), 0)
            digest.estimator(estimator.fit(x, y, sample_weight=of_rows), new)

        return case

    def stored(name, how):
        def case(chunks, digest, folder):
            path = folder / "run"
            estimator, x, y, new = made(name, chunks, run=path)
            if how == "stopped":
                estimator.fit(x, y, callback=stop_at(2))
            elif how == "shorter":
                estimator.set_params(max_iter=2).fit(x, y)
            else:
                estimator.fit(x, y)
            digest.store(path)
            if how != "whole":
                digest.estimator(resume(path, max_iter=4), new)
                digest.store(path)
            digest.estimator(load(path), new)

        return case

    def form(convert):
        def case(chunks, digest, folder):
            estimator, x, y, new = made("block online", chunks, run=folder / "run")
            digest.estimator(estimator.fit(convert(x, folder), y), new)
            digest.store(folder / "run")

        return case

    return {
        "partial_fit": partial_fit,
        "warm start, block": warm_start("block online"),
        "warm start, relaxed": warm_start("relaxed 3 proximal"),
        "warm start, nmf": warm_start("nmf batch"),
        "weights, batch": weights("block batch"),
        "weights, early stopping": weights("block early stopping, constant"),
        "run, inputs in zarr": form(zarr_array),
        "run, inputs in dask": form(dask_array),
        "run, block batch": stored("block batch, admm, tanh", "stopped"),
        "run, block grid": stored("block grid, batch, admm", "shorter"),
        "run, block online": stored("block early stopping, constant", "stopped"),
        "run, relaxed 3": stored("relaxed 3 regions 2, long steps", "stopped"),
        "run, relaxed 2": stored("relaxed 2 regions N, sigmoid, float64", "shorter"),
        "run, nmf": stored("nmf batch, random, penalties", "stopped"),
        "run, deepfacto": stored("deepfacto head, nndsvd, sparse", "whole"),
    }


def in_order(kind):
    """Return the option that leaves rows in their order, where a version can deal them."""
    return {"shuffle": False} if "shuffle" in signature(kind).parameters else {}


def zarr_array(x, folder):
    """Return inputs in zarr, which are read where they are."""
    array = zarr.create_array(folder / "x.zarr", shape=x.shape, chunks=(9, 64), dtype="uint8")
    array[...] = x
    return zarr.open_array(folder / "x.zarr", mode="r")


def dask_array(x, folder):
    """Return inputs that are copied as they stream by."""
    return da.from_array(x.astype(np.float32), chunks=(20, 64))


def cases():
    """Return all cases: name to function of (digest, folder)."""
    table = fits()
    found = {}

    def fit(name, chunks):
        kind, given, options = table[name]

        def case(digest, folder):
            x, y, new = data(given)
            rows = CHUNKS.get(chunks, chunks)
            if len(x) > ROWS:
                rows = -(-len(x) // chunks)
            digest.estimator(kind(**options, **in_order(kind), chunks=rows).fit(x, y), new)

        return case

    for name in table:
        for chunks, words in ((1, "1 chunk"), (4, "4 chunks")):
            found[f"{name}, {words}"] = fit(name, chunks)
    for name in ("relaxed 3 proximal", "block admm, 3 agents", "nmf online, random, penalties"):
        found[f"{name}, chunks of 3 rows"] = fit(name, 3)  # sums of sums, rounds
        found[f"{name}, chunks of its own"] = fit(name, "auto")
    for name, case in others(table).items():
        # Stores are slow: theirs are cut up only.
        for chunks, words in ((1, "1 chunk"), (4, "4 chunks"))[name.startswith("run") :]:
            found[f"{name}, {words}"] = partial(case, chunks)
    return found
