"""Fixtures of the chaos tests."""

from chaos_helpers import made

__all__ = ["made"]
