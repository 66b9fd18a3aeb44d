"""Inputs as people have them: what holds the rows, and what its columns become.

`containers` knows how to get a matrix out of each container, and how to give predictions back in
the container that came; `tables` turns columns into numbers; `form` remembers, in the run, what
they were at training; `files` opens paths and URLs.
"""

from dadmm.inputs.containers import Container, Task, check_width, contain
from dadmm.inputs.form import Form
from dadmm.inputs.training import Training, check_options, prepare, rows_of, targets

__all__ = [
    "Container",
    "Form",
    "Task",
    "Training",
    "check_options",
    "check_width",
    "contain",
    "prepare",
    "rows_of",
    "targets",
]
