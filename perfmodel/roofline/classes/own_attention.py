"""This repository's attention: as many thread blocks as multiprocessors, each with its share.

Tiles, their order, shares of keys and how weights are computed are the launchers' own rules
(refkernels/attention, refkernels/sigmoid_attention; a test holds the two together). In a prefill
blocks take tiles of queries on demand, under a causal mask the longest first; within a tile warp
groups take turns, so that the special functions of one run beside the products of another. In
decoding every block takes an equal share of all keys, whatever sequences they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.attention import kv_tokens
from perfmodel.ops.numbers import accumulator, ceil_div, f64
from perfmodel.roofline.classes.attention import PROLOGUE_CLK, WIDTH, WIDTH_SHARE, width
from perfmodel.roofline.classes.tiles import walked
from perfmodel.roofline.model import (
    OWN,
    TENSOR_FRACTION,
    UNHIDDEN,
    ClassModel,
    Run,
    Terms,
    Values,
    beside_memory,
    cycles,
    launch_s,
    overlap,
)
from perfmodel.roofline.traffic import CACHE, memory_s
from perfmodel.workload import Array, Attention, dtype_bytes, remembered

GROUP = np.float64(64.0)
"""Queries of a warp group."""
SHORT_CAUSAL = np.float64(2048.0)
"""Keys below which a causal mask wastes more of a large tile than its size gains."""
WIDE_FROM = {False: np.float64(2048.0), True: np.float64(8192.0)}
"""Keys from which tiles of 176 gain more than their padding costs, causal or not."""
SMALL_BELOW, LARGE_ABOVE = -6.0, -1.0
"""Biases below which nearly all weights of a sigmoid are modest, above which most are large."""
PAIRED_SPECIAL = np.float64(1.5)
"""Special functions of a weight of any size: two for one of a pair of scores, one for the other."""

STRIP = np.float64(16.0)
"""Query rows that decoding multiplies together."""
WIDEST = np.float64(256.0)
"""Head dimension that leaves registers for one strip only."""
KEY_UNIT = np.float64(128.0)
"""Keys of which shares hold whole multiples."""
IDLE_PART = np.float64(8.0)
"""One multiprocessor in so many may stay idle for the sake of lists that are cut alike."""

SpecialOf: TypeAlias = Callable[[Attention], Array]
"""Special functions per score."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """Tiles of queries: how many, rows and keys of a step, and steps of all, longest and
    shortest."""

    count: Array
    rows: Array
    keys: Array
    steps: Array
    longest: Array
    shortest: Array


def tile_rows(w: Attention) -> Array:
    """Queries of a tile: three warp groups' at a head dimension of 64 unless a mask is short."""
    short = w.causal & (f64(w.kv_len) < SHORT_CAUSAL)
    groups = np.where((f64(w.head_dim) <= 64.0) & ~short, 3.0, 2.0)[()]
    rows: Array = groups * GROUP
    return rows


def tile_keys(w: Attention) -> Array:
    """Keys of a step: as many as registers and shared memory hold, unless waste counts."""
    dim, kv = f64(w.head_dim), f64(w.kv_len)
    wide = (dim > 64.0) & (kv >= WIDE_FROM[w.causal]) & (w.window is None)
    widest = np.where(w.causal & (kv < SHORT_CAUSAL), 64.0, 80.0)
    keys: Array = np.where(dim > 128.0, widest, np.where(wide, 176.0, 128.0))[()]
    return keys


@remembered
def tiles_of(w: Attention) -> Tiles:
    """How the launcher cuts ``w``."""
    rows, keys = tile_rows(w), tile_keys(w)
    per_head = ceil_div(w.q_len, rows)
    heads = f64(w.batch) * f64(w.heads)
    walk = walked(w, rows, keys, per_head)
    return Tiles(
        count=heads * per_head,
        rows=rows,
        keys=keys,
        steps=heads * walk.total,
        longest=walk.longest,
        shortest=walk.shortest,
    )


def one_special(w: Attention) -> Array:
    """Softmax, and a sigmoid whose weights are large: an exponential or a tanh per score."""
    del w
    return np.float64(1.0)


def by_keys(w: Attention) -> Array:
    """A sigmoid with a bias of minus the logarithm of its keys: one where nearly all weights are
    modest, or large."""
    kv = f64(w.kv_len)
    general = (kv <= np.exp(-SMALL_BELOW)) & (kv >= np.exp(-LARGE_ABOVE))
    special: Array = np.where(general, PAIRED_SPECIAL, 1.0)[()]
    return special


def predict_persistent(
    w: Attention, device: Device, values: Values, run: Run, *, special: SpecialOf
) -> Terms:
    """``launch + max+(tiles, memory; unhidden)``.

    A step of a tile is ``rows keys max+(products, special; exp_unhidden)``, a tile its steps and
    ``prologue``. Multiprocessors end together but for the shortest tile, which is handed
    out last, and never before the longest. Power holds what all of them multiply to
    ``tensor_fraction`` of the peak; where some are idle the others may reach more.
    """
    cost, cut = count(w), tiles_of(w)
    clock, units = np.float64(device.compute.clock_vector_hz), np.float64(device.compute.units)
    share = cut.count / units
    element_s = _element_s(w, device, values, np.minimum(share, 1.0), special(w))
    step = cut.rows * cut.keys * element_s
    start = np.float64(values["prologue_clk"]) * width(w, values) / clock
    spread = (cut.count * start + cut.steps * step) / units
    uneven = (np.ceil(share) - share) * (start + cut.shortest * step)
    walk = np.maximum(spread + uneven, start + cut.longest * step)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    return beside_memory(
        launch_s(device, values, run), "tiles", walk, memory, values["unhidden"],
        query_tile=cut.rows, key_tile=cut.keys, waves=share,
    )  # fmt: skip


def _element_s(
    w: Attention, device: Device, values: Values, active: Array, special: Array
) -> Array:
    """Seconds of one multiprocessor per score, where so large a share of them is ``active``."""
    compute, units = device.compute, np.float64(device.compute.units)
    assert w.v_head_dim is not None
    peak = np.float64(compute.peak("tensor", w.dtype, accumulator(w.dtype))) / units
    rate = peak * np.minimum(np.float64(values["tensor_fraction"]) / active, 1.0)
    products = 2.0 * (f64(w.head_dim) + f64(w.v_head_dim)) / rate
    rate = np.float64(compute.special_per_s) / units
    exponentials = special / rate if rate > 0.0 else np.float64(0.0)
    return overlap(products, exponentials, values["exp_unhidden"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """A decoding's lists of keys: rows and strips of 16 rows of each, and keys of a share."""

    rows: Array
    strips: Array
    keys: Array


@remembered
def shares_of(w: Attention, device: Device) -> Shares:
    """How the launcher cuts ``w``: a list per sequence, KV head and two strips of query rows (one
    of wide heads). Lists are cut at the same places each, or stay whole, where that leaves few
    multiprocessors without work; else all keys stand in one line of equal shares."""
    assert w.kv_heads is not None
    rows = f64(w.q_len) * f64(w.heads) / f64(w.kv_heads)
    strips = np.where((rows > STRIP) & (f64(w.head_dim) < WIDEST), 2.0, 1.0)[()]
    lists = f64(w.batch) * f64(w.kv_heads) * ceil_div(rows, STRIP * strips)
    length, most = ceil_div(kv_tokens(w), KEY_UNIT), np.float64(device.compute.units)
    enough = np.minimum(lists * length, most - np.floor(most / IDLE_PART))
    blocks = np.minimum(np.floor(most / lists), length)  # to a list
    together = ceil_div(lists, most)  # lists to a block
    whole = (np.mod(lists, together) == 0.0) & (lists / together >= enough)
    line = np.where(whole, lists / together, np.minimum(most, lists * length))
    each = ceil_div(lists * length, line)
    even = blocks * lists >= enough
    each = np.where(even, np.ceil(length / np.maximum(blocks, 1.0)), each)[()]
    return Shares(rows=np.minimum(rows, STRIP * strips), strips=strips, keys=each * KEY_UNIT)


def predict_shares(w: Attention, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(keys, memory; unhidden) + join``.

    A share's keys cost ``strip`` for every strip of rows and ``narrow`` where they are bytes; its
    rows are put together at the end, which nothing hides.
    """
    cost, cut = count(w), shares_of(w, device)
    wide = f64(w.head_dim) / WIDTH / np.float64(device.compute.clock_vector_hz)
    assert w.kv_dtype is not None
    narrow = np.float64(values["narrow_clk"] if dtype_bytes(w.kv_dtype) < 2 else 0.0)
    walk = cut.keys * (cut.strips * np.float64(values["strip_clk"]) + narrow) * wide
    join = cut.rows * np.float64(values["row_clk"]) * wide
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    launch = launch_s(device, values, run)
    return Terms(
        time_s=launch + overlap(walk, memory, values["unhidden"]) + join,
        terms={"launch": launch, "keys": walk, "memory": memory, "join": join},
        formula=f"launch + max+(keys, memory; {values['unhidden']:.3g}) + join",
        details={"share": cut.keys, "strips": cut.strips},
    )


_COMMON = (*OWN, UNHIDDEN, *CACHE)
_PREFILL = (
    *_COMMON,
    TENSOR_FRACTION,
    replace(
        UNHIDDEN,
        name="exp_unhidden",
        start=0.3,
        meaning="share of the shorter of products and special functions that turns do not hide",
    ),
    PROLOGUE_CLK,
    WIDTH_SHARE,
)


def _own(name: str, special: SpecialOf) -> ClassModel:
    predict = partial(predict_persistent, special=special)
    return ClassModel(name=name, parameters=_PREFILL, predict=predict)


OWN_DECODE = ClassModel(
    name="attention_own_decode",
    parameters=(
        *_COMMON,
        cycles("strip_clk", 200.0, 12.0, "one key, 128 wide, for a strip of 16 query rows"),
        cycles(
            "narrow_clk", 200.0, 6.0, "widening a key and a value of one byte an element, 128 wide"
        ),
        cycles(
            "row_clk",
            4_000.0,
            500.0,
            "putting the parts of one query row together at the end, 128 wide",
        ),
    ),
    predict=predict_shares,
)
OWN_PREFILL = _own("attention_own_prefill", one_special)
OWN_SIGMOID = _own("attention_own_sigmoid", by_keys)
"""This repository's ladders; rungs have parameters of their own."""
