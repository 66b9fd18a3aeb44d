"""Predict for the rows of a file with the network of a run, as predict.toml says.

Rows are predicted some at a time; started again after a kill it goes on with what is left, and does
nothing once the output is complete.  The output appears, or is replaced, whole.

    python pipelines/predict.py [CONFIG]
"""

from dadmm.app.jobs import main

if __name__ == "__main__":
    main("predict", __file__, __doc__)
