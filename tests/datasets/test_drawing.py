"""Figures show the attributes that they were drawn from, and are the same however they are cut."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dadmm.data.open import open_path
from dadmm.datasets import drawing, figures, load_data, load_dataset, write_figures
from dadmm.errors import InputError, OptionError, RunError
from support.messages import naming

MANY = figures(20_000, seed=3)
IMAGES = MANY.x.reshape(-1, *MANY.shape)
OF = dict(zip(MANY.names, MANY.attributes.T, strict=True))
# Light on a figure: what is above the noise, of all channels.
INK = np.maximum(IMAGES.astype(np.float32) - (drawing.NOISE - 1) / 2, 0).sum(axis=3)


def same(found, expected):
    for one, other in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def rows(drawn, which):
    return [part[which] for part in drawn[:3]]


def kind(of):
    """Return the number of the name that is 1 in each row, of the names that begin with `of`."""
    names = [name for name in MANY.names if name.startswith(of)]
    hot = np.stack([OF[name] for name in names], axis=1)
    assert set(np.unique(hot)) == {0, 1}
    np.testing.assert_array_equal(hot.sum(axis=1), 1)
    return hot.argmax(axis=1)


# --------------------------------------------------------------------- which rows, however cut


def test_arrays_are_what_they_are_said_to_be():
    drawn = figures(300)
    assert (drawn.x.shape, drawn.x.dtype) == ((300, 768), np.uint8)
    assert (drawn.y.shape, drawn.y.dtype) == ((300,), np.int64)
    assert (drawn.attributes.shape, drawn.attributes.dtype) == ((300, 13), np.float32)
    assert len(set(drawn.names)) == 13
    assert np.prod(drawn.shape) == 768


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 19_000), count=st.integers(1, 1000))
def test_any_range_of_rows_can_be_drawn_by_itself(start, count):
    same(figures(count, 3, start), rows(MANY, slice(start, start + count)))


def test_a_longer_set_begins_with_the_shorter_one():
    same(figures(100, 3), rows(figures(1000, 3), slice(100)))


def test_the_same_seed_gives_the_same_bits_in_another_process():
    code = "import zlib; from dadmm.datasets import figures; f = figures(300, 5); print({})"
    sums = "*(zlib.crc32(a) for a in f[:3])"
    done = subprocess.run(
        [sys.executable, "-c", code.format(sums)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [int(word) for word in done.stdout.split()] == [
        zlib.crc32(part) for part in figures(300, 5)[:3]
    ]


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**70), min_size=2, max_size=2, unique=True))
def test_another_seed_gives_other_rows(seeds):
    one, other = (figures(20, seed) for seed in seeds)
    assert (one.attributes != other.attributes).any(axis=1).all()
    assert (one.x != other.x).any(axis=1).all()


def test_no_row_comes_twice():
    assert len(np.unique(MANY.attributes, axis=0)) == len(MANY.y)


# -------------------------------------------------------------------------- labels, attributes


def test_the_class_follows_from_shape_and_colour():
    np.testing.assert_array_equal(MANY.y, 3 * kind("shape") + kind("colour"))


def test_attributes_are_uniform_where_they_are_said_to_be():
    for of, count in (("shape", 3), ("colour", 3), ("texture", 4)):
        share = np.bincount(kind(of), minlength=count) / len(MANY.y)
        np.testing.assert_allclose(share, 1 / count, atol=0.02)
    for name, low, high in (("position_x", 5.5, 10.5), ("position_y", 5.5, 10.5), ("size", 2.5, 4)):
        counts, _ = np.histogram(OF[name], bins=10, range=(low, high))
        assert counts.sum() == len(MANY.y)
        np.testing.assert_allclose(counts / len(MANY.y), 0.1, atol=0.02)


def test_attributes_vary_independently():
    groups = [name.partition("_")[0] if "position" not in name else name for name in MANY.names]
    between = np.array([[a != b for a in groups] for b in groups])
    correlation = np.corrcoef(MANY.attributes, rowvar=False)
    assert np.abs(correlation[between]).max() < 0.04  # 5.6 standard errors
    pairs = np.bincount(MANY.y * 4 + kind("texture"), minlength=36) / len(MANY.y)
    np.testing.assert_allclose(pairs, 1 / 36, atol=0.01)


# ------------------------------------------------------------------------------- in the pixels


def test_the_colour_is_the_brightest_channel():
    np.testing.assert_array_equal(IMAGES.sum(axis=(1, 2)).argmax(axis=1), kind("colour"))


def test_the_position_is_the_middle_of_the_ink():
    middles = np.arange(16) + 0.5
    clear = INK * (INK > 47)  # noise alone stays below
    plain = kind("texture") == 0
    for name, axis in (("position_x", 1), ("position_y", 2)):
        along = clear.sum(axis=axis)
        off = np.abs(along @ middles / along.sum(axis=1) - OF[name])
        assert np.quantile(off[plain], 0.99) < 0.25
        assert np.quantile(off, 0.99) < 0.5  # dark pixels of textures are where they are
        assert off.max() < 1


def test_ink_tells_the_size_not_the_shape_nor_the_texture():
    signal = (IMAGES.astype(float) - 15.5).sum(axis=(1, 2, 3)) / (1.4 * 0.7 * 184)
    area = np.pi * OF["size"] ** 2  # 184: the mean light
    ratio = signal / area
    for of in ("shape", "texture", "colour"):
        for number in range(kind(of).max() + 1):
            assert ratio[kind(of) == number].mean() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(signal, area)[0, 1] > 0.85
    # What is left is light: a factor from 144 / 184 to 224 / 184.
    assert np.quantile(ratio, [0.01, 0.99]) == pytest.approx([144 / 184, 224 / 184], rel=0.1)


def test_the_texture_is_in_how_bright_pixels_are_beside_each_other():
    """Of the four pixels of a cell of the texture, well inside of squares."""
    for number, cell in enumerate(
        (
            [[0.7, 0.7], [0.7, 0.7]],
            [[1, 1], [0.4, 0.4]],
            [[1, 0.4], [0.4, 1]],
            [[0.1, 0.9], [0.9, 0.9]],
        )
    ):
        of = (kind("shape") == 1) & (kind("texture") == number) & (OF["size"] > 3)
        for name in ("position_x", "position_y"):
            of &= (OF[name] > 7.5) & (OF[name] < 8.5)
        assert of.sum() > 10
        inside = INK[of][:, 6:10, 6:10].reshape(-1, 2, 2, 2, 2).mean(axis=(1, 3))
        inside = inside / inside.mean(axis=(1, 2), keepdims=True) * 0.7
        np.testing.assert_allclose(inside.mean(axis=0), cell, atol=0.03)


def test_the_shape_is_in_the_outline():
    """Squares fill their box, circles pi / 4 of it, triangles half of it."""
    plain = (kind("texture") == 0) & (OF["size"] > 3.5) & (OF["position_y"] > 7)
    fills = []
    for number in range(3):
        boxes = ndimage.find_objects
        of = INK[plain & (kind("shape") == number)]
        filled = of > 0.5 * of.max(axis=(1, 2), keepdims=True)
        fills.append(np.mean([image[boxes(image.astype(int))[0]].mean() for image in filled]))
    np.testing.assert_allclose(fills, [np.pi / 4, 1, 0.5], atol=0.07)


# ---------------------------------------------------------------------------------------- zarr


@pytest.mark.parametrize("chunk_rows", [1, 100, 256, 300, 999, 1000, 5000])
def test_chunks_written_are_the_rows_drawn_at_once(tmp_path, chunk_rows):
    count = 1000 if chunk_rows > 1 else 20
    write_figures(tmp_path / "figures.zarr", count, 3, chunk_rows)
    group = zarr.open_group(tmp_path / "figures.zarr", mode="r", zarr_format=3)
    expected = rows(MANY, slice(count))
    same([group[name][:] for name in ("x", "y", "attributes")], expected)
    for name in ("x", "y", "attributes"):
        assert group[name].chunks[0] == min(chunk_rows, count)
        assert group[name].nchunks == -(-count // group[name].chunks[0])
        assert group[name].compressors == ()
    about = dict(group.attrs)
    assert (tuple(about["names"]), tuple(about["shape"])) == (MANY.names, MANY.shape)
    assert (about["seed"], about["rows"]) == (3, count)
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures.zarr"]


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    asked = []

    def counted(count, *others):
        asked.append(count)
        return figures(count, *others)

    monkeypatch.setattr(drawing, "figures", counted)
    write_figures(tmp_path / "f.zarr", 1000, chunk_rows=64)
    assert asked == [64] * 15 + [40]


def test_figures_are_there_for_configs(tmp_path, monkeypatch):
    x, y = load_dataset("figures")
    same([x, y, y], [*figures(10_000, 0)[:2], y])
    parts = load_data({"dataset": "figures", "test_fraction": 0.2})
    assert [len(part) for part in parts] == [8000, 8000, 2000, 2000]
    monkeypatch.chdir(tmp_path)
    write_figures("f.zarr", 500, 0)
    stored, targets, *_ = load_data({"x": "f.zarr/x", "y": "f.zarr/y"})
    np.testing.assert_array_equal(stored[:], x[:500])
    np.testing.assert_array_equal(targets[:], y[:500])


def test_what_is_there_is_replaced_only_when_asked(tmp_path):
    place = tmp_path / "f.zarr"
    write_figures(place, 50, 1)
    with pytest.raises(InputError, match=naming(str(place), "overwrite=True")):
        write_figures(place, 60, 2)
    np.testing.assert_array_equal(open_path(f"{place}/y"), figures(50, 1).y)
    write_figures(place, 60, 2, overwrite=True)
    np.testing.assert_array_equal(open_path(f"{place}/y"), figures(60, 2).y)


@pytest.mark.parametrize("what", ["file", "folder", "array", "group", "link"])
def test_nothing_but_figures_is_replaced(tmp_path, what):
    place = tmp_path / "f.zarr"
    if what == "file":
        place.write_text("mine")
    elif what == "folder":
        place.mkdir()
    elif what == "array":
        zarr.save_array(place, np.ones(3))
    elif what == "group":
        zarr.create_group(place, attributes={"kind": "mine"})
    else:
        write_figures(tmp_path / "other.zarr", 10)
        place.symlink_to(tmp_path / "other.zarr")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=naming(str(place), "figures")):
        write_figures(place, 10, overwrite=True)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_nothing_is_left_where_writing_stops_halfway(tmp_path, monkeypatch):
    write_figures(tmp_path / "f.zarr", 10, 1)

    def full(count, seed, start):
        if start >= 40:
            raise OSError(28, "No space left on device")
        return figures(count, seed, start)

    monkeypatch.setattr(drawing, "figures", full)
    for name in ("f.zarr", "g.zarr"):
        with pytest.raises(RunError, match=naming(str(tmp_path / name), "No space left on device")):
            write_figures(tmp_path / name, 100, chunk_rows=20, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.zarr"]
    np.testing.assert_array_equal(open_path(f"{tmp_path}/f.zarr/y"), figures(10, 1).y)


# ------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": 0}, ["rows=0", "1"]),
        ({"rows": -5}, ["rows=-5"]),
        ({"rows": 2.0}, ["rows=2.0"]),
        ({"rows": True}, ["rows=True"]),
        ({"rows": "10"}, ["rows='10'"]),
        ({"seed": -1}, ["seed=-1", "0"]),
        ({"seed": None}, ["seed=None"]),
        ({"start": -1}, ["start=-1", "0"]),
        ({"chunk_rows": 0}, ["chunk_rows=0", "1"]),
    ],
)
def test_a_bad_number_is_named(tmp_path, given, words):
    call = {"rows": 10} | given
    if "chunk_rows" not in given:
        with pytest.raises(OptionError, match=naming(*words)):
            figures(**call)
    if "start" not in given:
        with pytest.raises(OptionError, match=naming(*words)):
            write_figures(tmp_path / "f.zarr", **call)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=naming("folder", str(tmp_path / "none"))):
        write_figures(tmp_path / "none" / "f.zarr", 10)
    with pytest.raises(InputError, match=naming("s3://bucket/f", "local")):
        write_figures("s3://bucket/f", 10)


def test_drawing_needs_no_data_frames():
    code = (
        "import sys; from dadmm.datasets import figures, stroke_attributes; figures(1);"
        "print(*{'pandas', 'xarray', 'sklearn', 'dask', 'zarr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [], done.stderr
    assert done.returncode == 0
