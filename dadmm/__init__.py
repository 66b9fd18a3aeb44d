"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dadmm import errors

if TYPE_CHECKING:
    from dadmm.estimators.deepfacto import DeepFacto
    from dadmm.estimators.load import load, resume
    from dadmm.estimators.nmf import NMF
    from dadmm.estimators.supervised import ADMMClassifier, ADMMRegressor
    from dadmm.networks.architecture import Architecture
    from dadmm.networks.blocks import Dense, NMFBlock, Residual
    from dadmm.networks.files import save, to_torch
    from dadmm.networks.network import Network
    from dadmm.networks.torch_block import TorchBlock
    from dadmm.solvers.block.method import BlockADMM
    from dadmm.solvers.relaxed.method import RelaxedADMM

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
    "TorchBlock",
    "cluster",
    "errors",
    "load",
    "resume",
    "save",
    "to_torch",
]
_MODULES = ("cluster",)
# Where each name is: a module is imported when its name is first asked for.
_HOMES = {
    "ADMMClassifier": "estimators.supervised",
    "ADMMRegressor": "estimators.supervised",
    "Architecture": "networks.architecture",
    "BlockADMM": "solvers.block.method",
    "DeepFacto": "estimators.deepfacto",
    "Dense": "networks.blocks",
    "NMF": "estimators.nmf",
    "NMFBlock": "networks.blocks",
    "Network": "networks.network",
    "RelaxedADMM": "solvers.relaxed.method",
    "Residual": "networks.blocks",
    "TorchBlock": "networks.torch_block",
    "load": "estimators.load",
    "resume": "estimators.load",
    "save": "networks.files",
    "to_torch": "networks.files",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("dadmm")
    elif name in _MODULES:
        value = import_module(f"dadmm.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"dadmm.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
