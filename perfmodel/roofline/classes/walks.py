"""This repository's chunked prefills: thread blocks that walk chunks of 64 tokens with a state.

How many blocks walk, and over how many segments of a sequence, are the launchers' own rules
(refkernels/gla, refkernels/delta_rule; a test holds the two together). Where few heads leave
multiprocessors idle, sequences are cut into segments that run side by side: a first pass finds the
state that each segment adds, a second one its outputs (state passing, Dao and Gu, arXiv 2405.21060,
section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.numbers import ceil_div, f64
from perfmodel.roofline.model import (
    OWN,
    UNHIDDEN,
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
from perfmodel.roofline.traffic import CACHE, memory_s
from perfmodel.workload import Array, DeltaRule, LinearAttention, Ssd

CHUNK = np.float64(64.0)
"""Tokens of a chunk."""
WIDE, NARROW = np.float64(128.0), np.float64(64.0)
"""Columns of a state that a block works."""
SEGMENT_TOKENS = np.float64(512.0)
"""Least tokens of a segment."""
HELD = np.float64(2.0)
"""Blocks of a multiprocessor where products are single warps'."""
WORKERS = np.float64(4.0)
"""Chunks that a multiprocessor prepares at a time."""
LEAST_PREPARERS = np.float64(32.0)
"""Idle multiprocessors from which on the delta rule prepares chunks beside its walks."""

Gated: TypeAlias = LinearAttention | Ssd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walk:
    """Blocks of one segment, segments, tokens of a segment, and the blocks' turns on the device."""

    blocks: Array
    segments: Array
    tokens: Array
    places: Array
    even: NDArray[np.bool_] | np.bool_
    """Whether blocks hand their states on, so that all multiprocessors end together."""
    apart: NDArray[np.bool_] | np.bool_
    """Whether a launch of its own comes first: the states of segments, or what heads share."""


Plan: TypeAlias = Callable[[Gated, Device], Walk]


def whole(w: Gated, device: Device) -> Walk:
    """Rung 2: a sequence is one segment."""
    return _walk(w, _blocks(w, least_state=WIDE), np.float64(1.0), HELD * _units(device))


def segments(w: Gated, device: Device) -> Walk:
    """Rung 3: as many segments as give two blocks to every multiprocessor twice over."""
    blocks, slots = _blocks(w, least_state=WIDE), HELD * _units(device)
    most = np.floor(f64(w.seq_len) / SEGMENT_TOKENS)
    wanted = np.minimum(np.ceil(2.0 * slots / blocks), most)
    full = (3.0 * blocks >= 2.0 * slots) | (f64(w.seq_len) < 2.0 * SEGMENT_TOKENS)
    return _walk(w, blocks, np.where(full, 1.0, wanted)[()], slots)


def hopper(w: Gated, device: Device) -> Walk:
    """From rung 4 on: as many segments as one turn of one block per multiprocessor holds; without
    segments and gates per key dimension, blocks share all chunks evenly; with segments and without
    such gates, one launch does both passes. What heads of a group share is made beforehand."""
    blocks, units = _blocks(w, least_state=np.float64(0.0)), _units(device)
    most = np.floor(f64(w.seq_len) / SEGMENT_TOKENS)
    wanted = np.maximum(np.minimum(np.floor(units / blocks), most), 1.0)
    found, alike = _walk(w, blocks, wanted, units), not _per_dimension(w)
    single = found.segments == 1.0
    shared = _dims(w)[2] > 1.0
    return replace(found, even=single & alike, apart=(~single & (not alike)) | shared)


def _walk(w: Gated, blocks: Array, wanted: Array, places: Array) -> Walk:
    tokens = ceil_div(ceil_div(w.seq_len, wanted), CHUNK) * CHUNK
    parts = ceil_div(w.seq_len, tokens)
    return Walk(
        blocks=blocks,
        segments=parts,
        tokens=tokens,
        places=places,
        even=np.False_,
        apart=parts > 1.0,
    )


def _units(device: Device) -> np.float64:
    return np.float64(device.compute.units)


def _per_dimension(w: Gated) -> bool:
    """Whether every key dimension has a gate of its own."""
    return isinstance(w, LinearAttention) and w.gate == "vector"


def _dims(w: Gated) -> tuple[Array, Array, Array]:
    """Key dimension, value dimension, and how many heads share their keys."""
    if isinstance(w, Ssd):
        return f64(w.state), f64(w.head_dim), np.floor(f64(w.heads) / f64(w.groups))
    return f64(w.key_dim), f64(w.value_dim), np.float64(1.0)


def _columns(w: Gated, least_state: np.float64) -> tuple[Array, Array]:
    """Columns of a block, and heads that share one: two narrow ones with the same keys do."""
    state, width, shared = _dims(w)
    paired = (width == NARROW) & (np.mod(shared, 2.0) == 0.0) & (state >= least_state)
    together = np.where(paired & isinstance(w, Ssd), 2.0, 1.0)[()]
    wide = (together == 2.0) | (np.mod(width, WIDE) == 0.0)
    return np.where(wide, WIDE, NARROW)[()], together


def _blocks(w: Gated, least_state: np.float64) -> Array:
    """Blocks of one segment: over columns, over batch and heads."""
    columns, together = _columns(w, least_state)
    others = np.floor(f64(w.batch) * f64(w.heads) / together)
    blocks: Array = ceil_div(_dims(w)[1] * together, columns) * others
    return blocks


def predict_walk(w: Gated, device: Device, values: Values, run: Run, plan: Plan) -> Terms:
    """``launch + max+(chunks, memory; unhidden)``.

    Cycles are ``waves (wave + chunks chunk) + carry``, where ``chunk`` grows by ``width_share``
    with the state's sides (over 128) and by ``gate_clk`` with gates per key dimension; with
    segments, ``second_pass`` of the chunks and of the traffic again, and ``carry_clk`` for every
    earlier segment whose state has to be added (over 128 x 128).
    """
    cost, walk = count(w), plan(w, device)
    state, _, _ = _dims(w)
    columns, _ = _columns(w, np.float64(0.0))
    cut = walk.segments > 1.0
    again = np.where(cut, np.float64(values["second_pass"]), 0.0)[()]
    waves = _turns(walk, _units(device), values)
    chunk = np.float64(values["chunk_clk"]) * _width(state, columns, values)
    chunk = chunk + np.float64(values["gate_clk"] if _per_dimension(w) else 0.0) * state / WIDE
    steps = walk.tokens / CHUNK * (1.0 + again)
    passed = (walk.segments - 1.0) * np.float64(values["carry_clk"])
    clk = waves * (np.float64(values["wave_clk"]) + steps * chunk)
    clk = clk + passed * (state * columns / (WIDE * WIDE))
    clock = np.float64(device.compute.clock_vector_hz)
    memory = memory_s(cost.bytes_total * (1.0 + again), cost.bytes_total, device, values, run)
    further = np.where(walk.apart, np.float64(values["further_clk"]), 0.0)[()] / clock
    return beside_memory(
        launch_s(device, values, run) + further, "chunks", clk / clock, memory, values["unhidden"],
        segments=walk.segments, waves=waves,
    )  # fmt: skip


def _turns(walk: Walk, units: np.float64, values: Values) -> Array:
    """Turns of blocks on the device, one after another, in times of a block that has a
    multiprocessor for itself; ``crowd`` is what a second one there adds."""
    share, held = walk.blocks * walk.segments / walk.places, walk.places / units
    whole = np.floor(share)
    rest = share - whole
    full = 1.0 + (np.float64(values["crowd"]) if held > 1.0 else 0.0)
    last = np.where(rest * held > 1.0, full, np.ceil(rest))
    turns: Array = np.where(walk.even, np.maximum(share, 1.0), whole * full + last)[()]
    return turns


def predict_delta(w: DeltaRule, device: Device, values: Values, run: Run, *, beside: bool) -> Terms:
    """``launch + max+(chunks, memory; unhidden)``.

    Every chunk of a head is prepared (its inverse, its powers of gates), then a block per 64
    columns of a state walks the chunks. ``beside``: in one launch where walks leave
    multiprocessors enough, so that the longer of the two counts, and the first chunks' preparation
    before; else one after the other.
    """
    cost, clock, units = count(w), np.float64(device.compute.clock_vector_hz), _units(device)
    assert w.value_heads is not None
    chunks = ceil_div(w.seq_len, CHUNK)
    walks = f64(w.batch) * f64(w.value_heads) * ceil_div(w.value_dim, NARROW)
    left = units - walks
    joint = np.asarray(beside & (left >= LEAST_PREPARERS))
    group = f64(w.value_heads) / f64(w.key_heads)
    wide = _width(f64(w.key_dim), WIDE, values)
    job = (1.0 + np.float64(values["head_share"]) * (group - 1.0)) * wide
    job = job * np.float64(values["prepare_clk"])
    jobs = chunks * f64(w.batch) * f64(w.key_heads)
    prepare = jobs * job / np.where(joint, left, units)
    waves = ceil_div(walks, units)
    walk = waves * (np.float64(values["wave_clk"]) + chunks * values["chunk_clk"] * wide)
    apart = walk + prepare + np.float64(values["further_clk"])
    together = overlap(walk, prepare, values["unhidden"]) + WORKERS * job
    clk = np.where(joint, together, apart)[()]
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    start = launch_s(device, values, run)
    return beside_memory(start, "chunks", clk / clock, memory, values["unhidden"], waves=waves)


def _width(state: Array, columns: Array, values: Values) -> Array:
    """By what the sides of a block's state multiply the latency of a chunk."""
    share = np.float64(values["width_share"])
    wide: Array = (1.0 - share) + share * (state + columns) / (2.0 * WIDE)
    return wide


def _share(name: str, high: float, start: float, meaning: str) -> Parameter:
    return Parameter(
        name=name, unit="1", low=0.0, high=high, start=start, meaning=meaning, prior=0.3
    )


_COMMON = (
    *OWN,
    replace(UNHIDDEN, start=0.2, prior=1.0),
    *CACHE,
    cycles("wave_clk", 100_000.0, 5_000.0, "start and end of a block that walks a segment"),
    cycles("chunk_clk", 60_000.0, 4_000.0, "one chunk of 64 tokens, a state of 128 x 128"),
    _share("width_share", 1.0, 0.5, "share of that which grows with the sides of the state"),
    cycles("further_clk", 40_000.0, 5_000.0, "a further launch"),
)
_GATED = (
    cycles("gate_clk", 60_000.0, 2_000.0, "what gates per key dimension add to a chunk"),
    _share("second_pass", 1.5, 0.6, "chunks and traffic of the pass that finds the states"),
    _share("crowd", 1.0, 0.5, "what a second block on a multiprocessor adds to the time of one"),
    cycles("carry_clk", 20_000.0, 2_000.0, "adding the state of one earlier segment, 128 x 128"),
)
_DELTA = (
    cycles("prepare_clk", 60_000.0, 4_000.0, "preparing a chunk of a key head, per multiprocessor"),
    _share("head_share", 1.0, 0.6, "what each further head of the same keys adds to that"),
)


def _gated(name: str, plan: Plan) -> ClassModel:
    predict = partial(predict_walk, plan=plan)
    return ClassModel(name=name, parameters=(*_COMMON, *_GATED), predict=predict)


def _delta(name: str, *, beside: bool) -> ClassModel:
    predict = partial(predict_delta, beside=beside)
    return ClassModel(name=name, parameters=(*_COMMON, *_DELTA), predict=predict)


WHOLE = _gated("recurrent_own_whole", whole)
SEGMENTS = _gated("recurrent_own_segments", segments)
HOPPER = _gated("recurrent_own_hopper", hopper)
PREPARED = _delta("recurrent_own_prepared", beside=False)
BESIDE = _delta("recurrent_own_beside", beside=True)
"""This repository's ladders of gated linear attention and SSD, and of the delta rule: rungs whose
launchers go by the same rule."""
