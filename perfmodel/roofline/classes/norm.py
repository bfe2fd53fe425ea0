"""Norms and softmax as torch runs them: a thread block reads its row, then reads it again.

torch's LayerNorm and RMSNorm walk a row with 128 threads; its softmax takes rows up to 4 KiB in
the registers of one warp and longer rows with a block of 1024 threads (ATen, native/cuda).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.numbers import f64, stored
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
    cycles,
    host_bound,
    launch_s,
)
from perfmodel.roofline.power import STREAM_POWER
from perfmodel.roofline.traffic import (
    CACHE,
    WARM_LATENCY,
    latency_share,
    memory_s,
)
from perfmodel.workload import Array, Norm

CHUNK = np.float64(1024.0)
"""Columns whose latency the parameters state."""
IN_REGISTERS = np.float64(4096.0)
"""Bytes of a row that softmax keeps in the registers of a warp."""
NORM_THREADS, WARP = np.float64(128.0), np.float64(32.0)
SOFTMAX_READINGS = np.float64(3.0)
"""Of a row that does not fit in registers: for its maximum, for the sum, for what is written."""
SHARED, VECTOR = np.float64(48.0 * 1024.0), np.float64(16.0)
"""Bytes of rows that softmax keeps in shared memory, and of the vectors that must make them up."""
THREADS = np.float64(2048.0)
"""Threads of a multiprocessor where a spec states none."""

_clk = partial(cycles, prior=0.3)

PARAMETERS = (
    replace(FIXED_CLK, start=3_400.0, prior=0.2),
    replace(EAGER_S, start=1e-5, prior=0.3),
    DRAM_FRACTION,
    replace(UNHIDDEN, start=0.2, prior=0.5),
    WARM_LATENCY,
    *CACHE,
    _clk("row_clk", 10_000.0, 1_200.0, "fixed latency of one row of a norm in a thread block"),
    _clk("pass_clk", 10_000.0, 3_200.0, "latency of 1024 columns of it, both readings"),
    Parameter(
        name="rms_share",
        unit="1",
        low=0.2,
        high=1.0,
        start=0.7,
        meaning="share of these latencies that a norm without a mean has",
        prior=0.2,
    ),
    _clk("row_issue_clk", 2_000.0, 250.0, "cycles of a multiprocessor to issue a row's reductions"),
    _clk("pass_issue_clk", 2_000.0, 320.0, "cycles of it to issue 1024 columns, both readings"),
    _clk("softmax_row_clk", 10_000.0, 800.0, "fixed latency of one row of softmax"),
    _clk("softmax_pass_clk", 10_000.0, 700.0, "latency of 1024 columns of it, all readings"),
    _clk("lane_clk", 40_000.0, 8_000.0, "latency of 1024 columns of softmax in one warp's lanes"),
    Parameter(
        name="norm_readings",
        unit="1",
        low=1.0,
        high=2.0,
        start=2.0,
        meaning="how often a norm reads rows that together exceed the last-level cache",
    ),
    *STREAM_POWER,
    CALLED_S,
)
"""Where the starts come from. Launch: 2500 cycles and a trip of 900 to memory, as flat kernels
have. Norms bring 512 columns at a time: 1024 wait twice for the row and for its weights, 650 cycles
each, and once more for the row in the cache. An element takes some 25 instructions (Welford's
update 14 with its reciprocal, the second reading 10), 330 cycles for 1024 on four schedulers that
issue every other cycle; reducing the triples of four warps takes 800 instructions. Softmax computes
two exponentials and a division an element, 40 instructions and more: 0.7 cycles a column; a lane
has 32 of each 1024 columns and waits about 250 cycles for each."""


def predict_norm(w: Norm, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(rows, memory; unhidden)``.

    memory: a row read again comes from the cache while the rows at work fit there, else from main
    memory; rows: as :func:`_rows_s` has it.
    """
    cost, rows, cols = count(w), f64(w.rows), f64(w.cols)
    places = _blocks_held(w, device) * np.float64(device.compute.units)
    walk = _rows_s(w, places, device, values)
    walk = walk * latency_share(cost.bytes_total, device, values, run)
    again = _again(w, np.minimum(rows, places), device, values)
    traffic = cost.bytes_total + again * rows * cols * stored(w.dtype)
    memory = memory_s(traffic, cost.bytes_total, device, values, run)
    start = launch_s(device, values, run)
    return beside_memory(start, "rows", walk, memory, values["unhidden"])


def _rows_s(w: Norm, places: Array, device: Device, values: Values) -> Array:
    """Seconds of the rows: few wait, ``max(1, rows / places) * (row + cols / 1024 pass)`` cycles;
    many are issued, ``rows / units * (row_issue + cols / 1024 pass_issue)`` at least. A block of
    softmax fills a multiprocessor, so its figures stand for both; rows in one warp's lanes wait for
    ``lane`` instead.
    """
    rows, chunks = f64(w.rows), f64(w.cols) / CHUNK
    each = rows / np.float64(device.compute.units)
    share = np.float64(values["rms_share"] if w.kind == "rms" else 1.0)
    if w.kind == "softmax":
        part = chunks * np.float64(values["softmax_pass_clk"])
        block = np.maximum(each, 1.0) * (np.float64(values["softmax_row_clk"]) + part)
        lanes = np.maximum(rows / places, 1.0) * chunks * np.float64(values["lane_clk"])
        cycles = np.where(_in_warp(w), np.maximum(lanes, each * part), block)
    else:
        chain = np.float64(values["row_clk"]) + chunks * np.float64(values["pass_clk"])
        issue = np.float64(values["row_issue_clk"]) + chunks * np.float64(values["pass_issue_clk"])
        cycles = np.maximum(np.maximum(rows / places, 1.0) * chain, each * issue)
    seconds: Array = cycles[()] * share / np.float64(device.compute.clock_vector_hz)
    return seconds


def _in_warp(w: Norm) -> NDArray[np.bool_]:
    """Whether softmax gives a row to one warp."""
    held: NDArray[np.bool_] = np.asarray(f64(w.cols) * stored(w.dtype) <= IN_REGISTERS)
    return held


def _blocks_held(w: Norm, device: Device) -> Array:
    """Thread blocks that a multiprocessor works on at a time: as its threads allow, but one of long
    rows of softmax, whose registers fill it."""
    threads = np.float64(device.compute.threads_per_unit or THREADS)
    if w.kind != "softmax":
        return threads / NORM_THREADS
    held: Array = np.where(_in_warp(w), threads / WARP, 1.0)[()]
    return held


def _again(w: Norm, at_work: Array, device: Device, values: Values) -> Array:
    """Further readings of a row that main memory serves: those for which the rows at work, and
    what is written of them, do not rest in the last-level cache."""
    cols, softmax = f64(w.cols), w.kind == "softmax"
    cache = device.memory.cache
    size = np.float64(0.0 if cache is None or cache.bytes is None else cache.bytes)
    rests = np.float64(values["cache_share"]) * size / (2.0 * at_work * cols * stored(w.dtype))
    more = (SOFTMAX_READINGS if softmax else np.float64(values["norm_readings"])) - 1.0
    missed: Array = np.clip(1.0 - rests, 0.0, 1.0) * more
    row = cols * stored(w.dtype)
    held = _in_warp(w) | ((row < SHARED) & (row % VECTOR == 0.0))
    return np.where(softmax & held, 0.0, missed)[()]


NORM = ClassModel(name="norm", parameters=PARAMETERS, predict=host_bound(predict_norm))
