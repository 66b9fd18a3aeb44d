"""Measure what one worker with one thread needs in memory, in a process of its own.

The process does a whole run, from a store on disk, on the synchronous scheduler: what a worker
does, task by task, and little besides.  Its heap is set up as `dadmm.cluster` sets up workers'.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import dask
import numpy as np

from dadmm import Dense, NMFBlock
from dadmm.cluster.worker import BASE_BYTES, LIBRARIES, WORKER_SETTINGS
from dadmm.engine import loop
from dadmm.engine.memory import worker_bytes
from dadmm.engine.result import save_scaling
from dadmm.engine.session import Session
from dadmm.estimators.classifier import ADMMClassifier
from dadmm.estimators.nmf import NMF
from dadmm.estimators.regressor import ADMMRegressor
from dadmm.networks.architecture import Architecture
from dadmm.networks.chain import as_chain
from dadmm.networks.form import Form
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import labels_to_json
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver, solver_table
from dadmm.store import Run

MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A run to measure: `solver` is its table, with its name under "name"."""

    solver: dict
    hidden: tuple[int, ...]
    rows: int  # of a chunk
    chunks: int = 2
    features: int = 64
    outputs: int = 10
    loss: str = "cross_entropy"
    activation: str = "relu"
    stem: str = "dense"
    inputs: str = "float32"
    iterations: int = 2
    weighted: bool = False

    def __str__(self):
        solver = {k: v for k, v in self.solver.items() if k != "name"}
        options = "-".join(f"{k}={v}" for k, v in solver.items())
        return f"{self.solver['name']}-{options}-{self.features}x{self.hidden}-{self.inputs}"

    @property
    def problem(self):
        if self.solver["name"] == "nmf":
            arch = Architecture((self.features, *self.hidden), (False,), "identity")
            n, dtype = self.rows * self.chunks, self.made.dtype
            return Problem(arch, "squared", 0.0, n, dtype=dtype, supervised=False)
        arch = Architecture.build(
            self.features, self.hidden, self.outputs, self.activation, self.stem
        )
        return Problem(
            arch,
            self.loss,
            1e-3,
            self.rows * self.chunks,
            0 if self.loss in ("squared", "huber") else self.outputs,
            target_variation=1.0 * self.rows * self.chunks,
            dtype=self.made.dtype,
            weighted=self.weighted,
        )

    @property
    def made(self):
        return make_solver(self.solver)

    @property
    def estimate(self):
        inputs = np.dtype(self.inputs).itemsize
        return worker_bytes(self.made, self.problem, self.rows, inputs=inputs)


@contextmanager
def store(case):
    """Make a store with the case's data, and no more, in memory if the machine has that."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="dadmm-memory-", dir=memory) as folder:
        problem, solver = case.problem, case.made
        solver.check(problem)
        attributes = {
            "config": {"estimator": "ADMMClassifier", "params": {}, "solver": solver_table(solver)},
            "problem": asdict(problem),
            "input_bytes": np.dtype(case.inputs).itemsize,
            "chunks": [case.rows] * case.chunks,
            "seed": 0,
            "classes": labels_to_json(np.arange(problem.classes)) if problem.classes else None,
            "flat": True,
            "inputs": Form().to_json(),
        }
        run = Run.create(Path(folder) / "run", attributes, durable=False)
        rng = np.random.default_rng(0)
        data = {"x": _inputs(rng, case)}
        if not problem.supervised:
            pass
        elif problem.classes:
            data["y"] = rng.integers(0, problem.classes, (case.rows, 1), dtype=np.int32)
        else:
            data["y"] = rng.standard_normal((case.rows, case.outputs))
        if case.weighted:
            data["weight"] = rng.uniform(0.5, 1.5, (case.rows, 1))
        for name, block in data.items():
            run.create_data(name, block.shape[1], problem.rows, case.rows, block.dtype)
            for chunk in range(case.chunks):
                run.blocks.write(f"data/{name}", chunk, block)
        columns = 1 if problem.classes else problem.architecture.widths[-1]
        save_scaling(run, {"x": Scaling.identity(case.features), "y": Scaling.identity(columns)})
        yield run.url


def _inputs(rng, case):
    if np.dtype(case.inputs).kind == "f":
        drawn = rng.random((case.rows, case.features), dtype=np.float32)
    else:
        drawn = rng.integers(0, 2, (case.rows, case.features), dtype=np.uint8)
    return drawn.astype(case.inputs, copy=False)


def measure(case):
    """Return the figures of a case, in bytes: estimate, peak and idle (before the run).

    Measured ones count as many pages of shared libraries as there may be, not as there happen to
    be: that depends on when their files were written.
    """
    settings = "distributed.nanny.pre-spawn-environ."
    malloc = {k.removeprefix(settings): str(v) for k, v in WORKER_SETTINGS.items() if settings in k}
    with store(case) as url:
        found = subprocess.run(
            [sys.executable, __file__, str(url), str(case.iterations)],
            env={**os.environ, **malloc, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if found.returncode:
        raise RuntimeError(found.stderr)
    return {"estimate": case.estimate, **json.loads(found.stdout.splitlines()[-1])}


def show(case, figures):
    """Return a line with the figures of a case, in MiB."""
    mib = {name: f"{value / MIB:.0f}" for name, value in figures.items()}
    ratio = figures["estimate"] / figures["peak"]
    share = figures["estimate"] - BASE_BYTES, figures["peak"] - figures["idle"]
    own = share[0] / max(share[1], 1)
    return (
        f"{ratio:.3f} own {own:.3f} estimate {mib['estimate']} peak {mib['peak']} "
        f"idle {mib['idle']} MiB {case}"
    )


def memory(what):
    """Return a figure of this process that Linux keeps: VmRSS or VmHWM, its peak, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def _warm_up(plan):
    """Fit something tiny with the same solver, so that all is loaded that will be."""
    if not plan.problem.supervised:
        x = np.random.default_rng(0).random((64, 3))
        solver = plan.solver
        with tempfile.TemporaryDirectory() as folder:
            options = {"mode": solver.mode, "init": solver.init, "dtype": solver.dtype}
            NMF(2, max_iter=2, tol=0, run=folder + "/run", **options).fit(x)
        return
    made = ADMMClassifier if plan.problem.classes else ADMMRegressor
    x = np.random.default_rng(0).standard_normal((64, 3))
    y = (x[:, 0] > 0).astype(int) if plan.problem.classes else x[:, :2]
    depth = plan.problem.architecture.depth
    solver = plan.solver
    if any(isinstance(block, NMFBlock) for block in as_chain(plan.layout.network).blocks):
        solver = replace(solver, blocks=[Dense(4), NMFBlock(2)])
    options = {"loss": plan.problem.loss, "activation": plan.problem.architecture.activation}
    weight = {"sample_weight": np.ones(64)} if plan.problem.weighted else {}
    with tempfile.TemporaryDirectory() as folder:
        made((4,) * (depth - 1), solver=solver, max_iter=2, run=folder + "/run", **options).fit(
            x, y, **weight
        )


def main(url, iterations):
    """Do the run of a store and print the figures."""
    plan = Session.open(url).plan
    with dask.config.set(scheduler="synchronous"):
        _warm_up(plan)
        idle = memory("VmRSS")
        loop.train(plan, loop.Until(int(iterations)))
    more = max(0, LIBRARIES - memory("RssFile"))
    print(json.dumps({"peak": memory("VmHWM") + more, "idle": idle + more}))


if __name__ == "__main__":
    main(*sys.argv[1:])
