"""Training of residual and block-split neural networks by ADMM, as a dataflow on Dask."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dadmm.blocks import Dense, Residual
from dadmm.estimator import ADMMClassifier, ADMMRegressor
from dadmm.network import Architecture, Network
from dadmm.solvers.block import BlockADMM
from dadmm.solvers.relaxed import RelaxedADMM
from dadmm.stored import load, resume

if TYPE_CHECKING:
    from dadmm.torchblock import TorchBlock

__all__ = [
    "ADMMClassifier",
    "ADMMRegressor",
    "Architecture",
    "BlockADMM",
    "Dense",
    "Network",
    "RelaxedADMM",
    "Residual",
    "TorchBlock",
    "load",
    "resume",
]
__version__ = version("dadmm")


def __getattr__(name: str) -> Any:
    if name == "TorchBlock":  # torch is imported only by those who use it
        from dadmm.torchblock import TorchBlock

        return TorchBlock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
