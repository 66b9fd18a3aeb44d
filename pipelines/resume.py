"""Go on with the run that resume.toml names, maybe to a new limit on its iterations.

It needs neither the config nor the data that the run began with.  Started again, it does nothing
once that limit is reached.

    python pipelines/resume.py [CONFIG]
"""

from dadmm.app.jobs import main

if __name__ == "__main__":
    main("resume", __file__, __doc__)
