"""Mixers with a state: gated linear attention, the delta rule, selective scan, SSD.

A sequence longer than one token is counted in the form that its kernels use (chunked for linear
attention, delta rule and SSD; step by step for the selective scan); one token is a recurrent step
on the vector unit that reads and writes the state. Starting states of a prefill are zero and are
not read. Both forms may meet in one array of lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from perfmodel.ops.cost import Cost
from perfmodel.ops.numbers import accumulator, ceil_div, f64, stored
from perfmodel.workload import Array, DeltaRule, LinearAttention, RateKey, SelectiveScan, Ssd

VECTOR: RateKey = ("vector", "fp32", "fp32")
GATE_EXPONENTIALS = np.float64(3.0)
"""Per gate and token in the separable form: scaling the query, the key, and the key towards the
chunk's end. Kernels that build the decay of every pair inside a chunk spend more."""


def is_step(seq_len: Array) -> NDArray[np.bool_]:
    """Where a sequence is one token: True for a recurrent step."""
    return np.asarray(seq_len == 1.0)


def count_linear_attention(w: LinearAttention) -> Cost:
    """Gated linear attention (Yang et al., GLA, arXiv 2312.06635, section 4).

    Per token and head, chunk C: ``2 C dk`` (Q K^T) + ``2 C dv`` (A V) + ``4 dk dv`` (Q S and the
    update of S); ``4 C d + 4 d^2`` for dk = dv = d. A step: decay 1, outer product 2, read-out 2
    FLOP per state element. Bytes: q, k, v, o and the gate once, the state written once (a step
    reads it too).
    """
    T, dk, dv = f64(w.seq_len), f64(w.key_dim), f64(w.value_dim)
    heads = f64(w.batch) * f64(w.heads)
    C = np.minimum(f64(w.chunk), T)
    gates = {"vector": dk, "scalar": np.float64(1.0), "none": np.float64(0.0)}[w.gate]
    chunked = 2.0 * C * (dk + dv) + 4.0 * dk * dv
    step = (5.0 if w.gate != "none" else 4.0) * dk * dv
    assert w.gate_dtype is not None
    inputs = (2.0 * dk + dv) * stored(w.dtype) + gates * stored(w.gate_dtype)
    return _mixer(
        flops=_by_form(w.dtype, T, heads * T * chunked, heads * T * step),
        special=heads * T * gates * np.where(is_step(T), 1.0, GATE_EXPONENTIALS),
        inputs=heads * T * inputs,
        outputs=heads * T * dv * stored(w.dtype),
        state=heads * dk * dv * stored(w.state_dtype),
        seq_len=T,
        items=heads * dv,
        depth=ceil_div(T, C),
    )


def count_delta_rule(w: DeltaRule) -> Cost:
    """(Gated) delta rule in WY form (Yang et al., arXiv 2406.06484, section 3; 2412.06464).

    Per token, chunk C. Once per key head: ``2 C dk`` (K K^T) + ``2 C dk`` (Q K^T). Per value head:
    ``2 C (dk + dv)`` (W = T K, U = T V) + ``C^2 / 3`` (the unit-triangular inverse T) +
    ``2 C dv`` (A V') + ``6 dk dv`` (W S, Q S, the update of S). Equal heads of d = 128, C = 64:
    about 182 kFLOP. A step: ``S k`` 2, update 2, read-out 2, decay 1 FLOP per state element.
    Bytes: q, k per key head; v, o, beta (and the gate) per value head; the state as above.
    """
    T, dk, dv = f64(w.seq_len), f64(w.key_dim), f64(w.value_dim)
    assert w.value_heads is not None
    keys, values = f64(w.batch) * f64(w.key_heads), f64(w.batch) * f64(w.value_heads)
    C = np.minimum(f64(w.chunk), T)
    shared = 4.0 * C * dk
    own = 2.0 * C * (dk + dv) + C * C / 3.0 + 2.0 * C * dv + 6.0 * dk * dv
    step = (7.0 if w.gated else 6.0) * dk * dv
    scalars = 2.0 if w.gated else 1.0
    size = stored(w.dtype)
    gates = values * T if w.gated else 0.0 * T
    return _mixer(
        flops=_by_form(w.dtype, T, T * (keys * shared + values * own), values * T * step),
        special=gates * np.where(is_step(T), 1.0, GATE_EXPONENTIALS),
        inputs=T * (keys * 2.0 * dk + values * (dv + scalars)) * size,
        outputs=values * T * dv * size,
        state=values * dk * dv * stored(w.state_dtype),
        seq_len=T,
        items=values * dv,
        depth=ceil_div(T, C),
    )


def count_selective_scan(w: SelectiveScan) -> Cost:
    """Mamba-1 selective scan (Gu and Dao, arXiv 2312.00752, algorithm 2), N states per channel.

    Per token and channel: ``N`` exponentials of delta A, softplus 2, SiLU gate 2, so ``N + 4``
    (``N + 2`` ungated). Vector unit: ``4 N + 11`` issue slots (per state: delta A, B delta u, the
    update, the read-out; 4 fewer ungated), two FLOP each because peaks count FMAs. Bytes: u,
    delta, out (and z) per channel, B and C per group, A and D once, the state as above.
    """
    T, N = f64(w.seq_len), f64(w.state)
    channels, groups = f64(w.batch) * f64(w.channels), f64(w.batch) * f64(w.groups)
    gate_special, gate_slots, streams = (2.0, 4.0, 3.0) if w.gated else (0.0, 0.0, 2.0)
    size = stored(w.dtype)
    parameters = f64(w.channels) * (N + 1.0) * 4.0
    inputs = T * (channels * streams + groups * 2.0 * N) * size
    return _mixer(
        flops={VECTOR: 2.0 * channels * T * (4.0 * N + 7.0 + gate_slots)},
        special=channels * T * (N + 2.0 + gate_special),
        inputs=inputs + parameters,
        outputs=channels * T * size,
        state=channels * N * stored(w.state_dtype),
        seq_len=T,
        items=channels,
        depth=T,
        weights=parameters,
    )


def count_ssd(w: Ssd) -> Cost:
    """Mamba-2 state-space duality (Dao and Gu, arXiv 2405.21060, section 6), chunk C.

    Per token: ``2 C N`` per group (C B^T), and per head ``2 C P`` (times X) + ``4 N P`` (chunk
    states and their read-out). A step: 5 FLOP per state element. Special functions per token and
    head: softplus of dt 2, separable decays 3. Bytes: x, y, dt per head, B and C per group, the
    final state written once; states between chunks are not compulsory (a fused kernel keeps them).
    """
    T, P, N = f64(w.seq_len), f64(w.head_dim), f64(w.state)
    heads, groups = f64(w.batch) * f64(w.heads), f64(w.batch) * f64(w.groups)
    C = np.minimum(f64(w.chunk), T)
    chunked = T * (groups * 2.0 * C * N + heads * (2.0 * C * P + 4.0 * N * P))
    size = stored(w.dtype)
    return _mixer(
        flops=_by_form(w.dtype, T, chunked, 5.0 * heads * T * N * P),
        special=heads * T * np.where(is_step(T), 3.0, 2.0 + GATE_EXPONENTIALS),
        inputs=T * (heads * (P + 1.0) + groups * 2.0 * N) * size,
        outputs=heads * T * P * size,
        state=heads * P * N * stored(w.state_dtype),
        seq_len=T,
        items=heads * P,
        depth=ceil_div(T, C),
    )


def _by_form(dtype: str, seq_len: Array, chunked: Array, step: Array) -> dict[RateKey, Array]:
    """Chunks run on the matrix unit in ``dtype``, single steps on the vector unit in fp32."""
    one = is_step(seq_len)
    work: dict[RateKey, Array] = {}
    if not bool(np.all(one)):
        work["tensor", dtype, accumulator(dtype)] = np.where(one, 0.0, chunked)[()]
    if bool(np.any(one)):
        work[VECTOR] = np.where(one, step, 0.0)[()]
    return work


def _mixer(
    *,
    flops: Mapping[RateKey, Array],
    special: Array,
    inputs: Array,
    outputs: Array,
    state: Array,
    seq_len: Array,
    items: Array,
    depth: Array,
    weights: Array | None = None,
) -> Cost:
    return Cost(
        flops=flops,
        special=np.asarray(special)[()],
        read_bytes=inputs + np.where(is_step(seq_len), state, 0.0)[()],
        write_bytes=outputs + state,
        weight_bytes=np.float64(0.0) if weights is None else weights,
        items=items,
        depth=depth,
    )
