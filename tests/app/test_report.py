"""The report of a run: one file that holds everything, escapes everything, and can be looked at."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import zarr
from sklearn.metrics import multilabel_confusion_matrix

from dadmm import ADMMClassifier, ADMMRegressor, BlockADMM, RelaxedADMM, load
from dadmm.app.report import outcome, page
from dadmm.engine.session import Session
from dadmm.engine.timing import PREFIX
from dadmm.store import Run
from support.damage import flip
from support.messages import names
from support.terminal import command

pytestmark = pytest.mark.usefixtures("here")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).round(3)
LABELS = np.array(["cat", "dog", "<i>eel</i>"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.7)]
TARGETS = np.stack([X[:, 0] ** 2, X[:, 1] - X[:, 2]], axis=1)
OPTIONS = {"max_iter": 4, "chunks": 40, "random_state": 0}


def fit(run, kind="classes", x=X, y=None, **options):
    if kind == "classes":
        y = LABELS if y is None else y
        return ADMMClassifier((8,), run=run, **{**OPTIONS, **options}).fit(x, y)
    return ADMMRegressor((8,), run=run, **{**OPTIONS, **options}).fit(x, TARGETS)


def written(run, path="report.html"):
    done = command("show", run, "--html", path)
    assert done.code == 0, done
    assert done.out.endswith(f"report     {path}\n")
    return Path(path).read_text()


class Text(HTMLParser):
    """What a reader sees, and which addresses the page names."""

    def __init__(self, page):
        super().__init__()
        self.words, self.addresses, self.tags, self._hidden = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._hidden = tag == "style"
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "xlink:href")]

    def handle_data(self, data):
        if not self._hidden:
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module", params=["block", "relaxed"])
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a <b>run"
    fit(path, solver=request.param)
    return path


def test_a_report_says_all_of_a_run_and_needs_nothing_else(run):
    text = written(run)
    seen = Text(text)
    assert [a for a in seen.addresses if not a.startswith("#")] == []
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 0
    for words in (
        "Run a <b>run",
        "finished, 4 iterations",
        "chunks 3, 40 rows each",
        "classes 3: <i>eel</i>, cat, dog",
        "On 90 of 90 training rows",
        "params.hidden_layer_sizes [8]",
        "numpy " + np.__version__,
        "visit",
        "were planned for",
    ):
        assert words in seen.text, words
    titled = dict(re.findall(r"<title>(.*?)</title>\s*<desc>(.*?)</desc>", text))
    assert {"objective", "score", "memory of the fullest process (MiB)"} <= titled.keys()
    assert {"tasks&#39; time by phase (s)", "training rows per second"} <= titled.keys()
    assert re.fullmatch(r"training data from [\d.]+ to [\d.]+", titled["score"])


def test_the_confusion_matrix_counts_every_row(run):
    made = load(run)
    found = outcome.outcome(Session.open(run), made.network_)
    codes = np.searchsorted(made.classes_, LABELS)
    predicted = np.searchsorted(made.classes_, made.predict(X))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (codes, predicted), 1)
    np.testing.assert_array_equal(found.confusion, expected)
    assert f"{made.score(X, LABELS):.2%} are right" in Text(written(run)).text


def test_several_labels_are_counted_each_by_itself():
    several = X[:, :2] > 0
    made = fit("run", y=several)
    found = outcome.outcome(Session.open("run"), made.network_)
    expected = multilabel_confusion_matrix(several, made.predict(X))
    np.testing.assert_array_equal(found.confusion, expected)
    text = " ".join(Text(written("run")).text.split())
    (_, wrong), (missed, right) = expected[1]
    assert re.search(rf"1\W+{right + missed}\W+{right}\W+{missed}\W+{wrong}\b", text)


def test_a_regression_shows_its_residuals():
    made = fit("run", "numbers")
    found = outcome.outcome(Session.open("run"), made.network_)
    expected = (TARGETS - made.predict(X))[Session.open("run").run.order()]
    np.testing.assert_allclose(found.residuals, expected, atol=1e-6)
    text = written("run")
    assert "residuals of target 2" in text
    r2 = 1 - ((TARGETS - made.predict(X)) ** 2).mean(axis=0) / TARGETS.var(axis=0)
    assert f"{r2[0]:.4f}" in text


@pytest.mark.parametrize(
    "solver",
    [
        BlockADMM(schedule="grid", blocks=2, batch_size=8, early_stopping=True),
        BlockADMM(schedule="grid", blocks=2, batch_size=8, mode="batch"),
        RelaxedADMM(regions=2),
    ],
    ids=["grid", "batch grid", "regions"],
)
def test_the_report_knows_every_phase(solver):
    fit("run", solver=solver)
    phases = {
        str(name).removeprefix(PREFIX)
        for name in Run.open("run").history()
        if str(name).startswith(PREFIX)
    }
    assert phases <= page.MEANING.keys()
    text = Text(written("run")).text
    assert all(page.MEANING[name] in text for name in phases)


def test_of_large_data_some_rows_of_some_chunks_are_looked_at(monkeypatch, run):
    monkeypatch.setattr(outcome, "MOST_ROWS", 50)
    found = outcome.outcome(Session.open(run), load(run).network_)
    assert found.chunks == 2
    assert found.rows <= 50
    assert found.confusion.sum() == found.rows
    text = Text(written(run)).text
    assert f"On {found.rows} of 90 training rows, from 2 of 3 chunks" in text


def test_of_many_classes_the_worst_confusions_are_listed(monkeypatch, run):
    monkeypatch.setattr(page, "MOST_CLASSES", 2)
    text = Text(written(run)).text
    assert "What is confused most class taken for rows" in text
    assert "Confusion matrix" not in text


def test_damaged_data_leave_the_rest_of_the_report():
    fit("run")
    flip(Path("run/data/x/c.0.0"))
    text = Text(written("run")).text
    assert names(text, "run", "chunk 0", "data/x", "damaged")
    assert "Versions" in text


def test_inputs_that_changed_are_said_to_have():
    stored = zarr.create_array("x.zarr", shape=X.shape, chunks=(30, 4), dtype="f8")
    stored[:] = X
    fit("run", x=stored, shuffle=False)
    assert "x is read from" in Text(written("run")).text
    stored[0, 0] += 1
    assert names(Text(written("run")).text, "x.zarr", "copy_data=True")


def test_nothing_is_fetched_from_an_address_in_a_store():
    fit("run")
    run = Run.open("run")
    run.update(sources={"x": {"url": "http://127.0.0.1:1/x.zarr", "rows": 40, "total": 90}})
    assert "which is not read for a report" in Text(written("run")).text


def test_a_store_of_others_cannot_put_markup_into_a_report():
    fit("run")
    bad = "</style><script>alert(1)</script>"
    deep = json.loads('{"a":' * 50 + "1" + "}" * 50)
    Run.open("run").update(versions={bad: bad, "deep": deep, "x": "\ud800\x1b"}, machine=[bad] * 3)
    text = written("run")
    assert "<script" not in text
    assert "\x1b" not in text
    assert Text(text).tags.count("style") == 1


def test_a_run_without_iterations_has_a_report_too(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dadmm.engine.loop._iterate", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit("run")
    text = Text(written("run")).text
    assert "interrupted, 0 iterations" in text
    assert "No times were kept." in text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("report.pdf", ["report.pdf", ".html"]),
        ("nowhere/report.html", ["folder", "nowhere"]),
        ("a\0.html", ["name", "file"]),
    ],
)
def test_a_report_that_cannot_be_written_is_one_line(run, path, words):
    done = command("show", run, "--html", path)
    assert done.code == 2
    assert names(done.err, *words)
    assert done.err.count("\n") == 1


def test_without_matplotlib_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = command("show", run, "--html", "report.html")
    assert done.code == 2
    assert names(done.err, "dadmm[plot]")
    assert done.err.count("\n") == 1
    assert not Path("report.html").exists()


def test_early_stopping_and_several_blocks_are_told(tmp_path):
    fit("run", solver=BlockADMM(batch_size=8, blocks=2, early_stopping=True, mode="batch"))
    seen = Text(written("run"))
    assert "validation" in seen.text


# ------------------------------------------------------------------------------------ looking at it


@pytest.mark.processes
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_whole(page, run, width, dark):
    written(run)
    page.open(Path("report.html").resolve().as_uri(), width=width, dark=dark)
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert page.overflow() <= 0
    # Every chart has its size, is within the window, and is drawn: with letters one can read.
    assert page.js("document.querySelectorAll('svg').length") >= 7
    assert page.js(
        "[...document.querySelectorAll('svg')].every(s => { const b = s.getBoundingClientRect();"
        " return b.width >= 300 && b.height >= 150 && b.right <= innerWidth })"
    )
    assert page.js("[...document.querySelectorAll('svg path')].every(p => p.getTotalLength() > 0)")
    least = "Math.min(...[...document.querySelectorAll('svg text')].map(t => %s))"
    assert page.js(least % "t.getBoundingClientRect().height") >= 10
    colours = page.js(
        "['color', 'backgroundColor'].map(c => getComputedStyle(document.body)[c].match(/\\d+/g)"
        ".slice(0, 3).reduce((a, b) => a + +b, 0))"
    )
    assert (colours[0] > colours[1]) == dark
