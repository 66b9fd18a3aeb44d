"""Fixtures of the chaos tests."""

from support.stopped_runs import made

__all__ = ["made"]
