"""What a worker needs in memory is what `worker_bytes` says: measured in whole processes."""

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from memory_cases import LONG, SHORT, block, relaxed
from memory_helpers import MIB, measure, memory, show

from dadmm import ADMMClassifier
from dadmm.cluster.connection import resources
from dadmm.cluster.worker import WORKER_SETTINGS
from dadmm.engine.memory import USABLE, worker_bytes
from dadmm.errors import OptionError
from dadmm.networks.architecture import Architecture
from dadmm.solvers.problem import Problem
from dadmm.solvers.registry import make_solver

pytestmark = pytest.mark.processes


def check(case):
    figures = measure(case)
    if figures["peak"] > figures["estimate"]:  # it may have compiled, once on a machine
        figures = measure(case)
    assert 1.0 <= figures["estimate"] / figures["peak"] <= 1.25, show(case, figures)


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_the_estimate_is_what_a_run_takes_at_its_peak_or_a_quarter_more(case):
    check(case)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", LONG, ids=str)
def test_the_estimate_holds_for_every_solver_splitting_schedule_and_width(case):
    check(case)


LONGER = pytest.param("block", marks=pytest.mark.long)


@pytest.mark.parametrize("solver", ["relaxed", LONGER])
def test_the_peak_is_flat_in_the_number_of_rows(solver):
    make = relaxed if solver == "relaxed" else block
    cases = [make((64, 64), 6000, chunks=c, features=400, iterations=1) for c in (2, 8, 32)]
    peaks = [measure(case)["peak"] for case in cases]
    assert max(peaks) <= 1.1 * min(peaks), [f"{peak / MIB:.0f} MiB" for peak in peaks]


@pytest.mark.parametrize("name", ["relaxed", LONGER])
def test_a_worker_with_just_enough_memory_does_the_run_and_none_smaller_is_asked_to(name, tmp_path):
    rows, n, solver = 20_000, 60_000, make_solver(name)
    x = np.random.default_rng(0).standard_normal((n, 400), np.float32)
    y = (x[:, 0] > 0).astype(int)
    problem = Problem(Architecture.build(400, (64, 64), 2), "cross_entropy", 1e-3, n, classes=2)
    needed = worker_bytes(solver, problem, rows, inputs=4)
    limit = int(needed / USABLE) + MIB
    with (
        dask.config.set(WORKER_SETTINGS),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=limit,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        assert resources(client, None) == (limit, 1)
        made = ADMMClassifier((64, 64), solver=solver, max_iter=2, run=tmp_path / "run")
        with pytest.raises(OptionError, match=f"too small for chunks of {2 * rows} rows"):
            made.set_params(chunks=2 * rows).fit(x, y)
        assert not (tmp_path / "run").exists()
        made.set_params(chunks=rows).fit(x, y)
        assert client.submit(memory, "VmHWM").result() <= needed
    assert made.n_iter_ == 2
