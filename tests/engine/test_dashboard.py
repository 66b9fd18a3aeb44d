"""The page on the Dask dashboard follows the runs of its cluster; no run needs it."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import default_client

from dadmm import ADMMClassifier, resume
from dadmm.cluster import connection
from dadmm.engine.live import dashboard
from support.clusters import processes

pytest.importorskip("bokeh", reason="the page needs bokeh")

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
ROW = {"objective": 2.0, "primal_residual": 0.0, "seconds": 0.5, "memory_peak": 2.0**20}


def fit(**options):
    options = {"solver": "relaxed", "max_iter": 4, **options}
    return ADMMClassifier((5,), chunks=20, random_state=0, tol=0, **options).fit(X, Y)


def event(session, first, *rows, run="digits"):
    about = {"session": session, "run": run, "total": 9, "data": 60}
    return time.time(), {**about, "first": first, "rows": list(rows)}


# ------------------------------------------------------------------------------- what is told


def test_runs_are_told_apart_and_their_rows_put_in_order():
    events = [
        event("a", 1, ROW, ROW),
        event("b", 1, ROW, run="wine"),
        event("a", 2, {**ROW, "objective": 1.0}),  # done again, after damage
    ]
    found = dashboard.told(events)
    assert list(found) == ["a", "b"]
    assert found["a"].title == "digits: iteration 2 of 9"
    assert found["b"].title == "wine: iteration 1 of 9"
    columns = found["a"].columns()
    assert columns["iteration"] == [1.0, 2.0]
    assert columns["objective"] == [2.0, 1.0]


def test_columns_are_in_the_charts_units_and_as_long_as_each_other():
    columns = dashboard.told([event("a", 1, ROW, {})])["a"].columns()
    assert {len(values) for values in columns.values()} == {2}
    np.testing.assert_array_equal(columns["rate"], [120.0, np.nan])
    np.testing.assert_array_equal(columns["memory_peak"], [1.0, np.nan])
    assert np.isnan(columns["primal_residual"]).all()  # 0 has no logarithm


def test_the_line_has_the_terminals_numbers():
    line = dashboard.told([event("a", 1, ROW)])["a"].line()
    assert line == "digits: iteration 1 of 9  objective 2  residual 0  120 rows/s"


def test_a_cluster_that_has_no_page_is_told_nothing():
    class Refuses:
        def run_on_scheduler(self, function):
            raise ValueError("cannot run function as the scheduler has been explicitly disallowed")

    assert dashboard.open_page(None) is None
    assert dashboard.open_page(Refuses()) is None


def test_what_cannot_be_told_stops_nothing():
    plan = SimpleNamespace(session="a", run=SimpleNamespace(url="x", durable=True))
    plan.problem = SimpleNamespace(rows=3)
    tell = dashboard.telling(object(), plan, 5, [])
    tell(1, ROW)


# ------------------------------------------------------------------------------- on a cluster


@pytest.mark.processes
def test_a_scheduler_without_a_dashboard_has_no_page_and_trains():
    with processes(1) as client:
        assert dashboard.open_page(client) is None
        assert fit().n_iter_ == 4
        assert client.get_events(dashboard.TOPIC) == ()


PIXELS = """
(() => {
  const found = root => [...root.querySelectorAll('*')].flatMap(
    e => (e.tagName == 'CANVAS' ? [e] : []).concat(e.shadowRoot ? found(e.shadowRoot) : []));
  const plots = Bokeh.documents[0]._all_models ? found(document) : [];
  return plots.map(canvas => {
    const {width, height} = canvas;
    if (!width || !height) return 0;
    const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
      if (data[i] == 0x3b && data[i + 1] == 0x82 && data[i + 2] == 0xc4) count++;
    return count;
  });
})()
"""
MODELS = "[...Bokeh.documents[0]._all_models.values()]"
OPTIONS = f"{MODELS}.find(m => m.type == 'Select').options.map(o => o[1])"
LINE = f"{MODELS}.find(m => m.type == 'Div').text"
DRAWN = f"{PIXELS.strip()}.filter(count => count > 80).length"  # entries of legends have fewer


@pytest.fixture(scope="module")
def link():
    with connection.connect({"workers": 1, "memory_limit": "1GiB"}) as client:
        yield dashboard.open_page(client)


@pytest.mark.processes
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_draws_a_run_and_follows_the_next(page, link, tmp_path, width):
    assert link.startswith("http://127.0.0.1:")
    assert link.endswith("/dadmm")
    fit(run=tmp_path / f"first-{width}")
    page.open(link, width=width)
    page.wait("window.Bokeh && Bokeh.documents.length == 1")
    page.wait(f"{LINE}.startsWith('first-{width}: iteration 4 of 4')")
    # Every chart has a curve of the first colour, and so have the workers' bars.
    page.wait(f"{DRAWN} == {len(dashboard.CHARTS) + 1}")
    assert page.overflow() <= 0
    fit(run=tmp_path / "<b>next", solver="block")
    page.wait(f"{LINE}.startsWith('<b>next: iteration 4 of 4')")
    assert page.js("document.body.innerHTML.includes('<b>next')") is False
    titles = page.js(OPTIONS)
    assert titles[:3] == [
        "the newest run",
        "<b>next: iteration 4 of 4",
        f"first-{width}: iteration 4 of 4",
    ]
    assert page.errors == []
    host = link.removesuffix("/dadmm")
    assert [u for u in page.requests if not u.startswith((host, "data:"))] == []


@pytest.mark.processes
def test_the_page_is_installed_once_and_linked_from_the_others(link):
    client = default_client()
    assert dashboard.open_page(client) == dashboard.open_page(client) == link
    pages = client.run_on_scheduler(
        lambda dask_scheduler: [
            path
            for application in dask_scheduler.http_application.applications
            for path in getattr(application, "app_paths", ())
        ]
    )
    assert pages.count(dashboard.PATH) == 1


@pytest.mark.processes
def test_a_run_that_is_resumed_is_shown_from_its_beginning(link, tmp_path):
    fit(run=tmp_path / "run")
    resume(tmp_path / "run", max_iter=6)
    events = default_client().get_events(dashboard.TOPIC)
    last = list(dashboard.told(events).values())[-1]
    assert sorted(last.rows) == [1, 2, 3, 4, 5, 6]
    assert (last.name, last.total) == ("run", 6)
