"""What is trained and what predicts: blocks, chain, scaling, labels, and the files of a network."""
