"""Random tensor operands: zeros draw less power, and so run faster, than data does."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName

OPERANDS = ("bf16", "f16", "e4m3", "s8")


def tensor_operands(operand: str, size_bytes: int) -> Any:
    """``size_bytes`` of random operands: normal values, or uniform bytes for s8.

    Raises:
        UnknownName: not one of :data:`OPERANDS`.
    """
    if operand not in OPERANDS:
        raise UnknownName("operand", operand, OPERANDS)
    rng = np.random.default_rng(11)
    if operand == "s8":
        return rng.integers(-127, 128, size=size_bytes, dtype=np.int8)
    normal = rng.standard_normal(size_bytes // (1 if operand == "e4m3" else 2), dtype=np.float32)
    if operand == "bf16":
        return (normal.view(np.uint32) >> 16).astype(np.uint16)
    return normal.astype(np.float16) if operand == "f16" else e4m3_bits(normal)


def e4m3_bits(values: Any) -> Any:
    """float32 values truncated to fp8 e4m3 bits (sign, 4 bits of exponent, 3 of mantissa).

    Magnitudes outside the normal range [2**-6, 448] are clamped into it.

    Raises:
        BadValue: a value that is not finite.
    """
    if not np.isfinite(values).all():
        msg = "must be finite"
        raise BadValue(msg, field="values")
    magnitude = np.clip(np.abs(values), np.float32(2**-6), np.float32(448.0))
    bits = magnitude.astype(np.float32).view(np.uint32)
    exponent = (bits >> 23).astype(np.int32) - 127 + 7
    mantissa = (bits >> 20) & 7
    sign = (values < 0).astype(np.uint32) << 7
    return (sign | (exponent.astype(np.uint32) << 3) | mantissa).astype(np.uint8)
