"""Train a network as train.toml says.

Started again, it goes on where it stopped, to the same network, and does nothing once the run is
finished.  A run of another config in the same place is refused.

    python pipelines/train.py [CONFIG]
"""

from dadmm.app.jobs import main

if __name__ == "__main__":
    main("train", __file__, __doc__)
