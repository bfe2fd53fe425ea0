"""Workloads of a network's operators, from the shapes of their tensors.

A file says shapes; :mod:`perfmodel.ops` counts workloads. These functions are the one bridge, used
by the readers and by the built-in networks, so that both count alike.
"""

from __future__ import annotations

import math

from perfmodel.workload import DTYPE_BYTES, Conv, Elementwise, Gemm, Norm, Workload

_COMPUTED_AS = {
    "uint4": "int4",
    "uint8": "int8",
    "bool": "int8",
    "uint16": "int16",
    "uint32": "int32",
    "int64": "int32",
    "uint64": "int32",
    "complex64": "fp32",
    "complex128": "fp64",
}


def computed_dtype(dtype: str) -> str:
    """The workload data type that stands for a stored one (``uint8`` counts as ``int8``)."""
    return dtype if dtype in DTYPE_BYTES else _COMPUTED_AS[dtype]


def conv_workload(
    image: tuple[int, int, int],
    out: tuple[int, int, int],
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    groups: int = 1,
    dtype: str = "int8",
    weight_dtype: str | None = None,
    batch: int = 1,
) -> Conv:
    """A convolution between images of ``(height, width, channels)``; the output size is exact.

    Where neither ``same`` nor ``valid`` padding gives ``out`` (asymmetric or explicit padding,
    unequal strides, dilation), the input is the area that the outputs touch.
    """
    (height, width, channels), (rows, columns, filters) = image, out
    padding, step = "valid", stride[0]
    if stride[0] == stride[1] and (rows, columns) == (-(-height // step), -(-width // step)):
        padding = "same"
    elif (
        stride[0] != stride[1]
        or rows != (height - kernel[0]) // step + 1
        or columns != (width - kernel[1]) // step + 1
        or kernel[0] > height
        or kernel[1] > width
    ):
        step = 1 if stride[0] != stride[1] else step
        height, width = (rows - 1) * step + kernel[0], (columns - 1) * step + kernel[1]
    return Conv(
        batch=batch,
        in_channels=channels,
        out_channels=filters,
        height=height,
        width=width,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride=step,
        groups=groups,
        padding=padding,  # type: ignore[arg-type]
        dtype=computed_dtype(dtype),
        weight_dtype=computed_dtype(weight_dtype or dtype),
        out_dtype=computed_dtype(dtype),
    )


def product_workload(
    m: int, n: int, k: int, *, batch: int = 1, dtype: str = "int8", weight_dtype: str | None = None
) -> Gemm:
    """A matrix product ``[m, k] @ [k, n]``, ``batch`` times, stored as it came."""
    act = computed_dtype(dtype)
    return Gemm(
        m=m,
        n=n,
        k=k,
        batch=batch,
        dtype=act,
        weight_dtype=computed_dtype(weight_dtype or dtype),
        out_dtype=act,
    )


def rows_workload(shape: tuple[int, ...], kind: str, dtype: str) -> Norm:
    """A softmax or norm over the last axis of ``shape``."""
    return Norm(
        rows=max(math.prod(shape[:-1]), 1),
        cols=shape[-1] if shape else 1,
        kind="softmax" if kind == "softmax" else "layer",
        dtype=computed_dtype(dtype),
    )


def pointwise_workload(
    elements: int,
    dtype: str,
    name: str,
    *,
    reads: float = 1.0,
    flops: float = 1.0,
    special: float = 0.0,
) -> Workload:
    """``elements`` outputs of an addition, activation, pooling (``reads`` is its window) or so."""
    return Elementwise(
        elements=elements,
        reads=reads,
        flops=flops,
        special=special,
        dtype=computed_dtype(dtype),
        name=name,
    )
