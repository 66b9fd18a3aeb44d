"""Data: named data sets and files for configs, generated figures, and attributes of digits.

`named` has what a config's [data] table can name; `drawing` draws images whose hidden attributes
are known; `strokes` measures attributes of images of digits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dadmm.datasets.drawing import Figures, figures, write_figures
    from dadmm.datasets.named import DATASETS, load_data, load_dataset
    from dadmm.datasets.strokes import stroke_attributes

__all__ = [
    "DATASETS",
    "Figures",
    "figures",
    "load_data",
    "load_dataset",
    "stroke_attributes",
    "write_figures",
]
# Where each name is: a worker that draws figures needs no data frames, nor scikit-learn.
_HOMES = {
    "DATASETS": "named",
    "Figures": "drawing",
    "figures": "drawing",
    "load_data": "named",
    "load_dataset": "named",
    "stroke_attributes": "strokes",
    "write_figures": "drawing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
