"""What is fitted about microcontrollers: scales on the instruction model, shared and per runtime.

Cycles of a network = sum over operator classes of scale x instruction model, + ``call`` cycles an
operator. Each scale is a product of the pooled ``level``, the
class's factor, and the runtime's own level and class factors. Priors keep factors near 1, so that a
class that a runtime was never seen to run is predicted from the instruction model.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from perfmodel.mcu.instructions import FAMILIES
from perfmodel.roofline.model import Parameter, Values

CLASS_PRIOR = 0.3
"""Log-width of the prior on a class's factor: what instruction counts are trusted to."""


def _factor(name: str, meaning: str, prior: float) -> Parameter:
    return Parameter(
        name=name, unit="1", low=0.1, high=10.0, start=1.0, meaning=meaning, prior=prior
    )


SHARED: tuple[Parameter, ...] = (
    _factor("level", "cycles of the typical runtime over the instruction model", 0.0),
    _factor("conv", "convolutions of several channels over the instruction model", CLASS_PRIOR),
    _factor("first", "convolutions of up to four input channels likewise", CLASS_PRIOR),
    _factor("depthwise", "depthwise convolutions likewise", CLASS_PRIOR),
    _factor("dense", "matrix-vector products likewise", CLASS_PRIOR),
    _factor("float", "floating-point kernels over int8 kernels likewise", CLASS_PRIOR),
    Parameter(
        name="call",
        unit="cycles",
        low=10.0,
        high=20_000.0,
        start=1000.0,
        meaning="the runtime's path to one operator",
        prior=1.0,
    ),
)

OWN: tuple[Parameter, ...] = (
    _factor("level", "cycles of this runtime over the typical one", 0.5),
    _factor("conv", "its convolutions over its pointwise products", 0.25),
    _factor("depthwise", "its depthwise convolutions likewise", 0.25),
    _factor("dense", "its matrix-vector products likewise", 0.35),
)
"""Factors of one runtime; priors as wide as runtimes were seen to differ."""

CLASS_FACTOR = {"conv": "conv", "first": "first", "depthwise": "depthwise", "dense": "dense"}
OWN_FACTOR = CLASS_FACTOR | {"first": "conv"}


def all_parameters(runtimes: Iterable[str]) -> tuple[Parameter, ...]:
    """Shared parameters, then those of each runtime as ``runtime.name``."""
    own = (
        Parameter(**{s: getattr(p, s) for s in p.__slots__} | {"name": f"{r}.{p.name}"})
        for r in runtimes
        for p in OWN
    )
    return (*SHARED, *own)


def family_scales(values: Values, runtime: str | None) -> NDArray[np.float64]:
    """The scale of each operator class; the typical runtime's for None or an unseen one."""
    return np.array([_scale(values, runtime, family) for family in FAMILIES])


def _scale(values: Values, runtime: str | None, family: str) -> float:
    shared = values["level"] * values.get(CLASS_FACTOR.get(family, ""), 1.0)
    own = values.get(f"{runtime}.level", 1.0)
    return shared * own * values.get(f"{runtime}.{OWN_FACTOR.get(family, '')}", 1.0)
