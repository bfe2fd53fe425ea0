"""Convolutions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel.ops.cost import Cost
from perfmodel.ops.numbers import accumulator, ceil_div, f64, stored
from perfmodel.workload import Array, Conv, RateKey


def output_size(w: Conv) -> tuple[Array, Array]:
    """Height and width of the output.

    ``same``: ceil(size / stride); ``valid``: floor((size - kernel) / stride) + 1; ``causal``: the
    length is kept.
    """
    return _out(w, f64(w.height), f64(w.kernel_h)), _out(w, f64(w.width), f64(w.kernel_w))


def _out(w: Conv, size: Array, kernel: Array) -> Array:
    if w.padding == "valid":
        return np.floor((size - kernel) / f64(w.stride)) + 1.0
    return ceil_div(size, w.stride if w.padding == "same" else 1)


def macs(w: Conv) -> Array:
    """Multiply-accumulates: outputs times ``(in_channels / groups) kernel_h kernel_w``.

    Taps that fall on padding are counted, as MLPerf Tiny and every framework's counter do.
    """
    height, width = output_size(w)
    outputs = f64(w.batch) * f64(w.out_channels) * height * width
    return outputs * (f64(w.in_channels) / f64(w.groups)) * f64(w.kernel_h) * f64(w.kernel_w)


def count_conv(w: Conv) -> Cost:
    """2-D (or 1-D) convolution; ``groups`` = ``in_channels`` is depthwise.

    FLOPs ``2 MACs`` at the rate of the activation type; a depthwise convolution in floating point
    has no products to tile and runs in fp32 on the vector unit. Bytes: input, weights, output once;
    a causal convolution of one token is a decode step, which reads the ``kernel_w - 1`` inputs
    before it from its state and writes them back.
    """
    height, width = output_size(w)
    per_group = f64(w.in_channels) / f64(w.groups)
    taps = per_group * f64(w.kernel_h) * f64(w.kernel_w)
    image = f64(w.batch) * f64(w.in_channels) * f64(w.height) * f64(w.width)
    outputs = f64(w.batch) * f64(w.out_channels) * height * width
    assert w.weight_dtype is not None
    assert w.out_dtype is not None
    weights = f64(w.out_channels) * taps * stored(w.weight_dtype)
    state = _step_state(w) * stored(w.dtype)
    return Cost(
        flops=_by_unit(w, 2.0 * outputs * taps),
        read_bytes=image * stored(w.dtype) + weights + state,
        write_bytes=outputs * stored(w.out_dtype) + state,
        weight_bytes=weights,
        items=outputs,
    )


def _step_state(w: Conv) -> Array:
    """Inputs that a single causal step keeps; 0 for anything longer."""
    if w.padding != "causal":
        return np.float64(0.0)
    kept = f64(w.batch) * f64(w.in_channels) * (f64(w.kernel_w) - 1.0)
    state: Array = np.where(f64(w.width) == 1.0, kept, 0.0)[()]
    return state


def is_depthwise(w: Conv) -> NDArray[np.bool_]:
    """Where every group holds one input channel."""
    return np.asarray(np.asarray(w.in_channels) == np.asarray(w.groups))


def _by_unit(w: Conv, flops: Array) -> dict[RateKey, Array]:
    acc = accumulator(w.dtype)
    product: RateKey = ("tensor", w.dtype, acc)
    alone = is_depthwise(w) if acc == "fp32" else np.asarray(False)
    work: dict[RateKey, Array] = {}
    if not bool(np.all(alone)):
        work[product] = np.where(alone, 0.0, flops)[()]
    if bool(np.any(alone)):
        work["vector", "fp32", "fp32"] = np.where(alone, flops, 0.0)[()]
    return work
