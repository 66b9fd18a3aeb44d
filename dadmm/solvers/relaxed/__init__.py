"""Relaxed ADMM for residual networks (arXiv 2310.15334)."""
