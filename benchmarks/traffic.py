"""Bytes that workers send to each other in an iteration, counted, beside what the formula allows.

    python benchmarks/traffic.py [--regions 1 4] [--rows 2000 8000] [--workers 2]

The workers' own logs say which results of tasks went to another worker; their bytes are those of
their arrays.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dadmm import ADMMClassifier, RelaxedADMM
from dadmm.cluster import connection
from support.traffic import Sizes, most_bytes, sent

ITERATIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regions", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rows", type=int, nargs="+", default=[4000, 16000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    given = parser.parse_args()
    print(f"{'rows':>8} {'regions':>8} {'kB sent':>9} {'at most':>9}  by what kind of task")
    with connection.connect("local", workers=given.workers, dashboard=-1) as client:
        client.wait_for_workers(given.workers)
        client.register_plugin(Sizes())
        for rows in given.rows:
            for regions in given.regions:
                show(client, given, rows, regions)


def show(client: Any, given: Any, rows: int, regions: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, given.width)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    solver = RelaxedADMM(regions=regions)
    before = sent(client)
    with TemporaryDirectory() as folder:
        ADMMClassifier(
            (given.width,) * 3,
            solver=solver,
            max_iter=ITERATIONS,
            tol=0,
            random_state=0,
            chunks=-(-rows // given.chunks),
            run=f"{folder}/run",
        ).fit(x, y)
    kinds: Counter[str] = Counter()
    for (key, size), times in (sent(client) - before).items():
        if "-iterate-" in key:
            kinds[key.partition("-")[0]] += size * times
    parts = ", ".join(f"{kind} {size / ITERATIONS / 1e3:.0f}" for kind, size in kinds.most_common())
    widths = (given.width,) * 4 + (2,)
    most = most_bytes(widths, given.chunks, given.workers, regions) / 1e3
    total = sum(kinds.values()) / ITERATIONS / 1e3
    print(f"{rows:8} {regions:8} {total:9.0f} {most:9.0f}  {parts}")


if __name__ == "__main__":
    main()
