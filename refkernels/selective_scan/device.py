"""Launches the selective scan's ladder. Nothing here waits for the device.

:func:`selective_scan` and :func:`selective_step` allocate and run; :func:`prepare` and
:func:`prepare_step` bind arguments once, for timing, graphs and loops over fixed buffers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName
from refkernels._launch import STORAGE, as_device_array
from refkernels._plan import Launch, Plan, bound_launch, ceil_div, sm_count
from refkernels.selective_scan.naive import Inputs, check_shapes

TYPES = {"fp32": 0, "fp16": 1, "bf16": 2}
"""Data types, numbered as element.cuh numbers them."""

STATES = (8, 16, 32, 64)
THREADS = 128
TILE = 64
"""Tokens of B and C in shared memory (half of that for 64 states in fp32); segments are whole
tiles."""

RUNGS = ("01_channel_per_thread", "02_shared_groups", "03_state_lanes", "04_outer_products")

WARP = 32
"""Threads."""

UNIT = 16
"""Rows of a product of rung 4: channels of a warp, or halves of the states of half as many."""

UNIT_ALIGNMENT = 8
"""Tokens of 16 bytes: rows of a multiple of them are copied 16 bytes at a time."""

UNIT_WARPS, WHOLE_WARPS = 8, 16
"""Warps of a block of rung 4: two blocks an SM, or one (in turns)."""

BUSY_WARPS = 12
"""Warps per SM above which more turns of rung 4 do not pay: 3 per scheduler."""

MOST_TURN_STATES = 16
"""States above which a lane of rung 4 cannot keep the decays of a visit of 16 tokens."""

BUSY_THREADS = 200
"""Threads per SM above which more lanes per channel do not pay: 6 warps of independent work."""

MOST_SHARE = 16
"""States of a lane: A, h and their B and C stay in registers."""

STEP_THREADS, STEP_ROWS = 256, 2
"""Of the decode step: threads of a block, sequences of a thread."""

SEGMENT_TOKENS = 512
"""Least tokens of a segment: below, the state's traffic and the extra launches show."""


def selective_scan(
    x: Inputs, *, dtype: str, initial: Any = None, rung: str | None = None
) -> tuple[Any, Any]:
    """``(out, final state)`` of a scan on the device; shapes as in ``naive``.

    ``dtype`` is that of u, delta, z, B, C and out (bf16 as uint16 bits); A, D, bias and states are
    fp32. ``rung`` is one of :data:`RUNGS`, by default :func:`best_rung`.

    Raises:
        BadValue: an array of the wrong type or shape, a number of states that is not compiled.
        UnknownName: no such rung or data type.
    """
    import cupy

    bound = bind(x, dtype)
    out, final = cupy.empty_like(bound.u), cupy.empty(state_shape(bound), cupy.float32)
    prepare(bound, dtype, out, final=final, initial=initial, rung=rung)()
    return out, final


def bind(x: Inputs, dtype: str) -> Inputs:
    """The arrays checked and as device arrays."""
    if dtype not in TYPES:
        raise UnknownName("data type of a scan", dtype, TYPES)
    check_shapes(x)
    if x.a.shape[1] not in STATES:
        msg = f"the kernels are written for N of {STATES}, got {x.a.shape[1]}"
        raise BadValue(msg, field="a")
    wide = {"a", "skip", "bias"}
    checked = {
        name: as_device_array(
            array, name, dtype="fp32" if name in wide else dtype, shape=tuple(array.shape)
        )
        for name in ("u", "delta", "a", "b", "c", "skip", "z", "bias")
        if (array := getattr(x, name)) is not None
    }
    return replace(x, **checked)


def state_shape(x: Inputs) -> tuple[int, int, int]:
    """Of initial and final states: [batch, channels, N]."""
    return x.u.shape[0], x.u.shape[1], x.a.shape[1]


def lanes_per_channel(batch: int, channels: int, states: int, dtype: str, sms: int) -> int:
    """The fewest lanes that give an SM enough threads; a lane has 2 states at least."""
    most = min(8, states // 2)
    lanes = max(1, states // MOST_SHARE)
    while lanes < most and batch * channels * lanes < BUSY_THREADS * sms:
        lanes *= 2
    return lanes


def segment_tokens(threads: int, length: int, sms: int) -> int:
    """Tokens of a segment: all, unless so few threads are left that the second pass pays."""
    if 2 * threads >= BUSY_THREADS * sms or length < 2 * SEGMENT_TOKENS:
        return ceil_div(length, TILE) * TILE
    wanted = min(ceil_div(BUSY_THREADS * sms, threads), length // SEGMENT_TOKENS)
    return ceil_div(ceil_div(length, wanted), TILE) * TILE


def shared_bytes(states: int, lanes: int, dtype_code: int) -> int:
    """Two tiles of B and C (scan.cuh: kSharedBytes)."""
    share = states // lanes
    tile = TILE // 2 if states == STATES[-1] and dtype_code == TYPES["fp32"] else TILE
    return 2 * tile * lanes * (2 * share + (4 if share >= 4 else 0)) * 4


def best_rung(dtype: str) -> str:
    """The fastest rung: tensor cores keep 11 bits of the state, too few for fp32 outputs."""
    return RUNGS[2] if dtype == "fp32" else RUNGS[3]


def units_of(x: Inputs) -> int:
    """Groups of channels (:func:`unit_channels`) that rung 4 walks side by side."""
    batch, channels, states = state_shape(x)
    groups = x.b.shape[1]
    return int(batch * groups * ceil_div(channels // groups, unit_channels(states)))


def turns_of_warps(units: int, states: int, sms: int) -> int:
    """The fewest warps that take turns on a unit of channels and fill the SMs."""
    turns = 1
    while turns < UNIT_WARPS and states <= MOST_TURN_STATES and units * turns < BUSY_WARPS * sms:
        turns *= 2
    return turns


def prepare(
    x: Inputs,
    dtype: str,
    out: Any,
    *,
    final: Any = None,
    initial: Any = None,
    rung: str | None = None,
    lanes: int | None = None,
    turns: int | None = None,
    warps: int | None = None,
    segment: int | None = None,
) -> Plan:
    """Bind a rung to checked arrays (:func:`bind`).

    ``lanes`` (rung 3, and the first pass over segments), ``turns`` and ``warps`` of a block
    (rung 4) and ``segment`` override the choice.

    Raises:
        UnknownName: no such rung.
        BadValue: a segment that is not whole tiles, rung 4 for fp32.
    """
    name = rung or best_rung(dtype)
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    if name == RUNGS[3] and dtype == "fp32":
        raise BadValue("rung 4 is for data of 16 bits", field="rung", fix=RUNGS[2])
    batch, channels, length = x.u.shape
    states, sms = x.a.shape[1], sm_count()
    width = lanes or lanes_per_channel(batch, channels, states, dtype, sms)
    shift = turns or turns_of_warps(units_of(x), states, sms)
    if name in RUNGS[:2]:
        width = 1
    busy = units_of(x) * shift * BUSY_THREADS // BUSY_WARPS
    threads = busy if name == RUNGS[3] else batch * channels * width
    tokens = segment or segment_tokens(threads, length, sms)
    if name == RUNGS[0]:
        tokens = ceil_div(length, TILE) * TILE
    if tokens % TILE:
        msg = f"must be a multiple of {TILE} tokens, got {tokens}"
        raise BadValue(msg, field="segment")
    fields = _fields(x, out, final, initial, ceil_div(length, tokens), tokens)
    defines = {"TYPE": TYPES[dtype], "STATES": states}
    keep = (x, out, final, initial)
    if name == RUNGS[0]:
        grid = (ceil_div(channels, THREADS), 1, batch)
        step = bound_launch(f"selective_scan/{name}.cu", "selective_scan", grid, fields, defines)
        return Plan(launches=(step,), keep=keep)
    before, fields, starts = _starts(x, fields, defines | {"LANES": width})
    if name == RUNGS[3]:
        scan = _scan_in_units(x, fields, defines, shift, warps)
    else:
        scan = _scan(name, x, fields, defines, width)
    return Plan(launches=(*before, scan), keep=(*keep, *starts))


def _scan(
    name: str, x: Inputs, fields: dict[str, Any], defines: dict[str, int], lanes: int
) -> Launch:
    """The launch of rung 2 or 3 that writes the outputs."""
    batch, channels, states = state_shape(x)
    groups, segments = x.b.shape[1], int(fields["segments"])
    smem = shared_bytes(states, lanes, defines["TYPE"])
    grid = (groups * ceil_div(channels // groups, THREADS // lanes), segments, batch)
    source, named = f"selective_scan/{name}.cu", defines | {"LANES": lanes}
    return bound_launch(source, "selective_scan", grid, fields, named, smem)


def _scan_in_units(
    x: Inputs, fields: dict[str, Any], defines: dict[str, int], turns: int, warps: int | None
) -> Launch:
    """The launch of rung 4."""
    batch, channels, states = state_shape(x)
    groups, segments, sms = x.b.shape[1], int(fields["segments"]), sm_count()
    block = warps or warps_of_block(units_of(x) * segments, turns, sms)
    named = defines | {
        "TURNS": turns,
        "GATED": int(x.z is not None),
        "SOFTPLUS": int(x.softplus),
        "ALIGNED": int(x.u.shape[2] % UNIT_ALIGNMENT == 0),
        "WARPS": block,
    }
    units = ceil_div(channels // groups, unit_channels(states))
    grid = (groups * ceil_div(units, block // turns), segments, batch)
    smem = block * unit_shared_bytes(states, turns) + 16
    source = f"selective_scan/{RUNGS[3]}.cu"
    threads = WARP * block
    return bound_launch(source, "selective_scan", grid, fields, named, smem, threads=threads)


def warps_of_block(units: int, turns: int, sms: int) -> int:
    """In turns, all that an SM holds, which keep step, unless smaller blocks spread better."""

    def fullest(block: int) -> int:
        return block * ceil_div(ceil_div(units, block // turns), sms)

    whole = turns > 1 and fullest(WHOLE_WARPS) <= fullest(UNIT_WARPS)
    return WHOLE_WARPS if whole else UNIT_WARPS


def _starts(
    x: Inputs, fields: dict[str, Any], defines: dict[str, int]
) -> tuple[tuple[Launch, ...], dict[str, Any], tuple[Any, ...]]:
    """Launches that find the segments' starts, if there are several; fields with them; arrays."""
    import cupy

    batch, channels, states = state_shape(x)
    groups, lanes, segments = x.b.shape[1], defines["LANES"], int(fields["segments"])
    if segments == 1:
        return (), fields, ()
    starts = cupy.empty((batch, segments, channels, states), cupy.float32)
    sums = cupy.empty((batch, segments, channels), cupy.float32)
    source, passed = "selective_scan/segments.cu", fields | {"last": starts, "decay": sums}
    grid = (groups * ceil_div(channels // groups, THREADS // lanes), segments, batch)
    carry_grid = (ceil_div(channels * states, THREADS), 1, batch)
    smem = shared_bytes(states, lanes, defines["TYPE"])
    local = bound_launch(source, "segment_states", grid, passed | {"first": None}, defines, smem)
    carry = bound_launch(source, "carry", carry_grid, passed, defines)
    return (local, carry), fields | {"first": starts}, (starts, sums)


def unit_shared_bytes(states: int, turns: int) -> int:
    """Of a warp of rung 4 (04_outer_products.cu: WarpShared)."""
    rows = unit_channels(states)
    raw = 2 * (3 * rows + 2 * states) * 16 * 2
    lanes = 2 * (1 if turns == 1 else max(1, states // 16))
    return raw + 128 * (rows + 2) + 512 * lanes + 16 * rows + 16


def unit_channels(states: int) -> int:
    """Channels of a warp of rung 4: the rows of a product, which halves of the states share."""
    return UNIT if states == STATES[0] else UNIT // 2


def _fields(
    x: Inputs, out: Any, final: Any, initial: Any, segments: int, tokens: int
) -> dict[str, Any]:
    """``Problem`` of problem.cuh."""
    batch, channels, length = (*x.u.shape, 1)[:3]
    return {
        "u": x.u,
        "delta": x.delta,
        "a": x.a,
        "b": x.b,
        "c": x.c,
        "skip": x.skip,
        "z": x.z,
        "bias": x.bias,
        "first": initial,
        "last": final,
        "decay": None,
        "out": out,
        "batch": batch,
        "channels": channels,
        "length": length,
        "groups": x.b.shape[1],
        "softplus": int(x.softplus),
        "segments": segments,
        "segment_length": tokens,
    }


def selective_step(x: Inputs, state: Any, *, dtype: str) -> Any:
    """One token: arrays as in ``naive`` with length 1; ``state`` changes in place."""
    import cupy

    bound = bind(x, dtype)
    out = cupy.empty_like(bound.u)
    prepare_step(bound, dtype, state, out)()
    return out


def prepare_step(x: Inputs, dtype: str, state: Any, out: Any) -> Plan:
    """Bind the decode step to checked arrays of length 1."""
    batch, channels, states = state_shape(x)
    fields = _fields(x, out, state, state, 1, 1)
    grid = (ceil_div(channels * states // 4, STEP_THREADS), ceil_div(batch, STEP_ROWS), 1)
    defines = {"TYPE": TYPES[dtype], "STATES": states}
    step = bound_launch("selective_scan/step.cu", "selective_step", grid, fields, defines)
    return Plan(launches=(step,), keep=(x, state, out))


def storage(dtype: str) -> np.dtype[Any]:
    """How an element of ``dtype`` is stored in NumPy and CuPy arrays."""
    return np.dtype(STORAGE[dtype])
