"""The public functions: names become objects, and each question goes where it is answered."""

from __future__ import annotations

from perfmodel.api.accelerators import (
    capacity,
    compare,
    crossover,
    estimate,
    plan,
    step,
    sweep,
)
from perfmodel.api.boards import arena, latency
from perfmodel.api.names import DeviceLike, ModelLike, device, model
from perfmodel.api.trust import explain, validate

__all__ = [
    "DeviceLike",
    "ModelLike",
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
]
