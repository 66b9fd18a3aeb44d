"""Data: named data sets and files for configs, generated figures, and attributes of digits.

`named` has what a config's [data] table can name; `drawing` draws images whose hidden attributes
are known; `strokes` measures attributes of images of digits.
"""

from typing import TYPE_CHECKING

from dadmm.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__, _HOMES)
