"""Guard the zarr arrays that lie in dask graphs: where one cannot be read is an error."""

from __future__ import annotations

from copy import copy
from typing import Any

import dask.array as da
import zarr
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from dadmm.store.sources import Readable

# Layers of more tasks than this hold no arrays: dask files an array as a task of its own.
FEW = 4
# xarray wraps an array so many times at most.
DEEP = 8


def guarded(array: Any) -> Any:
    """Return a dask array whose zarr arrays are read as `Readable` does; others as they are."""
    graph = array.dask
    if not isinstance(graph, HighLevelGraph):
        return array
    layers = {name: _guarded_layer(layer) for name, layer in graph.layers.items()}
    if all(layers[name] is layer for name, layer in graph.layers.items()):
        return array
    again = HighLevelGraph(layers, graph.dependencies)
    return da.Array(again, array.name, array.chunks, meta=array._meta)


def _guarded_layer(layer: Any) -> Any:
    if isinstance(layer, Blockwise):
        indices = tuple(
            (_guarded_value(value), index) if index is None else (value, index)
            for value, index in layer.indices
        )
        if all(new[0] is old[0] for new, old in zip(indices, layer.indices, strict=True)):
            return layer
        found = copy(layer)
        found.indices = indices
        return found
    if not isinstance(layer, MaterializedLayer) or len(layer) > FEW:
        return layer
    tasks = {key: _guarded_value(value) for key, value in layer.mapping.items()}
    if all(tasks[key] is value for key, value in layer.mapping.items()):
        return layer
    return MaterializedLayer(tasks, annotations=layer.annotations)


def _guarded_value(value: Any) -> Any:
    stored = _stored(value)
    return value if stored is None else Readable(stored, None if stored is value else value)


def _stored(value: Any) -> zarr.Array[Any] | None:
    """Return a zarr array, or that which xarray has wrapped; None for other values."""
    for _ in range(DEEP):
        if isinstance(value, zarr.Array):
            return value
        if not type(value).__module__.startswith("xarray."):
            return None
        value = getattr(value, "_array", getattr(value, "array", None))
    return None
