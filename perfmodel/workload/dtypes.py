"""Data types by name and the storage of one element."""

from __future__ import annotations

from typing import TypeAlias

from perfmodel.errors import BadValue, UnknownName

RateKey: TypeAlias = tuple[str, str, str]
"""``(unit, dtype, acc_dtype)``; unit ``"tensor"`` (matrix products; a device without a matrix unit
runs them on its vector unit) or ``"vector"``."""

DTYPE_BYTES: dict[str, float] = {
    "fp64": 8.0,
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "fp6": 0.75,
    "fp4": 0.5,
    "int32": 4.0,
    "int16": 2.0,
    "int8": 1.0,
    "int4": 0.5,
    "q8": 1.0,
    "q4": 0.5,
}
"""Storage of one element in bytes. Scales of block formats are counted by the op, not here."""

BLOCK_FORMATS: dict[str, int] = {"q8": 32, "q4": 32}
"""Formats of stored weights, whole models in them, embedding and head included: how many weights
share one 16-bit scale. llama.cpp's Q8_0 and Q4_0 (ggml-common.h): 34 and 18 bytes for 32."""

DTYPE_ALIASES: dict[str, str] = {
    "float64": "fp64",
    "float32": "fp32",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "e4m3": "fp8",
    "q8_0": "q8",
    "q4_0": "q4",
}


WEIGHT_SCALES: dict[str, tuple[int | None, float]] = {
    "int8": (None, 2.0),
    "fp8": (None, 2.0),
    "fp6": (32, 1.0),
    "int4": (128, 2.0),
    "fp4": (16, 1.0),
    **{name: (block, 2.0) for name, block in BLOCK_FORMATS.items()},
}
"""Weights that share one scale (None: an output column's) and the bytes of a scale: GPTQ's 16-bit
group scales (arXiv:2210.17323), microscaling fp6 (OCP MX v1.0), NVFP4's 8-bit block scales,
llama.cpp's blocks of 32."""


def dtype_name(name: object, field: str = "dtype") -> str:
    """The canonical name of a data type.

    Raises:
        BadValue: ``name`` is not a string.
        UnknownName: no such data type.
    """
    if not isinstance(name, str):
        msg = f"must be a data type name, got {name!r}"
        raise BadValue(msg, field=field, fix="one of " + ", ".join(DTYPE_BYTES))
    canonical = DTYPE_ALIASES.get(name.lower(), name.lower())
    if canonical not in DTYPE_BYTES:
        raise UnknownName("dtype", name, DTYPE_BYTES)
    return canonical


def dtype_bytes(name: str) -> float:
    """Bytes of one element of data type ``name``; raises as :func:`dtype_name`."""
    return DTYPE_BYTES[dtype_name(name)]


def is_integer_dtype(name: str) -> bool:
    """Whether products of this type accumulate in int32."""
    return name.startswith("int")
