"""Attention: prefill by query tiles, decode by splitting the keys over multiprocessors.

Prefill: Dao, FlashAttention-2, arXiv 2307.08691; Shah et al., FlashAttention-3, arXiv 2407.08608.
Decode: Flash-Decoding (Dao et al., 2023): keys are cut so that every multiprocessor has work.
"""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.attention import kv_read_bytes, kv_tokens
from perfmodel.ops.numbers import accumulator, capped_series, ceil_div, f64
from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    TENSOR_FRACTION,
    UNHIDDEN,
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
    launch_s,
    overlap,
)
from perfmodel.roofline.power import ENERGY_PJ, POWER_EXPONENT, sustained_rate
from perfmodel.roofline.traffic import CACHE_FRACTION, CACHE_SHARE, memory_s
from perfmodel.workload import Array, Attention

QUERY_TILE, KEY_TILE = np.float64(64.0), np.float64(64.0)
"""Rows and columns by which masked tiles are padded (FlashAttention's finest granularity)."""
DECODE_ROWS, DECODE_KEYS = np.float64(64.0), np.float64(128.0)
"""Rows to which a decode product is padded, and keys per block."""

EXP_FACTOR = Parameter(
    name="exp_factor",
    unit="1",
    low=1.0,
    high=6.0,
    start=2.0,
    meaning="softmax time that products do not hide, in units of the special-function time",
)
PROLOGUE_CLK = Parameter(
    name="prologue_clk",
    unit="cycles",
    low=0.0,
    high=20_000.0,
    start=3_000.0,
    meaning="loading queries and writing outputs of one thread block",
)
TAIL = Parameter(
    name="tail",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.8,
    meaning="share of the longest thread block that sticks out of the evenly spread work",
)
CACHE_WRITE = Parameter(
    name="cache_write_passes",
    unit="1",
    low=0.0,
    high=6.0,
    start=1.0,
    meaning="passes over the new keys and values by the kernel that puts them into the cache",
)
SPLIT_CLK = Parameter(
    name="split_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=5_000.0,
    meaning="second kernel that joins split keys",
)
WAVE_TAIL = Parameter(
    name="wave_tail",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.8,
    meaning="share of full wave quantisation that survives",
)


GROUP_CLK = Parameter(
    name="group_clk",
    unit="cycles",
    low=0.0,
    high=20_000.0,
    start=1_000.0,
    meaning="further fixed time when grouped query heads are folded into rows",
)
COPY_CLK = Parameter(
    name="copy_clk",
    unit="cycles",
    low=0.0,
    high=30_000.0,
    start=1_000.0,
    meaning="copy of folded queries whose sequences and heads do not lie side by side",
)
UNGROUPED_SPLIT = Parameter(
    name="ungrouped_split",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.5,
    meaning="share of further splits that kernels make when every query head has its own keys",
)


def predict_prefill(w: Attention, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(tiles, memory; unhidden) + cache_write``.

    One score element costs ``2 (d + dv) / R`` on the matrix unit plus ``exp_factor / special`` on
    the special-function unit; a query tile walks its visible key tiles (triangular, padded). The
    tiles of a launch take ``max+(work / units, longest tile; tail)``.
    """
    cost = count(w)
    tile_s = QUERY_TILE * KEY_TILE * _element_s(w, device, values)
    prologue = np.float64(values["prologue_clk"]) / np.float64(device.compute.clock_vector_hz)
    q_tiles = ceil_div(w.q_len, QUERY_TILE)
    blocks, longest = _visible_tiles(w, q_tiles)
    heads = f64(w.batch) * f64(w.heads)
    share = heads * (blocks * tile_s + q_tiles * prologue) / np.float64(device.compute.units)
    tiles = overlap(share, longest * tile_s + prologue, values["tail"])
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    write = _cache_write_s(w, device, values)
    start = launch_s(device, values, run)
    return Terms(
        time_s=start + overlap(tiles, memory, values["unhidden"]) + write,
        terms={"launch": start, "tiles": tiles, "memory": memory, "cache_write": write},
        formula=f"launch + max+(tiles, memory; {values['unhidden']:.3g}) + cache_write",
        details={"query_tiles": q_tiles, "key_tiles": blocks},
    )


def predict_decode(w: Attention, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(blocks, memory; unhidden) + join``.

    A thread block per sequence, KV head and split; splits fill the multiprocessors. Each walks its
    share of the key blocks with its rows padded to one tile; whole waves count by ``wave_tail``.
    Folding grouped heads into rows costs fixed time (``flash_attn`` with variable lengths copies
    them), and kernels may split less when heads are not grouped.
    """
    cost = count(w)
    assert w.kv_heads is not None
    units = np.float64(device.compute.units)
    rows = f64(w.q_len) * f64(w.heads) / f64(w.kv_heads)
    row_tiles = ceil_div(rows, DECODE_ROWS)
    walkers = f64(w.batch) * f64(w.kv_heads) * row_tiles
    blocks = ceil_div(kv_tokens(w), DECODE_KEYS)
    splits = np.clip(np.floor(units / walkers), 1.0, blocks)
    splits = np.where(rows > f64(w.q_len), splits, _fewer(splits, values["ungrouped_split"]))[()]
    waves = _waves(walkers * splits / units, values["wave_tail"])
    block_s = DECODE_ROWS * DECODE_KEYS * _element_s(w, device, values)
    clock = np.float64(device.compute.clock_vector_hz)
    walk = waves * (np.float64(values["prologue_clk"]) / clock + ceil_div(blocks, splits) * block_s)
    memory = memory_s(cost.bytes_total, kv_read_bytes(w), device, values, run)
    join = np.where(splits > 1.0, np.float64(values["split_clk"]) / clock, 0.0)[()]
    start = launch_s(device, values, run) + _folding_clk(w, rows, values) / clock
    return Terms(
        time_s=start + overlap(walk, memory, values["unhidden"]) + join,
        terms={"launch": start, "blocks": walk, "memory": memory, "join": join},
        formula=f"launch + max+(blocks, memory; {values['unhidden']:.3g}) + join",
        details={"splits": splits},
    )


def _fewer(splits: Array, share: float) -> Array:
    fewer: Array = np.floor(1.0 + np.float64(share) * (splits - 1.0))
    return fewer


def _folding_clk(w: Attention, rows: Array, values: Values) -> Array:
    """Cycles of folding grouped query heads into rows, and of the copy that may take."""
    assert w.kv_heads is not None
    grouped = rows > f64(w.q_len)
    apart = grouped & (f64(w.kv_heads) > 1.0) & (f64(w.batch) > 1.0)
    group, copy = np.float64(values["group_clk"]), np.float64(values["copy_clk"])
    clk: Array = (np.where(grouped, group, 0.0) + np.where(apart, copy, 0.0))[()]
    return clk


def _element_s(w: Attention, device: Device, values: Values) -> Array:
    """Seconds of one multiprocessor per score element: products, then exponentials."""
    compute = device.compute
    assert w.v_head_dim is not None
    peak = np.float64(compute.peak("tensor", w.dtype, accumulator(w.dtype)))
    products = 2.0 * (f64(w.head_dim) + f64(w.v_head_dim)) / sustained_rate(peak, device, values)
    special = np.float64(compute.special_per_s)
    exponential = np.float64(values["exp_factor"]) / special if special > 0.0 else np.float64(0.0)
    return (products + exponential) * np.float64(compute.units)


def _visible_tiles(w: Attention, q_tiles: Array) -> tuple[Array, Array]:
    """Key tiles that all query tiles of one head walk, and those of the last (longest) one."""
    kv = f64(w.kv_len)
    reach = ceil_div(kv, KEY_TILE)
    if w.window is not None:
        reach = np.minimum(reach, np.ceil((f64(w.window) + QUERY_TILE) / KEY_TILE))
    if not w.causal:
        return q_tiles * reach, reach
    first = ceil_div(kv - f64(w.q_len), KEY_TILE) + 1.0
    return capped_series(first, q_tiles, reach), np.minimum(first + q_tiles - 1.0, reach)


def _cache_write_s(w: Attention, device: Device, values: Values) -> Array:
    """Time of the kernel that reads new keys and values and writes them into the cache."""
    new = kv_read_bytes(w) * (np.minimum(f64(w.q_len), kv_tokens(w)) / kv_tokens(w))
    main = np.float64(values["dram_fraction"]) * np.float64(device.memory.bandwidth_bytes_per_s)
    return np.float64(values["cache_write_passes"]) * new / main


def _waves(share: Array, tail: float) -> Array:
    whole = np.ceil(share)
    waves: Array = np.maximum(share + np.float64(tail) * (whole - share), 1.0)
    return waves


_COMMON = (
    FIXED_CLK,
    EAGER_S,
    DRAM_FRACTION,
    TENSOR_FRACTION,
    ENERGY_PJ,
    POWER_EXPONENT,
    UNHIDDEN,
    EXP_FACTOR,
    PROLOGUE_CLK,
    CACHE_SHARE,
    CACHE_FRACTION,
)
PREFILL = ClassModel(
    name="attention_prefill", parameters=(*_COMMON, TAIL, CACHE_WRITE), predict=predict_prefill
)
DECODE = ClassModel(
    name="attention_decode",
    parameters=(*_COMMON, WAVE_TAIL, SPLIT_CLK, GROUP_CLK, COPY_CLK, UNGROUPED_SPLIT),
    predict=predict_decode,
)
