"""Data sets: named ones and files for configs, drawn figures, and attributes of digits.

`named` loads the data of a config's [data] table; `drawing` draws images with known attributes;
`strokes` measures attributes of images of digits.
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
# Imported when needed: a worker that draws figures needs neither pandas nor scikit-learn.
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
