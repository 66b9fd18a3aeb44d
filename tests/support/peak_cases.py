"""What is measured: every solver, splitting and schedule, at widths from 64 to 2048."""

from dataclasses import replace
from itertools import product

from support.peaks import Case


def relaxed(hidden, rows, **more):
    options = {k: more.pop(k) for k in list(more) if k not in Case.__dataclass_fields__}
    if options.get("splitting") == 2:
        options.setdefault("inner_steps", 2)  # passes that hold no more the more there are
    return Case({"name": "relaxed", **options}, hidden, rows, **more)


def block(hidden, rows, **more):
    options = {k: more.pop(k) for k in list(more) if k not in Case.__dataclass_fields__}
    return Case({"name": "block", "batch_size": 256, **options}, hidden, rows, **more)


def nmf(components, rows, **more):
    options = {k: more.pop(k) for k in list(more) if k not in Case.__dataclass_fields__}
    return Case({"name": "nmf", **options}, (components,), rows, **more)


def factored(components, rows, init="random", **more):
    """Return a network whose second block factorises."""
    made = {"kind": "nmf", "n_components": components, "init": init}
    blocks = [{"kind": "dense", "width": 256}, made]
    return block((256, components), rows, blocks=blocks, **more)


# 150 MB of chunk and more where that takes seconds; the widest networks are mostly weights.
SHORT = [
    relaxed((64, 64), 80_000),
    relaxed((256, 256), 7000, variant="linearized", regions=3, features=1024, inputs="uint8"),
    relaxed((64,) * 3, 50_000, splitting=2, variant="linearized", state="recompute"),
    relaxed((1024, 1024), 1000),
    relaxed((2048,), 600, splitting=2),
    block((64, 64), 80_000, features=400),
    block((256, 256, 256), 15_000, blocks=2, mode="batch", features=1000, early_stopping=True),
    block((64, 64, 64), 100_000, blocks=3, schedule="grid", features=128, inputs="uint8"),
    block((64, 64, 64), 70_000, blocks=2, schedule="grid", mode="batch", consensus="admm"),
    block((2048, 2048), 1000, consensus="admm", optimizer="sgd"),
    nmf(32, 60_000, features=784),
    factored(32, 40_000, mode="batch", features=784),
]
SHORT = [replace(case, iterations=1) for case in SHORT]

# Rows per chunk by width: many where they cost little time.
ROWS = {64: 120_000, 256: 30_000, 512: 12_000, 1024: 4000, 2048: 1500}


def _relaxed():
    for width, splitting, variant in product(ROWS, (3, 2), ("proximal", "linearized")):
        options = {"splitting": splitting, "variant": variant}
        yield relaxed((width, width), ROWS[width], **options)
    for splitting, regions, state in product((3, 2), (1, 2, 5), ("keep", "recompute")):
        options = {"splitting": splitting, "regions": regions, "state": state}
        for width in (64, 512):
            yield relaxed((width,) * 4, ROWS[width] // 2, **options)
    for activation, splitting in product(("tanh", "softplus"), (3, 2)):
        yield relaxed((128, 64, 32), 60_000, splitting=splitting, activation=activation)
    for inputs, features in product(("uint8", "float64"), (8, 2000)):
        yield relaxed(
            (64, 64), 240_000_000 // (features + 300) // 8, features=features, inputs=inputs
        )
    for loss in ("squared", "huber", "hinge"):
        yield relaxed((64, 64), 60_000, loss=loss, outputs=100, beta=10.0)
    yield relaxed((128, 128), 40_000, dtype="float64")
    yield relaxed((128, 128), 40_000, splitting=2, dtype="float64", inputs="float64")
    yield relaxed((64, 64), 100_000, stem="identity", head_refit=False)
    yield relaxed((64, 64), 40_000, chunks=10)
    yield relaxed((512, 512), 3000, chunks=10)
    yield relaxed((64,) * 6, 60_000, regions=7, chunks=3)


def _block():
    for width, schedule, mode in product(ROWS, ("fused", "grid"), ("online", "batch")):
        options = {"schedule": schedule, "mode": mode, "blocks": 2}
        yield block((width, width), ROWS[width], features=256, **options)
    for width, schedule, consensus, optimizer in product(
        (64, 1024), ("fused", "grid"), ("average", "admm"), ("adam", "sgd")
    ):
        options = {"schedule": schedule, "consensus": consensus, "optimizer": optimizer}
        yield block((width, width, width), ROWS[width], blocks=3, features=256, **options)
    for inputs, features in product(("uint8", "float64"), (8, 2000)):
        rows = 240_000_000 // (features * (1 if inputs == "uint8" else 8) + 200) // 2
        yield block((64, 64), min(rows, 400_000), features=features, inputs=inputs)
    for schedule in ("fused", "grid"):
        yield block(
            (128, 128, 64),
            60_000,
            blocks=[3],
            constraints="box:1",
            schedule=schedule,
            early_stopping=True,
            features=500,
        )
        yield block((128, 128, 128, 128), 60_000, blocks=5, schedule=schedule, mode="batch")
    yield block((128, 128), 60_000, blocks=3, z_steps=2, inner_steps=2, features=500)
    yield block((128, 128), 100_000, features=500, weighted=True, dtype="float64")
    yield block((128, 128), 100_000, features=300, loss="squared", outputs=50)
    yield block((1024, 1024), 4000, features=500, chunks=6, agents=6)
    yield block((1024, 1024), 4000, features=500, chunks=6, agents=1)
    yield block((256, 256), 20_000, features=500, clip_norm=1.0, weight_decay=1e-3, local_epochs=2)


def _factors():
    for components, mode, init in product((8, 256), ("batch", "online"), ("random", "nndsvd")):
        yield nmf(components, 50_000, mode=mode, init=init, features=784)
    yield nmf(64, 20_000, features=2048, inputs="uint8")
    yield nmf(64, 20_000, features=1024, dtype="float64", inputs="float64")
    yield factored(32, 60_000, init="nndsvd", features=300)
    for schedule, mode in product(("fused", "grid"), ("online", "batch")):
        yield factored(64, 40_000, schedule=schedule, mode=mode, features=500)


LONG = [*_relaxed(), *_block(), *_factors()]
