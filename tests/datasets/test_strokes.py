"""Measured attributes are those of strokes that are drawn with known ones."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dadmm.datasets import load_dataset, stroke_attributes
from dadmm.errors import DataError, ShapeError
from support.messages import naming

SIDE = 40
ROW, COLUMN = np.indices((SIDE, SIDE)) - SIDE // 2


def measure(*images):
    attributes, names = stroke_attributes(np.stack(images))
    return [dict(zip(names, row.tolist(), strict=True)) for row in attributes]


def ink(where, value=255):
    return np.where(where, value, 0).astype(np.uint8)


def box(height, width, top=5, left=5):
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = 255
    return image


def ring(radius, thickness, row=0, column=0):
    distance = np.hypot(ROW - row, COLUMN - column)
    return np.abs(distance - radius) <= thickness / 2


def test_names_and_dtype_are_as_said():
    attributes, names = stroke_attributes(box(3, 4)[None])
    assert names == ("stroke_width", "slant", "loops", "height", "width", "ink")
    assert (attributes.shape, attributes.dtype) == ((1, 6), np.float32)


# ----------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize("thickness", range(1, 7))
@pytest.mark.parametrize("lying", [False, True])
def test_a_bar_is_as_thick_as_it_is_drawn(thickness, lying):
    bar = box(30, thickness)
    (found,) = measure(bar.T if lying else bar)
    near = {"abs": 0.3} if thickness == 1 else {"rel": 0.04}  # knights' moves can miss a pixel
    assert found["stroke_width"] == pytest.approx(thickness, **near)


@pytest.mark.parametrize("thickness", [2, 3, 4, 5])
def test_a_stroke_is_as_thick_however_it_lies(thickness):
    """On average over where its middle is within a pixel, for pixels cut the same stroke anew."""
    rng = np.random.default_rng(0)
    for degrees in range(0, 180, 15):
        across, along = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        strokes = []
        for row, column in rng.uniform(-0.5, 0.5, (40, 2)):
            r, c = ROW - row, COLUMN - column
            beyond = np.maximum(np.abs(r * across - c * along) - 12, 0)
            strokes.append(ink(np.hypot(c * across + r * along, beyond) <= thickness / 2))
        found = np.mean([one["stroke_width"] for one in measure(*strokes)])
        assert found == pytest.approx(thickness, rel=0.07)


@pytest.mark.parametrize("thickness", [3, 5])
def test_loops_hardly_change_the_thickness_nor_do_crossings(thickness):
    one, two = ring(10, thickness), ring(7, thickness, -7) | ring(7, thickness, 7)
    cross = (np.minimum(np.abs(ROW), np.abs(COLUMN)) <= thickness // 2) & ring(0, 31)
    for image in (one, two, cross, one | cross):
        assert measure(ink(image))[0]["stroke_width"] == pytest.approx(thickness, rel=0.15)


@pytest.mark.parametrize("tangent", [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
def test_the_slant_is_the_tangent_that_a_bar_is_drawn_with(tangent):
    shift = np.round(tangent * -ROW).astype(int)
    upright = (np.abs(COLUMN - shift) <= 1) & (np.abs(ROW) <= 8)
    (found,) = measure(ink(upright))
    assert found["slant"] == pytest.approx(tangent, abs=0.02)


def test_slant_is_zero_where_left_and_right_are_alike():
    for image in (ink(ring(10, 3)), box(20, 4), box(1, 20), box(9, 9)):
        assert measure(image)[0]["slant"] == pytest.approx(0, abs=1e-6)


def test_slant_is_the_regression_of_column_on_row():
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    slope = np.polyfit(-ROW.ravel(), COLUMN.ravel(), 1, w=np.sqrt(image.ravel().astype(float)))[0]
    assert measure(image)[0]["slant"] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("image", "loops"),
    [
        (ring(10, 3), 1),
        (ring(6, 2, -6) | ring(6, 2, 6), 2),  # an 8
        (ring(14, 2) | ring(5, 2), 2),  # a ring in a ring
        (np.abs(COLUMN) <= 1, 0),  # a 1 from border to border
        (ring(10, 3) & (COLUMN < 5), 0),  # a C
        (ring(25, 3), 0),  # corners that the image's border closes, not the ink
        (np.abs(ROW) + np.abs(COLUMN) == 8, 1),  # ink that only corners connect
        (np.ones((SIDE, SIDE), bool), 0),
        ((ROW % 4 == 0) | (COLUMN % 4 == 0), 81),
        ((ROW % 2 == 0) | (COLUMN % 2 == 0), 0),  # holes of one pixel are noise
        ((ROW % 2 == 0) | (COLUMN % 3 == 0), 19 * 12),  # holes of two
    ],
)
def test_loops_are_the_holes(image, loops):
    assert measure(ink(image))[0]["loops"] == loops


def test_height_width_and_ink_are_those_of_a_box():
    (found,) = measure(box(7, 12))
    assert (found["height"], found["width"], found["ink"]) == (7, 12, 84)


def test_faint_pixels_are_ink_but_no_stroke():
    image = box(7, 12)
    image[30, 30] = 127
    (found,) = measure(image)
    assert (found["height"], found["width"]) == (7, 12)
    assert found["ink"] == pytest.approx(84 + 127 / 255)
    image[30, 30] = 128
    (found,) = measure(image)
    assert (found["height"], found["width"]) == (26, 26)


def test_a_blank_image_has_zeros():
    attributes, _ = stroke_attributes(np.zeros((2, 28, 28), np.uint8))
    np.testing.assert_array_equal(attributes, 0)
    (faint,) = measure(np.full((SIDE, SIDE), 51, np.uint8))
    assert faint.pop("ink") == pytest.approx(SIDE**2 / 5)
    assert set(faint.values()) == {0}


# ------------------------------------------------------------------------------------ for all


values = st.sampled_from([0, 60, 127, 128, 255])
stacks = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    elements=values,
)
examples = settings(max_examples=60, deadline=None)


@examples
@given(stacks)
def test_an_image_is_measured_by_itself(images):
    together, _ = stroke_attributes(images)
    for image, row in zip(images, together, strict=True):
        np.testing.assert_array_equal(stroke_attributes(image[None])[0][0], row)


@examples
@given(stacks, st.integers(0, 3), st.integers(0, 3))
def test_a_margin_changes_nothing(images, before, after):
    margin = np.pad(images, [(0, 0), (before, after), (after, before)])
    np.testing.assert_allclose(
        stroke_attributes(margin)[0], stroke_attributes(images)[0], rtol=1e-6, atol=1e-6
    )


@examples
@given(stacks)
def test_a_mirror_turns_the_slant_and_nothing_else(images):
    found, names = stroke_attributes(images[:, :, ::-1])
    found[:, names.index("slant")] *= -1
    np.testing.assert_allclose(found, stroke_attributes(images)[0], rtol=1e-6, atol=1e-6)


@examples
@given(stacks)
def test_turned_by_a_right_angle_height_and_width_change_places(images):
    names = ("stroke_width", "loops", "width", "height", "ink")
    turned = stroke_attributes(np.rot90(images, axes=(1, 2)))
    found = [turned[0][:, turned[1].index(name)] for name in names]
    names = ("stroke_width", "loops", "height", "width", "ink")
    attributes, all_names = stroke_attributes(images)
    expected = [attributes[:, all_names.index(name)] for name in names]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_many_images_are_measured_as_few_are():
    images = np.random.default_rng(0).integers(0, 256, (1100, 12, 12)).astype(np.uint8)
    found, _ = stroke_attributes(images)
    parts = [stroke_attributes(images[start : start + 100])[0] for start in range(0, 1100, 100)]
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert stroke_attributes(images[:0])[0].shape == (0, 6)


# ------------------------------------------------------------------------------ bad arguments


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (
            np.zeros((5, 784), np.uint8),
            ShapeError,
            ["(5, 784)", "(rows, height, width)"],
        ),
        (np.zeros((5, 0, 3), np.uint8), ShapeError, ["(5, 0, 3)"]),
        (np.zeros((5, 28, 28)), DataError, ["float64", "uint8"]),
    ],
)
def test_what_is_no_image_is_named(images, error, words):
    with pytest.raises(error, match=naming(*words)):
        stroke_attributes(images)


# ------------------------------------------------------------------------------------- MNIST


@pytest.mark.skipif(
    "DADMM_DATA" not in os.environ,
    reason="set DADMM_DATA to a folder with mnist.npz to measure its digits",
)
def test_digits_of_mnist_have_the_attributes_that_readers_see():
    x, y = load_dataset("mnist")
    attributes, names = stroke_attributes(x[:4000].reshape(-1, 28, 28))
    of, y = dict(zip(names, attributes.T, strict=True)), y[:4000]

    def share(digit, loops):
        return np.mean(of["loops"][y == digit] == loops)

    for digit, loops, least in (
        (0, 1, 0.85),
        (1, 0, 0.99),
        (3, 0, 0.95),
        (7, 0, 0.98),
        (9, 1, 0.75),
    ):
        assert share(digit, loops) > least
    assert share(8, 2) > 0.5 > share(8, 1) > share(8, 0)  # many are open, or closed up
    means = {
        name: [column[y == digit].mean() for digit in range(10)] for name, column in of.items()
    }
    assert np.argmin(means["width"]) == np.argmin(means["ink"]) == 1
    assert np.argmax(means["ink"]) == 0
    assert np.argmax(means["loops"]) == 8
    # Digits were scaled into a box of 20 x 20, and most lean to the right.
    assert of["height"].max() <= 20
    assert np.median(of["slant"]) > 0.05
    thin, thick = np.quantile(of["stroke_width"], [0.05, 0.95])
    assert 1.5 < thin < thick < 4.5
