"""Importing dadmm is light, and starts nothing."""

import subprocess
import sys

import pytest

import dadmm
from support.messages import naming

# Imports what is named, then says what that has brought along and started.
PROBE = """
import sys, threading

started = []
sys.addaudithook(lambda event, _: started.append(event) if event.startswith(WATCHED) else None)
WATCHED = ("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.exec", "_thread.start")
exec(sys.argv[1])
assert not started, started
assert threading.active_count() == 1, threading.enumerate()
assert not [name for name in sys.argv[2:] if name in sys.modules], sorted(sys.modules)
"""
HEAVY = ["distributed", "torch", "matplotlib", "bokeh", "onnx", "ipywidgets", "IPython", "click"]
ESTIMATOR = "from dadmm import ADMMClassifier"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import dadmm", [*HEAVY, "jinja2", "numba", "numpy", "dask", "sklearn", "zarr", "xarray"]),
        (ESTIMATOR, HEAVY),
    ],
)
def test_an_import_brings_nothing_heavy_and_starts_nothing(code, absent, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # NumPy's own threads are NumPy's affair
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, code, *absent], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_found_where_it_is_said_to_be():
    for name in set(dadmm.__all__) - {"TorchBlock"}:  # that one wants torch
        assert getattr(dadmm, name).__name__.rpartition(".")[2] == name
    assert set(dadmm.__all__) <= set(dir(dadmm))
    assert dadmm.__version__[0].isdigit()
    with pytest.raises(AttributeError, match=naming("'ADMMClasifier'")):
        dadmm.ADMMClasifier  # noqa: B018
