"""Random shapes and hard inputs for every rung of the mixers, on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd
from refkernels._check import Gate, generator, random_normal
from refkernels._compile import device_capability
from refkernels._matrix_state import SHORT
from refkernels.delta_rule import device as delta_device
from refkernels.delta_rule import problem as delta
from refkernels.gla import problem as linear
from refkernels.gla.device import RUNGS as LINEAR_RUNGS
from refkernels.selective_scan import problem as scan
from refkernels.selective_scan.device import RUNGS
from refkernels.ssd import problem as dual

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 500, 1000)
LONG = 4097
CASES = 300
"""Random cases per operator, spread over its rungs; every 50th is long."""

Case = tuple[str, Gate]


def _length(rng: np.random.Generator, index: int) -> int:
    if index % 50 == 49:
        return LONG
    return int(rng.choice(LENGTHS)) if index % 3 else int(rng.integers(1, 700))


def _heads(rng: np.random.Generator, index: int) -> int:
    """A few, and in some short cases more than there are multiprocessors."""
    many = index % 21 == 10 and index % 50 != 49
    return int(rng.integers(140, 300)) if many else int(rng.integers(1, 6))


def _rung(index: int, length: int, segment: int | None) -> str | None:
    """The launcher's choice, and Ampere's rungs in every sixth case."""
    if length < SHORT or index % 6 < 5:
        return None
    return "03_segments" if segment else "02_chunk"


def scans() -> Iterator[Case]:
    """Selective scan: data types, N, lanes, turns, groups, strong decays, zero steps, segments."""
    import cupy

    sizes, rng = np.random.default_rng(11), generator(11, cupy)
    for index in range(CASES):
        length, groups = _length(sizes, index), int(sizes.choice((1, 1, 2)))
        states = int(sizes.choice((8, 16, 16, 32, 64)))
        dtype = ("bf16", "fp32", "fp16")[index % 3]
        w = SelectiveScan(
            batch=int(sizes.integers(1, 4)),
            seq_len=length,
            channels=groups * int(sizes.integers(1, 150)),
            state=states,
            groups=groups,
            gated=bool(index % 4),
            dtype=dtype,
        )
        x = scan.random_inputs(rng, w, cupy, strong=index % 7 == 0)
        if index % 25 == 13:
            x = scan.with_zero_steps(x, dtype)
        initial = random_normal(rng, (*x.u.shape[:2], states)) if index % 2 else None
        # Rung 4, which is for 16 bits, gets every other case; the others share the rest.
        rung = RUNGS[3] if index % 2 and dtype != "fp32" else RUNGS[index // 2 % 3]
        if states > 16 and rung == RUNGS[1]:
            rung = RUNGS[2]  # 64 states on one lane would spill
        lanes = int(sizes.choice([n for n in (1, 2, 4, 8) if states <= 16 * n <= 8 * states]))
        turns = int(sizes.choice((1, 2, 4, 8))) if states <= 16 else 1
        segment = 64 * int(sizes.integers(1, 5)) if index % 5 == 0 and rung != RUNGS[0] else None
        chosen = {"lanes": lanes, "turns": turns, "segment": segment}
        yield f"{rung} {chosen} {w.to_dict()}", scan.gate_scan(x, dtype, rung, initial, **chosen)
        if index % 10 == 9 and length > 128:
            yield f"three calls, {rung} {w.to_dict()}", scan.gate_three_calls(x, dtype, rung)


def linears() -> Iterator[Case]:
    """Gated linear attention: all gates and strengths, one pass and segments."""
    import cupy

    sizes, rng = np.random.default_rng(12), generator(12, cupy)
    for index in range(CASES):
        w = LinearAttention(
            batch=int(sizes.integers(1, 4)),
            seq_len=_length(sizes, index),
            heads=_heads(sizes, index),
            key_dim=int(sizes.choice((64, 128))),
            value_dim=int(sizes.choice((64, 128, 192, 256))),
            gate=("vector", "scalar", "vector", "none")[index % 4],
        )
        strength = float(sizes.choice((0.05, 1.0, 1.0, 20.0)))
        arrays = linear.random_arrays(rng, w, gate=strength)
        batch, length, heads, dk, dv = linear.sizes(w)
        initial = random_normal(rng, (batch, heads, dk, dv)) if index % 2 else None
        segment = 64 * int(sizes.integers(1, 5)) if index % 3 == 0 else None
        rung = _rung(index, length, segment)
        gate = linear.gate_gla(arrays, rung, initial=initial, segment=segment)
        yield f"{rung} strength={strength} segment={segment} {w.to_dict()}", gate
        if index % 10 == 9 and length > 128:
            last = LINEAR_RUNGS[-1] if device_capability() == "90" else LINEAR_RUNGS[1]
            yield f"three calls, {w.to_dict()}", linear.gate_three_calls(arrays, last)


def duals() -> Iterator[Case]:
    """SSD: groups, one and two heads a block, strong decays, zero steps; every tenth case in three
    calls too."""
    import cupy

    sizes, rng = np.random.default_rng(13), generator(13, cupy)
    for index in range(CASES):
        groups = int(sizes.choice((1, 1, 2)))
        w = Ssd(
            batch=int(sizes.integers(1, 4)),
            seq_len=_length(sizes, index),
            heads=groups * _heads(sizes, index),
            state=int(sizes.choice((64, 128))),
            groups=groups,
        )
        s = dual.random_inputs(rng, w, cupy, strong=index % 7 == 0)
        if index % 25 == 13:
            s = dual.with_zero_steps(s, cupy)
        batch, length, heads, width, states, _ = dual.sizes(w)
        initial = random_normal(rng, (batch, heads, states, width)) if index % 2 else None
        rung = _rung(index, length, None)
        yield f"{rung} {w.to_dict()}", dual.gate_ssd(s, rung, initial)
        if index % 10 == 9 and length > 128:
            last = LINEAR_RUNGS[-1] if device_capability() == "90" else LINEAR_RUNGS[1]
            yield f"three calls, {w.to_dict()}", dual.gate_three_calls(s, last)


def deltas() -> Iterator[Case]:
    """Delta rule: with and without gates of all strengths, grouped keys; every tenth case in three
    calls."""
    import cupy

    sizes, rng = np.random.default_rng(14), generator(14, cupy)
    for index in range(CASES):
        key_heads = int(sizes.integers(1, 4))
        w = DeltaRule(
            batch=int(sizes.integers(1, 4)),
            seq_len=_length(sizes, index),
            key_heads=key_heads,
            value_heads=key_heads * int(sizes.choice((1, 1, 2, 4, 5))),
            key_dim=int(sizes.choice((64, 128))),
            value_dim=int(sizes.choice((64, 128, 192, 256))),
            gated=index % 4 != 3,
        )
        strength = float(sizes.choice((0.05, 1.0, 1.0, 20.0)))
        arrays = delta.random_arrays(rng, w, gate=strength)
        batch, length, _, heads, dk, dv = delta.sizes(w)
        initial = random_normal(rng, (batch, heads, dk, dv)) if index % 2 else None
        rung = None if length < SHORT else delta_device.RUNGS[1 + index % 3]
        gate = delta.gate_delta(arrays, rung, initial=initial)
        yield f"{rung} strength={strength} {w.to_dict()}", gate
        if index % 10 == 9 and length > 128:
            yield (
                f"three calls, {rung} {w.to_dict()}",
                delta.gate_three_calls(arrays, rung, initial),
            )


SWEEPS: dict[str, Callable[[], Iterator[Case]]] = {
    "selective_scan": scans,
    "delta_rule": deltas,
    "gla": linears,
    "ssd": duals,
}
"""Operator -> its cases: a label and a verdict each."""
