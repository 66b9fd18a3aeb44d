"""Charts are whole pictures of whatever numbers there are, and say in words what they show."""

import re

import numpy as np
import pytest

from dadmm.engine.live import charts
from dadmm.engine.live.markup import html, tag

X = np.arange(1, 11)


def coordinates(picture):
    text = html(picture)
    assert "nan" not in text
    assert "inf" not in text
    numbers = [
        float(n) for d in re.findall(r' d="([^"]*)"', text) for n in re.findall(r"[\d.]+", d)
    ]
    return np.array(numbers)


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
    picture = charts.lines("title", X, {"one": values, "two": values / 2}, log=log)
    if log and not (values > 0).any():
        assert picture is None
        return
    found = coordinates(picture)
    assert found.size
    assert (found >= 0).all()
    assert (found <= charts.WIDTH).all()


def test_a_value_that_is_missing_leaves_a_gap_and_one_alone_is_a_dot():
    values = np.array([1, 2, np.nan, 3, np.nan, 4, 5, 6, 7, 8.0])
    text = html(charts.lines("title", X, {"one": values}))
    (path,) = re.findall(r' d="([^"]*)"', text)
    assert path.count("M") == 3
    assert path.count("h0.01") == 1


def test_there_is_no_picture_of_nothing():
    nothing = np.full(10, np.nan)
    assert charts.lines("title", X, {"one": nothing}) is None
    assert charts.lines("title", X, {}) is None
    assert charts.stacked("title", X, {"one": nothing}) is None
    assert charts.density("title", nothing, nothing, "x", "y") is None


def test_a_long_line_keeps_its_extremes():
    values = np.zeros(100_000)
    values[[12_345, 67_890]] = 5, -5
    picture = charts.lines("title", np.arange(100_000), {"one": values})
    assert len(html(picture)) < 20_000
    heights = coordinates(picture)[1::2]
    assert len(np.unique(heights)) == 3


def test_what_a_picture_shows_is_told_in_words():
    picture = charts.lines("loss", X, {"one": np.linspace(3, 1, 10)}, unit="s")
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == "loss: one from 3 to 1 s"


def test_stacked_areas_add_up_to_the_top():
    picture = charts.stacked("title", X, {"one": np.ones(10), "two": np.full(10, 3.0)}, "s")
    areas = [
        np.array([float(p.split(",")[1]) for p in points.split()])
        for points in re.findall(r'points="([^"]*)"', html(picture))
    ]
    heights = [area.max() - area.min() for area in areas]
    assert heights[1] == pytest.approx(3 * heights[0], abs=0.2)


def test_a_point_is_drawn_darker_where_there_are_more():
    x, y = np.repeat([0.0, 1.0], [99, 1]), np.repeat([1.0, -1.0], [99, 1])
    text = html(charts.density("title", x, y, "predicted", "residual"))
    opacities = sorted(float(v) for v in re.findall(r'fill-opacity="([^"]*)"', text))
    assert len(opacities) == 2
    assert opacities[0] < opacities[1] == 1.0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.012345, "0.0123"), (12345.6, "12,346"), (1e9, "1e+09")]
)
def test_numbers_are_short(value, text):
    assert charts.number(value) == text


def test_no_text_is_taken_for_markup():
    bad = "<script>alert(1)</script>&\"'\x00\x1b\ud800"
    text = html(tag("p", bad, tag("b", bad), bad))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 3
    assert "\x1b" not in text
    assert html(tag("p", title=bad)).count('"') == 2
