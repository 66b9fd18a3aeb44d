"""Charts are whole pictures of whatever numbers there are, and say in words what they show."""

import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from dadmm.engine.live import charts
from dadmm.engine.live.curves import COLOURS, number
from dadmm.engine.live.templates import render
from dadmm.errors import InputError
from support.messages import naming

pytest.importorskip("matplotlib", reason="charts need matplotlib")

X = np.arange(1, 11)


def drawn(chart):
    """Return a chart's svg element, which must be well-formed and finite."""
    assert not re.search(r"\b(nan|inf)\b", chart.svg)
    return ElementTree.fromstring(f"<svg>{chart.svg}</svg>")


def curves(chart, colour=COLOURS[0]):
    """Return (points, 2) arrays of coordinates: of each path of a colour in the plot."""
    found = []
    for path in drawn(chart).iter("path"):
        style = path.get("style", "")
        if "clip-path" in path.attrib and colour in style:
            numbers = re.findall(r"-?[\d.]+", path.get("d"))
            found.append(np.array(numbers, float).reshape(-1, 2))
    return found


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(3, 1, 10),
        np.full(10, 7.0),
        np.zeros(10),
        np.full(10, -1e-300),
        np.geomspace(1e-300, 1e300, 10),
        np.array([1, np.nan, 2, np.inf, 3, 4, -np.inf, 5, np.nan, 6]),
        np.array([np.nan] * 9 + [1.0]),
    ],
    ids=["falling", "level", "zero", "tiny", "huge", "gaps", "one"],
)
@pytest.mark.parametrize("log", [False, True])
def test_every_line_lies_within_its_picture(values, log):
    chart = charts.lines("title", X, {"one": values, "two": values / 2}, log=log)
    if log and not ((values > 1e-100) & (values < 1e100)).any():
        assert chart is None
        return
    width, height = map(float, chart.box.split()[2:])
    found = np.concatenate(curves(chart) or [np.zeros((1, 2))])
    assert (found >= 0).all()
    assert (found <= [width, height]).all()


def test_a_value_that_is_missing_leaves_a_gap_and_one_alone_is_a_dot():
    values = np.array([1, 2, np.nan, 3, np.nan, 4, 5, 6, 7, 8.0])
    chart = charts.lines("title", X, {"one": values})
    line = next(p for p in drawn(chart).iter("path") if COLOURS[0] in p.get("style", ""))
    assert line.get("d").count("M") == 3
    assert len(list(drawn(chart).iter("use"))) == 1


def test_there_is_no_chart_of_nothing():
    nothing = np.full(10, np.nan)
    assert charts.lines("title", X, {"one": nothing}) is None
    assert charts.lines("title", X, {}) is None
    assert charts.stacked("title", X, {"one": nothing}) is None
    assert charts.density("title", nothing, nothing, "x", "y") is None


def test_a_long_line_keeps_its_extremes():
    values = np.zeros(100_000)
    values[[12_345, 67_890]] = 5, -5
    chart = charts.lines("title", np.arange(100_000), {"one": values})
    assert len(chart.svg) < 20_000
    (line,) = curves(chart)
    assert np.ptp(line[:, 1]) > 0.8 * charts.PLOT


def test_a_long_history_is_drawn_in_few_bars():
    x = np.arange(100_000)
    chart = charts.stacked("title", x, {"one": np.ones(len(x)), "two": np.ones(len(x))}, "s")
    assert len(chart.svg) < 40_000


def test_stacked_bars_add_up_to_the_top():
    chart = charts.stacked("title", X, {"one": np.ones(10), "two": np.full(10, 3.0)}, "s")
    (one,), (two,) = curves(chart), curves(chart, COLOURS[1])
    assert np.ptp(two[:, 1]) == pytest.approx(3 * np.ptp(one[:, 1]), abs=0.6)
    assert two[:, 1].max() == pytest.approx(one[:, 1].min(), abs=0.2)


def test_a_first_bar_that_dwarfs_the_others_is_cut_off_and_told_of():
    values = np.r_[100.0, np.ones(20)]
    cut = charts.stacked("title", np.arange(21), {"one": values}, "s")
    assert cut.across == "iteration (cut off: up to 100 s)"
    ticks = [float(text.text) for text in drawn(cut).iter("text") if text.text[0].isdigit()]
    assert 1 in ticks
    assert 100 not in ticks
    assert charts.stacked("title", X, {"one": np.ones(10)}, "s").across == "iteration"


def test_cells_of_a_density_are_darker_where_there_are_more_points(monkeypatch):
    from matplotlib.axes import Axes

    seen = []
    monkeypatch.setattr(Axes, "imshow", lambda self, cells, **options: seen.append(cells))
    x, y = np.repeat([0.0, 1.0], [99, 1]), np.repeat([1.0, -1.0], [99, 1])
    assert charts.density("title", x, y, "predicted", "residual").svg
    (cells,) = seen
    rows, columns = np.nonzero(np.isfinite(cells))
    assert len(rows) == 2
    assert cells[rows.max(), columns.min()] > cells[rows.min(), columns.max()]


def test_a_density_is_an_image_that_needs_nothing_else():
    rng = np.random.default_rng(0)
    chart = charts.density("title", *rng.normal(size=(2, 100_000)), "predicted", "residual")
    (image,) = drawn(chart).iter("image")
    assert image.get("href").startswith("data:image/png;base64,")
    assert len(chart.svg) < 30_000


def test_what_a_chart_shows_is_told_in_words():
    chart = charts.lines("loss", X, {"one": np.linspace(3, 1, 10)}, unit="s")
    assert (chart.title, chart.words) == ("loss (s)", "one from 3 to 1 s")
    page = render("engine/live/progress.html.jinja", display=Shown([chart, None]), line="")
    assert "<title>loss (s)</title>\n<desc>one from 3 to 1 s</desc>" in page
    assert page.count("<svg") == 1


class Shown:
    at, total, link = 1, 2, None

    def __init__(self, found):
        self.charts = found


def test_the_same_chart_is_the_same_bytes_and_two_have_no_id_in_common():
    values = np.array([1, np.nan, 2, 3.0])
    one, again, other = (
        charts.lines(title, X[:4], {"a": values}) for title in ("one", "one", "other")
    )
    assert one.svg == again.svg
    ids = [set(re.findall(r' id="([^"]*)"', chart.svg)) for chart in (one, other)]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_a_chart_takes_its_colours_and_letters_from_the_page_and_gives_it_no_style():
    svg = charts.lines("title", X, {"one": X + 0.0, "two": X + 1.0}).svg
    assert "currentColor" in svg
    assert "DejaVu" not in svg
    assert not re.search(r"<style|xmlns|https?:|#000000|#ffffff", svg)
    assert [text for text in re.findall(r">([^<>]+)</text>", svg) if text == "two"]


def test_a_label_is_never_taken_for_markup_or_for_a_formula():
    label = "$\\frac{<b>&\x1b\ud800_"
    found = [t.text for t in drawn(charts.lines("t", X, {label: X / 1, "b": X / 2})).iter("text")]
    assert "$\\frac{<b>&\\x1b\\ud800_" in found


def test_drawing_leaves_matplotlib_as_the_user_has_set_it():
    import matplotlib as mpl

    chart = charts.lines("title", X, {"one": X + 0.0})
    with mpl.rc_context({"font.size": 31.0, "lines.linewidth": 9.0, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        svg = chart.svg
        assert dict(mpl.rcParams) == before
    assert svg == charts.lines("title", X, {"one": X + 0.0}).svg


def test_a_legend_fits_the_width_that_there_is():
    series = {f"a label of some length {i}": X + float(i) for i in range(8)}
    chart = charts.lines("title", X, series)
    texts = [t for t in drawn(chart).iter("text") if t.text in series]
    assert len(texts) == 8
    right = [float(t.get("x")) + 0.6 * charts.FONT * len(t.text) for t in texts]
    assert max(right) <= charts.WIDTH
    assert len({t.get("y") for t in texts}) >= 4


def test_without_matplotlib_a_chart_says_what_to_install(monkeypatch):
    chart = charts.lines("title", X, {"one": X + 0.0})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=naming("dadmm[plot]")):
        chart.svg  # noqa: B018


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.012345, "0.0123"), (12345.6, "12,346"), (1e9, "1e+09")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text
