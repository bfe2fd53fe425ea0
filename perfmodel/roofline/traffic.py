"""Bytes into seconds: main memory, and the last-level cache when operands are warm."""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.roofline.model import Parameter, Run, Values
from perfmodel.roofline.power import power_limited_bandwidth
from perfmodel.workload import Array

CACHE_SHARE = Parameter(
    name="cache_share",
    unit="1",
    low=0.1,
    high=2.0,
    start=0.7,
    meaning="working set, as a share of the last-level cache, beyond which warm operands miss",
)
CACHE_FRACTION = Parameter(
    name="cache_fraction",
    unit="1",
    low=0.2,
    high=1.0,
    start=0.7,
    meaning="share of the last-level cache's bandwidth that warm operands reach",
)
CACHE = (CACHE_SHARE, CACHE_FRACTION)
"""What :func:`memory_s` asks of a class about warm operands."""
WARM_LATENCY = Parameter(
    name="warm_latency",
    unit="1",
    low=0.2,
    high=1.0,
    start=0.7,
    meaning="share of the latencies that remains where operands rest in the last-level cache",
)
KNEE = 0.25
"""Part of the knee, below the share, over which hits fall from all to none."""


def hit_share(working_set: Array, device: Device, values: Values, run: Run) -> Array | None:
    """Share of accesses that the last-level cache serves; None where it cannot serve any.

    All below ``(1 - KNEE)`` of ``cache_share`` times its capacity, none above, linear between.
    """
    cache = device.memory.cache
    if not run.warm or cache is None or cache.bytes is None or not cache.bandwidth_bytes_per_s:
        return None
    capacity = np.float64(values["cache_share"]) * np.float64(cache.bytes)
    hits: Array = np.clip((capacity - working_set) / (KNEE * capacity), 0.0, 1.0)
    return hits


def memory_s(traffic: Array, working_set: Array, device: Device, values: Values, run: Run) -> Array:
    """Seconds to move ``traffic`` bytes: ``hit / cache bandwidth + (1 - hit) / main bandwidth``.

    Each at the share that the class reaches; never slower than main memory alone.
    """
    main = main_bandwidth(device, values)
    hits = hit_share(working_set, device, values, run)
    if hits is None:
        return traffic / main
    cache = device.memory.cache
    assert cache is not None
    assert cache.bandwidth_bytes_per_s is not None
    fast = np.float64(values["cache_fraction"]) * np.float64(cache.bandwidth_bytes_per_s)
    per_byte: Array = hits / np.maximum(fast, main) + (1.0 - hits) / main
    seconds: Array = traffic * per_byte
    return seconds


def main_bandwidth(device: Device, values: Values) -> np.float64:
    """Bytes/s of main memory: the share that the class reaches, or what the board power allows."""
    peak = np.float64(device.memory.bandwidth_bytes_per_s)
    reached = np.float64(values["dram_fraction"]) * peak
    return np.float64(np.minimum(reached, power_limited_bandwidth(device, values)))


def latency_share(working_set: Array, device: Device, values: Values, run: Run) -> Array:
    """By what a warm cache multiplies the latency of a trip to memory."""
    hits = hit_share(working_set, device, values, run)
    if hits is None:
        return np.float64(1.0)
    return 1.0 - hits * (1.0 - np.float64(values["warm_latency"]))
