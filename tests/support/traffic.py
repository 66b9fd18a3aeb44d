"""What workers send to each other, counted by themselves, and the formula of docs/algorithms.md."""

import math
from collections import Counter

import numpy as np
from distributed import WorkerPlugin

from dadmm.engine.layout import groups


class Sizes(WorkerPlugin):
    """Keep the exact bytes of each result: what Dask notes of a dict of arrays is an estimate."""

    name = "sizes"

    def setup(self, worker):
        self.worker, self.sizes, self.computed = worker, {}, set()

    def transition(self, key, start, finish, **more):
        if finish == "memory":
            self.sizes[str(key)] = array_bytes(self.worker.data.get(key))
            if start in ("executing", "long-running"):
                self.computed.add(str(key))


def array_bytes(value):
    """Return the bytes of all arrays in a result."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return sum(map(array_bytes, value))
    return value.nbytes if isinstance(value, np.ndarray) else 0


def sent(client):
    """Return how often workers sent each (key, bytes of its arrays) to another."""
    found = client.run(_sent)
    sizes = {key: size for _, known, _ in found.values() for key, size in known.items()}
    return Counter((key, sizes[key]) for keys, _, _ in found.values() for key in keys)


def computed(client):
    """Return the keys that each worker computed."""
    return {worker: keys for worker, (_, _, keys) in client.run(_sent).items()}


def _sent(dask_worker):
    plugin = dask_worker.plugins["sizes"]
    keys = [str(key) for entry in dask_worker.transfer_outgoing_log for key in entry["keys"]]
    return keys, plugin.sizes, plugin.computed


def most_bytes(widths, chunks, workers, regions=1, itemsize=4):
    """Return the most bytes that the relaxed solver's workers send each other in an iteration."""
    d = widths
    last = len(d) - 1
    head = (d[-2] + 1) * d[-1]
    weights = sum((d[i - 1] + 1) * d[i] for i in range(1, last + 1)) + head
    weights += sum(d[i - 1] ** 2 for i in range(2, last + 1))
    sums = (d[0] + 1) * d[1] + sum(
        (d[i - 1] + 1) * (d[i - 1] + 1 + d[i]) for i in range(2, last + 1)
    )
    sums += (d[-2] + 1) ** 2 + head
    parts = 1 if regions == 1 else 2 * regions
    nodes = tree_nodes(chunks * parts)
    moved = (workers - 1) * weights + (chunks + nodes - 1 + workers - 1) * sums
    return itemsize * moved


def tree_nodes(summands):
    """Return how many sums the tree forms, its root included."""
    found, level = 0, 0
    left = list(range(summands))
    while level == 0 or len(left) > 1:
        left = groups(left, level)
        found, level = found + len(left), level + 1
    assert found <= 2 * math.ceil(summands / 8)
    return found
