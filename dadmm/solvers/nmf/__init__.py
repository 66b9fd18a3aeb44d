"""Factorise non-negative matrices.

method       the method: its mathematics, passes, updates and report
options      its options, and what follows from them
dictionary   a dictionary, and how it learns; for blocks of networks, too
counts       what a run costs; for blocks of networks, too
"""
