"""The data types that a model runs in on a device, where nobody says."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel.errors import UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.models.flow import Dtypes
from perfmodel.models.shape import ModelShape
from perfmodel.workload import BLOCK_FORMATS, dtype_bytes, dtype_name

WIDE = ("bf16", "fp16", "fp32")
"""In the order tried, after a 16-bit type that the model was published in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Data types as asked for: ``dtype`` for activations and weights, and for the cache where it
    has 16 bits or more, unless named apart.

    Left out, activations take the published 16-bit type, or bf16, or what comes next in
    :data:`WIDE` that the device multiplies and sums in fp32; weights stay as published where
    that is narrower. Cached keys and values are never narrower than 16 bits unless asked; beside
    weights in a block format they take no more (llama.cpp keeps them in fp16).
    """

    dtype: str | None = None
    weight_dtype: str | None = None
    kv_dtype: str | None = None

    def on(self, shape: ModelShape, device: Device) -> Dtypes:
        """What the model runs in on ``device``.

        Raises:
            UnknownName: no such data type.
        """
        act = self.dtype or _native(shape, device)
        published = shape.dtype if self.dtype is None else act
        narrow = dtype_bytes(published) < dtype_bytes(act)
        weight = self.weight_dtype or (published if narrow else act)
        wide = Dtypes(act=act, weight=act).wide
        kv = self.kv_dtype or ("fp16" if _in_blocks(weight) and wide == "fp32" else wide)
        return Dtypes(act=act, weight=weight, kv=kv)


def _in_blocks(dtype: str) -> bool:
    """Whether weights of this type come in a block format."""
    return dtype_name(dtype, "weight_dtype") in BLOCK_FORMATS


def _native(shape: ModelShape, device: Device) -> str:
    wanted = [d for d in (shape.dtype,) if d == "fp16"] + list(WIDE)
    return next((d for d in wanted if _multiplies(device, d)), wanted[0])


def _multiplies(device: Device, dtype: str) -> bool:
    """Whether products of this type are summed in fp32, as models need."""
    try:
        device.compute.peak("tensor", dtype, "fp32")
    except UnsupportedDtype:
        return False
    return True
