"""Score the network of a run on the rows held out, as evaluate.toml says, into a JSON file.

The file is replaced whole; the same network and data give the same file.

    python pipelines/evaluate.py [CONFIG]
"""

from dadmm.app.jobs import main

if __name__ == "__main__":
    main("evaluate", __file__, __doc__)
