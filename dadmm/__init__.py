"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dadmm import errors
from dadmm.lazy import lazy

if TYPE_CHECKING:
    from dadmm.data.table import Table
    from dadmm.estimators.classifier import ADMMClassifier
    from dadmm.estimators.deepfacto import DeepFacto
    from dadmm.estimators.load import load, resume
    from dadmm.estimators.nmf import NMF
    from dadmm.estimators.regressor import ADMMRegressor
    from dadmm.networks.architecture import Architecture
    from dadmm.networks.blocks import Dense, NMFBlock, Residual
    from dadmm.networks.files import save, to_torch
    from dadmm.networks.network import Network
    from dadmm.networks.torch_block import TorchBlock
    from dadmm.solvers.block.method import BlockADMM
    from dadmm.solvers.relaxed.method import RelaxedADMM
    from dadmm.solvers.solver import Solver

    __version__: str

__all__ = [
    "NMF",
    "ADMMClassifier",
    "ADMMRegressor",
    "Architecture",
    "BlockADMM",
    "DeepFacto",
    "Dense",
    "NMFBlock",
    "Network",
    "RelaxedADMM",
    "Residual",
    "Solver",
    "Table",
    "TorchBlock",
    "cluster",
    "errors",
    "load",
    "resume",
    "save",
    "to_torch",
]
# Where each name is.
_HOMES = {
    "ADMMClassifier": "estimators.classifier",
    "ADMMRegressor": "estimators.regressor",
    "Architecture": "networks.architecture",
    "BlockADMM": "solvers.block.method",
    "DeepFacto": "estimators.deepfacto",
    "Dense": "networks.blocks",
    "NMF": "estimators.nmf",
    "NMFBlock": "networks.blocks",
    "Network": "networks.network",
    "RelaxedADMM": "solvers.relaxed.method",
    "Residual": "networks.blocks",
    "Solver": "solvers.solver",
    "Table": "data.table",
    "TorchBlock": "networks.torch_block",
    "load": "estimators.load",
    "resume": "estimators.load",
    "save": "networks.files",
    "to_torch": "networks.files",
}

_get, __dir__ = lazy(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("dadmm")
    if name == "cluster":
        return import_module("dadmm.cluster")
    return _get(name)
