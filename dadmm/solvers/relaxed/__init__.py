"""Train residual networks by relaxed ADMM (arXiv 2310.15334).

method        the method: its mathematics, passes and report
options       its options, and what follows from them
sweep         update the state of a chunk, layer by layer
subproblems   update single blocks of that state
weights       the curvatures of V, and the weight solves
counts        what a run costs
"""
