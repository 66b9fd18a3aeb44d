"""Begin a run: open its store, and write all that the run needs to go on by itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from dadmm.cluster.connection import current_client
from dadmm.data import ingest
from dadmm.data.ingest import Moments
from dadmm.engine.compute import store_errors
from dadmm.engine.plan import Plan
from dadmm.engine.result import save_scaling
from dadmm.errors import DadmmError, RunError
from dadmm.estimators.problem import Posed
from dadmm.networks.scaling import Scaling
from dadmm.store import Run


@contextmanager
def place(path: str | Path | None, overwrite: bool, posed: Posed) -> Iterator[Run]:
    """Open a new run's store: at a path, or in memory that local workers share."""
    if path is not None:
        run = Run.create(path, posed.attributes, overwrite=overwrite)
        with run.locked():
            try:
                yield run
            except BaseException:
                with suppress(OSError, DadmmError):
                    if not run.has_data:
                        run.check_lock()  # another driver may hold it by now
                        run.delete()  # it cannot be resumed, and would block the next fit
                raise
        return
    if current_client() is None:
        yield Run.in_memory(posed.attributes)
        return
    with _shared_folder(posed) as folder:
        yield Run.create(folder, posed.attributes, overwrite=True, durable=False)


@contextmanager
def _shared_folder(posed: Posed) -> Iterator[str]:
    """Make a folder that the workers of a local cluster share, and remove it at the end.

    It is in the system's shared memory if the run fits there, else among the temporary files.
    """
    client = current_client()
    address = client.scheduler.address
    if not any(host in address for host in ("inproc://", "127.0.0.1", "localhost", "[::1]")):
        raise RunError(
            f"the workers of {address} may not see this machine's memory: give run=, a path or URL "
            "that all of them reach"
        )
    memory, problem = Path("/dev/shm"), posed.problem
    width = problem.architecture.widths[0] + 3 * sum(posed.solver.layout(problem).state.values())
    needed = 2 * problem.rows * width * np.dtype(problem.dtype).itemsize
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > needed
    with tempfile.TemporaryDirectory(prefix="dadmm-", dir=memory if roomy else None) as folder:
        yield folder


def begin(run: Run, posed: Posed) -> Plan:
    """Store all that a run needs to go on by itself, and return its plan."""
    problem = posed.problem
    with store_errors():
        source = ingest.in_place(posed.stored, posed.chunks)
        x, y = ingest.store(run, posed.x, posed.y, posed.chunks, posed.weight, source)
    scaling = _scaling(posed, x, y)
    if y is not None and not problem.classes:
        variation = float((y.squares / scaling["y"].scale ** 2).sum())
        problem = replace(problem, target_variation=variation)
    with store_errors():
        run.update(problem=asdict(problem))
        if posed.initial is not None:
            run.save_params("initial", posed.initial)
            run.blocks.settle("initial")
        save_scaling(run, scaling)  # last: its presence says that the run can be resumed
    return Plan(run, posed.solver, problem, posed.chunks, posed.seed)


def _scaling(posed: Posed, x: Moments, y: Moments | None) -> dict[str, Scaling]:
    """Return the scalings of inputs ("x") and targets ("y")."""
    if y is None:
        outputs = Scaling.identity(posed.problem.architecture.widths[-1])
    elif posed.problem.classes:
        outputs = Scaling.identity(1)
    else:
        outputs = y.scaling("none" if posed.standardize == "none" else "feature")
    return {"x": x.scaling(posed.standardize), "y": outputs, **posed.units}
