"""Train by stochastic Block-ADMM (arXiv 2105.00339): the network is cut into blocks.

method          the method: its mathematics, passes, updates and report
options         its options, and what follows from them
cut             cut a network into blocks
minibatch       train the blocks on a chunk, a mini-batch at a time
factor_span     a block that is a non-negative factorisation
grid            the grid schedule: one task for each block and chunk
consensus       merge the copies that were trained on several chunks
learning_rate   learning-rate schedules
counts          what a run costs
"""
