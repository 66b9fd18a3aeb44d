"""Fixtures of every test."""

import pytest
from threadpoolctl import threadpool_limits

pytest.register_assert_rewrite("support")

from support import browser  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread():
    """Small products are slower on many threads, and the tests may share their machine."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def page():
    """Give a page of a headless Chromium: that of another module may still look for its server."""
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    with browser.browser() as page:
        yield page
