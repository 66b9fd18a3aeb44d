"""Make the plan of ``dadmm plan`` from a config and options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dadmm.app.planner import machine as machines
from dadmm.app.planner.forecast import WORKERS, Conditions, cluster_of, forecast, store_of, sweep
from dadmm.app.planner.subject import of_config
from dadmm.app.planner.units import duration, rate
from dadmm.app.planner.words import Planned
from dadmm.engine.memory import memory_bytes
from dadmm.errors import InputError


def measure() -> str:
    """Measure this machine and save the figures; return the number of cores and the path.

    Raises
    ------
    InputError
        If the current folder, whose disk is measured, or the cache cannot be written.
    """
    from dadmm.app.planner.calibrate import calibrate

    try:
        found = calibrate(os.getcwd())
    except OSError as error:
        raise InputError(f"the current folder cannot be written: {error.strerror}") from error
    path = machines.place()
    machines.save(found, path)
    return f"{found.cores} cores -> {path}"


def planned(
    table: Mapping[str, Any],
    workers: int | None = None,
    memory: str | None = None,
    rows: int | None = None,
    given: Mapping[str, str | None] | None = None,
    stragglers: float = 0.1,
    price: float | None = None,
) -> Planned:
    """Return the plan of a checked config.

    Parameters
    ----------
    workers, memory, rows : int, str, int, or None
        None takes the config's.
    given : dict
        "disk", "net": rates; "latency", "task": times; None takes the machine's.

    Raises
    ------
    InputError
        If `fit` would refuse the config or its data, or a rate, a time or the calibration is bad.
    """
    conditions = _conditions(given or {}, stragglers)
    machine = machines.load(machines.place()) or machines.typical()
    place = table.get("cluster", {})
    limit = place.get("memory_limit") if memory is None else memory
    size = None if limit is None else memory_bytes(limit)
    subject = of_config(table, limit, rows)
    wanted = workers or max(int(place.get("workers", 0)), 1)
    return Planned(
        subject,
        machine,
        forecast(subject, machine, wanted, conditions),
        sweep(subject, machine, conditions, WORKERS),
        size,
        price,
        _assumed(subject, machine, wanted, conditions),
    )


def _conditions(given: Mapping[str, str | None], stragglers: float) -> Conditions:
    found: dict[str, Any] = {}
    for name, read in (("disk", rate), ("net", rate), ("latency", duration), ("task", duration)):
        text = given.get(name)
        if text is not None:
            found[name] = read(text, f"--{name}")
    return Conditions(stragglers=stragglers, **found)


def _assumed(
    subject: Any, machine: machines.Machine, workers: int, conditions: Conditions
) -> dict[str, str]:
    cluster = cluster_of(machine, workers, conditions)
    store = store_of(subject, machine, workers, conditions)
    reads = f"{store.read / 1e9:.3g} GB/s from the system's memory"
    if store.cold is not None:
        reads = f"{store.cold / 1e9:.3g} GB/s from the disk"
    times = f"{cluster.task * 1e3:.3g} ms a task, {cluster.message * 1e3:.3g} ms a message"
    return {
        "machine": machine.made,
        "a worker": f"reads {reads}, sends {cluster.net / 1e9:.3g} GB/s",
        "scheduler": times,
        "stragglers": f"visits differ by {conditions.stragglers:.0%}",
    }
