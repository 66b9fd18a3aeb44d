"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dadmm import errors

if TYPE_CHECKING:
    from dadmm.blocks import Dense, NMFBlock, Residual
    from dadmm.decomposition import NMF, DeepFacto
    from dadmm.estimator import ADMMClassifier, ADMMRegressor
    from dadmm.network import Architecture, Network
    from dadmm.solvers.block import BlockADMM
    from dadmm.solvers.relaxed import RelaxedADMM
    from dadmm.stored import load, resume
    from dadmm.torchblock import TorchBlock

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
]
_MODULES = ("cluster",)
# Where each name is: a module is imported when its name is first asked for.
_HOMES = {
    "ADMMClassifier": "estimator",
    "ADMMRegressor": "estimator",
    "Architecture": "network",
    "BlockADMM": "solvers.block",
    "DeepFacto": "decomposition",
    "Dense": "blocks",
    "NMF": "decomposition",
    "NMFBlock": "blocks",
    "Network": "network",
    "RelaxedADMM": "solvers.relaxed",
    "Residual": "blocks",
    "TorchBlock": "torchblock",
    "load": "stored",
    "resume": "stored",
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
