"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib.metadata import version

from dadmm.blocks import Dense, Residual
from dadmm.estimator import ADMMClassifier, ADMMRegressor, load, resume
from dadmm.network import Architecture, Network
from dadmm.solvers.block import BlockADMM
from dadmm.solvers.relaxed import RelaxedADMM

__all__ = [
    "ADMMClassifier",
    "ADMMRegressor",
    "Architecture",
    "BlockADMM",
    "Dense",
    "Network",
    "RelaxedADMM",
    "Residual",
    "load",
    "resume",
]
__version__ = version("dadmm")
