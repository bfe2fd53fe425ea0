"""Convolutions: arithmetic at a share of the peak beside streamed bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.ops.conv import is_depthwise
from perfmodel.ops.numbers import f64, stored
from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    UNHIDDEN,
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
    beside_memory,
    launch_s,
)
from perfmodel.roofline.traffic import CACHE, memory_s
from perfmodel.workload import Array, Conv

WORK_FRACTION = Parameter(
    name="work_fraction",
    unit="1",
    low=0.01,
    high=1.0,
    start=0.5,
    meaning="share of the peak that the arithmetic reaches",
)
VECTOR_BYTES = np.float64(16.0)
"""The widest access of a thread."""
POSITIONS = np.float64(8.0)
"""Positions that a thread walks one after another: a block of them."""
ROW_CLK = Parameter(
    name="row_clk",
    unit="cycles",
    low=0.0,
    high=1_000.0,
    start=50.0,
    meaning="multiprocessor cycles per sequence and channel of a depthwise convolution",
)
ODD_CLK = Parameter(
    name="odd_clk",
    unit="cycles",
    low=0.0,
    high=1_000.0,
    start=50.0,
    meaning="further cycles where its positions are no whole number of 16-byte accesses",
    prior=0.7,
)
LONG_CLK = Parameter(
    name="long_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=1_000.0,
    meaning="further fixed time of a convolution over whole blocks of positions",
)


def predict_conv(w: Conv, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(arithmetic, memory; unhidden)``.

    arithmetic: FLOPs at ``work_fraction`` of the peak, or, for depthwise kernels that give a thread
    block to every sequence and channel, the fixed work of those rows, whichever is longer.
    """
    cost = count(w)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    work = np.maximum(_arithmetic_s(cost, device, values), _rows_s(w, device, values))
    clock = np.float64(device.compute.clock_vector_hz)
    full = f64(w.width) * f64(w.height) >= POSITIONS
    longer = np.where(full, np.float64(values["long_clk"]), 0.0)[()]
    start = launch_s(device, values, run) + longer / clock
    return replace(
        beside_memory(start, "arithmetic", work, memory, values["unhidden"]),
        special=np.asarray(f64(w.width) * f64(w.height) == 1.0)[()],
        regime="step",
    )


def _arithmetic_s(cost: Cost, device: Device, values: Values) -> Array:
    seconds: Array = np.float64(0.0)
    for (unit, dtype, acc), work in cost.flops.items():
        peak = np.float64(device.compute.peak(unit, dtype, acc))
        seconds = seconds + work / (peak * np.float64(values["work_fraction"]))
    return seconds


def _rows_s(w: Conv, device: Device, values: Values) -> Array:
    if "row_clk" not in values:
        return np.float64(0.0)
    rows = np.where(is_depthwise(w), f64(w.batch) * f64(w.in_channels), 0.0)
    length = f64(w.width) * f64(w.height) * stored(w.dtype)
    odd = np.where(np.mod(length, VECTOR_BYTES) > 0.0, np.float64(values["odd_clk"]), 0.0)
    per_s = np.float64(device.compute.units) * np.float64(device.compute.clock_vector_hz)
    seconds: Array = (rows * (np.float64(values["row_clk"]) + odd) / per_s)[()]
    return seconds


_COMMON = (
    FIXED_CLK,
    EAGER_S,
    DRAM_FRACTION,
    UNHIDDEN,
    WORK_FRACTION,
    LONG_CLK,
    *CACHE,
)
CONV = ClassModel(name="conv", parameters=_COMMON, predict=predict_conv)
CONV_ROWS = ClassModel(
    name="conv_rows", parameters=(*_COMMON, ROW_CLK, ODD_CLK), predict=predict_conv
)
"""Depthwise kernels that give a thread block to every sequence and channel."""
