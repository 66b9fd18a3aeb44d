"""Measure a machine: rates of one process, of one on each core, and of Dask.

The figures are ratios of counts to times; nothing is tuned to a run.  It takes about four minutes,
and the machine should be idle.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from dask.system import CPU_COUNT
from threadpoolctl import threadpool_limits

from dadmm.app.planner.dask_rates import of_dask, visit_ratios
from dadmm.app.planner.loop_rates import (
    call_seconds,
    loop_rates,
    memory_rate,
    product_rate,
    wide_rate,
)
from dadmm.app.planner.machine import Machine, Rates
from dadmm.app.planner.store_rates import store_rates
from dadmm.app.planner.timing import Effort, join, meet

BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def calibrate(folder: str | Path = ".", effort: Effort | None = None) -> Machine:
    """Measure this machine.

    Parameters
    ----------
    folder : path
        A folder on the disk that will hold the runs.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    effort = effort or Effort()
    cores = CPU_COUNT
    with ExitStack() as stack:
        for name in BLAS:
            stack.callback(_restore, name, os.environ.get(name))
            os.environ[name] = "1"  # inherited by the processes
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix=".dadmm-", dir=folder))
        alone = _rates(1, disk, effort)
        together = alone if cores == 1 else _rates(cores, disk, effort)
        dask_figures = of_dask(disk, effort)
    return Machine(
        cores=cores,
        memory=float(psutil.virtual_memory().total),
        alone=alone,
        together=together,
        made=f"measured on {datetime.now(UTC):%Y-%m-%d}: {cores} cores, {platform.machine()}",
        **dask_figures,
    )


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _rates(processes: int, disk: str, effort: Effort) -> Rates:
    """Return the mean rates of some processes, which all measure at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, join, (barrier,)) as pool:
        jobs = [pool.apply_async(_measure, (disk, effort)) for _ in range(processes)]
        found = [job.get() for job in jobs]
    rates = Rates(
        **{f.name: _mean([getattr(each, f.name) for each in found]) for f in fields(Rates)}
    )
    return replace(rates, visits=visit_ratios(processes, rates, effort))


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return float(np.mean(values))


def _measure(disk: str, effort: Effort) -> Rates:
    with threadpool_limits(1), np.errstate(all="ignore"):
        meet()
        products = {
            rows: {width: product_rate(rows, width, effort.each) for width in effort.widths}
            for rows in effort.rows
        }
        meet()
        loops = loop_rates(effort)
        call = call_seconds(effort.each)
        memory = memory_rate(effort)
        meet()
        wide = {width: wide_rate(width, effort.each) for width in effort.wide}
        place = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
            shared = store_rates(folder, False, effort)
        stored = store_rates(f"{disk}/{os.getpid()}", True, effort)
    found: dict[str, Any] = {"products": products, "wide": wide, "loops": loops}
    found |= {f"shared_{name}": shared[name] for name in ("read", "write", "delete")}
    found |= {f"disk_{name}": stored[name] for name in ("read", "write", "delete", "cold", "drain")}
    found |= {name: stored[name] for name in ("file", "seek", "unlink")}
    return Rates(call=call, memory=memory, **found)
