"""The definition: what every other implementation is held to. NumPy or CuPy, by an ``xp`` argument.

Shapes: activations ``a`` [m, k] and weights ``b`` [n, k], signed bytes with k innermost; one scale
per row of each. ::

    y[i, j] = row_scale[i] * col_scale[j] * sum_k a[i, k] b[j, k]  (+ bias[j])

LLM.int8() (Dettmers, Lewis, Belkada, Zettlemoyer 2022, section 3.2) keeps the columns k of 16-bit
activations that hold an outlier in 16 bits, with the weights dequantised, and the rest in bytes::

    y[i, j] = col_scale[j] * (row_scale[i] * sum_{k not in O} q[i, k] b[j, k]
                              + sum_{k in O} x[i, k] b[j, k])  (+ bias[j])
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue

MAX_K = 131_071
"""Largest k whose sum fits in 32 bits whatever the bytes: k * 128 * 128 <= 2**31 - 1."""

OUTLIER_THRESHOLD = 6.0
"""Magnitude from which LLM.int8() keeps an activation in 16 bits (the paper's section 3.2)."""

TINY_ROW = 2.0**-100
"""Rows with no larger magnitude quantise to zero, so that 127 / maximum stays finite."""

OUTPUT_EPS = 2.0**-8
"""Allowed relative error of an output: what one rounding to bf16 (8 significant bits) may take."""

OUTPUT_FLOOR = {"fp16": 2.0**-25}
"""Half of the smallest number of a format whose range the outputs can leave (fp16: 2**-24)."""

SUM_EPS = 2.0**-23
"""Allowed error relative to the sum of the terms' magnitudes: one fp32 unit in the last place."""


def check_operands(m: int, n: int, k: int) -> None:
    """Refuse sizes whose int32 sum could overflow or that are empty.

    Raises:
        BadValue: a size below 1, or k above :data:`MAX_K`.
    """
    for name, size in (("m", m), ("n", n), ("k", k)):
        if size < 1:
            msg = f"must be at least 1, got {size}"
            raise BadValue(msg, field=name)
    if k > MAX_K:
        msg = f"{k} products of -128 * -128 can exceed 2**31 - 1; the limit is {MAX_K}"
        raise BadValue(msg, field="k", fix="split k and add the parts in 64 bits or floats")


def integer_product(a: Any, b: Any, xp: ModuleType = np) -> Any:
    """``a @ b.T`` of signed bytes as int32 [m, n], exact.

    Computed in float64, where every product and partial sum is an integer below 2**31 < 2**53 and
    hence exact in any order of summation.

    Raises:
        BadValue: k above :data:`MAX_K`, empty operands, or k that differ.
    """
    if a.shape[1] != b.shape[1]:
        msg = f"a has k = {a.shape[1]}, b has k = {b.shape[1]}"
        raise BadValue(msg, field="k")
    check_operands(a.shape[0], b.shape[0], a.shape[1])
    product = a.astype(xp.float64) @ b.astype(xp.float64).T
    return product.astype(xp.int32)


def dequantise(
    sums: Any, row_scale: Any, col_scale: Any, bias: Any | None = None, xp: ModuleType = np
) -> Any:
    """Scaled sums [m, n] in float64; scales [m] and [n], bias [n] or None."""
    scaled = sums.astype(xp.float64) * row_scale.astype(xp.float64)[:, None]
    y = scaled * col_scale.astype(xp.float64)[None, :]
    return y if bias is None else y + bias.astype(xp.float64)[None, :]


def scaled_product(
    a: Any,
    b: Any,
    row_scale: Any,
    col_scale: Any,
    bias: Any | None = None,
    xp: ModuleType = np,
) -> tuple[Any, Any]:
    """``(y, bound)``: the dequantised product in float64 and the error allowed per element."""
    y = dequantise(integer_product(a, b, xp), row_scale, col_scale, bias, xp)
    terms = dequantise(
        integer_product(_magnitude(a, xp), _magnitude(b, xp), xp),
        row_scale,
        col_scale,
        None if bias is None else xp.abs(bias),
        xp,
    )
    return y, OUTPUT_EPS * xp.abs(y) + SUM_EPS * terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Rows as bytes: ``x ~ scale[:, None] * q``, and the columns left out of them."""

    q: Any
    scale: Any
    outliers: Any
    """Ascending column indices (int32); their entries in ``q`` are 0."""


def quantise_rows(x: Any, threshold: float | None = None, xp: ModuleType = np) -> Quantised:
    """Symmetric quantisation of rows to [-127, 127], rounding half to even.

    The arithmetic is fp32, each step correctly rounded, so that any IEEE implementation gives the
    same bytes: ``scale = max / 127``, ``q = rint(x * (127 / max))``. With a ``threshold`` the
    maximum runs over the smaller magnitudes only, and columns with any larger one are outliers.
    """
    x32 = x.astype(xp.float32)
    magnitude = xp.abs(x32)
    if threshold is None:
        ordinary = xp.ones(x32.shape, dtype=bool)
    else:
        ordinary = magnitude < xp.float32(threshold)
    largest = xp.where(ordinary, magnitude, xp.float32(0)).max(axis=1)
    usable = largest > xp.float32(TINY_ROW)
    inverse = xp.where(usable, xp.float32(127) / xp.where(usable, largest, 1), 0).astype(xp.float32)
    outliers = xp.flatnonzero(~ordinary.all(axis=0)).astype(xp.int32)
    q = xp.rint(xp.where(ordinary, x32, 0) * inverse[:, None]).astype(xp.int8)
    q[:, outliers] = 0
    scale = (largest / xp.float32(127)).astype(xp.float32)
    return Quantised(q=q, scale=scale, outliers=outliers)


def llm_int8(
    x: Any,
    b: Any,
    col_scale: Any,
    bias: Any | None = None,
    *,
    threshold: float = OUTLIER_THRESHOLD,
    xp: ModuleType = np,
) -> tuple[Any, Any]:
    """``(y, bound)`` of LLM.int8() in float64; ``x`` [m, k] holds exact values of a 16-bit type."""
    parts = quantise_rows(x, threshold, xp)
    held = x[:, parts.outliers].astype(xp.float64)
    weights = b[:, parts.outliers].astype(xp.float64)
    columns = col_scale.astype(xp.float64)[None, :]
    offset = 0.0 if bias is None else bias.astype(xp.float64)[None, :]
    ones = xp.ones(b.shape[0])
    ordinary = dequantise(integer_product(parts.q, b, xp), parts.scale, ones, None, xp)
    y = columns * (ordinary + held @ weights.T) + offset
    terms = dequantise(
        integer_product(_magnitude(parts.q, xp), _magnitude(b, xp), xp), parts.scale, ones, None, xp
    )
    terms = columns * (terms + xp.abs(held) @ xp.abs(weights).T) + xp.abs(offset)
    return y, OUTPUT_EPS * xp.abs(y) + SUM_EPS * terms


def _magnitude(values: Any, xp: ModuleType) -> Any:
    """|values| of bytes; wider, since |-128| is no signed byte."""
    return xp.abs(values.astype(xp.int16))
