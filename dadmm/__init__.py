"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib.metadata import version

from dadmm.estimator import ADMMClassifier, ADMMRegressor, load, resume
from dadmm.network import Network
from dadmm.solvers.relaxed import RelaxedADMM

__all__ = ["ADMMClassifier", "ADMMRegressor", "Network", "RelaxedADMM", "load", "resume"]
__version__ = version("dadmm")
