"""Networks: blocks, chains, scaling, labels, and the files of a trained network."""
