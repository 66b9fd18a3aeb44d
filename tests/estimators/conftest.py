"""Each solver in turn, for the files that use it."""

import pytest

from support.supervised import CODES, SMALL, SOLVERS, X, classifier


@pytest.fixture(scope="module", params=SOLVERS)
def solver(request):
    """Let `classifier` and `regressor` make estimators with each solver in turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SMALL, "solver", SOLVERS[request.param])
        yield request.param


@pytest.fixture(scope="module")
def clf(solver):
    return classifier(max_iter=12).fit(X, CODES)
