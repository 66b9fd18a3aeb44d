"""Fixtures of every test."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread():
    """Small products are slower on many threads, and the tests may share their machine."""
    with threadpool_limits(1, user_api="blas"):
        yield
