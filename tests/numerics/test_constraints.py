"""Constraints by name: how they are written, what is refused, where they project to."""

import numpy as np
import pytest

from dadmm.errors import OptionError
from dadmm.numerics import prox
from dadmm.numerics.constraints import CONSTRAINTS, Constraint
from support.messages import naming

TEXTS = {
    "non_negative": prox.non_negative,
    "binary": prox.binary,
    "simplex": prox.simplex,
    "k_sparse:2": lambda v: prox.k_sparse(v, 2),
    "l2_ball:1.5": lambda v: prox.l2_ball(v, 1.5),
    "box:0.25": lambda v: prox.box(v, -0.25, 0.25),
    "l1:0.1": lambda v: prox.l1(v, 0.1),
    "squared_l2:0.5": lambda v: prox.squared_l2(v, 0.5),
}
PENALTIES = ("l1:0.1", "squared_l2:0.5")  # proximal maps that are not projections
each = pytest.mark.parametrize("text", TEXTS)


def test_every_constraint_is_tested():
    assert {text.partition(":")[0] for text in TEXTS} == set(CONSTRAINTS)


@each
def test_a_constraint_is_written_as_it_is_read(text):
    constraint = Constraint.parse(text)
    assert str(constraint) == text
    assert Constraint.parse(str(constraint)) == constraint
    assert hash(Constraint.parse(text)) == hash(constraint)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constraint_projects_rows_and_leaves_them_alone(text, dtype):
    v = np.random.default_rng(0).standard_normal((20, 5)).astype(dtype)
    before = v.copy()
    constraint = Constraint.parse(text)
    z = constraint.project(v)
    np.testing.assert_array_equal(z, TEXTS[text](v))
    np.testing.assert_array_equal(v, before)
    assert z.dtype == dtype
    assert not np.may_share_memory(z, v)
    if text not in PENALTIES:
        again = constraint.project(z)
        np.testing.assert_allclose(again, z, rtol=1e-6, atol=1e-7)


def test_rows_inside_are_their_own_projection():
    v = np.array([[0.1, -0.2, 0.0, 0.0, 0.1]])
    for text in ("k_sparse:3", "k_sparse:8", "l2_ball:1", "box:1"):
        np.testing.assert_array_equal(Constraint.parse(text).project(v), v)


@pytest.mark.parametrize("text", ["binray", "k-sparse:3", "", " binary", "Binary"])
def test_a_name_that_does_not_exist_is_refused(text):
    with pytest.raises(OptionError, match=naming("constraint", repr(text.partition(":")[0]))):
        Constraint.parse(text)


def test_the_nearest_name_is_proposed():
    with pytest.raises(OptionError, match=naming("'simplx'", "'simplex'")):
        Constraint.parse("simplx")


@pytest.mark.parametrize("text", ["binary:3", "simplex:1", "non_negative:"])
def test_a_number_that_nobody_asked_for_is_refused(text):
    with pytest.raises(OptionError, match=naming(repr(text))):
        Constraint.parse(text)


@pytest.mark.parametrize("name", ["k_sparse", "l2_ball", "box"])
@pytest.mark.parametrize("rest", ["", ":", ":x", ":0", ":-1", ":nan", ":inf", ":-inf", ":1:2"])
def test_a_number_that_is_missing_or_not_positive_is_refused(name, rest):
    with pytest.raises(OptionError, match=naming(repr(name + rest), f"{name}:8")):
        Constraint.parse(name + rest)


def test_a_count_is_whole():
    with pytest.raises(OptionError, match=naming("'k_sparse:2.5'")):
        Constraint.parse("k_sparse:2.5")
    assert Constraint.parse("k_sparse:2.0") == Constraint.parse("k_sparse:2")


@pytest.mark.parametrize("value", [3, None, ["binary"]])
def test_a_constraint_is_text(value):
    with pytest.raises(OptionError, match=naming("constraint", str(value), "quotes")):
        Constraint.parse(value)
