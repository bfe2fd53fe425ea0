"""Attention: thread blocks that walk key tiles, beside the traffic of queries, keys and values.

Prefill: Dao, FlashAttention-2, arXiv 2307.08691; Shah et al., FlashAttention-3, arXiv 2407.08608.
Decode: Flash-Decoding (Dao et al., 2023): keys are cut so that every multiprocessor has work.

A thread block is a chain of latencies (queries in, then tile after tile of keys, outputs out) and
an amount of arithmetic. Multiprocessors hold a few thread blocks at a time, so chains overlap with
each other and with arithmetic; what the longest block sticks out of the rest is the tail.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.attention import kv_read_bytes, kv_tokens
from perfmodel.ops.numbers import accumulator, ceil_div, f64
from perfmodel.roofline.classes import tiles
from perfmodel.roofline.classes.tiles import Cut, Plan, Walked
from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    TENSOR_FRACTION,
    UNHIDDEN,
    ClassModel,
    Parameter,
    Predict,
    Run,
    Terms,
    Values,
    launch_s,
    overlap,
    wave_count,
)
from perfmodel.roofline.traffic import (
    CACHE,
    WARM_LATENCY,
    latency_share,
    memory_s,
)
from perfmodel.workload import Array, Attention, remembered

WIDTH = np.float64(128.0)
"""Head dimension whose latencies are the parameters' own."""
PART_BYTES = np.float64(4.0)
"""An element of a split's outputs."""
RAGGED_TILES = np.float64(3.0)
"""Query tiles of a head, after the first, that a ragged end slows down."""

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
TILE_CLK = Parameter(
    name="tile_clk",
    unit="cycles",
    low=0.0,
    high=10_000.0,
    start=1_000.0,
    meaning="latency of one tile of keys: load, product, softmax, product",
)
WIDTH_SHARE = Parameter(
    name="width_share",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.3,
    meaning="share of these latencies that grows with the head dimension (over 128)",
)
HELD_BLOCKS = Parameter(
    name="held_blocks",
    unit="1",
    low=1.0,
    high=4.0,
    start=2.0,
    meaning="thread blocks that one multiprocessor works on at a time",
)
TAIL = Parameter(
    name="tail",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.8,
    meaning="share of the longest thread block that sticks out of the evenly spread work",
)
SPLIT_CLK = Parameter(
    name="split_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=5_000.0,
    meaning="second kernel that joins split keys",
)
JOIN_CLK = Parameter(
    name="join_clk",
    unit="cycles",
    low=0.0,
    high=2_000.0,
    start=200.0,
    meaning="what each split adds to it: one dependent trip to memory",
)
WRITE_CLK = Parameter(
    name="write_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=4_000.0,
    meaning="kernel before attention that puts new keys and values into a cache of pages",
    prior=0.5,
)
WRITE_PASSES = Parameter(
    name="write_passes",
    unit="1",
    low=0.0,
    high=6.0,
    start=2.0,
    meaning="passes over the new keys and values by that kernel",
    prior=0.5,
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
    start=2_000.0,
    meaning="further fixed time of folding grouped heads into rows, sequences of any length",
    prior=0.5,
)
COPY_CLK = Parameter(
    name="copy_clk",
    unit="cycles",
    low=0.0,
    high=30_000.0,
    start=8_000.0,
    meaning="copies of folded queries and outputs that do not lie side by side: two kernels",
    prior=0.5,
)
RAGGED_CLK = Parameter(
    name="ragged_clk",
    unit="cycles",
    low=0.0,
    high=40_000.0,
    start=5_000.0,
    meaning="further time of a tile of 128 queries where the last one is not full",
)


def predict_prefill(w: Attention, device: Device, values: Values, run: Run, plan: Plan) -> Terms:
    """``launch + max+(tiles, memory; unhidden) + join + cache_write``.

    One score element costs ``2 (d + dv) / R`` on the matrix unit plus ``exp_factor / special`` on
    the special-function unit; a query tile walks its visible key tiles (triangular, padded). The
    blocks of a launch take ``max+(work / units and chains / held, longest block; tail)``.
    """
    cost, clock = count(w), np.float64(device.compute.clock_vector_hz)
    units, held = np.float64(device.compute.units), np.float64(values["held_blocks"])
    cut, heads, q_tiles, walk_of = _prefill_tiles(w, device, plan)
    total, longest = walk_of.total, walk_of.longest
    element_s = _element_s(w, device, values, warps=_by_warps(w, plan))
    wide = width(w, values) * latency_share(cost.bytes_total, device, values, run) / clock
    prologue, tile = (np.float64(values[f"{k}_clk"]) * wide for k in ("prologue", "tile"))
    tile_s = cut.rows * cut.keys * element_s
    ragged = _ragged_clk(w, cut, q_tiles, values) / clock
    blocks = heads * q_tiles * cut.splits
    work = heads * (total * tile_s + ragged) / units
    chains = (blocks * prologue + heads * total * tile) / (units * held)
    together = np.clip(blocks / units, 1.0, held)
    last = prologue + longest / cut.splits * np.maximum(tile, tile_s * together)
    spread = overlap(work, chains, values["unhidden"])
    walk = overlap(spread, last, values["tail"])
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    return _terms(w, device, values, run, cut, walk, memory, values["unhidden"], np.float64(0.0))


def predict_decode(w: Attention, device: Device, values: Values, run: Run, plan: Plan) -> Terms:
    """``launch + max+(tiles, memory; unhidden) + join + cache_write``.

    A thread block per sequence, KV head and split; splits fill the multiprocessors. Each walks its
    share of the key tiles with its rows padded to one tile; whole waves count by ``wave_tail``,
    and the first tile of each block has nothing to hide behind. Heads wider than 128 leave room
    for one block only. Splits are joined by a second kernel that reads them one after another.
    """
    cost, clock = count(w), np.float64(device.compute.clock_vector_hz)
    units = np.float64(device.compute.units)
    cut, rows, blocks = _decode_tiles(w, device, plan)
    element_s = _element_s(w, device, values, warps=_by_warps(w, plan))
    wide = width(w, values) * latency_share(kv_read_bytes(w), device, values, run) / clock
    prologue, tile = (np.float64(values[f"{k}_clk"]) * wide for k in ("prologue", "tile"))
    held = np.where(f64(w.head_dim) > WIDTH, 1.0, np.float64(values["held_blocks"]))[()]
    waves = wave_count(blocks / (units * held), values["wave_tail"])
    chain = waves * (prologue + cut.chunk * tile)
    work = np.maximum(blocks / units, 1.0) * cut.rows * cut.keys * cut.chunk * element_s
    unhidden = values["unhidden"] + (1.0 - values["unhidden"]) / cut.chunk
    walk = overlap(chain, work, unhidden)
    memory = memory_s(cost.bytes_total, kv_read_bytes(w), device, values, run)
    return _terms(
        w, device, values, run, cut, walk, memory, unhidden, _folding_clk(w, rows, values)
    )


@remembered
def _prefill_tiles(w: Attention, device: Device, plan: Plan) -> tuple[Cut, Array, Array, Walked]:
    """The cut, heads of all sequences, query tiles of a head, and what they walk."""
    cut = plan(w, f64(w.q_len), device)
    q_tiles = ceil_div(w.q_len, cut.rows)
    heads = f64(w.batch) * f64(w.heads)
    return cut, heads, q_tiles, tiles.walked(w, cut.rows, cut.keys, q_tiles)


@remembered
def _decode_tiles(w: Attention, device: Device, plan: Plan) -> tuple[Cut, Array, Array]:
    """The cut, query rows that share a KV head, and thread blocks."""
    assert w.kv_heads is not None
    rows = f64(w.q_len) * f64(w.heads) / f64(w.kv_heads)
    cut = plan(w, rows, device)
    return cut, rows, f64(w.batch) * f64(w.kv_heads) * ceil_div(rows, cut.rows) * cut.splits


def _terms(
    w: Attention, device: Device, values: Values, run: Run, cut: Cut, walk: Array, memory: Array,
    unhidden: Array | float, extra_clk: Array,
) -> Terms:  # fmt: skip
    """What prefill and decode share: the launch, the overlap, the join and the cache's kernel."""
    clock = np.float64(device.compute.clock_vector_hz)
    joined = np.float64(values["split_clk"]) + cut.splits * np.float64(values["join_clk"])
    joined = joined * width(w, values, least=1.0) / clock + _parts_s(w, device, cut)
    join = np.where(cut.splits > 1.0, joined, 0.0)[()]
    start = launch_s(device, values, run) + extra_clk / clock
    write = _cache_write_s(w, device, values)
    return Terms(
        time_s=start + overlap(walk, memory, unhidden) + join + write,
        terms={
            "launch": start, "tiles": walk, "memory": memory, "join": join, "cache_write": write
        },
        formula=f"launch + max+(tiles, memory; {_shown(unhidden)}) + join + cache_write",
        details={"query_tile": cut.rows, "key_tile": cut.keys, "splits": cut.splits},
    )  # fmt: skip


def _parts_s(w: Attention, device: Device, cut: Cut) -> Array:
    """What the splits make of every row, in fp32: written, and read by the kernel that joins them,
    through the last-level cache."""
    assert w.v_head_dim is not None
    rows = f64(w.batch) * f64(w.heads) * f64(w.q_len)
    moved = 2.0 * PART_BYTES * cut.splits * rows * (f64(w.v_head_dim) + 1.0)
    cache = device.memory.cache
    known = None if cache is None else cache.bandwidth_bytes_per_s
    seconds: Array = moved / np.float64(known or device.memory.bandwidth_bytes_per_s)
    return seconds


def _shown(unhidden: Array | float) -> str:
    return f"{float(unhidden):.3g}" if np.ndim(unhidden) == 0 else "unhidden"


def _by_warps(w: Attention, plan: Plan) -> bool:
    """Whether products are issued warp by warp: FlashAttention-2. Where warp-group instructions
    exist, serving engines, whose keys lie in pages, run FlashAttention-3 under the same name."""
    return plan is tiles.flash and w.page_size is None


def _element_s(w: Attention, device: Device, values: Values, *, warps: bool) -> Array:
    """Seconds of one multiprocessor per score element: products, then exponentials."""
    compute = device.compute
    assert w.v_head_dim is not None
    share = np.float64(values["tensor_fraction"])
    share = share * np.float64(compute.warp_share if warps else 1.0)
    rate = share * np.float64(compute.peak("tensor", w.dtype, accumulator(w.dtype)))
    products = 2.0 * (f64(w.head_dim) + f64(w.v_head_dim)) / rate
    special = np.float64(compute.special_per_s)
    exponential = np.float64(values["exp_factor"]) / special if special > 0.0 else np.float64(0.0)
    return (products + exponential) * np.float64(compute.units)


def width(w: Attention, values: Values, least: float = 0.0) -> Array:
    """By what the head's width multiplies the latencies of a chain."""
    share = np.float64(values["width_share"])
    wide: Array = (1.0 - share) + share * np.maximum(f64(w.head_dim) / WIDTH, least)
    return wide


def _ragged_clk(w: Attention, cut: Cut, q_tiles: Array, values: Values) -> Array:
    """Cycles by which a length that does not fill its tiles of 128 slows each head."""
    if "ragged_clk" not in values:
        return np.float64(0.0)
    ragged = (np.mod(f64(w.q_len), cut.rows) > 0.0) & (cut.rows > tiles.SMALL)
    slowed = np.minimum(q_tiles - 1.0, RAGGED_TILES)
    clk: Array = np.where(ragged, np.float64(values["ragged_clk"]) * slowed, 0.0)[()]
    return clk


def _folding_clk(w: Attention, rows: Array, values: Values) -> Array:
    """Cycles of folding grouped query heads into rows, and of the copies that may take."""
    if w.page_size is None or "group_clk" not in values:
        return np.float64(0.0)
    assert w.kv_heads is not None
    grouped = rows > f64(w.q_len)
    apart = grouped & (f64(w.kv_heads) > 1.0) & (f64(w.batch) > 1.0)
    group, copy = np.float64(values["group_clk"]), np.float64(values["copy_clk"])
    clk: Array = (np.where(grouped, group, 0.0) + np.where(apart, copy, 0.0))[()]
    return clk


def _cache_write_s(w: Attention, device: Device, values: Values) -> Array:
    """The kernel that reads new keys and values and writes them into a cache of pages."""
    if w.page_size is None:
        return np.float64(0.0)
    new = kv_read_bytes(w) * (np.minimum(f64(w.q_len), kv_tokens(w)) / kv_tokens(w))
    main = np.float64(values["dram_fraction"]) * np.float64(device.memory.bandwidth_bytes_per_s)
    fixed = np.float64(values["write_clk"]) / np.float64(device.compute.clock_vector_hz)
    return fixed + np.float64(values["write_passes"]) * new / main


def _typical(predict: Predict, w: Attention, device: Device, values: Values, run: Run) -> Terms:
    """What ``predict`` says, for whatever kernel: keys in pages are a serving engine's, whose
    kernels differ by other factors than libraries' do."""
    found = predict(w, device, values, run)
    return replace(found, special=np.bool_(w.page_size is not None), regime="pages")


_COMMON = (
    FIXED_CLK, EAGER_S, DRAM_FRACTION, TENSOR_FRACTION, UNHIDDEN, EXP_FACTOR, PROLOGUE_CLK,
    TILE_CLK, WIDTH_SHARE, HELD_BLOCKS, WARM_LATENCY, *CACHE, SPLIT_CLK,
    JOIN_CLK, WRITE_CLK, WRITE_PASSES,
)  # fmt: skip
_DECODE = (*_COMMON, WAVE_TAIL)

FLASH_PREFILL = ClassModel(
    name="attention_flash_prefill",
    parameters=(*_COMMON, TAIL, RAGGED_CLK),
    predict=partial(predict_prefill, plan=tiles.flash),
)
FLASH_DECODE = ClassModel(
    name="attention_flash_decode",
    parameters=(*_DECODE, GROUP_CLK, COPY_CLK),
    predict=partial(predict_decode, plan=tiles.flash),
)
PREFILL = ClassModel(
    name="attention_prefill",
    parameters=(*_COMMON, TAIL),
    predict=partial(_typical, partial(predict_prefill, plan=tiles.plain_prefill)),
    typical_of=(FLASH_PREFILL.name,),
)
PLAIN_DECODE = ClassModel(
    name="attention_plain_decode",
    parameters=_DECODE,
    predict=partial(predict_decode, plan=tiles.plain_decode),
)
"""cuDNN's."""
DECODE = replace(
    FLASH_DECODE,
    name="attention_decode",
    predict=partial(_typical, FLASH_DECODE.predict),
    typical_of=(FLASH_DECODE.name, PLAIN_DECODE.name),
)
