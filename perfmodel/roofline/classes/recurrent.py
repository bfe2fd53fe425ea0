"""Mixers with a state: waves of heads x chunks of tokens for a prefill, bytes for one step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.ops.numbers import ceil_div, f64
from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    OWN,
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
from perfmodel.workload import Array, DeltaRule, LinearAttention, SelectiveScan, Ssd, Workload

SCAN_CHANNELS = np.float64(128.0)
"""Channels that one thread block of a selective scan walks together."""
SCAN_TOKENS = np.float64(64.0)
"""Tokens of a selective scan counted as one chunk."""

MIXERS = ("linear_attention", "delta_rule", "selective_scan", "ssd")
KERNELS = {"linear_attention": 4.0, "delta_rule": 1.0, "selective_scan": 1.0, "ssd": 5.0}
"""Kernels that the reference implementation of each mixer launches: flash-linear-attention's
chunk_gla, FlashInfer's fused delta rule, mamba-ssm's selective_scan and ssd_combined."""

CHUNK_LATENCIES = tuple(
    parameter
    for op in MIXERS
    for parameter in (
        Parameter(
            name=f"{op}_wave_clk",
            unit="cycles",
            low=0.0,
            high=100_000.0,
            start=8_000.0,
            meaning=f"{op}: start and end of one wave of heads",
        ),
        Parameter(
            name=f"{op}_token_clk",
            unit="cycles",
            low=0.0,
            high=500.0,
            start=80.0,
            meaning=f"{op}: dependent latency per token of a chunk (scan: of 64 tokens)",
        ),
    )
)
RAGGED_CLK = Parameter(
    name="ragged_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=4_000.0,
    meaning="further latency of a wave whose sequences end inside a chunk: masks and tails",
)
WORK_FRACTION = Parameter(
    name="work_fraction",
    unit="1",
    low=0.01,
    high=1.0,
    start=0.5,
    meaning="share of a multiprocessor's peaks that the arithmetic inside a chunk reaches",
)


def predict_chunk(w: Workload, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(chunks, memory; unhidden)``.

    Heads (or 128-channel groups) are dealt to multiprocessors in ``waves``; each walks its chunks
    one after the other: ``waves * (wave_clk + chunks * tokens * token_clk) + work``, where work is
    the arithmetic of ``waves`` heads on one multiprocessor at ``work_fraction`` of its peaks. The
    latencies are the operator's own: how deep its chunk's chain of products is. A sequence that
    ends inside a chunk pays ``ragged_clk`` in every wave.
    """
    cost = count(w)
    walkers, chunks, tokens = _layout(w)
    units = np.float64(device.compute.units)
    waves = np.ceil(walkers / units)
    clock = np.float64(device.compute.clock_vector_hz)
    chain = chunks * tokens * np.float64(values[f"{w.op}_token_clk"])
    ragged = np.where(_ragged(w), np.float64(values["ragged_clk"]), 0.0)[()]
    latency = (np.float64(values[f"{w.op}_wave_clk"]) + chain + ragged) / clock
    work = arithmetic_s(cost, device) / np.float64(values["work_fraction"])
    serial = waves * latency + work * (waves * units / walkers)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    start = KERNELS[w.op] * launch_s(device, values, run)
    return beside_memory(
        start, "chunks", serial, memory, values["unhidden"], waves=waves, chunk_steps=chunks
    )


def predict_step(w: Workload, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(arithmetic, memory; unhidden)``: one token reads and writes the state."""
    cost = count(w)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    work = arithmetic_s(cost, device) / np.float64(values["work_fraction"])
    start = launch_s(device, values, run)
    return beside_memory(start, "arithmetic", work, memory, values["unhidden"])


def _layout(w: Workload) -> tuple[Array, Array, Array]:
    """Independent walkers, the dependent chunks that each of them takes, and tokens of a chunk."""
    if isinstance(w, SelectiveScan):
        walkers = f64(w.batch) * ceil_div(w.channels, SCAN_CHANNELS)
        return walkers, ceil_div(w.seq_len, SCAN_TOKENS), SCAN_TOKENS
    assert isinstance(w, LinearAttention | DeltaRule | Ssd)
    heads = w.value_heads if isinstance(w, DeltaRule) else w.heads
    assert heads is not None
    return f64(w.batch) * f64(heads), ceil_div(w.seq_len, w.chunk), f64(w.chunk)


def _ragged(w: Workload) -> NDArray[np.bool_]:
    """Whether the last chunk is not full."""
    if isinstance(w, SelectiveScan):
        return np.asarray(np.mod(f64(w.seq_len), SCAN_TOKENS) > 0.0)
    assert isinstance(w, LinearAttention | DeltaRule | Ssd)
    return np.asarray(np.mod(f64(w.seq_len), f64(w.chunk)) > 0.0)


def arithmetic_s(cost: Cost, device: Device) -> Array:
    """The largest of matrix, vector and special-function time at full peaks."""
    seconds: Array = cost.special * 0.0
    for (unit, dtype, acc), work in cost.flops.items():
        seconds = np.maximum(seconds, work / np.float64(device.compute.peak(unit, dtype, acc)))
    if device.compute.special_per_s > 0.0:
        seconds = np.maximum(seconds, cost.special / np.float64(device.compute.special_per_s))
    return seconds


_COMMON = (
    FIXED_CLK,
    EAGER_S,
    DRAM_FRACTION,
    UNHIDDEN,
    WORK_FRACTION,
    *CACHE,
)
CHUNK = ClassModel(
    name="recurrent_chunk", parameters=(*_COMMON, *CHUNK_LATENCIES, RAGGED_CLK),
    predict=predict_chunk,
)  # fmt: skip
STEP = ClassModel(name="recurrent_step", parameters=_COMMON, predict=predict_step)
OWN_PARAMETERS = (
    *OWN,
    replace(UNHIDDEN, prior=1.0),
    replace(WORK_FRACTION, prior=0.5),
    *CACHE,
)
"""Of this repository's own kernels."""
OWN_STEP = ClassModel(name="recurrent_own_step", parameters=OWN_PARAMETERS, predict=predict_step)
"""This repository's state updates."""
