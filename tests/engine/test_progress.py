"""In a notebook a run shows its curves, in one display that is replaced as it goes."""

import re
import sys
from types import SimpleNamespace

import nbformat
import pytest

from dadmm.engine.live import progress
from dadmm.engine.live.progress import SEND, SHARE
from support.notebooks import execute

ROW = {"objective": 2.0, "forward_loss": 1.0, "train_score": 0.5, "seconds": 0.1}
FIT = """
import numpy as np
from dadmm import ADMMClassifier
x = np.random.default_rng(0).normal(size=(60, 4))
ADMMClassifier((5,), max_iter=3, random_state=0, verbose=True).fit(x, x[:, 0] > 0)
"""


class Handle:
    """What IPython gives to replace a display with."""

    def __init__(self):
        self.shown = []

    def display(self, data, raw, display_id):
        assert raw
        assert display_id
        self.update(data, raw)
        return self

    def update(self, data, raw):
        self.shown.append(data)


@pytest.fixture
def handle(monkeypatch):
    display = pytest.importorskip("IPython.display", reason="notebooks need IPython")
    handle = Handle()
    monkeypatch.setattr(display, "display", handle.display)
    return handle


def test_the_display_holds_the_terminals_numbers_curves_and_a_link(handle):
    link = "http://127.0.0.1:8787/dadmm?a=<b>"
    with progress._curves(9, link) as show:
        for k in range(1, 4):
            show(k, {**ROW, "objective": 2.0 / k})
    last = handle.shown[-1]
    assert last["text/plain"] == f"iteration 3/9  {progress.numbers({**ROW, 'objective': 2 / 3})}"
    assert last["text/plain"] in last["text/html"]
    titles = re.findall(r"<title>(.*?)</title>", last["text/html"])
    assert titles == ["objective", "score"]
    assert 'value="3" max="9"' in last["text/html"]
    assert re.search(r'href="http://127.0.0.1:8787/dadmm\?a=[^"]*" target', last["text/html"])


class Clock:
    """What `time` is for the display; its curves take `draws` seconds."""

    def __init__(self, monkeypatch, draws=0.0):
        self.now = 0.0
        taken = progress._Display.curves

        def curves(display):
            self.now += draws
            taken(display)

        monkeypatch.setattr(progress._Display, "curves", curves)
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_it_is_sent_now_and_then_and_at_the_end(handle, monkeypatch):
    clock = Clock(monkeypatch)
    with progress._curves(4, None) as show:
        for k, clock.now in enumerate([0.1, 0.2, SEND, SEND + 0.1], start=1):
            show(k, ROW)
    texts = [data["text/plain"].split()[1] for data in handle.shown]
    assert texts == ["0/4", "3/4", "4/4"]
    assert "dashboard" not in handle.shown[-1]["text/html"]


def test_curves_that_take_long_are_drawn_rarely_and_the_line_goes_on(handle, monkeypatch):
    clock = Clock(monkeypatch, draws=1.0)
    with progress._curves(9, None) as show:
        for k, clock.now in enumerate([SEND, 5.0, 10.0, 1 / SHARE + 2], start=1):
            show(k, {**ROW, "objective": 1.0 / k})
    lines = [data["text/plain"].split()[1] for data in handle.shown]
    assert lines == ["0/9", "1/9", "2/9", "3/9", "4/9", "4/9"]
    ends = [re.findall(r"objective from 1 to ([^;<]*)", d["text/html"]) for d in handle.shown]
    assert ends == [[], ["1"], ["1"], ["1"], ["0.25"], ["0.25"]]


def test_without_matplotlib_there_is_a_bar_and_a_line(handle, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with progress._curves(4, None) as show:
        show(2, ROW)
    assert handle.shown[-1]["text/plain"].startswith("iteration 2/4  objective 2")
    assert "<progress" in handle.shown[-1]["text/html"]
    assert "<svg" not in handle.shown[-1]["text/html"]


def test_a_run_that_fails_leaves_what_it_showed(handle):
    def fail():
        with progress._curves(4, None) as show:
            show(2, ROW)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert handle.shown[-1]["text/plain"].startswith("iteration 2/4")


def test_a_session_that_goes_on_shows_where_it_begins(handle):
    with progress._curves(4, None) as show:
        show(2, {})
    assert handle.shown[-1]["text/plain"] == "iteration 2/4"


@pytest.mark.processes
def test_a_notebook_gets_one_output():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIT)])
    done = execute(notebook, timeout=120)
    outputs = [o for o in done.cells[0].outputs if o.output_type == "display_data"]
    (shown,) = outputs
    assert shown.data["text/plain"].startswith("iteration 3/3  objective ")
    assert shown.data["text/html"].count("<svg") >= 2
