"""Measure loops, products and passes over memory in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dadmm.app.planner.timing import Effort, drawn, timed
from dadmm.numerics import (
    layer_kernels,
    nonnegative,
    optimizer_kernels,
    relaxed_kernels,
    softmax_kernels,
)
from dadmm.numerics.activations import TANH, get_activation
from dadmm.numerics.algebra import inverse_spd, solve_spd
from dadmm.numerics.losses import get_loss

TILE = (256, 256)
CLASSES = 10
FACTORS = 32


def loop_rates(effort: Effort) -> dict[str, float]:
    """Return the seconds per element of each loop of `dadmm.solvers.counts.LOOPS`."""
    found = {name: timed(call, effort.each) / size for name, (call, size) in _loops().items()}
    found["loss"] /= 3  # value, gradient and right answers
    return found


def product_rate(rows: int, width: int, budget: float) -> float:
    """Return operations per second of (rows, width) by (width, width), in float32."""
    a, w = drawn(rows, width), drawn(width, width)
    out = np.empty_like(a)
    return 2.0 * rows * width * width / timed(partial(np.matmul, a, w, out=out), budget)


def wide_rate(width: int, budget: float) -> float:
    """Return operations per second on square float64 matrices of a width."""
    a = drawn(width, width).astype(np.float64)
    definite = a @ a.T + width * np.eye(width)

    def work() -> None:
        product = a @ a.T
        product += definite
        inverse_spd(product)
        solve_spd(definite.copy(), a.copy())

    # A symmetric product, an inverse, a factor, and two triangles for each right-hand side.
    return width**3 * (1 + 1 + 1 / 3 + 2) / timed(work, budget)


def call_seconds(budget: float) -> float:
    """Return the seconds of a call that has next to nothing to compute."""
    a = drawn(4, 4)
    out, other = np.empty_like(a), drawn(4, 4)

    def calls() -> None:
        for _ in range(20):
            np.matmul(a, other, out=out)
            np.add(a, other, out=out)
            relaxed_kernels.step(out, other, 0.0)

    return timed(calls, budget) / 60


def memory_rate(effort: Effort) -> float:
    """Return bytes per second of passes over arrays that no cache holds."""
    count = 4 * effort.chunk // 4
    a, b, out = (np.ones(count, np.float32) for _ in range(3))
    return 12.0 * count / timed(partial(np.add, a, b, out=out), effort.each)


def _loops() -> dict[str, tuple[Callable[[], Any], int]]:
    """Return a call of each loop, and the number of elements that the call visits."""
    size = TILE[0] * TILE[1]
    a, b, c, d = (drawn(*TILE) for _ in range(4))
    bias, gradient = drawn(TILE[1]), np.empty(TILE[1], np.float32)
    flat = [drawn(size) for _ in range(4)]
    np.abs(flat[3], out=flat[3])
    loss, scores = get_loss("cross_entropy"), drawn(4096, CLASSES)
    few, weight = scores[:128].copy(), np.ones(128, np.float32)
    targets = loss.encode(np.arange(4096) % CLASSES, CLASSES, np.float32)
    out, kept = np.empty_like(scores), np.empty_like(few)
    x, rows = drawn(8192, 512), np.random.default_rng(0).permutation(8192)[:1024]
    picked = np.empty((1024, 512), np.float32)
    centre, factor = np.zeros(512, np.float32), np.ones(512, np.float32)
    tanh = get_activation("tanh")

    def gate() -> None:
        layer_kernels.bias_piecewise(a, bias, 0.0, b, True, c)
        layer_kernels.gate_piecewise(a, 0.0, b, c, gradient)

    def adam() -> None:
        optimizer_kernels.adam(*flat, 1e-3, 0.9, 0.999, 1.0, 1e-8, 0.0, 1.0)

    use = np.abs(drawn(64, FACTORS))
    gram, cross = use.T @ use, np.abs(drawn(512, FACTORS))
    codes, atoms = cross.copy(), np.abs(drawn(FACTORS, 512))

    def losses() -> None:
        loss.value(scores, targets)
        loss.gradient(scores, targets)
        loss.right(scores, targets)

    u, pre = a.copy(), b.copy()
    return {
        "pass": (partial(np.add, a, b, out=c), size),
        "smooth": (partial(tanh.value, a, out=c), size),
        "v_gradient": (
            partial(relaxed_kernels.v_gradient, a, b, True, c, b, c, True, d, 1e-3),
            size,
        ),
        "step": (partial(relaxed_kernels.step, d, b, 1e-6), size),
        "u_piecewise": (
            partial(relaxed_kernels.u_piecewise, pre, bias, u, a, b, True, 0.0, 1.0, 1.0, 1e-3),
            size,
        ),
        # It starts where the last call ended: in a run, too, U is never far from its next value.
        "u_smooth": (
            partial(relaxed_kernels.u_smooth, TANH, pre, bias, u, a, b, True, 1.0, 1.0, 1e-3),
            size,
        ),
        "prox": (partial(softmax_kernels.softmax_prox, scores, targets, 1.0, out), scores.size),
        "loss": (losses, scores.size),
        "softmax": (
            partial(softmax_kernels.softmax_gradient, few, targets[:128], weight, kept),
            few.size,
        ),
        "gate": (gate, 2 * size),
        "adam": (adam, size),
        "code_sweep": (
            partial(nonnegative.coded, gram, cross, 10, codes),
            10 * cross.size * FACTORS,
        ),
        "dictionary_sweep": (
            partial(nonnegative.dictionary, gram, cross.T @ cross @ atoms, atoms, 4),
            4 * atoms.size * FACTORS,
        ),
        "gather": (
            partial(layer_kernels.gather_scaled, x, rows, centre, factor, picked),
            picked.size,
        ),
    }
