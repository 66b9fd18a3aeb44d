"""Fixtures of the chaos tests."""

from runs import made

__all__ = ["made"]
