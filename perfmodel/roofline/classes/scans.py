"""This repository's selective scans of whole sequences: blocks that walk tokens with their states.

How many blocks walk, how many warps take turns on a unit of channels, over how many segments of a
sequence, and how many blocks fall to the fullest multiprocessor are the launcher's own rules
(refkernels/selective_scan; a test holds the two together).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.numbers import ceil_div, f64, stored
from perfmodel.roofline.classes.recurrent import OWN_PARAMETERS, arithmetic_s
from perfmodel.roofline.model import (
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
    beside_memory,
    cycles,
    launch_s,
    overlap,
)
from perfmodel.roofline.traffic import memory_s
from perfmodel.workload import Array, SelectiveScan

UNIT, UNIT_WARPS, WHOLE_WARPS = np.float64(8.0), np.float64(8.0), np.float64(16.0)
"""Channels of a unit whose products run on tensor cores (16-bit data), and warps of its blocks."""
BUSY_WARPS, BUSY_THREADS = np.float64(12.0), np.float64(200.0)
"""Warps of such units, and threads of others, above which a multiprocessor needs no more."""
MOST_TURNS = np.float64(8.0)
"""Warps that take turns on a unit, with 16 states at most."""
THREADS = np.float64(128.0)
"""Of a block whose lanes share channels."""
MOST_SHARE = np.float64(16.0)
"""States of a lane where lanes share a channel."""
TILE, SEGMENT_TOKENS = np.float64(64.0), np.float64(512.0)
"""Tokens that segments are multiples of, and that they have at least."""
STATES = np.float64(16.0)
"""What latencies are given for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Blocks of one segment, segments, tokens of a segment, what the fullest multiprocessor has to
    do over the mean, and warps that take turns on a unit."""

    blocks: Array
    segments: Array
    tokens: Array
    uneven: Array
    turns: Array


def layout(w: SelectiveScan, device: Device) -> Layout:
    """As the launcher divides a scan."""
    units = np.float64(device.compute.units)
    group, groups = f64(w.channels) / f64(w.groups), f64(w.batch) * f64(w.groups)
    if stored(w.dtype) > 2.0:
        lanes = lanes_per_channel(w, units)
        threads: Array = f64(w.batch) * f64(w.channels) * lanes
        turns: Array = np.float64(1.0)
        segments, tokens = _segments(w, threads, units)
        blocks, work = groups * ceil_div(group, np.floor(THREADS / lanes)), threads / THREADS
    else:
        across = ceil_div(group, np.where(f64(w.state) == UNIT, 2.0 * UNIT, UNIT)[()])
        walkers: Array = groups * across
        turns = np.exp2(np.ceil(np.log2(np.maximum(BUSY_WARPS * units / walkers, 1.0))))
        turns = np.where(f64(w.state) <= MOST_SHARE, np.minimum(turns, MOST_TURNS), 1.0)[()]
        threads = np.floor(walkers * turns * BUSY_THREADS / BUSY_WARPS)
        segments, tokens = _segments(w, threads, units)
        block = _warps_of_block(walkers * segments, turns, units)
        blocks, work = groups * ceil_div(across, block / turns), walkers * turns / block
    uneven = ceil_div(blocks * segments, units) * units / (work * segments)
    return Layout(blocks=blocks, segments=segments, tokens=tokens, uneven=uneven, turns=turns)


def _segments(w: SelectiveScan, threads: Array, units: np.float64) -> tuple[Array, Array]:
    """How many, and their tokens: one, unless a second pass pays."""
    most = np.floor(f64(w.seq_len) / SEGMENT_TOKENS)
    whole = (2.0 * threads >= BUSY_THREADS * units) | (most < 2.0)
    wanted = np.where(whole, 1.0, np.minimum(ceil_div(BUSY_THREADS * units, threads), most))[()]
    tokens = ceil_div(ceil_div(w.seq_len, wanted), TILE) * TILE
    return ceil_div(w.seq_len, tokens), tokens


def _warps_of_block(walkers: Array, turns: Array, units: np.float64) -> Array:
    """In turns, all that a multiprocessor holds, unless smaller blocks spread better."""
    small, whole = (
        b * ceil_div(ceil_div(walkers, b / turns), units) for b in (UNIT_WARPS, WHOLE_WARPS)
    )
    chosen: Array = np.where((turns > 1.0) & (whole <= small), WHOLE_WARPS, UNIT_WARPS)[()]
    return chosen


def lanes_per_channel(w: SelectiveScan, units: np.float64) -> Array:
    """The fewest lanes that give a multiprocessor enough threads; a lane has 2 states at least."""
    states = f64(w.state)
    threads = f64(w.batch) * f64(w.channels)
    wanted = np.exp2(np.ceil(np.log2(np.maximum(BUSY_THREADS * units / threads, 1.0))))
    least = np.maximum(states / MOST_SHARE, 1.0)
    lanes: Array = np.maximum(least, np.minimum(wanted, np.minimum(8.0, states / 2.0)))
    return lanes


def predict_scan(w: SelectiveScan, device: Device, values: Values, run: Run) -> Terms:
    """``launch + max+(walk, memory; unhidden)``.

    ``walk`` is the smooth larger of a unit's own chain, ``wave + tokens token`` (``token`` for 16
    states, ``state_share`` of it in proportion to the states; ``turn_share`` of it where warps
    take turns), and of the arithmetic that the fullest multiprocessor has to do, ``turn_work``
    more of it in turns. Segments are walked twice, ``second_pass`` of the work and of the traffic
    again, and ``further_clk`` for the launches between.
    """
    cost, found = count(w), layout(w, device)
    clock, cut = np.float64(device.compute.clock_vector_hz), found.segments > 1.0
    share = np.float64(values["state_share"])
    token = np.float64(values["token_clk"]) * (1.0 - share + share * f64(w.state) / STATES)
    token = token * np.where(found.turns > 1.0, np.float64(values["turn_share"]), 1.0)[()]
    tokens = np.where(cut, 2.0, 1.0)[()] * np.minimum(found.tokens, f64(w.seq_len))
    chain = np.float64(values["wave_clk"]) + tokens * token
    again = np.where(cut, np.float64(values["second_pass"]), 0.0)[()]
    more = 1.0 + again + np.where(found.turns > 1.0, np.float64(values["turn_work"]), 0.0)[()]
    work = arithmetic_s(cost, device) / np.float64(values["work_fraction"]) * found.uneven * more
    walk = overlap(chain / clock, work, values["unmixed"])
    memory = memory_s(cost.bytes_total * (1.0 + again), cost.bytes_total, device, values, run)
    further = np.where(cut, np.float64(values["further_clk"]), 0.0)[()] / clock
    start = launch_s(device, values, run) + further
    return beside_memory(
        start, "walk", walk, memory, values["unhidden"],
        segments=found.segments, blocks=found.blocks,
    )  # fmt: skip


SCAN = ClassModel(
    name="recurrent_own_scan",
    parameters=(
        *(replace(p, prior=0.2) if p.name == "work_fraction" else p for p in OWN_PARAMETERS),
        cycles("wave_clk", 100_000.0, 5_000.0, "start and end of a warp's walk"),
        cycles(
            "token_clk",
            500.0,
            45.0,
            "a token of a warp that has a scheduler to itself, 16 states",
            prior=0.5,
            low=1.0,
        ),
        Parameter(
            name="state_share",
            unit="1",
            low=0.0,
            high=1.0,
            start=0.8,
            meaning="share of that which grows with the states",
            prior=0.3,
        ),
        Parameter(
            name="turn_share",
            unit="1",
            low=0.3,
            high=1.0,
            start=0.6,
            meaning="a token's chain where warps take turns on a unit, over a lone warp's",
            prior=0.2,
        ),
        Parameter(
            name="turn_work",
            unit="1",
            low=0.0,
            high=0.5,
            start=0.1,
            meaning="further arithmetic where warps take turns",
            prior=0.3,
        ),
        Parameter(
            name="unmixed",
            unit="1",
            low=0.0,
            high=1.0,
            start=0.3,
            meaning="share of the shorter of chain and arithmetic that the longer does not hide",
            prior=0.5,
        ),
        Parameter(
            name="second_pass",
            unit="1",
            low=0.3,
            high=1.5,
            start=0.9,
            meaning="work and traffic of a walk without outputs, over one with them",
            prior=0.2,
        ),
        cycles("further_clk", 40_000.0, 4_000.0, "further launches where there are segments"),
    ),
    predict=predict_scan,
)
"""This repository's selective scans of whole sequences."""
