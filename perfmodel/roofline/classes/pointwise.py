"""Norms, softmax, activations, residuals, rotary embeddings: bytes, and the latency of a row."""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.numbers import ceil_div, f64, stored
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
from perfmodel.workload import Array, Elementwise, Norm

ROW_CHUNK = np.float64(1024.0)
"""Elements of a row that one thread block handles in one pass."""


def _element_bytes(name: str, kernels: str) -> Parameter:
    return Parameter(
        name=name,
        unit="B",
        low=1.0,
        high=16.0,
        start=4.0,
        meaning=f"bytes that moving one element costs at least in {kernels}: kernels that load "
        "element by element gain nothing from narrow types",
    )


NORM_ELEMENT = _element_bytes("norm_element_bytes", "norms")
SOFTMAX_ELEMENT = _element_bytes("softmax_element_bytes", "softmax")
ROW_ELEMENT = _element_bytes(
    "row_element_bytes", "activations and rotary embeddings that give a row to one thread block"
)
ROW_CLK = Parameter(
    name="row_clk",
    unit="cycles",
    low=0.0,
    high=5_000.0,
    start=200.0,
    meaning="fixed latency of one row in a thread block",
)
PASS_CLK = Parameter(
    name="pass_clk",
    unit="cycles",
    low=0.0,
    high=5_000.0,
    start=700.0,
    meaning="latency of 1024 elements of a row: about one trip to main memory",
)
BLOCKS_PER_UNIT = Parameter(
    name="blocks_per_unit",
    unit="1",
    low=0.5,
    high=16.0,
    start=2.0,
    meaning="rows that one multiprocessor works on at a time",
)


def predict_pointwise(w: Norm | Elementwise, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(rows, memory; unhidden)``.

    memory: the compulsory bytes, each element counted as ``element_bytes`` at least; rows:
    ``max(1, rows / (blocks units)) * (row + ceil(cols / 1024) pass)`` cycles, the latency chain of
    thread blocks that hold one row each.
    """
    cost = count(w)
    traffic = cost.bytes_total * _passes(w, values)
    memory = memory_s(traffic, cost.bytes_total, device, values, run)
    rows, passes = _rows(w)
    held = np.float64(values["blocks_per_unit"]) * np.float64(device.compute.units)
    row_clk = np.float64(values["row_clk"]) + passes * np.float64(values["pass_clk"])
    chain = np.maximum(rows / held, 1.0) * row_clk / np.float64(device.compute.clock_vector_hz)
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + overlap(chain, memory, values["unhidden"]),
        terms={"launch": start, "rows": chain, "memory": memory},
        formula=f"launch + max+(rows, memory; {values['unhidden']:.3g})",
        details={},
    )


def _passes(w: Norm | Elementwise, values: Values) -> np.float64:
    """How often the compulsory bytes are moved, in effect; flat kernels load whole vectors."""
    if isinstance(w, Elementwise) and w.cols is None:
        return np.float64(1.0)
    kind = "row"
    if isinstance(w, Norm):
        kind = "softmax" if w.kind == "softmax" else "norm"
    least = np.float64(values[f"{kind}_element_bytes"])
    return np.float64(np.maximum(least / stored(w.dtype), 1.0))


def _rows(w: Norm | Elementwise) -> tuple[Array, Array]:
    """Rows, and passes of 1024 elements over each; without rows every 1024 elements are one."""
    if isinstance(w, Norm):
        return f64(w.rows), ceil_div(w.cols, ROW_CHUNK)
    if w.cols is None:
        return ceil_div(w.elements, ROW_CHUNK), np.float64(1.0)
    return ceil_div(w.elements, w.cols), ceil_div(w.cols, ROW_CHUNK)


POINTWISE = ClassModel(
    name="pointwise",
    parameters=(
        FIXED_CLK,
        EAGER_S,
        DRAM_FRACTION,
        UNHIDDEN,
        NORM_ELEMENT,
        SOFTMAX_ELEMENT,
        ROW_ELEMENT,
        ROW_CLK,
        PASS_CLK,
        BLOCKS_PER_UNIT,
        CACHE_SHARE,
        CACHE_FRACTION,
    ),
    predict=predict_pointwise,
)
