"""Methods that add up over all rows: neither the order of the rows nor the cuts matter."""

import numpy as np
import pytest

from dadmm import NMF
from support.problems import data
from support.relaxed import advance, begin, each_form, point, relaxed

ORDER = np.random.default_rng(7).permutation(60)


@each_form
@pytest.mark.parametrize("regions", [1, 4])
@pytest.mark.parametrize("state", ["keep", "recompute"])
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_relaxed_admms_sums_do_not_depend_on_the_order_but_to_rounding(
    splitting, variant, regions, state, loss
):
    solver = relaxed(splitting=splitting, variant=variant, regions=regions, state=state)
    x, y = data(loss, 60)
    known = begin(solver, loss, xy=(x, y), cuts=(20, 40))
    mixed = begin(solver, loss, xy=(x[ORDER], y[ORDER]), cuts=(7, 30, 31))
    histories = advance(known, 5), advance(mixed, 5)
    for row, other in zip(*histories, strict=True):
        assert row == pytest.approx(other, rel=1e-9)
    assert histories[0][0]["objective"] != pytest.approx(histories[0][-1]["objective"], rel=1e-3)
    found, expected = point(mixed), point(known)
    per_row = {"x", "y", *known.chunks[0].state}
    assert set(found) == set(expected)
    for name, block in found.items():
        same = expected[name][ORDER] if name in per_row else expected[name]
        np.testing.assert_allclose(block, same, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("penalty", [{}, {"alpha_W": 1e-3, "alpha_H": 2e-3, "l1_ratio": 0.5}])
@pytest.mark.parametrize("init", ["nndsvd", "random"])
def test_a_factorisations_sums_do_not_depend_on_the_order_but_to_rounding(init, penalty):
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(60, 4)) @ rng.exponential(size=(4, 9)) + 0.1 * rng.random((60, 9))
    options = {"init": init, "max_iter": 5, "tol": 0, "dtype": "float64", "random_state": 0}
    known = NMF(4, chunks=20, **options, **penalty).fit(x)
    mixed = NMF(4, chunks=(29, 29, 2), **options, **penalty).fit(x[ORDER])
    assert known.loss_curve_[-1] < 0.9 * known.loss_curve_[0]
    np.testing.assert_allclose(mixed.loss_curve_, known.loss_curve_, rtol=1e-9)
    atol = 1e-9 * np.abs(known.components_).max()
    np.testing.assert_allclose(mixed.components_, known.components_, rtol=1e-9, atol=atol)
