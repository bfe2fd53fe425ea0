"""perfmodel: how fast, how many, what binds, at what cost, and how sure.

>>> import perfmodel as pm
>>> gemm = pm.Gemm(m=4096, n=4096, k=4096, dtype="bf16")
>>> pm.estimate(gemm, pm.device("h100-sxm-80gb")).bound.item()
'tensor'

Names are imported when first used, so that ``import perfmodel`` costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.answer import Estimate as Estimate
    from perfmodel.api import arena as arena
    from perfmodel.api import capacity as capacity
    from perfmodel.api import compare as compare
    from perfmodel.api import crossover as crossover
    from perfmodel.api import device as device
    from perfmodel.api import estimate as estimate
    from perfmodel.api import explain as explain
    from perfmodel.api import latency as latency
    from perfmodel.api import model as model
    from perfmodel.api import plan as plan
    from perfmodel.api import step as step
    from perfmodel.api import sweep as sweep
    from perfmodel.api import validate as validate
    from perfmodel.errors import BadInput as BadInput
    from perfmodel.errors import BadValue as BadValue
    from perfmodel.errors import ImpossibleSplit as ImpossibleSplit
    from perfmodel.errors import MalformedFile as MalformedFile
    from perfmodel.errors import MissingCalibration as MissingCalibration
    from perfmodel.errors import MissingData as MissingData
    from perfmodel.errors import MissingExtra as MissingExtra
    from perfmodel.errors import MissingFigure as MissingFigure
    from perfmodel.errors import MissingFile as MissingFile
    from perfmodel.errors import PerfModelError as PerfModelError
    from perfmodel.errors import UnknownName as UnknownName
    from perfmodel.errors import UnsupportedDtype as UnsupportedDtype
    from perfmodel.workload import Attention as Attention
    from perfmodel.workload import Collective as Collective
    from perfmodel.workload import Conv as Conv
    from perfmodel.workload import DeltaRule as DeltaRule
    from perfmodel.workload import Elementwise as Elementwise
    from perfmodel.workload import Gemm as Gemm
    from perfmodel.workload import LinearAttention as LinearAttention
    from perfmodel.workload import Norm as Norm
    from perfmodel.workload import SelectiveScan as SelectiveScan
    from perfmodel.workload import Ssd as Ssd

_EXPORTS = {
    "perfmodel.answer": ("Estimate",),
    "perfmodel.api": (
        "arena",
        "capacity",
        "compare",
        "crossover",
        "device",
        "estimate",
        "explain",
        "latency",
        "model",
        "plan",
        "step",
        "sweep",
        "validate",
    ),
    "perfmodel.errors": (
        "BadInput",
        "BadValue",
        "ImpossibleSplit",
        "MalformedFile",
        "MissingCalibration",
        "MissingData",
        "MissingExtra",
        "MissingFigure",
        "MissingFile",
        "PerfModelError",
        "UnknownName",
        "UnsupportedDtype",
    ),
    "perfmodel.workload": (
        "Attention",
        "Collective",
        "Conv",
        "DeltaRule",
        "Elementwise",
        "Gemm",
        "LinearAttention",
        "Norm",
        "SelectiveScan",
        "Ssd",
    ),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605 - one list of names, kept in _EXPORTS


def __getattr__(name: str) -> Any:
    """The public name or version, imported on first use (PEP 562)."""
    if name == "__version__":
        value: Any = _version()
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        if "IPython" in sys.modules:
            import_module("perfmodel.report.notebook").register()
    else:
        msg = f"module 'perfmodel' has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata  # slow, and needed for this alone

    try:
        return metadata.version("perfmodel")
    except metadata.PackageNotFoundError:  # run from a source tree that nobody installed
        return "0.0.0+source"
