"""Stochastic Block-ADMM (arXiv 2105.00339)."""
