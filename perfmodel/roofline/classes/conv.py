"""Convolutions: arithmetic at a share of the peak beside streamed bytes."""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.conv import output_size
from perfmodel.ops.numbers import f64
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
    launch_s,
    overlap,
)
from perfmodel.roofline.traffic import CACHE_FRACTION, CACHE_SHARE, memory_s
from perfmodel.workload import Array, Conv

WORK_FRACTION = Parameter(
    name="work_fraction",
    unit="1",
    low=0.01,
    high=1.0,
    start=0.5,
    meaning="share of the peak that the arithmetic reaches",
)
OUTPUT_CLK = Parameter(
    name="output_clk",
    unit="cycles",
    low=0.0,
    high=100.0,
    start=1.0,
    meaning="multiprocessor cycles per output of a depthwise convolution, 32 outputs at a time",
)


def predict_conv(w: Conv, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(arithmetic, memory; unhidden)``.

    arithmetic: FLOPs at ``work_fraction`` of the peak plus the address work of each output.
    """
    cost = count(w)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    work = _arithmetic_s(w, device, values)
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + overlap(work, memory, values["unhidden"]),
        terms={"launch": start, "arithmetic": work, "memory": memory},
        formula=f"launch + max+(arithmetic, memory; {values['unhidden']:.3g})",
        details={},
    )


def _arithmetic_s(w: Conv, device: Device, values: Values) -> Array:
    compute = device.compute
    seconds: Array = np.float64(0.0)
    for (unit, dtype, acc), work in count(w).flops.items():
        peak = np.float64(compute.peak(unit, dtype, acc))
        seconds = seconds + work / (peak * np.float64(values["work_fraction"]))
    height, width = output_size(w)
    outputs = f64(w.batch) * f64(w.out_channels) * height * width
    per_s = np.float64(32.0 * compute.units) * np.float64(compute.clock_vector_hz)
    return seconds + np.float64(values["output_clk"]) * outputs / per_s


CONV = ClassModel(
    name="conv",
    parameters=(
        FIXED_CLK,
        EAGER_S,
        DRAM_FRACTION,
        UNHIDDEN,
        WORK_FRACTION,
        OUTPUT_CLK,
        CACHE_SHARE,
        CACHE_FRACTION,
    ),
    predict=predict_conv,
)
