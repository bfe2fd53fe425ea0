"""Activations, residuals, rotary embeddings, fused norms, copies and reductions of whole arrays.

Flat kernels give every thread a few vectors: one trip to memory, then streaming. Kernels that give
a row to one thread block are chains of trips. Reductions end in a second round over their blocks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.ops.numbers import ceil_div, f64, stored
from perfmodel.roofline.model import (
    CALLED_S,
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
    host_bound,
    launch_s,
    overlap,
)
from perfmodel.roofline.power import STREAM_POWER
from perfmodel.roofline.traffic import (
    CACHE,
    WARM_LATENCY,
    latency_share,
    memory_s,
)
from perfmodel.workload import Array, Elementwise, Norm

ROW_CHUNK = np.float64(1024.0)
"""Elements of a row that one thread block handles in one pass."""
ONE_BLOCK = np.float64(131_072.0)
"""Elements that a reduction leaves to one thread block: 256 for each of 512 threads."""
STEP = np.float64(2048.0)
"""Elements that this block takes in one step: a vector of four for each thread."""


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
ROW_ELEMENT = _element_bytes(
    "row_element_bytes", "activations and rotary embeddings that give a row to one thread block"
)
NORM_PASSES = Parameter(
    name="norm_passes",
    unit="1",
    low=1.0,
    high=2.0,
    start=1.2,
    meaning="how often a norm or softmax moves its compulsory bytes",
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
ROW_UNHIDDEN = replace(
    UNHIDDEN,
    name="row_unhidden",
    meaning="share of the shorter of a row's latencies and memory time that the longer does not "
    "hide, in kernels that give a row to one thread block",
)
TRIP_CLK = Parameter(
    name="trip_clk",
    unit="cycles",
    low=0.0,
    high=5_000.0,
    start=700.0,
    meaning="one trip to main memory before data streams",
    prior=0.3,
)
VECTOR_FRACTION = Parameter(
    name="vector_fraction",
    unit="1",
    low=0.02,
    high=1.0,
    start=0.15,
    meaning="share of the vector peak that counted FLOPs reach: functions take more instructions "
    "than they count",
    prior=0.5,
)
SPECIAL_FRACTION = Parameter(
    name="special_fraction",
    unit="1",
    low=0.05,
    high=1.0,
    start=0.7,
    meaning="share of the special-function rate that is reached",
    prior=0.1,
)
STEP_CLK = Parameter(
    name="step_clk",
    unit="cycles",
    low=0.0,
    high=5_000.0,
    start=700.0,
    meaning="latency of 2048 elements of a reduction by one thread block",
)
JOIN_CLK = Parameter(
    name="join_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=5_000.0,
    meaning="second round of a reduction by many thread blocks",
)


def _host(kind: str) -> Parameter:
    return Parameter(
        name=f"{kind}_host_s",
        unit="s",
        low=0.0,
        high=1e-4,
        start=2e-5,
        meaning=f"calling {kind} and waiting until the device has done it",
    )


def predict_synchronous(w: Norm | Elementwise, device: Device, values: Values, run: Run) -> Terms:
    """``host + memory``: an eager call that is waited for, as a profile of single calls has it."""
    cost = count(w)
    kind = "elementwise" if isinstance(w, Elementwise) else w.kind
    passes = np.float64(1.0 if isinstance(w, Elementwise) else values["passes"])
    memory = memory_s(cost.bytes_total * passes, cost.bytes_total, device, values, run)
    host = np.float64(values[f"{'layer' if kind == 'rms' else kind}_host_s"])
    return Terms(
        time_s=host + memory,
        terms={"launch": host, "memory": memory},
        formula="launch + memory",
        details={},
    )


def predict_pointwise(w: Norm | Elementwise, device: Device, values: Values, run: Run) -> Terms:
    """``launch + trip + max+(arithmetic, memory; unhidden)`` of flat kernels; of kernels that hold
    a row in a thread block ``launch + max+(rows, memory; row_unhidden)``.

    memory: the compulsory bytes, each element counted as ``row_element_bytes`` (norms:
    ``norm_element_bytes``) at least; rows:
    ``max(1, rows / (blocks units)) * (row + ceil(cols / 1024) pass)`` cycles.
    """
    cost = count(w)
    if isinstance(w, Elementwise) and w.cols is None:
        return _flat(cost, device, values, run)
    memory = _rows_memory_s(w, cost, device, values, run)
    rows, passes = _rows(w)
    held = np.float64(values["blocks_per_unit"]) * np.float64(device.compute.units)
    row_clk = np.float64(values["row_clk"]) + passes * np.float64(values["pass_clk"])
    chain = np.maximum(rows / held, 1.0) * row_clk / np.float64(device.compute.clock_vector_hz)
    start = launch_s(device, values, run)
    return beside_memory(start, "rows", chain, memory, values["row_unhidden"])


def _flat(cost: Cost, device: Device, values: Values, run: Run) -> Terms:
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    work = arithmetic_s(cost, device, values)
    clock = np.float64(device.compute.clock_vector_hz)
    shorter = latency_share(cost.bytes_total, device, values, run)
    trip = np.float64(values["trip_clk"]) / clock * shorter
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + trip + overlap(work, memory, values["unhidden"]),
        terms={"launch": start, "trip": trip, "arithmetic": work, "memory": memory},
        formula=f"launch + trip + max+(arithmetic, memory; {values['unhidden']:.3g})",
        details={},
    )


def predict_reduction(w: Elementwise, device: Device, values: Values, run: Run) -> Terms:
    """``launch + steps`` of one thread block, or ``launch + join + memory`` of many.

    torch.sum gives up to 256 elements a thread to one block, a chain of trips to memory; beyond
    that blocks share the array and a last round adds up what they found.
    """
    cost, clock = count(w), np.float64(device.compute.clock_vector_hz)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    single = f64(w.elements) <= ONE_BLOCK
    shorter = latency_share(cost.bytes_total, device, values, run)
    chain = ceil_div(w.elements, STEP) * np.float64(values["step_clk"]) / clock * shorter
    steps = np.where(single, chain, np.float64(values["join_clk"]) / clock)[()]
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + steps + memory,
        terms={"launch": start, "steps": steps, "memory": memory},
        formula="launch + steps + memory",
        details={},
    )


def predict_copy(w: Elementwise, device: Device, values: Values, run: Run) -> Terms:
    """``launch + trip + memory``: the driver's own copy, which a graph holds as a copy node."""
    cost, clock = count(w), np.float64(device.compute.clock_vector_hz)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    shorter = latency_share(cost.bytes_total, device, values, run)
    trip = np.float64(values["trip_clk"]) / clock * shorter
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + trip + memory,
        terms={"launch": start, "trip": trip, "memory": memory},
        formula="launch + trip + memory",
        details={},
    )


def arithmetic_s(cost: Cost, device: Device, values: Values) -> Array:
    """The longer of vector and special-function work at the shares of their peaks that the class
    reaches; a unit whose rate the spec lacks is left out."""
    seconds: Array = cost.special * 0.0
    for key, work in cost.flops.items():
        if (peak := device.compute.peaks.get(key)) is not None:
            rate = np.float64(values["vector_fraction"]) * np.float64(peak)
            seconds = np.maximum(seconds, work / rate)
    if device.compute.special_per_s > 0.0:
        rate = np.float64(values["special_fraction"]) * np.float64(device.compute.special_per_s)
        seconds = np.maximum(seconds, cost.special / rate)
    return seconds


def _rows_memory_s(
    w: Norm | Elementwise, cost: Cost, device: Device, values: Values, run: Run
) -> Array:
    """Seconds of the traffic of row kernels, each element at its least bytes."""
    name = "norm_element_bytes" if isinstance(w, Norm) else "row_element_bytes"
    wider = np.float64(np.maximum(np.float64(values[name]) / stored(w.dtype), 1.0))
    if isinstance(w, Norm):
        wider = wider * np.float64(values["norm_passes"])
    return memory_s(cost.bytes_total * wider, cost.bytes_total, device, values, run)


def _rows(w: Norm | Elementwise) -> tuple[Array, Array]:
    """Rows, and passes of 1024 elements over each."""
    if isinstance(w, Norm):
        return f64(w.rows), ceil_div(w.cols, ROW_CHUNK)
    assert w.cols is not None
    return ceil_div(w.elements, w.cols), ceil_div(w.cols, ROW_CHUNK)


HOST_S = replace(EAGER_S, start=1e-5, prior=0.3)
"""An eager call's path through the framework belongs to a host, which tables do not name."""
_FLAT = (FIXED_CLK, HOST_S, DRAM_FRACTION, TRIP_CLK, WARM_LATENCY, *CACHE)
POINTWISE = ClassModel(
    name="pointwise",
    parameters=(
        *_FLAT, UNHIDDEN, VECTOR_FRACTION, SPECIAL_FRACTION, NORM_ELEMENT, NORM_PASSES, ROW_ELEMENT,
        ROW_CLK, PASS_CLK, BLOCKS_PER_UNIT, ROW_UNHIDDEN, *STREAM_POWER, CALLED_S,
    ),
    predict=host_bound(predict_pointwise),
    typical_of=("norm/torch",),
)  # fmt: skip
"""Long norms of torch are bound by memory as anybody's are; named, they have their own class."""
GENERATED = ClassModel(
    name="generated",
    parameters=(
        FIXED_CLK, HOST_S, DRAM_FRACTION, WARM_LATENCY, *CACHE,
        ROW_UNHIDDEN, ROW_ELEMENT, ROW_CLK, PASS_CLK, BLOCKS_PER_UNIT,
    ),
    predict=host_bound(predict_pointwise),
)  # fmt: skip
"""Kernels that a compiler wrote for a chain of operators over rows (torch.compile)."""
REDUCTION = ClassModel(
    name="reduction",
    parameters=(*_FLAT[:3], *_FLAT[4:], STEP_CLK, JOIN_CLK),
    predict=host_bound(predict_reduction),
)
SYNCHRONOUS = ClassModel(
    name="synchronous",
    parameters=(
        *(_host(kind) for kind in ("elementwise", "layer", "softmax")),
        DRAM_FRACTION,
        *CACHE,
        Parameter(
            name="passes",
            unit="1",
            low=1.0,
            high=4.0,
            start=1.5,
            meaning="how often norms and softmax move their compulsory bytes",
        ),
    ),
    predict=predict_synchronous,
)
COPY = ClassModel(name="copy", parameters=_FLAT, predict=host_bound(predict_copy))
