"""How much is measured, and how calls are timed, in one process or in several at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from dadmm.app.planner.machine import ROWS, VISITS, WIDE, WIDTHS
from dadmm.numerics.types import Array

# Seconds to wait for other processes, or for a task.
PATIENCE = 120.0


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Parameters
    ----------
    each : float
        Seconds to repeat a loop or a product for.
    rows, widths, wide, visits : tuple of int
        Sizes of products, sizes of float64 matrices, and widths of networks whose visits are timed.
    visit_rows, visit_iterations : int
        Rows of a chunk of these networks at width 256, and iterations. Messages that a worker
        exchanges meanwhile would disturb short visits.
    chunk : int
        Bytes of a chunk of the store.
    chunks, generations : int
        Chunks of a generation, and generations; three generations exist at a time.
    pause : float
        Seconds between two chunks, as if a visit were between.
    tasks : int
        Trivial tasks on a cluster.
    iterations : int
        Iterations of the small runs that time the driver.
    """

    each: float = 0.06
    rows: tuple[int, ...] = ROWS
    widths: tuple[int, ...] = WIDTHS
    wide: tuple[int, ...] = WIDE
    visits: tuple[int, ...] = VISITS
    visit_rows: int = 4096
    visit_iterations: int = 10
    chunk: int = 8 * 2**20
    chunks: int = 12
    generations: int = 6
    pause: float = 0.05
    tasks: int = 1000
    iterations: int = 12


_barrier: Any = None


def join(barrier: Any) -> None:
    """Keep the barrier at which this process waits for those that measure at the same time."""
    global _barrier
    _barrier = barrier


def meet() -> None:
    """Wait until all processes are here, so that all measure the same thing at the same time."""
    if _barrier is not None:
        _barrier.wait(PATIENCE)


def timed(function: Callable[[], Any], budget: float) -> float:
    """Return the median seconds of a call, repeated for a while; the first call does not count.

    The clock is this thread's processor time: time taken by other processes does not count.
    """
    function()
    found: list[float] = []
    end = time.perf_counter() + budget
    while len(found) < 3 or time.perf_counter() < end:
        began = time.thread_time()
        function()
        found.append(time.thread_time() - began)
    return max(median(found), 1e-9)


def timed_once(
    function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the seconds of one call, by a clock."""
    began = clock()
    function()
    return clock() - began


def drawn(*shape: int) -> Array:
    """Return normal random numbers in float32, always the same."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
